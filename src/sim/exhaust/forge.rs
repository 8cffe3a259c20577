//! Members that somebody forged: bytes of superblocks, records and pages are changed, and all checksums made right again,
//! so that the change reaches whatever believes them. The engine may refuse such an array, or name what is lost; it
//! never panics, never hangs, and never takes memory without bounds.

use super::base::{Base, End};
use super::guarded;
use super::stage::{Checked, Open, Stage};
use crate::checksum::{crc64_around, pointer_crc, witness};
use crate::commit::OpenOptions;
use crate::format::page::Page;
use crate::format::record::Owner;
use crate::sim::media::Image;
use crate::types::{BLOCK, BLOCK_U64, Lba, Scheme};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks of a volume that are read, however large it says it is.
const BLOCKS_READ: u64 = 64;
/// Where superblocks and headers have their checksum, and superblocks their length.
const CRC_AT: usize = 8;
const LENGTH_AT: usize = 20;
/// How headers and superblocks begin.
const HEADS: [&[u8]; 2] = [b"PARITASr", b"PARITASs"];
/// Blocks that are made right at most: what somebody else's checksums happen to be is not followed without end.
const STEPS_MAX: usize = 200;

/// A block of a disk.
type At = (usize, u64);

/// Small arrays to be forged.
pub struct Forgery {
    bases: Vec<(Vec<Image>, Vec<Vec<u64>>)>,
}

/// A stream of choices; zeros when it is at its end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % limit.max(1)
    }
}

impl Forgery {
    /// An array on one member, a mirror, and a 2+1, each left by a process that died.
    ///
    /// # Errors
    /// What went wrong without any forgery.
    pub fn new() -> Checked<Forgery> {
        let bases = [(1, 0), (1, 1), (2, 1)].map(|(k, m)| {
            let scheme = Scheme::new(k, m).ok_or("no such scheme")?;
            let base = Base::new(scheme, usize::from(scheme.width()), End::Killed)?;
            Ok::<_, String>((base.images, base.used))
        });
        Ok(Forgery { bases: bases.into_iter().collect::<Result<_, _>>()? })
    }

    /// Forges as the input says, and has the engine do everything that it can do with the result.
    ///
    /// # Errors
    /// A panic, a hang, an operation that no member takes.
    pub fn try_on(&self, input: &[u8]) -> Checked<()> {
        guarded(|| self.forge(input))
    }

    fn forge(&self, input: &[u8]) -> Checked<()> {
        let mut choices = Choices(input);
        let (images, used) = &self.bases[usize::from(choices.byte()) % self.bases.len()];
        let stage = Stage::of(images);
        let same_everywhere = choices.byte() % 2 == 0;
        let mut before = BTreeMap::new();
        while !choices.0.is_empty() {
            let disk = choices.below(images.len());
            let block = used[disk][choices.below(used[disk].len())];
            let offset = choices.below(BLOCK);
            let len = (choices.below(8) + 1).min(BLOCK - offset);
            let bytes: Vec<u8> = (0..len).map(|_| choices.byte()).collect();
            for other in (0..images.len()).filter(|other| same_everywhere || *other == disk) {
                let at = block * BLOCK_U64;
                before.entry((other, block)).or_insert_with(|| stage.disks[other].peek(at, BLOCK));
                stage.disks[other].poke(at + offset as u64, &bytes);
            }
        }
        make_right(&stage, used, before);
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
        if let Ok(open) = stage.open_as(stage.candidates(), read_only)? {
            read_all(&open)?;
        }
        for _ in 0..2 {
            if let Ok(open) = stage.open(stage.candidates())? {
                work(&open)?;
            }
            stage.hub.kill();
        }
        stage.check_requests()
    }
}

