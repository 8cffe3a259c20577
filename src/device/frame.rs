//! Memory for one block each, many from one allocation.
//!
//! An allocation of its own for a block that must be aligned takes the room of two. Frames go back to the pool when
//! they are dropped and never to the system: the pool has as many as were ever in use at a time, which the write
//! buffer bounds (rule 11).

use crate::types::BLOCK;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;

/// Frames of one allocation.
const SLAB: usize = 256;

/// Frames that nobody uses.
static POOL: Mutex<Vec<BytesMut>> = Mutex::new(Vec::new());

/// [`BLOCK`] bytes at a multiple of [`BLOCK`].
pub struct Frame(BytesMut);

impl Frame {
    /// A frame, with whatever is in there: of no meaning before somebody wrote to it.
    pub fn from_pool() -> Frame {
        let free = POOL.lock().pop();
        Frame(free.unwrap_or_else(more))
    }

    /// A frame that holds these bytes.
    ///
    /// # Panics
    /// When they are not [`BLOCK`] many.
    pub fn copy_of(bytes: &[u8]) -> Frame {
        let mut frame = Frame::from_pool();
        frame.0.copy_from_slice(bytes);
        frame
    }

    /// The bytes, in place and shared from here on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// One of many new frames; the others go to the pool.
fn more() -> BytesMut {
    let mut slab = BytesMut::zeroed((SLAB + 1) * BLOCK);
    let address = slab.as_ptr().addr();
    slab.advance(address.next_multiple_of(BLOCK) - address);
    let first = slab.split_to(BLOCK);
    POOL.lock().extend((1..SLAB).map(|_| slab.split_to(BLOCK)));
    first
}

impl Drop for Frame {
    fn drop(&mut self) {
        POOL.lock().push(std::mem::take(&mut self.0));
    }
}

impl AsMut<[u8]> for Frame {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn frames_are_aligned_apart_from_each_other_and_used_again() {
        let all = |fill: u8| -> Vec<Bytes> {
            (0..3 * SLAB).map(|_| Frame::copy_of(&[fill; BLOCK]).freeze()).collect()
        };
        let places =
            |frames: &[Bytes]| frames.iter().map(|frame| frame.as_ptr().addr()).collect::<BTreeSet<_>>();
        let frames = all(7);
        let first = places(&frames);
        assert_eq!(first.len(), frames.len());
        assert!(first.iter().all(|place| place.is_multiple_of(BLOCK)));
        assert!(frames.iter().all(|frame| frame == &[7; BLOCK][..]));
        let kept = frames[5].slice(512..);
        drop(frames);
        let again = all(9);
        // Other tests use the pool, too.
        assert!(places(&again).intersection(&first).count() > SLAB);
        assert!(kept == [7; BLOCK - 512][..], "a frame in use was given out");
    }
}
