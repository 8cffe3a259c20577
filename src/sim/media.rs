//! What a simulated disk holds: durable content under a volatile cache.
//!
//! What is written whole is not copied, but shared with whoever wrote it, and with whoever reads it: bytes that are on
//! their way to members and back never change.
//!
//! Invariants:
//! - The versions of a block are in the order in which they were written, each newer than the durable content.
//! - `unflushed` has exactly the blocks that have versions.
//! - What is not there is zeros.

use super::fault::Fault;
use super::rng::Rng;
use crate::device::Aligned;
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What is atomic at most.
pub(super) const SECTOR: usize = 512;

/// Blocks that have their cells in one allocation.
const CELLS: usize = 64;

/// A block of zeros, aligned as one that is read must be.
#[repr(align(4096))]
struct Zeros([u8; BLOCK]);

static ZEROS: Zeros = Zeros([0; BLOCK]);

/// The content of a disk at one moment, to be put back later.
#[derive(Clone)]
pub struct Image {
    blocks: BTreeMap<u64, Bytes>,
}

/// A write that the disk has completed but not made durable, as far as it concerns one block.
struct Version {
    /// Position among all writes of the disk.
    order: u64,
    content: Bytes,
    /// A failed flush gave it up: no later flush covers it.
    stranded: bool,
}

/// All that is known of a block.
#[derive(Default)]
struct Cell {
    durable: Option<Bytes>,
    versions: Vec<Version>,
    /// What it was before its last write.
    previous: Option<Bytes>,
}

impl Cell {
    fn current(&self) -> Option<&Bytes> {
        self.versions.last().map(|version| &version.content).or(self.durable.as_ref())
    }
}

#[derive(Default)]
pub(super) struct Media {
    /// By block, [`CELLS`] together.
    cells: Vec<Option<Box<[Cell; CELLS]>>>,
    unflushed: BTreeSet<u64>,
    /// Writes so far.
    writes: u64,
}

/// Where a block's cell is.
fn place(block: u64) -> (usize, usize) {
    let block = usize::try_from(block).expect("a simulated disk is small");
    (block / CELLS, block % CELLS)
}

fn bytes_of(content: Option<&Bytes>) -> &[u8] {
    content.map_or(&ZEROS.0, |content| content)
}

impl Media {
    fn cell(&self, block: u64) -> Option<&Cell> {
        let (group, at) = place(block);
        self.cells.get(group)?.as_ref().map(|cells| &cells[at])
    }

    fn cell_mut(&mut self, block: u64) -> &mut Cell {
        let (group, at) = place(block);
        if group >= self.cells.len() {
            self.cells.resize_with(group + 1, || None);
        }
        &mut self.cells[group].get_or_insert_with(|| Box::new(std::array::from_fn(|_| Cell::default())))[at]
    }

    /// Covers all writes so far, for [`Media::flush`].
    pub(super) fn mark(&self) -> u64 {
        self.writes
    }

    fn current(&self, block: u64) -> Option<&Bytes> {
        self.cell(block).and_then(Cell::current)
    }

    /// Reads `len` bytes at any offset, piece by piece.
    pub(super) fn read(&self, offset: u64, len: usize, mut take: impl FnMut(&[u8])) {
        for_blocks(offset, len, |block, in_block, _| take(&bytes_of(self.current(block))[in_block]));
    }

    /// Reads what was there before the last write of each block.
    pub(super) fn read_previous(&self, offset: u64, len: usize, mut take: impl FnMut(&[u8])) {
        for_blocks(offset, len, |block, in_block, _| {
            take(&bytes_of(self.cell(block).and_then(|cell| cell.previous.as_ref()))[in_block]);
        });
    }

    /// Reads as the engine wants it in memory: aligned, and a block alone without a copy.
    pub(super) fn read_aligned(&self, offset: u64, len: usize) -> Bytes {
        if len == BLOCK && offset.is_multiple_of(BLOCK_U64) {
            match self.current(offset / BLOCK_U64) {
                None => return Bytes::from_static(&ZEROS.0),
                Some(content) if content.as_ptr().addr().is_multiple_of(BLOCK) => return content.clone(),
                Some(_) => {}
            }
        }
        let mut buffer = Aligned::with_capacity(len);
        self.read(offset, len, |piece| buffer.push(piece));
        buffer.freeze()
    }

