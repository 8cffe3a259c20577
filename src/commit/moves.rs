//! Moves: live blocks get a new place, written by the cleaner into records of their own.
//!
//! The order (rules 2 and 4): a block is claimed at a moment at which the map points to its old place; its
//! copy is written to all columns; a flush of all members answers for it; then the map changes, unless
//! something newer entered the map for that block since. A move has no number in its volume's history and
//! waits for nobody; one that is lost costs nothing, because the old place stays until a checkpoint has the
//! new one. An eviction cancels all moves.

use super::core::Core;
use super::lookup::{Answer, look};
use crate::error::Result;
use crate::format::page::{Key, TreeId};
use crate::format::record::Owner;
use crate::log::Move;
use crate::map::{Overtaken, Tree};
use crate::runtime::join_all;
use crate::space::Purpose;
use crate::stripe::{Fit, Head, Packed, Payload, Wanted, pack, places};
use crate::types::{Identity, Lba, Place, Pointer, Scheme, SegmentId, VolumeId};
use crate::zoo::{Bug, Mark, planted, reach, reach_if};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A block as a record describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    /// The volume.
    pub(crate) volume: VolumeId,
    /// The address.
    pub(crate) lba: Lba,
    /// Where the record has it.
    pub(crate) place: Place,
}

/// A verified block on its way to another place.
#[derive(Clone, Debug)]
pub(crate) struct Moving {
    /// What it is, and the place it leaves.
    pub(crate) wanted: Wanted,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

impl Moving {
    fn volume(&self) -> VolumeId {
        VolumeId(self.wanted.identity.owner)
    }

    fn to(&self, pointer: Pointer) -> Move {
        let Identity { lba, birth, .. } = self.wanted.identity;
        Move { volume: self.volume(), lba, birth, from: self.wanted.pointer.place, pointer }
    }
}

/// How an attempt to move blocks ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    /// All are where they should be, or were overtaken.
    All,
    /// Room was left only for some of them.
    NoRoom,
    /// A member was evicted under it: all moves are cancelled.
    Interrupted,
}

/// What the cleaner has under way.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The segment that moved blocks of a scheme go to.
    streams: BTreeMap<Scheme, SegmentId>,
    /// Written to all columns, and waiting for a flush.
    written: Option<Window>,
    /// Segments whose records are being written, or wait for a flush.
    under_way: BTreeSet<SegmentId>,
}

/// Moves that become durable together.
#[derive(Debug, Default)]
pub(super) struct Window {
    moves: Vec<Move>,
    ends: Vec<(SegmentId, u16)>,
}

/// The pages that the next checkpoint is to write anew, so that a segment of pages becomes empty.
pub(super) type Touches = BTreeMap<TreeId, BTreeSet<Key>>;

