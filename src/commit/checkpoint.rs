//! The checkpoint: the order in which what the log says becomes what the trees say.
//!
//! 1. *Cut.* The active overlay is frozen; with it, which rows of which segments it covers. Replay from this
//!    checkpoint will start behind those rows.
//! 2. *Maps.* Each volume's frozen updates are merged into its tree, leaf by leaf; old pointers are counted out.
//! 3. *Volume table, damage list.*
//! 4. *Segment table.* Live counts are settled by now. Its pages go to boot segments, whose own rows are in
//!    the superblock: so writing the table does not change the table.
//! 5. *Flush*, so that every page is durable on all members in use (rule 2).
//! 6. *Superblock*, on all members in use. This is the moment at which the checkpoint counts.
//! 7. *Release.* Dead segments' chunks are free, and the log may enter the new runway (rule 5).
//!
//! An attempt that fails before 6 changes nothing: its pages are dead, the cut is kept for the next attempt.

use super::core::Core;
use super::moves::Touches;
use super::sink::{Counts, Sink};
use crate::error::{Error, Result};
use crate::format::page::{Key, TreeId, Value};
use crate::format::superblock::{Checkpoint, ChunkAddress, Root};
use crate::format::tables::{ColumnState, SegmentRecord, Tombstone, VolumeRecord};
use crate::map::{MapUpdate, Tree, Volume};
use crate::space::Purpose;
use crate::types::{Nonce, Number, Pointer, SegmentId, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use std::collections::{BTreeMap, BTreeSet};

/// Leaves that one checkpoint empties for long trims.
const TRIM_LEAVES: usize = 64;

/// What a checkpoint covers.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    /// For each volume the number up to which the frozen overlay has its history, and its size then.
    volumes: BTreeMap<VolumeId, (Number, u64)>,
    /// Segments that were not settled: the rows that the frozen overlay covers.
    segments: BTreeMap<SegmentId, SegmentRecord>,
    /// Segments that changed since the checkpoint before.
    dirty: BTreeSet<SegmentId>,
    /// Data segments from here on were opened later: replay finds them through the runway.
    next: SegmentId,
}

impl Cut {
    /// Whether replay from this checkpoint needs no record of the segment. A dead segment that it does need
    /// must stay: its blocks are overwritten, but its numbers are links of its volumes' histories.
    fn covers(&self, id: SegmentId) -> bool {
        id < self.next && !self.segments.contains_key(&id)
    }
}

/// A volume as the new checkpoint has it.
struct Merged {
    root: Option<Root>,
    used: u64,
    tombstones: Vec<Tombstone>,
    /// It was deleted by then. If it is deleted since, its tombstones are those of the deletion.
    deleted: bool,
}

impl Merged {
    /// The tombstones that are left of those that the volume has now.
    fn left(&self, volume: &Volume) -> Vec<Tombstone> {
        if volume.deleted == self.deleted { self.tombstones.clone() } else { volume.tombstones.clone() }
    }
}

/// Everything that becomes true when the superblock is durable.
struct Outcome {
    checkpoint: Checkpoint,
    volumes: BTreeMap<VolumeId, Merged>,
    freed: Vec<SegmentId>,
    /// The change of the damage list up to which it was written.
    damage_version: Option<u64>,
    /// Pages that it wrote anew to empty segments of pages.
    touches: Touches,
}

impl Core {
    /// Writes a checkpoint. When a member fails under it, that member is evicted and the checkpoint tried
    /// again.
    ///
    /// # Errors
    /// When too few members remain, or no room for the metadata.
    pub async fn checkpoint(&self) -> Result<()> {
        self.writable()?;
        let _turn = self.turn().await;
        loop {
            match self.attempt().await {
                Ok(()) => return Ok(()),
                Err(_) if self.stripes.pool.has_suspects() => {
                    reach(Mark::CheckpointAgain);
                    self.evict_in_turn().await?;
                }
                Err(error) => return Err(error.context("writing a checkpoint")),
            }
        }
    }

    /// One attempt at a checkpoint: all or nothing.
    pub(super) async fn attempt(&self) -> Result<()> {
        let cut = self.cut();
        let mut sink = Sink::new(self, Purpose::Meta);
        let mut counts = Counts::new();
        let outcome = self.write_trees(&cut, &mut sink, &mut counts).await;
        let (outcome, applied) = match outcome {
            Ok(done) => done,
            Err(error) => {
                self.abandon_streams();
                return Err(error);
            }
        };
        let published = self.stripes.pool.publish(Some(outcome.checkpoint.clone())).await;
        if let Err(error) = published {
            self.revert(&applied);
            self.abandon_streams();
            return Err(error);
        }
        self.release(outcome);
        Ok(())
    }