    /// Puts bytes, at any offset, into the cache.
    pub(super) fn write(&mut self, offset: u64, bytes: &Bytes) {
        let order = self.writes;
        self.writes += 1;
        for_blocks(offset, bytes.len(), |block, in_block, in_buffer| {
            let cell = self.cell_mut(block);
            let before = cell.current().cloned();
            let content = if in_block.len() == BLOCK {
                bytes.slice(in_buffer)
            } else {
                let mut content = bytes_of(before.as_ref()).to_vec();
                content[in_block].copy_from_slice(&bytes[in_buffer]);
                content.into()
            };
            if before.is_some() {
                cell.previous = before;
            }
            cell.versions.push(Version { order, content, stranded: false });
            if cell.versions.len() == 1 {
                self.unflushed.insert(block);
            }
        });
    }

    /// Goes over the blocks that have versions. Those that have none afterwards are left out from then on.
    fn settle(&mut self, mut each: impl FnMut(&mut Cell)) {
        let mut blocks = std::mem::take(&mut self.unflushed);
        blocks.retain(|block| {
            let cell = self.cell_mut(*block);
            each(cell);
            !cell.versions.is_empty()
        });
        self.unflushed = blocks;
    }

    /// Makes the writes before `mark` durable.
    pub(super) fn flush(&mut self, mark: u64) {
        self.settle(|cell| {
            let covered = cell.versions.iter().rposition(|version| version.order < mark && !version.stranded);
            if let Some(newest) = covered {
                cell.durable = cell.versions.drain(..=newest).next_back().map(|version| version.content);
            }
        });
    }

    /// A flush of the writes before `mark` that failed: each of them stays as it is, or is lost at once, or stays
    /// readable and is covered by no later flush.
    pub(super) fn fail_flush(&mut self, mark: u64, rng: &mut Rng) {
        self.settle(|cell| {
            cell.versions.retain_mut(|version| {
                let fate = if version.order < mark { rng.below(3) } else { 0 };
                version.stranded |= fate == 1;
                fate != 2
            });
        });
    }

    /// The power fails: of each block, any of the versions that it had since it was last durable survives, or a mix.
    /// Reports what became of blocks that had any.
    pub(super) fn lose_power(&mut self, rng: &mut Rng, mut report: impl FnMut(Fault)) {
        // All, none and a mix are each worth a visit, whatever the number of blocks.
        let mode = rng.below(4);
        self.settle(|cell| {
            let versions = std::mem::take(&mut cell.versions);
            let newest = versions.len();
            let survivor = match mode {
                0 => 0,
                1 => newest,
                _ => rng.index(newest + 1),
            };
            let content_of = |version: usize| -> Option<&Bytes> {
                if version == 0 { cell.durable.as_ref() } else { Some(&versions[version - 1].content) }
            };
            let survived = if mode > 1 && rng.chance(1, 3) {
                let other = rng.index(newest);
                let other = if other < survivor { other } else { other + 1 };
                let mut content = bytes_of(content_of(survivor)).to_vec();
                tear(rng, &mut content, bytes_of(content_of(other)));
                report(Fault::Torn);
                Some(content.into())
            } else {
                if survivor < newest {
                    report(Fault::Unflushed);
                }
                content_of(survivor).cloned()
            };
            cell.durable = survived;
        });
    }

    /// Changes blocks at rest: whatever version of them survives.
    pub(super) fn edit(&mut self, offset: u64, len: usize, change: impl Fn(&mut u8, usize)) {
        for_blocks(offset, len, |block, in_block, in_buffer| {
            let changed = |content: Option<&Bytes>| -> Bytes {
                let mut content = bytes_of(content).to_vec();
                let bytes = content[in_block.clone()].iter_mut().zip(in_buffer.clone());
                bytes.for_each(|(byte, index)| change(byte, index));
                content.into()
            };
            let cell = self.cell_mut(block);
            cell.durable = Some(changed(cell.durable.as_ref()));
            for version in &mut cell.versions {
                version.content = changed(Some(&version.content));
            }
        });
    }

