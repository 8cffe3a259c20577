//! A volume as a stream of bytes.

use super::Volume;
#[cfg(doc)]
use crate::error::Kind;
use crate::limits::WRITE_BLOCKS_MAX;
use crate::types::{BLOCK_U64, SECTOR_U64};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// Bytes of a volume that one call reads or writes at most: one step of its history.
const PIECE: u64 = WRITE_BLOCKS_MAX * BLOCK_U64;

/// A volume and a place in it, for whatever wants to [`Read`], [`Write`] and [`Seek`], at any byte and by calls that
/// block.
///
/// **Buffering.** It keeps no bytes: each call reads or writes the volume. Where calls are small, put a
/// [`BufReader`](io::BufReader) or a [`BufWriter`](io::BufWriter) around it.
///
/// **Addresses.** Sectors of 512 bytes that a write covers in part are read first and written whole. Two cursors, or
/// others who use the volume, may write different sectors at the same time; who writes other bytes of the same sector
/// meanwhile may be undone. Writes whose ends are multiples of 512 read nothing here, and those at multiples of 4096
/// nothing at all.
///
/// **The end.** A volume does not grow: at its end a read gives no bytes and a write takes none, so that
/// [`Write::write_all`] fails with [`ErrorKind::WriteZero`]. A cursor may be placed behind it.
///
/// **Durability.** [`Write::flush`] is [`Volume::flush`]: what was written is durable when it returns. Dropping a
/// cursor flushes nothing. A call takes at most 1 MiB, and is one step of the volume's history.
///
/// **Errors** are those of [`Volume`], inside of an [`io::Error`]: [`io::Error::downcast`] gets them back, with their
/// [`Kind`].
///
/// ```
/// use paritas::volume::{Array, CreateOptions, Cursor};
/// use std::io::{BufRead, BufReader, Seek, Write};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let members: Vec<_> = (0..3).map(|i| folder.path().join(format!("disk{i}"))).collect();
/// # let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
/// # let array = Array::create(&members, &options)?;
/// let mut cursor = Cursor::new(array.create_volume("notes", 1 << 20, None)?);
/// writeln!(cursor, "on three disks")?;
/// writeln!(cursor, "any of which may fail")?;
/// cursor.flush()?; // durable from here on
///
/// cursor.rewind()?;
/// let lines: Vec<String> = BufReader::new(cursor).lines().take(2).collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["on three disks", "any of which may fail"]);
/// # array.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cursor {
    volume: Volume,
    position: u64,
}

impl Cursor {
    /// At the volume's first byte.
    pub fn new(volume: Volume) -> Cursor {
        Cursor { volume, position: 0 }
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The byte that is next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Makes this byte the next one; it may lie behind the end.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// The next bytes, as many of `len` as there are and as one call may move.
    fn next(&self, len: usize) -> io::Result<Range<u64>> {
        let most = PIECE - self.position % SECTOR_U64;
        let end = self.position.saturating_add((len as u64).min(most)).min(self.volume.size()?);
        Ok(self.position..end.max(self.position))
    }

    /// The sector at a place.
    fn sector(&self, at: u64) -> io::Result<bytes::Bytes> {
        Ok(self.volume.read(at, bytes(SECTOR_U64))?)
    }
}

/// The whole sectors around some bytes. Volumes end with a whole one.
fn sectors(range: &Range<u64>) -> Range<u64> {
    range.start - range.start % SECTOR_U64..range.end.next_multiple_of(SECTOR_U64)
}

/// A number of bytes of one call.
fn bytes(count: u64) -> usize {
    usize::try_from(count).expect("at most a piece")
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let range = self.next(out.len())?;
        let len = bytes(range.end - range.start);
        if len > 0 {
            let sectors = sectors(&range);
            let read = self.volume.read(sectors.start, bytes(sectors.end - sectors.start))?;
            out[..len].copy_from_slice(&read[bytes(range.start - sectors.start)..][..len]);
            self.position = range.end;
        }
        Ok(len)
    }
}

impl Write for Cursor {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let range = self.next(data.len())?;
        let len = bytes(range.end - range.start);
        if len > 0 {
            let sectors = sectors(&range);
            if sectors == range {
                self.volume.write(range.start, crate::device::place(range.start, &data[..len]))?;
            } else {
                let mut whole = vec![0; bytes(sectors.end - sectors.start)];
                let last = sectors.end - SECTOR_U64;
                if sectors.start < range.start {
                    whole[..bytes(SECTOR_U64)].copy_from_slice(&self.sector(sectors.start)?);
                }
                // It may be the first one, too.
                if range.end < sectors.end {
                    whole[bytes(last - sectors.start)..].copy_from_slice(&self.sector(last)?);
                }
                whole[bytes(range.start - sectors.start)..][..len].copy_from_slice(&data[..len]);
                self.volume.write(sectors.start, whole)?;
            }
            self.position = range.end;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.volume.flush()?)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.volume.size()?.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let outside =
            || io::Error::new(ErrorKind::InvalidInput, "a place before the first byte, or beyond all");
        self.position = position.ok_or_else(outside)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::types::Scheme;
    use crate::volume::{Array, CreateOptions, OpenOptions};
    use std::path::{Path, PathBuf};

    const SIZE: u64 = 3 << 20;