impl Core {
    /// Which of these blocks the map points to where they are. From that moment on they are being moved, until
    /// [`Core::move_blocks`] or [`Core::cancel_move`].
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(crate) async fn claim_live(&self, candidates: &[Candidate]) -> Result<Vec<Wanted>> {
        let mut answers: BTreeMap<(VolumeId, Lba), Answer> = BTreeMap::new();
        loop {
            let (mut live, mut ask) = (Vec::new(), Vec::new());
            self.catalog.with(|catalog| {
                for &Candidate { volume, lba, place } in candidates {
                    match look(catalog, (volume, lba), answers.get(&(volume, lba))) {
                        Ok(found) => live.extend(found.filter(|found| found.pointer.place == place)),
                        Err(root) => ask.push((volume, lba, root)),
                    }
                }
                if ask.is_empty() {
                    for Wanted { pointer, identity } in &live {
                        catalog.begin_move(VolumeId(identity.owner), identity.lba, pointer.place);
                    }
                }
            });
            if ask.is_empty() {
                return Ok(live);
            }
            for (volume, lba, root) in ask {
                match Tree::new(self, TreeId::Map(volume), root).newest(lba).await {
                    Ok(answer) => drop(answers.insert((volume, lba), (root, answer))),
                    Err(error) if self.is_root(volume, root) => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }

    /// A claimed block is not moved after all. Returns whether the map still points to where it is.
    pub(crate) fn cancel_move(&self, wanted: &Wanted) -> bool {
        let Wanted { pointer, identity } = wanted;
        self.catalog.with(|catalog| {
            let volume = VolumeId(identity.owner);
            let is_moving = catalog.is_moving(volume, identity.lba, pointer.place);
            if is_moving {
                catalog.cancel_move(volume, identity.lba);
            }
            is_moving
        })
    }

    /// Writes claimed blocks of volumes of one scheme to new places, and lets them into the map when they are
    /// durable. `era` is [`Core::era`] from before they were claimed.
    ///
    /// # Errors
    /// When the array takes no more writes.
    pub(crate) async fn move_blocks(&self, scheme: Scheme, blocks: &[Moving], era: u64) -> Result<Moved> {
        if self.era() != era {
            return Ok(Moved::Interrupted);
        }
        let (mut records, mut window, mut rest) = (Vec::new(), Window::default(), blocks);
        while !rest.is_empty() {
            let Some((segment, fit)) = self.room_for_moves(scheme, rest.len()) else { break };
            let (some, others) = rest.split_at(fit.blocks);
            rest = others;
            let packed = self.pack_moves(segment, fit, some)?;
            window.moves.extend(some.iter().zip(&packed.pointers).map(|(block, pointer)| block.to(*pointer)));
            window.ends.push((segment, packed.record.row.0 + u16::from(packed.record.rows) + 1));
            records.push(packed);
        }
        for block in rest {
            self.cancel_move(&block.wanted);
        }
        let outcome = if rest.is_empty() { Moved::All } else { Moved::NoRoom };
        reach_if(outcome == Moved::NoRoom, Mark::MoveCramped);
        if records.is_empty() {
            return Ok(outcome);
        }
        let entered = window.ends.iter().map(|(segment, _)| *segment).collect();
        self.moves.with(|moves| moves.under_way = entered);
        let moved = self.write_moves(records, window, era).await.map(|moved| moved.unwrap_or(outcome));
        self.moves.with(|moves| moves.under_way.clear());
        self.changed.notify_all();
        moved
    }

    /// Writes records of moves and waits until the map has them; `None` for success.
    async fn write_moves(&self, records: Vec<Packed>, window: Window, era: u64) -> Result<Option<Moved>> {
        let writes = records.into_iter().map(|record| self.stripes.write(record, Purpose::Clean));
        let complete = !join_all(writes.collect()).await.contains(&false);
        if self.era() == era && complete {
            self.moves.with(|moves| moves.written = Some(window));
        }
        loop {
            let listen = self.changed.listen();
            if self.era() != era {
                reach(Mark::MoveInterrupted);
                return Ok(Some(Moved::Interrupted));
            }
            self.writable()?;
            if complete && self.moves.with(|moves| moves.written.is_none()) {
                return Ok(None);
            }
            if self.stripes.pool.has_suspects() {
                self.changed.notify_all();
                self.until_evicted(era).await?;
            } else if !self.flush_members().await {
                listen.await;
            }
        }
    }

    /// Waits until the writer has evicted whom somebody suspects.
    async fn until_evicted(&self, era: u64) -> Result<()> {
        loop {
            let listen = self.changed.listen();
            self.writable()?;
            if self.era() != era || !self.stripes.pool.has_suspects() {
                return Ok(());
            }
            listen.await;
        }
    }

    /// Counts how often everything under way was started over.
    pub(crate) fn era(&self) -> u64 {
        self.log.with(|log| log.era())
    }

    /// Where the next record of moves of a scheme goes; `None` when the cleaner's reserve is used up.
    fn room_for_moves(&self, scheme: Scheme, blocks: usize) -> Option<(SegmentId, Fit)> {
        loop {
            if let Some(segment) = self.moves.with(|moves| moves.streams.get(&scheme).copied()) {
                let fit = self.stripes.space.with(|space| {
                    let found = space.get(segment).expect("a stream's segment is in the table");
                    Fit::of(found.scheme, blocks, 0, space.chunk_rows() - found.rows)
                });
                if let Some(fit) = fit {
                    return Some((segment, fit));
                }
                self.stripes.space.with(|space| space.seal(segment));
                self.moves.with(|moves| moves.streams.remove(&scheme));
            }
            let opened = self.stripes.space.with(|space| space.open(scheme, Purpose::Clean, self.reserves()));
            self.moves.with(|moves| opened.map(|segment| moves.streams.insert(scheme, segment)));
            opened?;
        }
    }

    fn pack_moves(&self, segment: SegmentId, fit: Fit, blocks: &[Moving]) -> Result<Packed> {
        let (scheme, columns, row) = self.stripes.space.with(|space| {
            let found = space.get(segment).expect("a stream's segment is in the table");
            let columns = found.scheme.columns().map(|column| found.column(column)).collect();
            (found.scheme, columns, space.extend(segment, fit.plan.rows_with_header()))
        });
        let payload: Vec<Payload> = blocks
            .iter()
            .map(|block| {
                let Identity { lba, birth, .. } = block.wanted.identity;
                let from = block.wanted.pointer.place;
                let owner = Owner::Moved { volume: block.volume(), lba, birth, from };
                Payload { owner, bytes: block.bytes.clone() }
            })
            .collect();
        let sequence = self.log.with(|log| log.take_sequences(1));
        let head = Head {
            identity: self.stripes.pool.identity(),
            segment,
            scheme,
            columns,
            row,
            plan: fit.plan,
            sequence,
            group: (sequence, sequence),
            intervals: Vec::new(),
            changes: Vec::new(),
        };
        pack(head, &payload, &places(fit.plan, scheme), &self.stripes.codec(scheme))
    }

    /// Moves go on in other segments than these. Returns those that were being filled.
    pub(super) fn leave_moves(&self, segments: &BTreeSet<SegmentId>) -> Vec<SegmentId> {
        let left = |moves: &mut Moves| {
            let filled = moves.streams.extract_if(.., |_, segment| segments.contains(segment));
            filled.map(|(_, segment)| segment).collect()
        };
        self.moves.with(left)
    }

    /// Waits until no record of moves is under way.
    ///
    /// # Errors
    /// When the array takes no more writes.
    pub(super) async fn until_moved(&self) -> Result<()> {
        loop {
            let listen = self.changed.listen();
            self.writable()?;
            if self.moves.with(|moves| moves.under_way.is_empty()) {
                return Ok(());
            }
            listen.await;
        }
    }

    /// Whether moves wait for a flush.
    pub(super) fn moves_wait(&self) -> bool {
        self.moves.with(|moves| moves.written.is_some())
    }

    /// The moves that waited for a flush are durable: they enter the map.
    pub(super) fn apply_moves(&self) {
        let Some(Window { moves, ends }) = self.moves.with(|moves| moves.written.take()) else { return };
        self.enter(&moves);
        self.stripes.space.with(|space| {
            for (segment, rows) in ends {
                space.apply(segment, rows);
            }
        });
    }

    /// Claimed blocks that are durable at their new places enter the map, where nothing newer did.
    fn enter(&self, moves: &[Move]) {
        let mut changes: Vec<(SegmentId, i64)> = Vec::new();
        self.catalog.with(|catalog| {
            for &Move { volume, lba, birth, from, pointer } in moves {
                if planted(Bug::MoveOverwrites) {
                    catalog.begin_move(volume, lba, from);
                }
                match catalog.end_move((volume, lba, birth), from, pointer) {
                    Ok(replaced) => {
                        changes.push((pointer.place.segment, 1));
                        changes.extend(replaced.map(|pointer| (pointer.place.segment, -1)));
                    }
                    Err(Overtaken) => reach(Mark::ClaimLost),
                }
            }
        });
        self.stripes.space.with(|space| changes.iter().for_each(|&(segment, by)| space.pend(segment, by)));
        let entered = changes.iter().filter(|(_, by)| *by > 0).count() as u64;
        self.progress.with(|progress| progress.moved_blocks += entered);
    }

    /// A member was evicted: what the cleaner has under way stays where it was. Returns the segments that are
    /// given up.
    pub(super) fn cancel_moves(&self) -> Vec<SegmentId> {
        self.catalog.with(|catalog| catalog.cancel_moves());
        let Moves { streams, under_way, .. } = self.moves.with(std::mem::take);
        streams.into_values().chain(under_way).collect()
    }

    /// Moves that replay found whole, in the order of the log: each applies where the map points to the place
    /// it leaves, so that a block that moved twice ends where it should.
    pub(super) async fn replay_moves(&self, moves: &[Move]) -> Result<()> {
        for step in moves {
            let candidate = Candidate { volume: step.volume, lba: step.lba, place: step.from };
            let live = self.claim_live(&[candidate]).await?;
            let is_live = live.iter().any(|wanted| wanted.identity.birth == step.birth);
            reach(if is_live { Mark::MoveReplayed } else { Mark::MoveOvertaken });
            if is_live {
                self.enter(std::slice::from_ref(step));
            }
        }
        self.catalog.with(|catalog| catalog.cancel_moves());
        Ok(())
    }

    /// The next checkpoint writes this page anew.
    pub(crate) fn touch(&self, tree: TreeId, key: Key) {
        reach(Mark::PageTouched);
        self.touches.with(|touches| touches.entry(tree).or_default().insert(key));
    }

    /// Pages that the next checkpoint writes anew, and how many they may be.
    pub(crate) fn touched(&self) -> (usize, usize) {
        let pages = self.touches.with(|touches| touches.values().map(BTreeSet::len).sum());
        (pages, self.touches_max().min(TOUCHES_MAX))
    }
}

/// Pages that a checkpoint writes anew at most to empty segments of pages.
const TOUCHES_MAX: usize = 1024;
