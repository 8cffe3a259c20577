//! Bytes of requests, which the kernel has, and which come and go by reading and writing its file.

use crate::device::{Frame, Room};
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use rustix::io::{Errno, pwritev};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

/// Pieces that the kernel takes at once.
const PIECES_MAX: usize = 1024;

/// The bytes at a place of the kernel's file that are written at `offset` of a volume. They come to where they will lie
/// in their block, so that the engine takes them over.
pub(super) fn take(file: &File, place: u64, offset: u64, length: usize) -> io::Result<Bytes> {
    let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
    if skip == 0 && length == BLOCK {
        let mut frame = Frame::from_pool();
        file.read_exact_at(frame.as_mut(), place)?;
        return Ok(frame.freeze());
    }
    let mut room = Room::new(skip + length);
    file.read_exact_at(&mut room.as_mut()[skip..], place)?;
    Ok(room.freeze().slice(skip..))
}

/// Gives the kernel what was read, as the engine has it.
pub(super) fn give(file: &File, mut place: u64, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let count = left.len().min(PIECES_MAX);
        match pwritev(file, &left[..count], place) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                place += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_to_where_they_lie_in_their_block_and_go_from_many_pieces() {
        let file = tempfile::tempfile().expect("a file");
        let bytes: Vec<u8> = (0..3 << 19).map(|i: u32| (i % 251) as u8).collect();
        let parts: Vec<Bytes> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
        assert!(parts.len() > PIECES_MAX);
        give(&file, 7 << 20, &parts).expect("written");
        for (offset, length) in
            [(0, BLOCK), (512, BLOCK), (8192 + 1024, 1 << 20), (4096, 512), (4096, 9 * 512)]
        {
            let taken = take(&file, 7 << 20, offset, length).expect("read");
            assert_eq!(taken, bytes[..length]);
            assert_eq!(taken.as_ptr().addr() as u64 % BLOCK_U64, offset % BLOCK_U64);
        }
        assert!(take(&file, 15 << 20, 0, BLOCK).is_err(), "nothing is there");
    }
}