    /// What every block reads as that was ever written, in order.
    fn contents(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        let cells =
            (0..).step_by(CELLS).zip(&self.cells).filter_map(|(first, cells)| Some((first, cells.as_ref()?)));
        cells
            .flat_map(|(first, cells)| (first..).zip(cells.iter()))
            .filter_map(|(block, cell)| Some((block, cell.current()?)))
    }

    /// Blocks that were ever written, in order.
    pub(super) fn used(&self) -> BTreeSet<u64> {
        self.contents().map(|(block, _)| block).collect()
    }

    /// Blocks that have content which no flush covered yet.
    pub(super) fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    /// The content as it reads now.
    pub(super) fn image(&self) -> Image {
        Image { blocks: self.contents().map(|(block, content)| (block, content.clone())).collect() }
    }

    /// Replaces all content, durably.
    pub(super) fn restore(&mut self, image: &Image) {
        for cell in self.cells.iter_mut().flatten().flat_map(|cells| cells.iter_mut()) {
            cell.durable = None;
            cell.versions.clear();
        }
        self.unflushed.clear();
        for (block, content) in &image.blocks {
            self.cell_mut(*block).durable = Some(content.clone());
        }
    }
}

/// Splits a byte range by blocks: block, range in the block, range in the buffer.
fn for_blocks(offset: u64, len: usize, mut visit: impl FnMut(u64, Range<usize>, Range<usize>)) {
    let mut done = 0;
    let mut block = offset / BLOCK_U64;
    let mut skipped = usize::try_from(offset % BLOCK_U64).expect("less than a block");
    while done < len {
        let here = (BLOCK - skipped).min(len - done);
        visit(block, skipped..skipped + here, done..done + here);
        done += here;
        block += 1;
        skipped = 0;
    }
}

