//! The caller, as the command in the server sees it.

use super::wire::{Word, send};
use crate::attach::Devices;
use crate::outcome::{Failure, Report};
use paritas::volume::Array;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// Somebody at the other end of a socket.
pub(crate) struct Remote {
    array: Array,
    devices: Arc<Devices>,
    socket: Mutex<UnixStream>,
    input: OwnedFd,
    output: OwnedFd,
}

impl Remote {
    pub(super) fn new(
        array: Array,
        devices: Arc<Devices>,
        socket: UnixStream,
        [input, output]: [OwnedFd; 2],
    ) -> Remote {
        Remote { array, devices, socket: Mutex::new(socket), input, output }
    }

    /// What the server has open.
    pub(crate) fn array(&self) -> &Array {
        &self.array
    }

    /// Which of its volumes are block devices.
    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// A word to the person.
    pub(crate) fn say(&self, text: &str) {
        self.tell(&Word::Say(text.into()));
    }

    /// Words on the standard output, before the command ends.
    pub(crate) fn print(&self, text: &str) {
        self.tell(&Word::Print(text.into()));
    }

    pub(crate) fn begin_bar(&self, what: &str, total: Option<u64>) {
        self.tell(&Word::Begin { what: what.into(), total });
    }

    pub(crate) fn move_bar(&self, done: u64, total: Option<u64>) {
        self.tell(&Word::At { done, total });
    }

    pub(crate) fn end_bar(&self) {
        self.tell(&Word::End);
    }

    /// The last word.
    pub(super) fn end(&self, answer: Result<Report, Failure>) {
        self.tell(&match answer {
            Ok(report) => Word::Done(report),
            Err(failure) => Word::Failed(failure),
        });
    }

    /// Whether nobody listens any more. The other side says nothing behind its command.
    pub(crate) fn is_gone(&self) -> bool {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut byte = [0];
        !matches!(recv(&*socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }

    pub(crate) fn input(&self) -> io::Result<File> {
        Ok(self.input.try_clone()?.into())
    }

    pub(crate) fn output(&self) -> io::Result<File> {
        Ok(self.output.try_clone()?.into())
    }

    fn tell(&self, word: &Word) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Who is gone is told nothing; what was begun for him goes on, or looks.
        let _untold = send(&mut *socket, word).is_err();
    }
}