    /// Freezes what the checkpoint covers. An attempt that failed left its cut behind: it is taken again.
    fn cut(&self) -> Cut {
        if let Some(cut) = self.cut.with(|cut| cut.clone()).filter(|_| !planted(Bug::CutForgotten)) {
            reach(Mark::CutTakenAgain);
            return cut;
        }
        let volumes = self.catalog.with(|catalog| {
            catalog.frozen = std::mem::take(&mut catalog.active);
            catalog.iter().map(|(id, volume)| (id, (volume.durable, volume.durable_blocks))).collect()
        });
        let cut = self.stripes.space.with(|space| Cut {
            volumes,
            segments: space
                .iter()
                .filter(|(_, segment)| segment.purpose.is_log() && !segment.is_settled())
                .map(|(id, segment)| (id, segment.record(id)))
                .collect(),
            dirty: space.take_dirty(),
            next: space.next_segment(),
        });
        self.cut.with(|saved| *saved = Some(cut.clone()));
        cut
    }

    /// Places that were given out but not written must never be given out again.
    pub(super) fn abandon_streams(&self) {
        let segments: Vec<SegmentId> =
            self.meta.with(|meta| meta.iter_mut().filter_map(|stream| stream.segment.take()).collect());
        self.give_up(segments);
    }

    fn revert(&self, applied: &[Counts]) {
        if planted(Bug::CountsKept) {
            return;
        }
        reach_if(applied.iter().any(|counts| !counts.is_empty()), Mark::CountsReverted);
        self.stripes.space.with(|space| {
            for counts in applied {
                let back: Counts = counts.iter().map(|(id, change)| (*id, -change)).collect();
                space.count(&back).expect("what was counted can be counted back");
            }
        });
    }

    async fn write_trees(
        &self,
        cut: &Cut,
        sink: &mut Sink<'_>,
        counts: &mut Counts,
    ) -> Result<(Outcome, Vec<Counts>)> {
        let last = self.stripes.pool.superblock().checkpoint;
        let generation = last.generation + 1;
        let touches = self.touches.with(|touches| touches.clone());
        let ids: Vec<VolumeId> = self.catalog.with(|catalog| catalog.iter().map(|(id, _)| id).collect());
        let mut volumes = BTreeMap::new();
        for id in ids {
            if let Some(merged) = self.merge_volume(id, generation, &touches, sink, counts).await? {
                volumes.insert(id, merged);
            }
        }
        let volume_root = self.write_volumes(&last, cut, &volumes, generation, &touches, sink).await?;
        let (damage_root, damage_version) = self.write_damage(&last, generation, &touches, sink).await?;
        sink.finish().await?;
        for (segment, change) in std::mem::take(&mut sink.counts) {
            *counts.entry(segment).or_default() += change;
        }
        self.stripes.space.with(|space| space.count(counts))?;
        let mut applied = vec![std::mem::take(counts)];
        let written = self.write_segments(&last, cut, &mut applied, generation).await;
        let (segment_root, freed) = match written {
            Ok(done) => done,
            Err(error) => {
                self.revert(&applied);
                return Err(error);
            }
        };
        let is_durable = planted(Bug::SwapCommits) || self.stripes.flush().await;
        // The log's flush may have failed while pages were written: no later one is trusted for these (rule 7).
        if !is_durable || self.stripes.pool.has_suspects() {
            self.revert(&applied);
            return Err(Error::io("a member failed under a checkpoint"));
        }
        let (boot, runway) = self.stripes.space.with(|space| {
            let boot = space
                .iter()
                .filter(|(id, segment)| segment.purpose == Purpose::Boot && !freed.contains(id))
                .map(|(id, segment)| segment.record(id))
                .collect();
            let later = space
                .iter()
                .filter(|(id, segment)| *id >= cut.next && segment.purpose.is_log())
                .flat_map(|(_, segment)| segment.chunks().collect::<Vec<_>>());
            let mut runway: BTreeSet<ChunkAddress> = later.collect();
            runway.extend(space.plan_runway(&freed, &runway));
            (boot, runway.into_iter().collect())
        });
        let checkpoint = Checkpoint {
            generation,
            nonce: match (planted(Bug::NonceStale), planted(Bug::NothingFollows)) {
                (true, _) => last.nonce,
                (_, true) => Nonce::NONE,
                _ => self.nonce,
            },
            next_segment: cut.next,
            next_sequence: self.log.with(|log| log.next_sequence()),
            next_volume: self.catalog.with(|catalog| catalog.next),
            segments: segment_root,
            volumes: volume_root,
            damage: damage_root,
            boot,
            runway,
        };
        Ok((Outcome { checkpoint, volumes, freed, damage_version, touches }, applied))
    }

