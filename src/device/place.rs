//! Bytes that lie in memory as they will in their blocks, so that the whole blocks among them are aligned as members
//! want them, and the engine need not copy them again.

use super::{Aligned, Frame};
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;

/// A copy of what is to be written at `offset` of a volume, placed so.
pub fn place(offset: u64, bytes: &[u8]) -> Bytes {
    let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
    if bytes.len() == BLOCK && skip == 0 {
        return Frame::copy_of(bytes).freeze();
    }
    let mut placed = Aligned::with_capacity(skip + bytes.len());
    placed.push(&[0; BLOCK][..skip]);
    placed.push(bytes);
    placed.freeze().slice(skip..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lies_as_in_its_block_however_long_it_is() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * BLOCK).collect();
        for (offset, len) in
            [(0, BLOCK), (512, BLOCK), (8192 + 1024, 3 * BLOCK), (4096, 3 * BLOCK), (7, 1), (0, 0)]
        {
            let placed = place(offset, &bytes[..len]);
            assert_eq!(placed, bytes[..len]);
            assert!(len == 0 || placed.as_ptr().addr() as u64 % BLOCK_U64 == offset % BLOCK_U64);
        }
    }
}
