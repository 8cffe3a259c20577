//! Memory to read into, many blocks of it, used again: fresh memory costs more than the bytes that come into it, for
//! the kernel has to find and to clear it page by page.
//!
//! Invariant: what is in a room is of no meaning before somebody wrote it there. Whoever makes it known says how much
//! that is.

use super::Aligned;
use crate::types::BLOCK;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Blocks of a room that is used again, at most.
const BLOCKS_MAX: usize = 512;
/// Bytes of rooms that nobody uses at most, as many as a write buffer usually takes, which is filled and emptied by
/// turns; beyond that they go back to the system.
const FREE_MAX: usize = 128 << 20;

/// Rooms that nobody uses.
struct Pool {
    /// By their size.
    free: BTreeMap<usize, Vec<BytesMut>>,
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), bytes: 0 });

/// At least so many bytes as were asked for, at a multiple of [`BLOCK`].
pub struct Room {
    bytes: BytesMut,
    len: usize,
}

/// How large it is: there are few sizes, of which none is a quarter more than what it is taken for. `None` for what is
/// too large to be used again.
fn size(len: usize) -> Option<usize> {
    let blocks = len.div_ceil(BLOCK).max(1);
    let step = (blocks.next_power_of_two() / 8).max(1);
    (blocks <= BLOCKS_MAX).then(|| blocks.next_multiple_of(step) * BLOCK)
}

impl Room {
    /// Room for `len` bytes, with whatever is in there.
    pub fn new(len: usize) -> Room {
        let Some(size) = size(len) else { return Room { bytes: Aligned::zeroed(len).into_inner(), len } };
        let used = {
            let mut pool = POOL.lock();
            let used = pool.free.get_mut(&size).and_then(Vec::pop);
            pool.bytes -= used.as_ref().map_or(0, BytesMut::len);
            used
        };
        Room { bytes: used.unwrap_or_else(|| Aligned::zeroed(size).into_inner()), len }
    }

    /// The bytes, in place and shared from here on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(size) = size(self.len) {
            let mut pool = POOL.lock();
            if pool.bytes + bytes.len() <= FREE_MAX {
                pool.bytes += bytes.len();
                pool.free.entry(size).or_default().push(bytes);
            }
        }
    }
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_every_length_are_aligned_and_as_long_as_asked_for() {
        for len in [0, 1, 512, 4096, 4097, 1 << 16, 1 << 20, (1 << 20) + 512, 1 << 21, (1 << 21) + 1, 5 << 20]
        {
            let mut room = Room::new(len);
            assert_eq!((room.as_ref().len(), room.as_mut().len()), (len, len));
            assert!(len == 0 || room.as_ref().as_ptr().addr().is_multiple_of(BLOCK));
            room.as_mut().fill(7);
            let bytes = room.freeze();
            assert!(bytes.len() == len && bytes.iter().all(|byte| *byte == 7));
            assert!(
                size(len)
                    .is_none_or(|size| size >= len && size <= BLOCK.max(len / BLOCK * BLOCK * 5 / 4 + BLOCK))
            );
        }
    }

    #[test]
    fn rooms_in_use_are_apart_and_are_not_given_out_again() {
        let all = |fill: u8| -> Vec<Bytes> {
            let fill = |_| {
                let mut room = Room::new(3 * BLOCK);
                room.as_mut().fill(fill);
                room.freeze()
            };
            (0..50).map(fill).collect()
        };
        let kept: Vec<Bytes> = all(1).iter().map(|bytes| bytes.slice(512..1024)).collect();
        drop(all(2));
        let again = all(3);
        assert!(kept.iter().all(|bytes| bytes == &[1; 512][..]));
        assert!(again.iter().all(|bytes| bytes.iter().all(|byte| *byte == 3)));
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let rooms: Vec<Room> = (0..160).map(|_| Room::new(1 << 20)).collect();
        drop(rooms);
        let pool = POOL.lock();
        let kept: usize = pool.free.values().flatten().map(BytesMut::len).sum();
        assert!(kept == pool.bytes && (FREE_MAX / 2..=FREE_MAX).contains(&kept), "{kept}");
    }
}
