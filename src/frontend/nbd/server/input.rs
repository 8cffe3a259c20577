//! Bytes that came and were not looked at, and payloads on their way in, which lie in memory as they will in their
//! blocks from the start, so that the engine need not copy them.

use super::stream::Stream;
use crate::device::{Room, place};
use crate::frontend::nbd::negotiate::OPTION_BYTES_MAX;
use crate::types::BLOCK_U64;
use bytes::Bytes;
use std::io;

/// Room for the longest option, and for many requests.
const ROOM: usize = OPTION_BYTES_MAX + (4 << 10);

pub(super) struct Input {
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Input {
        Input { room: vec![0; ROOM], start: 0, end: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "no more is consumed than came");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Takes what is there, as far as there is room. Returns how much, and whether there may be more.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub(super) fn fill(&mut self, stream: &mut Stream) -> io::Result<(usize, bool)> {
        if self.end == self.room.len() {
            self.room.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.room[self.end..];
        let asked = room.len();
        assert!(asked > 0, "there is room for every message");
        let read = stream.read(room)?;
        self.end += read;
        Ok((read, read == asked || !stream.is_plain()))
    }
}

/// Bytes of a request, placed by its offset.
pub(super) struct Payload {
    bytes: Room,
    skip: usize,
    filled: usize,
}

impl Payload {
    /// The whole payload, if it came already.
    pub(super) fn at_once(offset: u64, length: usize, input: &mut Input) -> Option<Bytes> {
        let placed = place(offset, input.bytes().get(..length)?);
        input.consume(length);
        Some(placed)
    }

    /// Room for a payload, and what came of it already.
    pub(super) fn begin(offset: u64, length: usize, input: &mut Input) -> Payload {
        let skip = skip(offset);
        let mut bytes = Room::new(skip + length);
        let here = input.bytes().len().min(length);
        bytes.as_mut()[skip..skip + here].copy_from_slice(&input.bytes()[..here]);
        input.consume(here);
        Payload { bytes, skip, filled: skip + here }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.filled == self.bytes.as_ref().len()
    }

    /// Takes what is there. Returns how much, and whether there may be more.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub(super) fn fill(&mut self, stream: &mut Stream) -> io::Result<(usize, bool)> {
        let room = &mut self.bytes.as_mut()[self.filled..];
        let read = stream.read(room)?;
        let asked = room.len();
        self.filled += read;
        Ok((read, read == asked || !stream.is_plain()))
    }

    pub(super) fn finish(self) -> Bytes {
        assert!(self.is_whole(), "nothing of it is missing");
        self.bytes.freeze().slice(self.skip..)
    }
}

fn skip(offset: u64) -> usize {
    usize::try_from(offset % BLOCK_U64).expect("less than a block")
}