/// Overwrites `old` with a part of `new`, as an interrupted write of whole sectors may.
pub(super) fn tear(rng: &mut Rng, old: &mut [u8], new: &[u8]) {
    let sectors = new.len() / SECTOR;
    if sectors == 0 {
        return;
    }
    let boundary = rng.index(sectors);
    let variant = rng.below(4);
    for (sector, (old, new)) in old.chunks_mut(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
        let written = match variant {
            0 => rng.chance(1, 2),
            1 => sector > boundary,
            _ => sector < boundary,
        };
        if written {
            old.copy_from_slice(new);
        } else if variant == 2 && sector == boundary {
            rng.fill_bytes(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at(media: &Media, offset: u64, len: usize) -> Vec<u8> {
        let mut content = Vec::new();
        media.read(offset, len, |piece| content.extend_from_slice(piece));
        content
    }

    fn read(media: &Media, block: u64) -> u8 {
        let content = read_at(media, block * BLOCK_U64, BLOCK);
        assert!(content.iter().all(|byte| *byte == content[0]), "torn");
        content[0]
    }

    fn write(media: &mut Media, block: u64, fill: u8) {
        media.write(block * BLOCK_U64, &Bytes::from(vec![fill; BLOCK]));
    }

    fn crash(media: &mut Media, seed: u64) -> Vec<Fault> {
        let mut reports = Vec::new();
        media.lose_power(&mut Rng::new(seed), |fault| reports.push(fault));
        reports
    }

    #[test]
    fn bytes_at_any_offset_are_read_as_written() {
        let mut media = Media::default();
        let bytes: Vec<u8> = (0..3 * BLOCK).map(|i| u8::try_from(i % 251).expect("small")).collect();
        media.write(1000, &Bytes::from(bytes.clone()));
        let out = read_at(&media, 0, 3 * BLOCK + 2000);
        assert_eq!((&out[..1000], &out[1000..1000 + 3 * BLOCK]), (&[0; 1000][..], &bytes[..]));
        assert_eq!(out[1000 + 3 * BLOCK..], [0; 1000]);
        assert_eq!(media.used().into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_flush_covers_what_was_written_before_its_mark_and_nothing_else() {
        for seed in 0..200 {
            let mut media = Media::default();
            write(&mut media, 0, 1);
            write(&mut media, 1, 1);
            let mark = media.mark();
            write(&mut media, 1, 2);
            media.flush(mark);
            assert_eq!((media.unflushed(), read(&media, 1)), (1, 2));
            let reports = crash(&mut media, seed);
            assert_eq!(read(&media, 0), 1);
            if !reports.contains(&Fault::Torn) {
                assert!(matches!(read(&media, 1), 1 | 2));
            }
        }
    }

    #[test]
    fn any_version_of_an_unflushed_block_and_any_mix_may_survive() {
        let mut seen = BTreeSet::new();
        let mut torn = 0;
        for seed in 0..500 {
            let mut media = Media::default();
            (1..=3).for_each(|fill| write(&mut media, 5, fill));
            let reports = crash(&mut media, seed);
            if reports.contains(&Fault::Torn) {
                torn += 1;
            } else {
                assert_eq!(reports.is_empty(), read(&media, 5) == 3);
                seen.insert(read(&media, 5));
            }
            assert_eq!(media.unflushed(), 0);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(torn > 20, "{torn}");
    }

    #[test]
    fn a_later_write_may_survive_where_an_earlier_one_is_lost() {
        let survives = |seed| {
            let mut media = Media::default();
            write(&mut media, 0, 1);
            write(&mut media, 1, 1);
            crash(&mut media, seed).is_empty() || {
                let both = read_at(&media, 0, 2 * BLOCK);
                both[0] == 0 && both[BLOCK] == 1
            }
        };
        assert!((0..200).any(survives));
    }

    #[test]
    fn a_failed_flush_keeps_loses_or_strands_what_it_was_to_cover() {
        let (mut kept, mut lost, mut stranded) = (0, 0, 0);
        for seed in 0..300 {
            let mut media = Media::default();
            write(&mut media, 0, 1);
            media.fail_flush(media.mark(), &mut Rng::new(seed));
            if read(&media, 0) == 0 {
                lost += 1;
                continue;
            }
            media.flush(media.mark());
            if media.unflushed() == 0 { kept += 1 } else { stranded += 1 }
        }
        assert!(kept > 50 && lost > 50 && stranded > 50, "{kept} {lost} {stranded}");
    }

    #[test]
    fn an_interrupted_write_leaves_a_subset_a_head_a_tail_or_garbage_at_the_boundary() {
        let mut shapes = BTreeSet::new();
        for seed in 0..2000 {
            let mut content = [1; BLOCK];
            tear(&mut Rng::new(seed), &mut content, &[2; BLOCK]);
            let shape: Vec<char> = content
                .chunks(SECTOR)
                .map(|sector| match sector {
                    s if s.iter().all(|byte| *byte == 1) => 'o',
                    s if s.iter().all(|byte| *byte == 2) => 'n',
                    _ => 'g',
                })
                .collect();
            shapes.insert(shape.into_iter().collect::<String>());
        }
        for shape in ["nnnnoooo", "oooonnnn", "nnngoooo", "gooooooo", "nonoonoo", "oooooooo"] {
            assert!(shapes.contains(shape), "{shape} is missing among {}", shapes.len());
        }
        assert!(shapes.iter().all(|shape| shape.matches('g').count() <= 1));
    }

    #[test]
    fn an_edit_reaches_every_version() {
        for seed in 0..50 {
            let mut media = Media::default();
            write(&mut media, 0, 1);
            media.flush(media.mark());
            write(&mut media, 0, 1);
            media.edit(0, BLOCK, |byte, _| *byte ^= 0x80);
            assert_eq!(read(&media, 0), 0x81);
            if !crash(&mut media, seed).contains(&Fault::Torn) {
                assert_eq!(read(&media, 0), 0x81, "seed {seed}");
            }
        }
    }
}
