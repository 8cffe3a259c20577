//! Files in pieces, and which blocks of a piece are zeros.

use paritas::device::Aligned;
use paritas::types::BLOCK;
use std::io::{self, Read};
use std::ops::Range;

/// Bytes that are moved at a time.
pub(crate) const PIECE: usize = 1 << 20;

/// Reads until the buffer is full or nothing more comes; how many bytes came.
pub(crate) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The next piece of at most `len` bytes, and how many bytes of it came; the rest is zeros.
pub(crate) fn next(source: &mut dyn Read, len: usize) -> io::Result<(Aligned, usize)> {
    let mut buffer = Aligned::zeroed(len);
    let filled = fill(source, buffer.as_mut())?;
    Ok((buffer, filled))
}

/// Cuts bytes at block boundaries into runs that are all zeros (`true`) and runs of blocks of which none is.
pub(crate) fn runs(bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        let end = start + block.len();
        let zero = is_zero(block);
        match runs.last_mut() {
            Some((range, kind)) if *kind == zero => range.end = end,
            _ => runs.push((start..end, zero)),
        }
    }
    runs
}

fn is_zero(block: &[u8]) -> bool {
    // In words: this looks at every byte that is imported.
    let (head, words, tail) = (block.chunks_exact(16), block.len() / 16 * 16, block.len());
    head.fold(0, |sum, word| sum | u128::from_ne_bytes(word.try_into().expect("16 bytes"))) == 0
        && block[words..tail].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_where_zeros_begin_and_end() {
        let mut bytes = vec![0; 5 * BLOCK + 100];
        bytes[BLOCK] = 1;
        bytes[3 * BLOCK - 1] = 1;
        bytes[5 * BLOCK + 99] = 1;
        let expected = [
            (0..BLOCK, true),
            (BLOCK..3 * BLOCK, false),
            (3 * BLOCK..5 * BLOCK, true),
            (5 * BLOCK..bytes.len(), false),
        ];
        assert_eq!(runs(&bytes), expected);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn a_source_that_gives_little_at_a_time_fills_the_buffer() {
        struct Drip(u8);
        impl Read for Drip {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Ok(0);
                }
                buffer[0] = self.0;
                self.0 -= 1;
                Ok(1)
            }
        }
        let mut buffer = [0; 8];
        let mut source = Drip(10);
        assert_eq!(fill(&mut source, &mut buffer).expect("read"), 8);
        assert_eq!(buffer, [10, 9, 8, 7, 6, 5, 4, 3]);
        assert_eq!(fill(&mut source, &mut buffer).expect("read"), 2);
    }
}