    /// Merges one volume's part of the frozen overlay; `None` when nothing of it changes.
    async fn merge_volume(
        &self,
        id: VolumeId,
        generation: u64,
        touches: &Touches,
        sink: &mut Sink<'_>,
        counts: &mut Counts,
    ) -> Result<Option<Merged>> {
        let (updates, mut merged) = self.catalog.with(|catalog| {
            let volume = catalog.entry(id).expect("the catalog lists it");
            let Volume { root, used, deleted, .. } = *volume;
            let mut tombstones = volume.tombstones.clone();
            let mut updates = Vec::new();
            if let Some(layer) = catalog.frozen.layer(id) {
                tombstones.extend(layer.trims());
                updates.extend(layer.entries().map(|(lba, update)| MapUpdate {
                    lba,
                    birth: update.birth,
                    pointer: update.pointer,
                    from: None,
                }));
            }
            (updates, Merged { root, used, tombstones, deleted })
        });
        let tree_id = TreeId::Map(id);
        let touched = keys(touches, tree_id);
        if updates.is_empty() && merged.tombstones.is_empty() && touched.is_empty() {
            return Ok(None);
        }
        let mut out: i64 = 0;
        let mut broken = None;
        let mut replaced = |_: Key, value: Value| match Pointer::from_value(&value) {
            Ok(pointer) => {
                *counts.entry(pointer.place.segment).or_default() -= 1;
                out += 1;
            }
            Err(error) => broken = Some(error),
        };
        merged.root = Tree::new(self, tree_id, merged.root)
            .merge_map(sink, generation, &updates, &touched, &mut replaced)
            .await?;
        let mut leaves = TRIM_LEAVES;
        while let Some(stone) = merged.tombstones.first_mut() {
            if leaves == 0 {
                break;
            }
            // The next merge reads the pages of this one: they must be on the members.
            if !planted(Bug::PagesUnwritten) {
                sink.finish().await?;
            }
            let range = (Key(stone.lba.0, 0), Key(stone.lba.0 + stone.blocks, 0));
            let tree = Tree::new(self, tree_id, merged.root);
            let (root, rest) =
                tree.remove_range(sink, generation, range, stone.number.0, leaves, &mut replaced).await?;
            merged.root = root;
            match rest {
                Some(key) => {
                    stone.blocks -= key.0 - stone.lba.0;
                    stone.lba.0 = key.0;
                    leaves = 0;
                }
                None => {
                    merged.tombstones.remove(0);
                    leaves -= 1;
                }
            }
        }
        if let Some(error) = broken {
            return Err(error);
        }
        let mut into: i64 = 0;
        for pointer in updates.iter().filter_map(|update| update.pointer) {
            *counts.entry(pointer.place.segment).or_default() += 1;
            into += 1;
        }
        merged.used = u64::try_from(i64::try_from(merged.used).unwrap_or(i64::MAX) + into - out)
            .map_err(|_| Error::corrupt(format!("the map of volume {id} lost more blocks than it had")))?;
        Ok(Some(merged))
    }

