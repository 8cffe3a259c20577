//! Rot on purpose: bits of a member that change at rest, at once and for good.

use super::Span;
use crate::runtime::executor::split_mix;
use crate::types::{BLOCK, BLOCK_U64};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are looked at together in the search for blocks that hold something.
const PIECE: u64 = 1 << 20;

/// What is to rot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rot {
    /// Where; what lies past the member's end is left out.
    pub area: Span,
    /// In how many blocks at most, chosen by chance; in all of the area when `None`.
    pub count: Option<u64>,
    /// Only in blocks that hold something else than zeros.
    pub only_full: bool,
    /// What chance begins with: the same member and seed rot the same.
    pub seed: u64,
}

/// Flips one bit in each of the chosen blocks of a file or block device, and makes that durable. Returns where these
/// blocks begin, in order. Whoever has the member open, also to write it, is neither asked nor told: disks rot under
/// their users. A block that is written at the same moment may keep its old content, with a wrong bit.
///
/// # Errors
/// Those of the system; then some blocks may have rotted.
pub fn rot(member: &Path, rot: Rot) -> io::Result<Vec<u64>> {
    let file = OpenOptions::new().read(true).write(true).open(member)?;
    let len = rustix::fs::seek(&file, SeekFrom::End(0))?;
    let mut stream = rot.seed;
    let Some(area) = rot.area.overlap(Span { offset: 0, len }) else { return Ok(Vec::new()) };
    let chosen = choose(&file, area, rot, &mut stream)?;
    for block in &chosen {
        let part = area.overlap(Span { offset: block * BLOCK_U64, len: BLOCK_U64 });
        let part = part.expect("a block of the area has bytes of it");
        let at = part.offset + below(&mut stream, part.len);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << below(&mut stream, 8);
        file.write_all_at(&byte, at)?;
    }
    file.sync_all()?;
    Ok(chosen.into_iter().map(|block| block * BLOCK_U64).collect())
}

/// The numbers of the blocks that rot.
fn choose(file: &File, area: Span, rot: Rot, stream: &mut u64) -> io::Result<BTreeSet<u64>> {
    let (first, end) = (area.offset / BLOCK_U64, (area.offset + area.len).div_ceil(BLOCK_U64));
    let blocks = end - first;
    let count = rot.count.unwrap_or(blocks).min(blocks);
    let mut chosen = BTreeSet::new();
    if !rot.only_full {
        // Each set of so many blocks is as likely as any other (Floyd).
        for last in blocks - count..blocks {
            let block = below(stream, last + 1);
            if !chosen.insert(first + block) {
                chosen.insert(first + last);
            }
        }
        return Ok(chosen);
    }
    while (chosen.len() as u64) < count {
        // The first one behind a place that chance chooses, or else before it.
        let place = first + below(stream, blocks);
        let found = match full(file, place, end, &chosen)? {
            None => full(file, first, place, &chosen)?,
            found => found,
        };
        match found {
            Some(block) => chosen.insert(block),
            None => break,
        };
    }
    Ok(chosen)
}

/// The first block that holds something and is not among these.
fn full(file: &File, from: u64, end: u64, but: &BTreeSet<u64>) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; usize::try_from(PIECE).expect("a MiB")];
    let (mut at, end) = (from * BLOCK_U64, end * BLOCK_U64);
    while at < end {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data - data % BLOCK_U64,
            Err(Errno::NXIO) => break,
            // Where holes are not known, there are none.
            Err(_) => at,
        };
        let piece = usize::try_from(PIECE.min(end.saturating_sub(at))).expect("a MiB at most");
        let filled = read_at(file, &mut buffer[..piece], at)?;
        if filled == 0 {
            break;
        }
        for (block, bytes) in (at / BLOCK_U64..).zip(buffer[..filled].chunks(BLOCK)) {
            if bytes.iter().any(|byte| *byte != 0) && !but.contains(&block) {
                return Ok(Some(block));
            }
        }
        at += filled as u64;
    }
    Ok(None)
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A number below `n`.
fn below(stream: &mut u64, n: u64) -> u64 {
    let scaled = u128::from(split_mix(stream)) * u128::from(n);
    u64::try_from(scaled >> 64).expect("less than n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: u64 = 600;

    /// Blocks 10 to 20 and the last one are full.
    fn member() -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut bytes = vec![0; usize::try_from(BLOCKS * BLOCK_U64).expect("small")];
        let last = bytes.len() - 1;
        (10..20).for_each(|block| bytes[block * BLOCK + 7] = 9);
        bytes[last] = 1;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &bytes).expect("written");
        (file, bytes)
    }

    /// The blocks in which a bit differs, and exactly one.
    fn differs(file: &tempfile::NamedTempFile, before: &[u8]) -> Vec<u64> {
        let after = std::fs::read(file.path()).expect("read");
        let pairs = (0u64..).zip(before.chunks(BLOCK).zip(after.chunks(BLOCK)));
        let bits = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        let changed: Vec<(u64, u32)> = pairs.map(|(at, (a, b))| (at * BLOCK_U64, bits(a, b))).collect();
        assert!(changed.iter().all(|(_, bits)| *bits <= 1), "{changed:?}");
        changed.into_iter().filter(|(_, bits)| *bits == 1).map(|(at, _)| at).collect()
    }

    #[test]
    fn rot_strikes_as_many_blocks_as_it_says_where_it_says() {
        let all = Span { offset: 0, len: u64::MAX };
        let some = Span { offset: 5 * BLOCK_U64 + 100, len: 8 * BLOCK_U64 };
        let cases = [
            (Rot { area: all, count: None, only_full: true, seed: 1 }, 11),
            (Rot { area: all, count: Some(4), only_full: true, seed: 2 }, 4),
            (Rot { area: all, count: Some(40), only_full: false, seed: 3 }, 40),
            (Rot { area: some, count: None, only_full: false, seed: 4 }, 9),
            (Rot { area: some, count: Some(2), only_full: false, seed: 5 }, 2),
            (Rot { area: some, count: None, only_full: true, seed: 6 }, 4),
            (Rot { area: Span { offset: 1 << 40, len: 1 }, count: None, only_full: false, seed: 7 }, 0),
        ];
        for (what, count) in cases {
            let (file, before) = member();
            let rotten = rot(file.path(), what).expect("rotten");
            assert_eq!((rotten.len(), &differs(&file, &before)), (count, &rotten), "{what:?}");
            let inside = |at: &u64| what.area.overlap(Span { offset: *at, len: BLOCK_U64 }).is_some();
            assert!(rotten.iter().all(inside), "{what:?}: {rotten:?}");
            let after = std::fs::read(file.path()).expect("read");
            let (start, len) = (what.area.offset, what.area.len);
            let outside =
                (0u64..).zip(before.iter().zip(&after)).filter(|(at, _)| *at < start || at - start >= len);
            assert!(outside.into_iter().all(|(_, (a, b))| a == b), "{what:?}: a byte outside");
            let (again, _) = member();
            assert_eq!(rot(again.path(), what).expect("rotten"), rotten, "{what:?}");
            assert!(std::fs::read(again.path()).expect("read") == after, "the same seed rots the same");
        }
    }

    #[test]
    fn holes_are_passed_over() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 40).expect("sparse");
        file.as_file().write_all_at(&[1], 1 << 39).expect("written");
        let area = Span { offset: 0, len: 1 << 40 };
        let what = Rot { area, count: Some(2), only_full: true, seed: 8 };
        assert_eq!(rot(file.path(), what).expect("rotten"), [1 << 39]);
    }
}