/// Makes the checksums of blocks right that were changed, each wherever it stands: in a page's parent, in headers. That
/// changes other blocks, up to the superblocks. `before` is what each of them held at first.
fn make_right(stage: &Stage, used: &[Vec<u64>], mut before: BTreeMap<At, Vec<u8>>) {
    let mut heads = BTreeSet::new();
    let mut wrong: Vec<At> = before.keys().copied().collect();
    for _ in 0..STEPS_MAX {
        let Some(at) = wrong.pop() else { break };
        let new = content(stage, at);
        if HEADS.iter().any(|magic| new.starts_with(magic)) {
            heads.insert(at);
        } else if let Some(old) = before.remove(&at) {
            for (old, new) in sums(&old, &new) {
                for other in
                    (0..used.len()).flat_map(|disk| used[disk].iter().map(move |block| (disk, *block)))
                {
                    let mut bytes = content(stage, other);
                    let Some(found) = bytes.windows(old.len()).position(|window| *window == old) else {
                        continue;
                    };
                    before.entry(other).or_insert_with(|| bytes.clone());
                    bytes[found..found + new.len()].copy_from_slice(&new);
                    stage.disks[other.0].poke(other.1 * BLOCK_U64, &bytes);
                    wrong.push(other);
                }
            }
        }
    }
    heads.into_iter().for_each(|at| make_head_right(stage, at));
}

fn content(stage: &Stage, (disk, block): At) -> Vec<u8> {
    stage.disks[disk].peek(block * BLOCK_U64, BLOCK)
}

/// The checksums of a block that was changed, old and new: in a pointer, as its parent knows it, and in a header.
fn sums(old: &[u8], new: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut sums = vec![(witness(old).to_le_bytes().to_vec(), witness(new).to_le_bytes().to_vec())];
    if let Ok(Page { tree, level, .. }) = Page::decode(old) {
        let page = Owner::Page { tree: tree.number(), level, low: 0, generation: 0 };
        let identity = page.identity().expect("a page has one");
        let sum = |block| pointer_crc(block, &identity).to_le_bytes().to_vec();
        sums.push((sum(old), sum(new)));
    }
    sums.retain(|(old, new)| old != new);
    sums
}

/// Makes the checksum of a superblock or a header right.
fn make_head_right(stage: &Stage, (disk, block): At) {
    let at = block * BLOCK_U64;
    let head = content(stage, (disk, block));
    let len = match head.starts_with(HEADS[0]) {
        true => BLOCK,
        false => {
            let length = head[LENGTH_AT..LENGTH_AT + 4].try_into().expect("four bytes");
            usize::try_from(u32::from_le_bytes(length)).unwrap_or(0).clamp(BLOCK, crate::limits::SLOT_BYTES)
        }
    };
    let crc = crc64_around(&stage.disks[disk].peek(at, len), CRC_AT);
    stage.disks[disk].poke(at + CRC_AT as u64, &crc.to_le_bytes());
}

fn read_all(open: &Open) -> Checked<()> {
    for volume in open.shard.volumes() {
        for lba in 0..volume.blocks.min(BLOCKS_READ) {
            let _whatever = open.run(async move |shard| shard.read(volume.id, Lba(lba), 1).await)?.is_ok();
        }
    }
    Ok(())
}

fn work(open: &Open) -> Checked<()> {
    read_all(open)?;
    for volume in open.shard.volumes().into_iter().filter(|volume| volume.blocks > 0) {
        let data = Bytes::from(vec![7; BLOCK]);
        let (id, last) = (volume.id, Lba(volume.blocks - 1));
        let _whatever = open.run(async move |shard| shard.write(id, last, data).await)?.is_ok();
        let _whatever = open.run(async move |shard| shard.flush(id).await)?.is_ok();
    }
    let _whatever = open.run(async move |shard| shard.scrub().await)?.is_ok();
    let _whatever = open.run(async move |shard| shard.clear().await)?.is_ok();
    let _state = open.state();
    let _whatever = open.run(async move |shard| shard.close().await)?.is_ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;

    fn input(seed: u64) -> Vec<u8> {
        let mut rng = Rng::new(seed);
        (0..2 + rng.below(60)).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
    }

    fn failures(seeds: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
        let forgery = Forgery::new().expect("sound");
        let try_on = |seed| Some((seed, forgery.try_on(&input(seed)).err()?));
        seeds.into_iter().filter_map(try_on).collect()
    }

    #[test]
    fn forged_superblocks_and_records_are_refused_or_read_and_nothing_panics() {
        assert_eq!(failures(0..300), []);
    }

    /// A record that said of a number beyond all histories that it was durable; a root in a row that chunks do not
    /// have; columns in chunks that members do not have.
    #[test]
    fn numbers_rows_and_chunks_that_cannot_be_are_no_reason_to_panic() {
        assert_eq!(failures([1894, 11097, 10844, 10676]), []);
    }
}