    async fn write_volumes(
        &self,
        last: &Checkpoint,
        cut: &Cut,
        volumes: &BTreeMap<VolumeId, Merged>,
        generation: u64,
        touches: &Touches,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Root>> {
        let wanted: BTreeMap<Key, Value> = self.catalog.with(|catalog| {
            let rows = catalog.iter().filter_map(|(id, volume)| {
                let merged = volumes.get(&id);
                let root = merged.map_or(volume.root, |merged| merged.root);
                let tombstones =
                    merged.map_or_else(|| volume.tombstones.clone(), |merged| merged.left(volume));
                if volume.deleted && root.is_none() {
                    return None;
                }
                // A volume that is younger than the cut has no history in it.
                let then = cut.volumes.get(&id).copied().unwrap_or((Number(0), volume.blocks));
                let now = (volume.durable, volume.durable_blocks);
                let (number, blocks) = if planted(Bug::CutLate) { now } else { then };
                Some(VolumeRecord {
                    id,
                    name: volume.name.clone(),
                    scheme: volume.scheme,
                    blocks,
                    number,
                    used: merged.map_or(volume.used, |merged| merged.used),
                    root,
                    deleted: volume.deleted,
                    tombstones,
                })
            });
            rows.flat_map(|row| row.entries()).collect()
        });
        self.rewrite((TreeId::Volumes, last.volumes), &wanted, generation, touches, sink).await
    }

    async fn write_damage(
        &self,
        last: &Checkpoint,
        generation: u64,
        touches: &Touches,
        sink: &mut Sink<'_>,
    ) -> Result<(Option<Root>, Option<u64>)> {
        let wanted: Option<(u64, BTreeMap<Key, Value>)> = self.catalog.with(|catalog| {
            let touched = touches.contains_key(&TreeId::Damage).then(|| catalog.damage.version());
            let version = catalog.damage.unsaved().or(touched)?;
            Some((version, catalog.damage.values().map(|record| record.entry()).collect()))
        });
        match wanted {
            Some((version, wanted)) => {
                let tree = (TreeId::Damage, last.damage);
                let root = self.rewrite(tree, &wanted, generation, touches, sink).await?;
                Ok((root, Some(version)))
            }
            None => Ok((last.damage, None)),
        }
    }

    /// Makes a small table say exactly what is wanted, rewriting only the pages that differ.
    async fn rewrite(
        &self,
        (id, root): (TreeId, Option<Root>),
        wanted: &BTreeMap<Key, Value>,
        generation: u64,
        touches: &Touches,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Root>> {
        let tree = Tree::new(self, id, root);
        let mut updates: BTreeMap<Key, Option<Value>> =
            wanted.iter().map(|(key, value)| (*key, Some(*value))).collect();
        let mut from = Key::default();
        loop {
            let found = tree.scan(from, Key(u64::MAX, u64::MAX), 1024).await?;
            for (key, _) in found.entries {
                updates.entry(key).or_insert(None);
            }
            match found.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let updates: Vec<_> = updates.into_iter().collect();
        tree.merge(sink, generation, &updates, &keys(touches, id), &mut |_, _| {}).await
    }

    async fn write_segments(
        &self,
        last: &Checkpoint,
        cut: &Cut,
        applied: &mut Vec<Counts>,
        generation: u64,
    ) -> Result<(Option<Root>, Vec<SegmentId>)> {
        let fresh = self.wants_fresh_table();
        reach_if(fresh, Mark::TableWrittenAnew);
        let (updates, freed) = self.stripes.space.with(|space| {
            let mut freed = space.dead();
            freed.retain(|id| cut.covers(*id));
            let metadata = space.iter().filter(|(_, segment)| segment.purpose == Purpose::Meta);
            let changed: BTreeSet<SegmentId> = if fresh {
                space.iter().map(|(id, _)| id).collect()
            } else {
                let counted = applied.iter().flat_map(|counts| counts.keys().copied());
                let dirty = metadata.map(|(id, _)| id).filter(|id| space.dirty().contains(id));
                let new = cut.dirty.iter().copied().filter(|_| !planted(Bug::DirtyForgotten));
                new.chain(counted).chain(dirty).chain(freed.iter().copied()).collect()
            };
            let mut updates: BTreeMap<Key, Option<Value>> = BTreeMap::new();
            for id in changed {
                let Some(segment) = space.get(id) else { continue };
                if segment.purpose == Purpose::Boot {
                    continue;
                }
                let later = id >= cut.next && segment.purpose.is_log();
                if freed.contains(&id) {
                    updates.extend(segment.record(id).entries().into_iter().map(|(key, _)| (key, None)));
                } else if !later {
                    let mut record = segment.record(id);
                    if let Some(then) = cut.segments.get(&id) {
                        if !planted(Bug::RowsOfLater) {
                            record.rows = then.rows;
                        }
                        record.sealed = false;
                    }
                    updates.extend(record.entries().into_iter().map(|(key, value)| (key, Some(value))));
                }
            }
            if fresh {
                updates.retain(|_, value| value.is_some());
            }
            (updates.into_iter().collect::<Vec<_>>(), freed)
        });
        let mut sink = Sink::new(self, Purpose::Boot);
        if fresh {
            self.stripes.space.with(|space| {
                for (id, segment) in space.iter().filter(|(_, segment)| segment.purpose == Purpose::Boot) {
                    sink.counts.insert(id, -i64::from(segment.live));
                }
            });
        }
        let root = if fresh { None } else { last.segments };
        let tree = Tree::new(self, TreeId::Segments, root);
        let root = tree.merge(&mut sink, generation, &updates, &[], &mut |_, _| {}).await?;
        sink.finish().await?;
        let counts = std::mem::take(&mut sink.counts);
        self.stripes.space.with(|space| space.count(&counts))?;
        applied.push(counts);
        // Boot segments whose last page was just replaced die with this checkpoint, too; not one younger than the
        // cut, left by an attempt that failed: replay would take it for one that the log entered.
        let mut freed: BTreeSet<SegmentId> = freed.into_iter().collect();
        self.stripes.space.with(|space| {
            let boot = |id: &SegmentId| {
                *id < cut.next && space.get(*id).is_some_and(|segment| segment.purpose == Purpose::Boot)
            };
            freed.extend(space.dead().into_iter().filter(boot));
        });
        Ok((root, freed.into_iter().collect()))
    }

    /// Whether the segment table is to be written anew: when its dead pages outweigh the live ones by far, so
    /// that the boot segments, which the superblock lists, stay few; or when pages are to be stronger.
    fn wants_fresh_table(&self) -> bool {
        if self.has_weak_table(self.meta_scheme().m()) {
            return true;
        }
        self.stripes.space.with(|space| {
            let boot: Vec<_> = space.iter().filter(|(_, segment)| segment.purpose == Purpose::Boot).collect();
            let live: u64 = boot.iter().map(|(_, segment)| u64::from(segment.live)).sum();
            let room: u64 =
                boot.iter().map(|(_, segment)| u64::from(segment.rows) * u64::from(segment.scheme.k())).sum();
            boot.len() > 2 && room > 4 * live
        })
    }

    fn release(&self, outcome: Outcome) {
        let Outcome { checkpoint, volumes, freed, damage_version, touches } = outcome;
        let pointers: Vec<SegmentId> = self.catalog.with(|catalog| {
            let frozen = std::mem::take(&mut catalog.frozen);
            for (id, merged) in volumes {
                if let Some(volume) = catalog.entry(id) {
                    volume.root = merged.root;
                    volume.used = merged.used;
                    volume.tombstones = merged.left(volume);
                }
            }
            let counted_out: Vec<VolumeId> = catalog
                .iter()
                .filter(|(_, volume)| volume.deleted && volume.root.is_none())
                .map(|(id, _)| id)
                .collect();
            for id in counted_out {
                if catalog.active.layer(id).is_none() {
                    catalog.remove(id);
                }
            }
            if let Some(version) = damage_version {
                catalog.damage.saved(version);
            }
            frozen.pointers().map(|pointer| pointer.place.segment).collect()
        });
        self.cut.with(|cut| *cut = None);
        self.recovered.with(BTreeSet::clear);
        self.touches.with(|left| {
            for (tree, done) in touches {
                if let Some(keys) = left.get_mut(&tree) {
                    keys.retain(|key| !done.contains(key));
                }
            }
            left.retain(|_, keys| !keys.is_empty());
        });
        self.stripes.space.with(|space| {
            for segment in pointers {
                space.pend(segment, -1);
            }
            for segment in freed {
                if space.get(segment).is_some_and(|found| found.pins == 0) {
                    space.remove(segment);
                }
            }
            space.install_runway(&checkpoint.runway);
        });
        self.progress.with(|progress| progress.checkpoints += 1);
        self.changed.notify_all();
    }
}

/// The keys of one tree whose leaves are to be written anew.
fn keys(touches: &Touches, tree: TreeId) -> Vec<Key> {
    touches.get(&tree).into_iter().flatten().copied().collect()
}

/// The columns of a record as a reader sees them.
pub(super) fn addresses(columns: &[ColumnState]) -> Vec<Option<ChunkAddress>> {
    columns
        .iter()
        .map(|column| match column {
            ColumnState::Complete(address) => Some(*address),
            ColumnState::Partial(_) | ColumnState::Absent => None,
        })
        .collect()
}
