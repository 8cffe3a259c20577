//! What client and server say: one JSON value a line, in turn, and with the command the caller's standard input and
//! output as descriptors.

use crate::outcome::{Failure, Report};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Both must speak the same.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A line is no longer than this.
const LINE_MAX: u64 = 16 << 20;

/// Descriptors that come with a command.
const DESCRIPTORS: usize = 2;

/// The client's first line: whose is this? Paths lead on from the root.
#[derive(Serialize, Deserialize)]
pub(super) enum Question {
    /// An array, to do something with it.
    Array { place: OsString, name: Option<String> },
    /// An array, to make a device of a volume.
    ArrayForDevice { place: OsString, name: Option<String> },
    /// A device that a volume is attached as.
    Device(OsString),
}

/// The server's answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) is_mine: bool,
    pub(super) version: String,
    /// For the person who has to choose.
    pub(super) array: String,
}

/// The client's second line, behind one byte that the descriptors come with.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The command line, program included.
    pub(super) words: Vec<OsString>,
    /// The folder from which its paths lead on.
    pub(super) folder: OsString,
    /// Whether a person sits at a terminal there, and can be asked.
    pub(super) is_seated: bool,
}

/// What the server says of it, until it says how it ended.
#[derive(Serialize, Deserialize)]
pub(super) enum Word {
    Say(String),
    Print(String),
    /// A question, which the client answers with a line: true for yes.
    Ask(String),
    Begin {
        what: String,
        total: Option<u64>,
    },
    At {
        done: u64,
        total: Option<u64>,
    },
    End,
    Done(Report),
    Failed(Failure),
}

pub(super) fn send(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    out.write_all(&line(value)?)
}

/// A value as it is said.
pub(super) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// The next line; `None` where the other side has ended.
pub(super) fn receive<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    io::Read::take(&mut *input, LINE_MAX).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "half a line")),
    }
}

/// Sends this process's standard input and output.
pub(super) fn send_descriptors(socket: &UnixStream) -> io::Result<()> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let descriptors = [stdin.as_fd(), stdout.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(b" ")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The other's standard input and output. Reads one byte, and nothing of the line behind it.
pub(super) fn receive_descriptors(socket: &UnixStream) -> io::Result<[OwnedFd; DESCRIPTORS]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    let missing = |_| io::Error::new(io::ErrorKind::InvalidData, "a command without its descriptors");
    received.try_into().map_err(missing)
}
