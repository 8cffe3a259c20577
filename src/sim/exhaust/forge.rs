//! Members that somebody forged: bytes of superblocks, records and pages are changed, and all checksums made right
//! again, so that the change reaches whatever believes them. The engine may refuse such an array, or name what is lost;
//! it never panics, never hangs, and never takes memory without bounds.

use super::base::{Base, End};
use super::guarded;
use super::stage::{Checked, Open, Stage};
use crate::checksum::{crc64_around, pointer_crc, witness};
use crate::commit::OpenOptions;
use crate::format::page::Page;
use crate::format::record::Owner;
use crate::sim::media::Image;
use crate::types::{BLOCK, BLOCK_U64, Identity, Lba, Scheme};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks of a volume that are read, however large it says it is.
const BLOCKS_READ: u64 = 64;
/// Where superblocks and headers have their checksum, and superblocks their length.
const CRC_AT: usize = 8;
const LENGTH_AT: usize = 20;
/// How headers and superblocks begin.
const HEADS: [&[u8]; 2] = [b"PARITASr", b"PARITASs"];
/// Blocks that are made right at most: what somebody else's checksum happens to be is not followed without end.
const STEPS_MAX: usize = 500;

/// A block of a disk.
type At = (usize, u64);

/// Small arrays to be forged.
pub struct Forgery {
    bases: Vec<Genuine>,
}

/// An array before somebody forged it.
struct Genuine {
    images: Vec<Image>,
    /// Superblocks, headers and pages, and how many bytes of each are worth a change.
    believed: Vec<(At, usize)>,
    /// Where the checksums of each block stand.
    sums: BTreeMap<At, Vec<Stands>>,
}

/// A checksum of a block, in another one.
struct Stands {
    sum: Sum,
    at: At,
    offset: u64,
}

#[derive(Clone, Copy)]
enum Sum {
    /// In a pointer, for the page that is expected there.
    Pointer(Identity),
    /// In the header of its record.
    Witness,
}

impl Sum {
    fn of(self, block: &[u8]) -> Vec<u8> {
        match self {
            Sum::Pointer(identity) => pointer_crc(block, &identity).to_le_bytes().to_vec(),
            Sum::Witness => witness(block).to_le_bytes().to_vec(),
        }
    }
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
            let stage = Stage::of(&base.images);
            let (believed, sums) = (believed(&stage, &base.used), checksums(&stage, &base.used));
            Ok::<_, String>(Genuine { images: base.images, believed, sums })
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
        let Genuine { images, believed, sums } = &self.bases[usize::from(choices.byte()) % self.bases.len()];
        let stage = Stage::of(images);
        let same_everywhere = choices.byte() % 2 == 0;
        let mut touched = BTreeSet::new();
        while !choices.0.is_empty() {
            let ((disk, block), bytes) = believed[choices.below(believed.len())];
            let offset = choices.below(bytes);
            let len = (choices.below(8) + 1).min(BLOCK - offset);
            let bytes: Vec<u8> = (0..len).map(|_| choices.byte()).collect();
            for other in (0..images.len()).filter(|other| same_everywhere || *other == disk) {
                stage.disks[other].poke(block * BLOCK_U64 + offset as u64, &bytes);
                touched.insert((other, block));
            }
        }
        make_right(&stage, sums, touched);
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
/// changes other blocks, up to the superblocks.
fn make_right(stage: &Stage, sums: &BTreeMap<At, Vec<Stands>>, mut wrong: BTreeSet<At>) {
    let mut heads = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        let Some(block) = wrong.pop_first() else { break };
        let new = content(stage, block);
        if is_head(&new) {
            heads.insert(block);
            continue;
        }
        for Stands { sum, at, offset } in sums.get(&block).into_iter().flatten() {
            stage.disks[at.0].poke(at.1 * BLOCK_U64 + offset, &sum.of(&new));
            wrong.insert(*at);
        }
    }
    heads.into_iter().for_each(|block| make_head_right(stage, block));
}

