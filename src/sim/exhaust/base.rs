//! The small array that is damaged block by block, and what each of its blocks ever held.

use super::super::enumerate::Expected;
use super::super::media::Image;
use super::player::Player;
use super::stage::{Checked, Open, Stage};
use crate::format::superblock::ChunkAddress;
use crate::limits::RING_BYTES;
use crate::types::{BLOCK, BLOCK_U64, Scheme, SegmentId, Uuid};
use std::collections::BTreeMap;
use std::fmt;

/// How the array was left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    /// Its process died: a part of what was flushed is in the log alone.
    Killed,
    /// It was closed.
    Closed,
}

impl End {
    pub(super) const ALL: [End; 2] = [End::Killed, End::Closed];
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == End::Killed { "killed" } else { "closed" })
    }
}

/// Where a block belongs: who shares a row may not be damaged on more members than the row tolerates.
pub(super) type Row = (SegmentId, u64);

pub(super) struct Base {
    pub(super) array: Uuid,
    pub(super) images: Vec<Image>,
    pub(super) expected: Expected,
    /// What each block of each member held before what it holds now, oldest first, zeros not among them.
    pub(super) older: Vec<BTreeMap<u64, Vec<Vec<u8>>>>,
    /// Blocks of each member that are not zeros.
    pub(super) used: Vec<Vec<u64>>,
    /// The rows of all segments, as of the end.
    pub(super) rows: BTreeMap<(usize, u64), Row>,
}

/// Volumes of the array: name, blocks at first.
pub(super) const VOLUMES: [(&str, usize); 2] = [("a", 40), ("b", 6)];

impl Base {
    /// An array of this scheme on so many members, with two volumes, several checkpoints, several openings, trims,
    /// overwrites, a volume that was deleted; everything flushed.
    pub(super) fn new(scheme: Scheme, members: usize, end: End) -> Checked<Base> {
        let stage = Stage::blank(members);
        stage.create(scheme)?.map_err(|error| format!("mkfs: {error}"))?;
        let mut older = Older { now: vec![BTreeMap::new(); members], before: vec![BTreeMap::new(); members] };
        let open = stage.must_open()?;
        let mut player = Player { open: &open, expected: Expected::default(), tag: 0, errors: Vec::new() };
        player.expected.is_made = true;
        for (name, blocks) in VOLUMES {
            player.create(name, scheme, blocks)?;
            player.write(name, 0, blocks - 4)?;
            player.flush(name)?;
            older.look(&stage);
        }
        player.create("gone", scheme, 8)?;
        player.write("gone", 0, 8)?;
        player.checkpoint()?;
        older.look(&stage);
        player.write("a", 3, 5)?;
        player.trim("a", 10, 4)?;
        player.flush("a")?;
        player.delete("gone")?;
        older.look(&stage);
        player.close()?;
        player.succeeded()?;
        older.look(&stage);
        let (expected, tag) = (player.expected, player.tag);
        drop(open);
        stage.hub.kill();

        let open = stage.must_open()?;
        let mut player = Player { open: &open, expected, tag, errors: Vec::new() };
        for round in 0..3 {
            player.write("a", 20 + round, 6)?;
            player.write("b", round, 1)?;
            player.resize("b", 7 + round)?;
            player.flush("a")?;
            player.flush("b")?;
            older.look(&stage);
            if round == 0 {
                player.checkpoint()?;
            }
        }
        player.trim("a", 0, 2)?;
        player.flush("a")?;
        if end == End::Closed {
            player.close()?;
        }
        player.succeeded()?;
        older.look(&stage);
        let expected = player.expected;
        let rows = rows(&open, &stage);
        let array = open.shard.core().stripes().pool.identity().array;
        drop(open);
        stage.hub.kill();
        let used = older.now.iter().map(|now| now.keys().copied().collect()).collect();
        Ok(Base { array, images: stage.images(), expected, older: older.before, used, rows })
    }
}

/// The rows of the segments that the engine knows.
fn rows(open: &Open, stage: &Stage) -> BTreeMap<(usize, u64), Row> {
    let stripes = open.shard.core().stripes();
    let disk_of = |at: ChunkAddress| {
        let path = &stripes.pool.superblock().members[usize::from(at.slot.0)].path;
        (0..stage.disks.len()).find(|disk| *path == format!("disk{disk}"))
    };
    let height = u64::from(stripes.chunk_rows());
    let mut found = BTreeMap::new();
    stripes.space.with(|space| {
        for (id, segment) in space.iter() {
            for at in segment.chunks() {
                let Some(disk) = disk_of(at) else { continue };
                let begin = RING_BYTES / BLOCK_U64 + u64::from(at.chunk.0) * height;
                found.extend((0..height).map(|row| ((disk, begin + row), (id, row))));
            }
        }
    });
    found
}

/// Remembers contents.
struct Older {
    now: Vec<BTreeMap<u64, Vec<u8>>>,
    before: Vec<BTreeMap<u64, Vec<Vec<u8>>>>,
}

impl Older {
    fn look(&mut self, stage: &Stage) {
        for (at, disk) in stage.disks.iter().enumerate() {
            for block in disk.used_blocks() {
                let content = disk.peek(block * BLOCK_U64, BLOCK);
                if content.iter().all(|byte| *byte == 0) && !self.now[at].contains_key(&block) {
                    continue;
                }
                match self.now[at].insert(block, content.clone()) {
                    Some(old) if old != content && old.iter().any(|byte| *byte != 0) => {
                        self.before[at].entry(block).or_default().push(old);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_has_blocks_with_a_past_in_rings_and_segments() {
        for end in End::ALL {
            let base = Base::new(Scheme::new(2, 1).expect("sound"), 3, end).expect("made");
            let ring = RING_BYTES / BLOCK_U64;
            for (older, used) in base.older.iter().zip(&base.used) {
                assert!(older.keys().any(|block| *block < ring) || end == End::Killed, "{:?}", older.keys());
                assert!(used.len() > 40 && used.iter().any(|block| *block < ring), "{}", used.len());
            }
            let stage = Stage::of(&base.images);
            stage.must_open().expect("opened").expect(&base.expected).expect("exact");
        }
    }
}
