//! A small client of the Network Block Device protocol, which also says what no well-behaved one would.

#![allow(dead_code)] // Each test program uses a part.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

pub(crate) const OPTION: u64 = 0x4948_4156_454f_5054;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const REQ_ONE: u16 = 8;
pub(crate) const FAST_ZERO: u16 = 16;
pub(crate) const PAYLOAD_LEN: u16 = 32;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ENOTSUP: u32 = 95;

/// How requests and replies look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mode {
    Simple,
    Structured,
    Extended,
}

pub(crate) const MODES: [Mode; 3] = [Mode::Simple, Mode::Structured, Mode::Extended];

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    pub(crate) error: u32,
    pub(crate) data: Vec<u8>,
    /// Extents: bytes and flags.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Where it failed.
    pub(crate) at: Option<u64>,
}

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    pub(crate) mode: Mode,
    pub(crate) size: u64,
    pub(crate) flags: u16,
    cookie: u64,
    /// Bytes that reads in flight ask for.
    reads: BTreeMap<u64, usize>,
}

pub(crate) fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION.to_be_bytes().to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// All that a client sends in the handshake, from its flags to the last option.
pub(crate) fn handshake(name: &str, mode: Mode) -> Vec<Vec<u8>> {
    let mut messages = vec![3u32.to_be_bytes().to_vec()];
    match mode {
        Mode::Simple => {}
        Mode::Structured => messages.push(option(8, &[])),
        Mode::Extended => messages.push(option(11, &[])),
    }
    if mode > Mode::Simple {
        let query = [string(name), vec![0, 0, 0, 1], string("base:allocation")].concat();
        messages.push(option(10, &query));
    }
    messages.push(option(7, &[string(name), vec![0, 0]].concat()));
    messages
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

impl<S: Read + Write> Client<S> {
    /// Negotiates. The context of allocation is selected where the mode has it.
    pub(crate) fn connect(stream: S, name: &str, mode: Mode) -> io::Result<Client<S>> {
        let mut client = Client { stream, mode, size: 0, flags: 0, cookie: 0, reads: BTreeMap::new() };
        assert_eq!(client.take(18)?, *b"NBDMAGICIHAVEOPT\0\x03");
        let messages = handshake(name, mode);
        client.stream.write_all(&messages[0])?;
        for message in &messages[1..] {
            client.stream.write_all(message)?;
            while let (3 | 4, data) = client.answer()? {
                if data.len() == 12 && data[..2] == [0, 0] {
                    (client.size, client.flags) = (u64_at(&data, 2), u16_at(&data, 10));
                }
            }
        }
        Ok(client)
    }

    /// The next answer to an option: its type, which is no error, and its data.
    pub(crate) fn answer(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let head = self.take(20)?;
        assert_eq!(u64_at(&head, 0), 0x0003_e889_0455_65a9);
        let (kind, data) = (u32_at(&head, 12), self.take(u32_at(&head, 16) as usize)?);
        if kind >= 1 << 31 {
            return Err(io::Error::other(format!("refused: {kind:#x} {}", String::from_utf8_lossy(&data))));
        }
        Ok((kind, data))
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends a request and returns its cookie.
    pub(crate) fn send(
        &mut self,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u64,
        payload: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let extended = self.mode == Mode::Extended;
        let flags = if extended && kind == WRITE { flags | PAYLOAD_LEN } else { flags };
        let mut bytes = if extended { 0x21e4_1c71u32 } else { 0x2560_9513 }.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        match extended {
            true => bytes.extend(length.to_be_bytes()),
            false => bytes.extend(u32::try_from(length).expect("32 bits").to_be_bytes()),
        }
        bytes.extend(payload);
        if kind == READ {
            self.reads.insert(self.cookie, usize::try_from(length).unwrap_or(0));
        }
        self.stream.write_all(&bytes)?;
        Ok(self.cookie)
    }

    /// The next reply, whichever request it is for.
    pub(crate) fn receive(&mut self) -> io::Result<Reply> {
        if self.mode == Mode::Simple {
            let head = self.take(16)?;
            assert_eq!(u32_at(&head, 0), 0x6744_6698, "{head:x?}");
            let (error, cookie) = (u32_at(&head, 4), u64_at(&head, 8));
            let length = self.reads.remove(&cookie).filter(|_| error == 0).unwrap_or(0);
            return Ok(Reply { cookie, error, data: self.take(length)?, ..Reply::default() });
        }
        let extended = self.mode == Mode::Extended;
        let head = self.take(if extended { 32 } else { 20 })?;
        let magic = if extended { 0x6e8a_278c } else { 0x668e_33ef };
        assert_eq!(u32_at(&head, 0), magic, "{head:x?}");
        assert_eq!(u16_at(&head, 4), 1, "one chunk for each request");
        let cookie = u64_at(&head, 8);
        let length = if extended { u64_at(&head, 24) } else { u32_at(&head, 16).into() };
        let body = self.take(usize::try_from(length).expect("small"))?;
        let asked = self.reads.remove(&cookie);
        let mut reply = Reply { cookie, ..Reply::default() };
        match u16_at(&head, 6) {
            0 => assert!(body.is_empty() && asked.is_none_or(|length| length == 0)),
            1 => {
                reply.data = body[8..].to_vec();
                assert_eq!(asked, Some(reply.data.len()));
            }
            5 => {
                assert_eq!(u32_at(&body, 0), 1);
                reply.runs =
                    body[4..].chunks(8).map(|run| (u32_at(run, 0).into(), u32_at(run, 4).into())).collect();
            }
            6 => {
                assert_eq!((u32_at(&body, 0), u32_at(&body, 4) as usize), (1, (body.len() - 8) / 16));
                reply.runs = body[8..].chunks(16).map(|run| (u64_at(run, 0), u64_at(run, 8))).collect();
            }
            kind @ (0x8001 | 0x8002) => {
                reply.error = u32_at(&body, 0);
                let text = usize::from(u16_at(&body, 4));
                reply.at = (kind == 0x8002).then(|| u64_at(&body, 6 + text));
            }
            kind => panic!("a chunk of type {kind}"),
        }
        Ok(reply)
    }

    /// A request and its reply, while nothing else is in flight.
    pub(crate) fn call(&mut self, kind: u16, flags: u16, offset: u64, length: u64, payload: &[u8]) -> Reply {
        let cookie = self.send(kind, flags, offset, length, payload).expect("sent");
        let reply = self.receive().expect("answered");
        assert_eq!(reply.cookie, cookie);
        reply
    }

    pub(crate) fn read(&mut self, offset: u64, length: u64) -> Vec<u8> {
        let reply = self.call(READ, 0, offset, length, &[]);
        assert_eq!(reply.error, 0);
        reply.data
    }

    pub(crate) fn write(&mut self, flags: u16, offset: u64, data: &[u8]) {
        assert_eq!(self.call(WRITE, flags, offset, data.len() as u64, data).error, 0);
    }

    /// A request without data that must succeed.
    pub(crate) fn done(&mut self, kind: u16, flags: u16, offset: u64, length: u64) {
        assert_eq!(self.call(kind, flags, offset, length, &[]).error, 0);
    }

    /// The error of a request without data.
    pub(crate) fn error(&mut self, kind: u16, flags: u16, offset: u64, length: u64) -> u32 {
        self.call(kind, flags, offset, length, &[]).error
    }
}
