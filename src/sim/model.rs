//! The oracle: what a read may legally return.
//!
//! Every write has a tag, and the tag and the address make its bytes: so a block that is read names the write
//! it came from. The model keeps each volume's whole history since the last crash. A read must return, block
//! by block, what was newest when it began or something written since. After a crash the whole volume must
//! equal its history up to one number, the same for all blocks, not before the last flush; from then on that
//! is its history.
//!
//! A block that a call changed in part is a mix of several writes: it has a tag of its own, found by its bytes.

use crate::types::{BLOCK, BLOCK_U64, Lba, Number, Scheme, VolumeId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The tag of a block that was never written or was trimmed.
pub const ZEROS: u64 = 0;

/// The bytes of block `lba` of the write with this tag.
pub fn content(tag: u64, lba: Lba) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    fill(&mut block, tag, lba);
    block
}

/// Likewise, to where they are wanted.
pub fn fill(block: &mut [u8], tag: u64, lba: Lba) {
    block.as_chunks_mut().0.iter_mut().zip(words(tag, lba)).for_each(|(bytes, word)| *bytes = word);
}

/// What a block consists of.
fn words(tag: u64, lba: Lba) -> impl Iterator<Item = [u8; 8]> {
    let step = (lba.0 << 1 | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let words = std::iter::successors(Some(tag), move |word| Some(word.wrapping_add(step).rotate_left(17)));
    words.take(BLOCK / 8).map(u64::to_le_bytes)
}

/// Which write a block comes from; `None` when it is nobody's.
pub fn tag_of(block: &[u8], lba: Lba) -> Option<u64> {
    let tag = u64::from_le_bytes(block[..8].try_into().expect("a block is longer than a word"));
    let words_of_block = block.as_chunks().0.iter().copied();
    let matches = match tag {
        ZEROS => block == [0; BLOCK],
        tag => block.len() == BLOCK && words_of_block.eq(words(tag, lba)),
    };
    matches.then_some(tag)
}

/// The first tag of a mix.
const MIXES: u64 = 1 << 63;

/// One volume as it should be.
#[derive(Clone, Debug)]
pub struct VolumeModel {
    /// The volume.
    pub id: VolumeId,
    /// Its scheme.
    pub scheme: Scheme,
    /// Each block's tags, oldest first: the first entry is its state at `base`.
    versions: Vec<Vec<(Number, u64)>>,
    /// Its sizes, in the same way. What lies beyond is zeros.
    sizes: Vec<(Number, u64)>,
    /// The number up to which the history is settled.
    base: Number,
    /// The newest number that was given out.
    pub issued: Number,
    /// The newest number that is known durable.
    pub flushed: Number,
    /// The bytes of blocks that are mixes, and their tags: equal bytes have one tag.
    mixes: BTreeMap<Vec<u8>, u64>,
}

impl VolumeModel {
    /// A new volume: all zeros.
    pub fn new(id: VolumeId, scheme: Scheme, blocks: u64) -> VolumeModel {
        VolumeModel {
            id,
            scheme,
            versions: vec![vec![(Number(0), ZEROS)]; usize::try_from(blocks).expect("small")],
            sizes: vec![(Number(0), blocks)],
            base: Number(0),
            issued: Number(0),
            flushed: Number(0),
            mixes: BTreeMap::new(),
        }
    }

    /// The bytes of a block in the state that a tag names.
    fn bytes(&self, tag: u64, lba: Lba) -> Vec<u8> {
        match tag {
            ZEROS => vec![0; BLOCK],
            MIXES.. => {
                let mix = self.mixes.iter().find(|(_, other)| **other == tag);
                mix.expect("a mix that was given out").0.clone()
            }
            _ => content(tag, lba),
        }
    }

    /// Which state a block is in; `None` when it never was in it.
    fn identify(&self, block: Option<&[u8]>, lba: Lba) -> Option<u64> {
        let Some(block) = block else { return Some(ZEROS) };
        tag_of(block, lba).or_else(|| self.mixes.get(block).copied())
    }

    /// A write of bytes (or, with [`ZEROS`], a trim) was accepted under `number`.
    ///
    /// # Errors
    /// When that is not the next number.
    pub fn accepted_bytes(&mut self, number: Number, offset: u64, len: u64, tag: u64) -> Result<(), String> {
        self.accepted(number, Lba(0), 0, tag)?;
        let end = offset + len;
        for lba in offset / BLOCK_U64..end.div_ceil(BLOCK_U64) {
            let within = |at: u64| {
                let at = at.saturating_sub(lba * BLOCK_U64).min(BLOCK_U64);
                usize::try_from(at).expect("at most a block")
            };
            let part = within(offset)..within(end);
            let mut block = self.bytes(self.now(lba), Lba(lba));
            let new = if tag == ZEROS { vec![0; BLOCK] } else { content(tag, Lba(lba)) };
            block[part.clone()].copy_from_slice(&new[part]);
            let state = self.identify(Some(&block), Lba(lba)).unwrap_or_else(|| {
                let mix = MIXES + self.mixes.len() as u64;
                self.mixes.insert(block, mix);
                mix
            });
            self.versions[usize::try_from(lba).expect("small")].push((number, state));
        }
        Ok(())
    }

    /// Its size.
    pub fn blocks(&self) -> u64 {
        newest(&self.sizes, self.issued)
    }

    /// A new size was accepted under `number`.
    ///
    /// # Errors
    /// When that is not the next number.
    pub fn resized(&mut self, number: Number, blocks: u64) -> Result<(), String> {
        self.accepted(number, Lba(0), 0, ZEROS)?;
        let len = usize::try_from(blocks).expect("small");
        for versions in self.versions.iter_mut().skip(len) {
            versions.push((number, ZEROS));
        }
        let blank = vec![(self.base, ZEROS)];
        self.versions.resize(self.versions.len().max(len), blank);
        self.sizes.push((number, blocks));
        Ok(())
    }

    /// A write (or, with [`ZEROS`], a trim) was accepted under `number`.
    ///
    /// # Errors
    /// When that is not the next number.
    pub fn accepted(&mut self, number: Number, lba: Lba, blocks: u64, tag: u64) -> Result<(), String> {
        if number != self.issued.next() {
            return Err(format!("volume {}: number {number} after {}", self.id, self.issued));
        }
        self.issued = number;
        for at in lba.0..lba.0 + blocks {
            self.versions[usize::try_from(at).expect("small")].push((number, tag));
        }
        Ok(())
    }

    fn at(&self, lba: u64, number: Number) -> u64 {
        newest(&self.versions[usize::try_from(lba).expect("small")], number)
    }

    /// Checks what a read returned that began when `since` was the newest number.
    ///
    /// # Errors
    /// The first block that it may not return.
    pub fn check_read(&self, since: Number, lba: Lba, data: &[Option<Bytes>]) -> Result<(), String> {
        for (at, block) in (lba.0..).zip(data) {
            let tag = self.identify(block.as_deref(), Lba(at));
            let versions = &self.versions[usize::try_from(at).expect("small")];
            let later = versions.iter().any(|(born, other)| *born > since && Some(*other) == tag);
            if !later && Some(self.at(at, since)) != tag {
                return Err(format!(
                    "volume {}: block {at} read as {}, but is {} at number {since}",
                    self.id,
                    name(tag),
                    name(Some(self.at(at, since)))
                ));
            }
        }
        Ok(())
    }

    /// Checks a whole volume after a crash: it must equal its history up to some number that is not before
    /// the last flush. From now on that is its history.
    ///
    /// # Errors
    /// What was lost, or what contradicts a prefix.
    pub fn settle(&mut self, data: &[Option<Bytes>]) -> Result<(), String> {
        let mut tags = Vec::with_capacity(self.versions.len() + 1);
        for (at, block) in (0..).zip(data) {
            let tag = self.identify(block.as_deref(), Lba(at));
            tags.push(tag.ok_or_else(|| format!("volume {}: block {at} is nobody's bytes", self.id))?);
        }
        if tags.len() > self.versions.len() {
            return Err(format!("volume {}: {} blocks, and never had as many", self.id, tags.len()));
        }
        tags.resize(self.versions.len(), ZEROS);
        tags.push(data.len() as u64);
        let mut steps: BTreeMap<Number, Vec<(usize, u64)>> = BTreeMap::new();
        let mut wrong = 0usize;
        let mut current = Vec::with_capacity(tags.len());
        for (at, versions) in self.histories().enumerate() {
            let now = newest(versions, self.flushed);
            wrong += usize::from(now != tags[at]);
            current.push(now);
            for (born, tag) in versions.iter().filter(|(born, _)| *born > self.flushed) {
                steps.entry(*born).or_default().push((at, *tag));
            }
        }
        let mut number = self.flushed;
        let mut steps = steps.into_iter().peekable();
        loop {
            // The last of several numbers that look alike, as far as nothing visible changes.
            if wrong == 0 {
                break;
            }
            let Some((next, changes)) = steps.next() else {
                return Err(self.explain(&tags));
            };
            number = next;
            for (at, tag) in changes {
                wrong = wrong - usize::from(current[at] != tags[at]) + usize::from(tag != tags[at]);
                current[at] = tag;
            }
        }
        let size = tags.pop().expect("just put there");
        self.versions = tags.iter().map(|tag| vec![(number, *tag)]).collect();
        self.sizes = vec![(number, size)];
        self.base = number;
        Ok(())
    }

    /// The engine says which number the volume stands at; the history goes on from there.
    ///
    /// # Errors
    /// When that contradicts what was flushed or issued.
    pub fn resume(&mut self, number: Number) -> Result<(), String> {
        if number < self.flushed || number > self.issued {
            return Err(format!(
                "volume {}: came back at number {number}, flushed {}, issued {}",
                self.id, self.flushed, self.issued
            ));
        }
        for versions in self.versions.iter_mut().chain([&mut self.sizes]) {
            versions[0].0 = number;
        }
        self.base = number;
        self.issued = number;
        self.flushed = number;
        Ok(())
    }

    /// Blocks that are not zeros.
    pub fn live(&self) -> u64 {
        (0..self.blocks()).filter(|lba| self.now(*lba) != ZEROS).count() as u64
    }

    /// What happened to each block, and to the size.
    fn histories(&self) -> impl Iterator<Item = &Vec<(Number, u64)>> {
        self.versions.iter().chain([&self.sizes])
    }

    /// How many blocks of a range are zeros now or were at some number from `since` on.
    pub fn holes_since(&self, since: Number, lba: Lba, blocks: u64) -> u64 {
        let is_hole = |at: &u64| {
            let versions = &self.versions[usize::try_from(*at).expect("small")];
            let later = versions.iter().any(|(born, tag)| *born > since && *tag == ZEROS);
            later || self.at(*at, since) == ZEROS
        };
        (lba.0..lba.0 + blocks).filter(is_hole).count() as u64
    }

    fn explain(&self, tags: &[u64]) -> String {
        let flushed = tags.iter().zip(self.histories()).enumerate().find(|(_, (tag, versions))| {
            !versions.iter().any(|(born, other)| {
                other == *tag && (*born > self.flushed || *other == newest(versions, self.flushed))
            })
        });
        match flushed {
            Some((at, (blocks, sizes))) if at == self.versions.len() => format!(
                "volume {}: came back with {blocks} blocks, but was flushed with {}",
                self.id,
                newest(sizes, self.flushed)
            ),
            Some((at, (tag, _))) => format!(
                "volume {}: block {at} came back as {}, but was flushed as {}",
                self.id,
                name(Some(*tag)),
                name(Some(self.at(at as u64, self.flushed)))
            ),
            None => format!(
                "volume {}: no prefix of the history between {} and {} has these blocks together",
                self.id, self.flushed, self.issued
            ),
        }
    }

    /// What block `lba` is now.
    pub fn now(&self, lba: u64) -> u64 {
        self.at(lba, self.issued)
    }
}

/// The newest of versions up to `number`.
fn newest(versions: &[(Number, u64)], number: Number) -> u64 {
    let newest = versions.iter().rev().find(|(born, _)| *born <= number);
    newest.expect("the oldest version is that of the base").1
}

fn name(tag: Option<u64>) -> String {
    match tag {
        None => "nobody's bytes".into(),
        Some(ZEROS) => "zeros".into(),
        Some(tag @ MIXES..) => format!("mix {}", tag - MIXES),
        Some(tag) => format!("write {tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(tag: u64, lba: u64) -> Option<Bytes> {
        (tag != ZEROS).then(|| Bytes::from(content(tag, Lba(lba))))
    }

    fn model() -> VolumeModel {
        let mut model = VolumeModel::new(VolumeId(1), Scheme::MIRROR, 3);
        for (number, lba, tag) in [(1, 0, 11), (2, 1, 12), (3, 0, 13), (4, 2, 14)] {
            model.accepted(Number(number), Lba(lba), 1, tag).expect("in order");
        }
        model.flushed = Number(2);
        model
    }

    #[test]
    fn a_prefix_from_the_last_flush_on_is_accepted_and_nothing_else() {
        for (tags, ok) in [
            ([11, 12, 0], true),
            ([13, 12, 0], true),
            ([13, 12, 14], true),
            ([11, 12, 14], false),
            ([11, 0, 0], false),
            ([0, 12, 0], false),
            ([12, 12, 0], false),
        ] {
            let data: Vec<_> = (0..3).zip(tags).map(|(at, tag)| block(tag, at)).collect();
            assert_eq!(model().settle(&data).is_ok(), ok, "{tags:?}");
        }
    }

    #[test]
    fn a_block_written_in_part_is_known_by_its_bytes() {
        let mut model = model();
        model.accepted_bytes(Number(5), 512, 512, 15).expect("in order");
        let mut mixed = content(13, Lba(0));
        mixed[512..1024].copy_from_slice(&content(15, Lba(0))[512..1024]);
        assert!(model.check_read(Number(5), Lba(0), &[Some(mixed.clone().into())]).is_ok());
        assert!(model.check_read(Number(5), Lba(0), &[block(13, 0)]).is_err());
        mixed[0] ^= 1;
        assert!(model.check_read(Number(5), Lba(0), &[Some(mixed.into())]).is_err());
        model.accepted_bytes(Number(6), 0, 1024, ZEROS).expect("in order");
        model.accepted_bytes(Number(7), 1024, 3072, ZEROS).expect("in order");
        assert!(model.check_read(Number(7), Lba(0), &[None]).is_ok());
    }

    #[test]
    fn a_size_is_part_of_the_history() {
        let resized = || {
            let mut model = model();
            model.resized(Number(5), 1).expect("in order");
            model.resized(Number(6), 4).expect("in order");
            model
        };
        let cases: [(&[u64], bool); 6] = [
            (&[13, 12, 14], true),
            (&[13], true),
            (&[13, 0, 0, 0], true),
            (&[13, 12, 14, 0], false),
            (&[11], false),
            (&[13, 0, 0], false),
        ];
        for (tags, ok) in cases {
            let data: Vec<_> = (0..).zip(tags).map(|(at, tag)| block(*tag, at)).collect();
            assert_eq!(resized().settle(&data).is_ok(), ok, "{tags:?}");
        }
        assert_eq!(resized().blocks(), 4);
    }

    #[test]
    fn a_read_sees_the_newest_or_something_younger() {
        let model = model();
        assert!(model.check_read(Number(4), Lba(0), &[block(13, 0)]).is_ok());
        assert!(model.check_read(Number(4), Lba(0), &[block(11, 0)]).is_err());
        assert!(model.check_read(Number(1), Lba(0), &[block(11, 0)]).is_ok());
        assert!(model.check_read(Number(1), Lba(0), &[block(13, 0)]).is_ok());
        assert!(model.check_read(Number(1), Lba(1), &[block(11, 0)]).is_err(), "another block's bytes");
        assert!(model.check_read(Number(4), Lba(2), &[None]).is_err());
    }
}
