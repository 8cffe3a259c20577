//! Replies on their way out: what was read goes as it came from the engine, block by block, with its header before it,
//! many replies with one call of the kernel.

use super::budget::Lease;
use super::stream::Stream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

/// Parts of one call of the kernel.
const PARTS: usize = 520;

struct Part {
    bytes: Bytes,
    is_data: bool,
    /// Of all the data of a reply, with the last part of it.
    lease: Option<Lease>,
}

#[derive(Default)]
pub(super) struct Output {
    parts: VecDeque<Part>,
    /// Behind all parts.
    tail: Vec<u8>,
    leased: u64,
    /// Bytes of parts that are no data, for which nothing was lent.
    plain: usize,
}

impl Output {
    /// Where headers go.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Data goes behind the header that was written last.
    pub(super) fn push(&mut self, data: Vec<Bytes>, lease: Lease) {
        self.leased += lease.bytes;
        self.close_tail();
        self.parts.extend(data.into_iter().map(|bytes| Part { bytes, is_data: true, lease: None }));
        if let Some(last) = self.parts.back_mut() {
            last.lease = Some(lease);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes: Bytes = std::mem::take(&mut self.tail).into();
            self.plain += bytes.len();
            self.parts.push_back(Part { bytes, is_data: false, lease: None });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    /// Bytes of the budget that wait here.
    pub(super) fn leased(&self) -> u64 {
        self.leased
    }

    /// Bytes of headers and messages that wait here.
    pub(super) fn plain(&self) -> usize {
        self.plain + self.tail.len()
    }

    /// Sends what the client takes now. Returns whether that was anything.
    pub(super) fn send(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let mut sent = false;
        self.close_tail();
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS];
            let count = self.parts.len().min(PARTS);
            slices.iter_mut().zip(&self.parts).for_each(|(slice, part)| *slice = IoSlice::new(&part.bytes));
            match stream.write(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.drop_sent(taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            sent = true;
        }
        Ok(sent)
    }

    fn drop_sent(&mut self, mut taken: usize) {
        while let Some(part) = self.parts.front_mut() {
            let here = taken.min(part.bytes.len());
            part.bytes.advance(here);
            taken -= here;
            if !part.is_data {
                self.plain -= here;
            }
            if !part.bytes.is_empty() {
                break;
            }
            self.leased -= part.lease.as_ref().map_or(0, |lease| lease.bytes);
            self.parts.pop_front();
        }
    }
}