    fn array(folder: &Path) -> Array {
        let members: Vec<PathBuf> = (0..3).map(|i| folder.join(format!("m{i}"))).collect();
        let scheme = Scheme::new(2, 1);
        let options = CreateOptions { size: Some(64 << 20), scheme, ..CreateOptions::default() };
        Array::create(&members, &options).expect("made")
    }

    /// Numbers that look random and are always the same.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    #[test]
    fn it_is_what_a_vector_is_through_three_thousand_calls() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let mut cursor = Cursor::new(array.create_volume("v", SIZE, None).expect("created"));
        let mut model = io::Cursor::new(vec![0; bytes(SIZE)]);
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let (mut out, mut expected) = (vec![0; 2 << 20], vec![0; 2 << 20]);
        for step in 0..3000 {
            // Mostly short, often around the ends of sectors and blocks, now and then longer than a piece.
            let len = match dice.below(16) {
                0 => dice.below(2 << 20),
                1..6 => 512 * dice.below(20),
                _ => dice.below(1500),
            };
            let len = bytes(len);
            match dice.below(8) {
                0 | 1 => {
                    let near = dice.below(SIZE / 512 + 4) * 512;
                    let to = SeekFrom::Start((near + dice.below(3)).saturating_sub(1));
                    assert_eq!(cursor.seek(to).expect("placed"), model.seek(to).expect("placed"));
                }
                2 => {
                    let by = i64::try_from(dice.below(2 * SIZE)).expect("small") - 2 * (1 << 20);
                    let to = if by % 2 == 0 { SeekFrom::End(by) } else { SeekFrom::Current(by) };
                    match (cursor.seek(to), model.seek(to)) {
                        (Ok(place), Ok(expected)) => assert_eq!(place, expected),
                        (Err(error), Err(_)) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
                        (found, expected) => panic!("{step}: {to:?}: {found:?}, {expected:?}"),
                    }
                }
                3 | 4 => {
                    let read = read_up_to(&mut cursor, &mut out[..len]);
                    assert_eq!(read, read_up_to(&mut model, &mut expected[..len]), "{step}: {len}");
                    assert!(out[..read] == expected[..read], "{step}: {len} bytes");
                }
                _ => {
                    let data: Vec<u8> = (0..len).map(|at| (at as u64 ^ dice.0).to_le_bytes()[0]).collect();
                    let room = bytes(SIZE.saturating_sub(model.position())).min(len);
                    assert_eq!(cursor.write_all(&data).is_ok(), room == len, "{step}: {len}");
                    let mut model = io::Cursor::new(&mut model.get_mut()[..]);
                    model.set_position(cursor.position() - room as u64);
                    model.write_all(&data[..room]).expect("room");
                }
            }
            model.set_position(cursor.position());
        }
        let whole = cursor.volume().read(0, bytes(SIZE)).expect("read");
        assert!(whole == model.get_ref()[..]);
        array.close().expect("closed");
    }

    /// Reads until the buffer is full, or nothing comes any more.
    fn read_up_to(from: &mut impl Read, mut out: &mut [u8]) -> usize {
        let mut all = 0;
        while !out.is_empty() {
            let read = from.read(out).expect("read");
            if read == 0 {
                break;
            }
            all += read;
            out = &mut out[read..];
        }
        all
    }

    #[test]
    fn what_was_flushed_outlasts_a_crash() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let mut cursor = Cursor::new(array.create_volume("v", SIZE, None).expect("created"));
        cursor.set_position(4095);
        cursor.write_all(b"across").expect("written");
        cursor.flush().expect("durable");
        // Not closed: as if the process had been killed.
        drop((cursor, array));
        let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
        let mut cursor = Cursor::new(array.volume("v").expect("there"));
        let mut out = [9; 8];
        cursor.seek(SeekFrom::Start(4094)).expect("placed");
        cursor.read_exact(&mut out).expect("read");
        assert_eq!(&out, b"\0across\0");
        array.close().expect("closed");
    }

    #[test]
    fn at_the_end_nothing_is_read_and_nothing_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let mut cursor = Cursor::new(array.create_volume("v", 8192, None).expect("created"));
        assert_eq!(cursor.seek(SeekFrom::End(-3)).expect("placed"), 8189);
        assert_eq!(cursor.write(b"four").expect("in part"), 3);
        assert_eq!(cursor.write(b"four").expect("nothing"), 0);
        assert_eq!(cursor.write_all(b"four").map_err(|error| error.kind()), Err(ErrorKind::WriteZero));
        cursor.set_position(u64::MAX);
        assert_eq!(cursor.read(&mut [0; 9]).expect("nothing"), 0);
        assert_eq!(cursor.write(b"four").expect("nothing"), 0);
        // It sees the size that the volume has now.
        cursor.set_position(8190);
        cursor.volume().resize(12288).expect("resized");
        assert_eq!(cursor.write(b"four").expect("written"), 4);
        array.close().expect("closed");
    }

    #[test]
    fn errors_are_those_of_the_volume() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let mut cursor = Cursor::new(array.create_volume("v", 8192, None).expect("created"));
        array.delete_volume("v").expect("deleted");
        let error = cursor.read(&mut [0]).expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.downcast::<Error>().expect("the volume's").kind(), Kind::NotFound);
        assert!(
            cursor.write(b"x").is_err() && cursor.flush().is_err() && cursor.seek(SeekFrom::End(0)).is_err()
        );
        array.close().expect("closed");
    }
}
