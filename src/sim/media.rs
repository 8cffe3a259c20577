//! What a simulated disk holds: durable content under a volatile cache.
//!
//! Invariants:
//! - `cache` has no empty list; the versions of a block are in the order in which they were written, each newer
//!   than the durable content.
//! - What is not there is zeros.

use super::fault::Fault;
use super::rng::Rng;
use crate::types::{BLOCK, BLOCK_U64};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What is atomic at most.
pub(super) const SECTOR: usize = 512;

type Content = [u8; BLOCK];
type Blocks = BTreeMap<u64, Arc<Content>>;

static ZEROS: Content = [0; BLOCK];

/// The content of a disk at one moment, to be put back later.
#[derive(Clone)]
pub struct Image {
    blocks: Blocks,
}

/// A write that the disk has completed but not made durable, as far as it concerns one block.
#[derive(Clone)]
struct Version {
    /// Position among all writes of the disk.
    order: u64,
    content: Arc<Content>,
    /// A failed flush gave it up: no later flush covers it.
    stranded: bool,
}

#[derive(Default)]
pub(super) struct Media {
    durable: Blocks,
    cache: BTreeMap<u64, Vec<Version>>,
    /// What each block was before its last write.
    previous: Blocks,
    /// Writes so far.
    writes: u64,
}

impl Media {
    /// Covers all writes so far, for [`Media::flush`].
    pub(super) fn mark(&self) -> u64 {
        self.writes
    }

    fn current(&self, block: u64) -> Option<&Arc<Content>> {
        match self.cache.get(&block) {
            Some(versions) => versions.last().map(|version| &version.content),
            None => self.durable.get(&block),
        }
    }

    /// Reads `len` bytes at any offset, piece by piece.
    pub(super) fn read(&self, offset: u64, len: usize, mut take: impl FnMut(&[u8])) {
        for_blocks(offset, len, |block, in_block, _| {
            take(&self.current(block).map_or(&ZEROS, |content| content)[in_block]);
        });
    }

    /// Reads what was there before the last write of each block.
    pub(super) fn read_previous(&self, offset: u64, len: usize, mut take: impl FnMut(&[u8])) {
        for_blocks(offset, len, |block, in_block, _| {
            take(&self.previous.get(&block).map_or(&ZEROS, |content| content)[in_block]);
        });
    }

    /// Puts bytes, at any offset, into the cache.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let order = self.writes;
        self.writes += 1;
        for_blocks(offset, bytes.len(), |block, in_block, in_buffer| {
            let before = self.current(block).cloned();
            let content = if in_block.len() == BLOCK {
                Arc::new(Content::try_from(&bytes[in_buffer]).expect("a whole block"))
            } else {
                let mut content = before.as_ref().map_or(ZEROS, |before| **before);
                content[in_block].copy_from_slice(&bytes[in_buffer]);
                Arc::new(content)
            };
            if let Some(before) = before {
                self.previous.insert(block, before);
            }
            self.cache.entry(block).or_default().push(Version { order, content, stranded: false });
        });
    }

    /// Makes the writes before `mark` durable.
    pub(super) fn flush(&mut self, mark: u64) {
        let Media { durable, cache, .. } = self;
        cache.retain(|block, versions| {
            let covered = versions.iter().rposition(|version| version.order < mark && !version.stranded);
            if let Some(newest) = covered {
                durable.insert(*block, versions[newest].content.clone());
                versions.drain(..=newest);
            }
            !versions.is_empty()
        });
    }

    /// A flush of the writes before `mark` that failed: each of them stays as it is, or is lost at once, or stays
    /// readable and is covered by no later flush.
    pub(super) fn fail_flush(&mut self, mark: u64, rng: &mut Rng) {
        self.cache.retain(|_, versions| {
            versions.retain_mut(|version| {
                let fate = if version.order < mark { rng.below(3) } else { 0 };
                version.stranded |= fate == 1;
                fate != 2
            });
            !versions.is_empty()
        });
    }

    /// The power fails: of each block, any of the versions that it had since it was last durable survives, or a mix.
    /// Reports what became of blocks that had any.
    pub(super) fn lose_power(&mut self, rng: &mut Rng, mut report: impl FnMut(Fault)) {
        // All, none and a mix are each worth a visit, whatever the number of blocks.
        let mode = rng.below(4);
        for (block, versions) in std::mem::take(&mut self.cache) {
            let newest = versions.len();
            let survivor = match mode {
                0 => 0,
                1 => newest,
                _ => rng.index(newest + 1),
            };
            let content_of = |version: usize| -> Option<&Arc<Content>> {
                if version == 0 { self.durable.get(&block) } else { Some(&versions[version - 1].content) }
            };
            let survived = if mode > 1 && rng.chance(1, 3) {
                let other = rng.index(newest);
                let other = if other < survivor { other } else { other + 1 };
                let mut content = content_of(survivor).map_or(ZEROS, |content| **content);
                tear(rng, &mut content, content_of(other).map_or(&ZEROS[..], |content| &content[..]));
                report(Fault::Torn);
                Some(Arc::new(content))
            } else {
                if survivor < newest {
                    report(Fault::Unflushed);
                }
                content_of(survivor).cloned()
            };
            if let Some(content) = survived {
                self.durable.insert(block, content);
            }
        }
    }

    /// Changes blocks at rest: whatever version of them survives.
    pub(super) fn edit(&mut self, offset: u64, len: usize, change: impl Fn(&mut u8, usize)) {
        for_blocks(offset, len, |block, in_block, in_buffer| {
            let apply = |content: &mut Arc<Content>| {
                let bytes = &mut Arc::make_mut(content)[in_block.clone()];
                bytes.iter_mut().zip(in_buffer.clone()).for_each(|(byte, index)| change(byte, index));
            };
            apply(self.durable.entry(block).or_insert_with(|| Arc::new(ZEROS)));
            self.cache.get_mut(&block).into_iter().flatten().for_each(|version| apply(&mut version.content));
        });
    }

    /// Blocks that were ever written, in order.
    pub(super) fn used(&self) -> BTreeSet<u64> {
        self.durable.keys().chain(self.cache.keys()).copied().collect()
    }

    /// Blocks that have content which no flush covered yet.
    pub(super) fn unflushed(&self) -> usize {
        self.cache.len()
    }

    /// The content as it reads now.
    pub(super) fn image(&self) -> Image {
        let used = self.used();
        let content = |block| self.current(block).cloned().map(|content| (block, content));
        Image { blocks: used.into_iter().filter_map(content).collect() }
    }

    /// Replaces all content, durably.
    pub(super) fn restore(&mut self, image: &Image) {
        self.durable = image.blocks.clone();
        self.cache.clear();
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
        media.write(block * BLOCK_U64, &[fill; BLOCK]);
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
        media.write(1000, &bytes);
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
