//! Members that are only looked at: mapped into memory, never claimed, never written.
//!
//! **What a map may do to a process.** A mapped page that cannot be had raises SIGBUS at whoever touches it: the file
//! was truncated, the disk has a bad sector. So nothing here touches a page before the kernel has brought in all
//! pages of the range, which it reports as an error instead (`MADV_POPULATE_READ`); bytes are then copied at once,
//! and nobody ever holds a reference into the map. Where the kernel refuses, a plain read of the same range
//! serves or says why not. What remains: a page that is brought in and taken away again, by a truncation or by
//! memory pressure before a bad sector, in the microseconds of one copy. It ends a process that has nothing to lose.

#![allow(unsafe_code)] // Bytes that another process may change at any moment have no safe form.

use crate::types::{BLOCK, BLOCK_U64};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// A regular file or block device, open for reading and mapped where the kernel allows it.
pub struct Image {
    file: File,
    len: u64,
    map: Option<MmapRaw>,
}

impl Image {
    /// Opens what is at `path`. Takes no claim: whoever writes it meanwhile is not disturbed, and may be seen
    /// halfway.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is neither a regular file nor a block device, and those of the system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Image> {
        let path = path.as_ref();
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let text = "neither a regular file nor a block device";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let map = match usize::try_from(len) {
            Ok(bytes @ 1..) => MmapOptions::new().len(bytes).map_raw_read_only(&file).ok(),
            _ => None,
        };
        Ok(Image { file, len, map })
    }

    /// Its bytes, as found when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies what is at `offset` into `buffer`, whole blocks both.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no whole blocks, [`io::ErrorKind::UnexpectedEof`] past the end, also
    /// one that has come nearer since, and those of the device.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if !offset.is_multiple_of(BLOCK_U64) || !buffer.len().is_multiple_of(BLOCK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole blocks"));
        }
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.map {
            Some(map) if copy_mapped(map, offset, buffer) => Ok(()),
            _ => self.file.read_exact_at(buffer, offset),
        }
    }
}

/// Copies from the map if the kernel has all pages of the range.
fn copy_mapped(map: &MmapRaw, offset: u64, buffer: &mut [u8]) -> bool {
    let Ok(offset) = usize::try_from(offset) else { return false };
    if map.advise_range(Advice::PopulateRead, offset, buffer.len()).is_err() {
        return false;
    }
    let inside = offset.checked_add(buffer.len()).is_some_and(|end| end <= map.len());
    assert!(inside && offset.is_multiple_of(BLOCK) && buffer.len().is_multiple_of(BLOCK));
    // SAFETY: `offset` lies inside the map.
    let words = unsafe { map.as_ptr().add(offset) }.cast::<u64>();
    for (at, word) in buffer.chunks_exact_mut(size_of::<u64>()).enumerate() {
        // SAFETY: the map is readable as long as `map` lives, begins on a page, and holds the range: so the word is
        // inside and aligned. It is plain memory without invalid values. Others may write it at the same time,
        // hence a volatile read of what no reference points to.
        let value = unsafe { words.add(at).read_volatile() };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn file(blocks: u8) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a temporary file");
        for block in 0..blocks {
            let bytes: Vec<u8> = (0..=255).cycle().take(BLOCK).map(|i: u8| i ^ block).collect();
            file.write_all(&bytes).expect("written");
        }
        file
    }

    #[test]
    fn what_is_read_is_what_the_file_holds_mapped_or_not() {
        let file = file(5);
        let whole = std::fs::read(file.path()).expect("read");
        let mut image = Image::open(file.path()).expect("opened");
        assert!(image.map.is_some());
        for _ in 0..2 {
            let mut bytes = vec![0; 3 * BLOCK];
            image.read(BLOCK_U64, &mut bytes).expect("inside");
            assert!(bytes == whole[BLOCK..4 * BLOCK]);
            image.map = None;
        }
    }

    #[test]
    fn ranges_are_whole_blocks_inside_the_file() {
        let file = file(2);
        file.as_file().set_len(2 * BLOCK_U64 + 7).expect("longer");
        let image = Image::open(file.path()).expect("opened");
        assert_eq!((image.len(), image.is_empty()), (2 * BLOCK_U64 + 7, false));
        let kind = |offset: u64, len: usize| image.read(offset, &mut vec![0; len]).map_err(|e| e.kind());
        assert_eq!(kind(BLOCK_U64, BLOCK), Ok(()));
        assert_eq!(kind(2 * BLOCK_U64, 0), Ok(()));
        for (offset, len) in [(512, BLOCK), (0, 512)] {
            assert_eq!(kind(offset, len), Err(io::ErrorKind::InvalidInput), "{offset} {len}");
        }
        for (offset, len) in [(2 * BLOCK_U64, BLOCK), (0, 3 * BLOCK), (u64::MAX - 4095, BLOCK)] {
            assert_eq!(kind(offset, len), Err(io::ErrorKind::UnexpectedEof), "{offset} {len}");
        }
    }

    #[test]
    fn a_file_that_is_truncated_under_the_map_is_an_error_and_no_signal() {
        let file = file(9);
        let image = Image::open(file.path()).expect("opened");
        let mut block = vec![0; BLOCK];
        image.read(8 * BLOCK_U64, &mut block).expect("still there");
        file.as_file().set_len(BLOCK_U64).expect("shorter");
        let gone = image.read(8 * BLOCK_U64, &mut block).map_err(|error| error.kind());
        assert_eq!(gone, Err(io::ErrorKind::UnexpectedEof));
        image.read(0, &mut block).expect("left");
    }

    #[test]
    fn what_is_empty_or_no_file_is_no_special_case() {
        let empty = NamedTempFile::new().expect("a temporary file");
        let image = Image::open(empty.path()).expect("opened");
        assert!(image.is_empty() && image.read(0, &mut []).is_ok());
        let folder = Image::open(std::env::temp_dir()).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(folder, Err(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn a_writer_elsewhere_is_seen() {
        let file = file(1);
        let image = Image::open(file.path()).expect("opened");
        file.as_file().write_all_at(&[9; BLOCK], 0).expect("written");
        let mut block = vec![0; BLOCK];
        image.read(0, &mut block).expect("there");
        assert_eq!(block, [9; BLOCK]);
    }
}
