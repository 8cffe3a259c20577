//! What the kernel says of requests: a page that it writes and this process reads.

#![allow(unsafe_code)] // Bytes that the kernel writes behind the compiler's back have no safe form.

use crate::frontend::ublk::wire::DESCRIPTOR_BYTES;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;

/// The descriptors of a queue.
pub(super) struct Descriptors {
    map: MmapRaw,
}

impl Descriptors {
    /// Those of the first queue, of so many requests.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn map(file: &File, depth: u16) -> io::Result<Descriptors> {
        let bytes = usize::from(depth) * DESCRIPTOR_BYTES;
        let map = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        Ok(Descriptors { map })
    }

    /// That of a request which the kernel has handed over: it is not written again before that is answered.
    pub(super) fn read(&self, tag: u16) -> [u8; DESCRIPTOR_BYTES] {
        let at = usize::from(tag) * DESCRIPTOR_BYTES;
        assert!(at + DESCRIPTOR_BYTES <= self.map.len(), "the queue has fewer requests");
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        // SAFETY: `at` lies inside the map.
        let words = unsafe { self.map.as_ptr().add(at) }.cast::<u64>();
        for (at, word) in descriptor.chunks_exact_mut(size_of::<u64>()).enumerate() {
            // SAFETY: the map is readable as long as `self` lives, begins on a page, and holds the descriptor, of three
            // words: so the word is inside and aligned. It is plain memory without invalid values. The kernel may
            // write it at the same time, hence a volatile read of what no reference points to.
            let value = unsafe { words.add(at).read_volatile() };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn each_request_has_its_own_and_what_is_written_later_is_seen() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let bytes: Vec<u8> = (0..8 * 24).collect();
        file.write_all(&bytes).expect("written");
        let descriptors = Descriptors::map(file.as_file(), 8).expect("mapped");
        for tag in 0..8 {
            assert_eq!(descriptors.read(tag)[..], bytes[usize::from(tag) * 24..][..24]);
        }
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[7; 24], 7 * 24).expect("written");
        assert_eq!(descriptors.read(7), [7; 24]);
    }

    #[test]
    #[should_panic(expected = "fewer requests")]
    fn there_is_none_behind_the_last() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(4096).expect("longer");
        Descriptors::map(file.as_file(), 8).expect("mapped").read(8);
    }
}
