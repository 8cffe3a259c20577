//! Which bytes of a volume are stored: told from the map, without reading any of them.

use super::Shard;
use crate::error::{Error, Kind, Result};
use crate::format::page::{Key, TreeId};
use crate::map::Tree;
use crate::types::{BLOCK_U64, Lba, SECTOR_U64, VolumeId};

/// Steps that one call takes at most.
const STEPS: usize = 16;
/// Blocks that are looked at one by one in a step.
const STEP: u64 = 1024;

/// A run of bytes of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// How many.
    pub bytes: u64,
    /// Nothing is stored: they read as zeros.
    pub is_hole: bool,
}

/// Extents as they are found, one behind the other.
#[derive(Default)]
struct Found(Vec<Extent>);

impl Found {
    fn push(&mut self, bytes: u64, is_hole: bool) {
        match self.0.last_mut() {
            _ if bytes == 0 => {}
            Some(last) if last.is_hole == is_hole => last.bytes += bytes,
            _ => self.0.push(Extent { bytes, is_hole }),
        }
    }
}

impl Shard {
    /// What the bytes from `offset` on are, `len` of them or as many as one call tells; both are multiples of 512.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a misaligned range or one outside the volume.
    pub async fn extents(&self, id: VolumeId, offset: u64, len: u64) -> Result<Vec<Extent>> {
        let range = format!("{len} bytes at {offset}");
        if !offset.is_multiple_of(SECTOR_U64) || !len.is_multiple_of(SECTOR_U64) {
            let text = format!("{range}: offset and length must be multiples of {SECTOR_U64}");
            return Err(Error::invalid(text));
        }
        let outside = || Error::invalid(format!("{range} reach past the end of every volume"));
        let end = offset.checked_add(len).ok_or_else(outside)?;
        let (first, last) = (offset / BLOCK_U64, end.div_ceil(BLOCK_U64));
        self.check(id, Lba(first), last - first)?;
        let mut found = Found::default();
        let mut at = first;
        // The bytes of these blocks that are in the range.
        let within = |from: u64, to: u64| {
            let (from, to) = ((from * BLOCK_U64).max(offset), to.saturating_mul(BLOCK_U64).min(end));
            to.saturating_sub(from)
        };
        for _ in 0..STEPS {
            let next = self.next_stored(id, at, last).await?;
            found.push(within(at, next), true);
            at = next;
            let step = STEP.min(last - at);
            if step == 0 {
                break;
            }
            for (lba, is_hole) in (at..).zip(self.holes(id, at, step).await?) {
                found.push(within(lba, lba + 1), is_hole);
            }
            at += step;
        }
        Ok(found.0)
    }

    /// The first block from `at` on that may be stored; `end` when none is.
    async fn next_stored(&self, id: VolumeId, at: u64, end: u64) -> Result<u64> {
        loop {
            // At one moment: what leaves the memory later is in a younger tree.
            let (scheme, root) = self
                .core
                .catalog()
                .with(|catalog| catalog.get(id).map(|volume| (volume.scheme, volume.root)))?;
            let in_memory = self.core.first_in_memory(scheme, id, Lba(at)..Lba(end));
            let near = in_memory.map_or(end, |lba| lba.0);
            let tree = Tree::new(self.core.as_ref(), TreeId::Map(id), root);
            match tree.scan(Key(at, 0), Key(near, 0), 1).await {
                Ok(scan) => return Ok(scan.entries.first().map_or(near, |(key, _)| key.0)),
                Err(_) if !self.core.is_root(id, root) => {}
                // Of what a lost page of the map has nothing is known: a read says what is lost.
                Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Io) => return Ok(at),
                Err(error) => return Err(error),
            }
        }
    }

    /// Which of these blocks read as zeros because nothing is stored. What cannot be told counts as stored.
    async fn holes(&self, id: VolumeId, at: u64, blocks: u64) -> Result<Vec<bool>> {
        match self.stored_nowhere(id, Lba(at), blocks).await {
            Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Io) => {
                let blocks = usize::try_from(blocks).expect("at most a step");
                Ok(vec![false; blocks])
            }
            answer => answer,
        }
    }
}