/// Where the checksums of all blocks stand that have none of their own.
fn checksums(stage: &Stage, used: &[Vec<u64>]) -> BTreeMap<At, Vec<Stands>> {
    let blocks = || (0..used.len()).flat_map(|disk| used[disk].iter().map(move |block| (disk, *block)));
    // By the first four bytes: only pointers have no more.
    let mut known: BTreeMap<[u8; 4], Vec<(At, Sum)>> = BTreeMap::new();
    for block in blocks() {
        let bytes = content(stage, block);
        let pointer = Page::decode(&bytes).ok().and_then(|Page { tree, level, .. }| {
            Owner::Page { tree: tree.number(), level, low: 0, generation: 0 }.identity()
        });
        let sums = pointer.map(Sum::Pointer).into_iter().chain([Sum::Witness]);
        for sum in sums.filter(|_| !is_head(&bytes)) {
            let first = *sum.of(&bytes).first_chunk().expect("four bytes at least");
            known.entry(first).or_default().push((block, sum));
        }
    }
    let mut found: BTreeMap<At, Vec<Stands>> = BTreeMap::new();
    for at in blocks() {
        let bytes = content(stage, at);
        for (offset, window) in (0_u64..).zip(bytes.windows(4)) {
            let first: &[u8; 4] = window.try_into().expect("four bytes");
            for (block, sum) in known.get(first).into_iter().flatten() {
                found.entry(*block).or_default().push(Stands { sum: *sum, at, offset });
            }
        }
    }
    found
}

/// What the engine believes: all but data. Behind the last byte that is not zero, a few may be.
fn believed(stage: &Stage, used: &[Vec<u64>]) -> Vec<(At, usize)> {
    const MARGIN: usize = 16;
    let blocks = (0..used.len()).flat_map(|disk| used[disk].iter().map(move |block| (disk, *block)));
    let contents = blocks.map(|at| (at, content(stage, at)));
    let meta = contents.filter(|(_, bytes)| is_head(bytes) || Page::decode(bytes).is_ok());
    let worth = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + MARGIN);
    meta.map(|(at, bytes)| (at, worth(&bytes).min(BLOCK))).collect()
}

fn is_head(bytes: &[u8]) -> bool {
    HEADS.iter().any(|magic| bytes.starts_with(magic))
}

fn content(stage: &Stage, (disk, block): At) -> Vec<u8> {
    stage.disks[disk].peek(block * BLOCK_U64, BLOCK)
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
    fn a_page_that_was_changed_is_believed_when_its_checksums_are_made_right() {
        const GENERATION_AT: u64 = 16;
        let base = Base::new(Scheme::new(1, 0).expect("valid"), 1, End::Closed).expect("sound");
        let sums = checksums(&Stage::of(&base.images), &base.used);
        let opens = |at: At, is_right: bool| {
            let stage = Stage::of(&base.images);
            stage.disks[at.0].poke(at.1 * BLOCK_U64 + GENERATION_AT, &[77]);
            if is_right {
                make_right(&stage, &sums, [at].into());
            }
            stage.must_open().and_then(|open| open.expect(&base.expected)).is_ok()
        };
        let stage = Stage::of(&base.images);
        let pages = base.used[0].iter().map(|block| (0, *block));
        let pages: Vec<At> = pages.filter(|at| Page::decode(&content(&stage, *at)).is_ok()).collect();
        assert!(pages.iter().all(|page| opens(*page, true)));
        assert!(pages.iter().filter(|page| !opens(**page, false)).count() >= 3);
    }

    #[test]
    fn forged_superblocks_records_and_pages_are_refused_or_read_and_nothing_panics() {
        assert_eq!(failures(0..300), []);
    }

    /// A root, or a column, in rows or chunks that members do not have. The fuzzer found it in half a minute.
    #[test]
    fn rows_and_chunks_that_cannot_be_are_no_reason_to_panic() {
        let input = [54, 116, 202, 164, 252, 52, 95, 23, 26, 11];
        assert_eq!(Forgery::new().expect("sound").try_on(&input), Ok(()));
    }

    /// A record that says of a number beyond all histories that it is durable.
    #[test]
    fn numbers_that_cannot_be_are_no_reason_to_panic() {
        let input = [
            29, 26, 161, 157, 62, 226, 96, 88, 97, 197, 184, 100, 170, 170, 170, 170, 170, 170, 170, 170,
            119, 184, 33, 174, 128, 179, 182, 26, 234, 22, 232, 90, 75, 146, 52, 56, 222, 125, 255, 255, 255,
            255, 255, 255, 255, 255, 106, 203, 62, 108, 196, 68, 130,
        ];
        assert_eq!(Forgery::new().expect("sound").try_on(&input), Ok(()));
    }
}
