//! Heap buffers aligned to a block, as devices demand.

use crate::types::BLOCK;
use bytes::{Buf, Bytes, BytesMut};

/// A buffer whose address is a multiple of [`BLOCK`].
///
/// It is the aligned part of an allocation that is up to a block longer, which costs no unsafe code.
pub struct Aligned {
    bytes: BytesMut,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Aligned {
        let mut bytes = BytesMut::zeroed(len + BLOCK - 1);
        let address = bytes.as_ptr().addr();
        bytes.advance(address.next_multiple_of(BLOCK) - address);
        bytes.truncate(len);
        Aligned { bytes }
    }

    /// No bytes yet, and room for `capacity`.
    pub fn with_capacity(capacity: usize) -> Aligned {
        let mut bytes = BytesMut::with_capacity(capacity + BLOCK - 1);
        let address = bytes.as_ptr().addr();
        // What lies before is cut off as it is: to clear it would often cost more than to fill the rest.
        let bytes = bytes.split_off(address.next_multiple_of(BLOCK) - address);
        Aligned { bytes }
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// If there is no room for them: where they are would change.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(self.bytes.len() + bytes.len() <= self.bytes.capacity(), "no room for what is added");
        self.bytes.extend_from_slice(bytes);
    }

    /// A copy of `bytes`, aligned.
    pub fn copy_of(bytes: &[u8]) -> Aligned {
        let mut aligned = Aligned::with_capacity(bytes.len());
        aligned.push(bytes);
        aligned
    }

    /// The bytes, in place.
    pub(super) fn into_inner(self) -> BytesMut {
        self.bytes
    }

    /// The bytes, in place and shared from here on.
    pub fn freeze(self) -> Bytes {
        let address = self.bytes.as_ptr().addr();
        let bytes = self.bytes.freeze();
        debug_assert!(bytes.is_empty() || bytes.as_ptr().addr() == address, "freezing moved the bytes");
        bytes
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_every_length_are_aligned_zero_and_stay_in_place() {
        for len in [1, 511, 512, 4095, 4096, 4097, 65_536, 1 << 20, (1 << 20) + 1] {
            let mut buffer = Aligned::zeroed(len);
            assert_eq!(buffer.as_ref().len(), len);
            assert!(buffer.as_ref().iter().all(|byte| *byte == 0));
            assert!(buffer.as_mut().as_ptr().addr().is_multiple_of(BLOCK));
            buffer.as_mut()[len - 1] = 7;
            let bytes = buffer.freeze();
            assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK));
            assert_eq!((bytes.len(), bytes[len - 1]), (len, 7));
        }
    }

    #[test]
    fn what_is_added_stays_in_place_as_long_as_there_is_room() {
        for len in [1, 4096, 4097, 65_536] {
            let mut buffer = Aligned::with_capacity(3 * len);
            let address = buffer.as_ref().as_ptr().addr();
            assert!(address.is_multiple_of(BLOCK));
            (1..=3).for_each(|fill| buffer.push(&vec![fill; len]));
            let bytes = buffer.freeze();
            assert_eq!((bytes.as_ptr().addr(), bytes.len()), (address, 3 * len));
            assert!((0..3 * len).all(|at| usize::from(bytes[at]) == at / len + 1));
        }
    }

    #[test]
    #[should_panic(expected = "no room for what is added")]
    fn nothing_is_added_where_there_is_no_room() {
        let mut buffer = Aligned::with_capacity(BLOCK);
        buffer.push(&[1; 3 * BLOCK]);
    }

    #[test]
    fn an_empty_buffer_is_no_special_case() {
        assert!(Aligned::zeroed(0).freeze().is_empty());
    }

    #[test]
    fn a_copy_has_the_same_bytes() {
        assert_eq!(Aligned::copy_of(&[1, 2, 3]).freeze(), [1, 2, 3][..]);
    }
}
