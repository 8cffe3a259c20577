//! Changes of the members in use, while nothing is being written: eviction, failure, replacement.
//!
//! The order (rules 7, 8): no new records; what is under way comes to its end; the epoch is raised and durable on
//! the members that stay; the open segments are given up, and every batch still in memory is written again
//! elsewhere, with the same numbers.

use super::core::Core;
use super::mount::in_time;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{MemberRecord, MemberState};
use crate::layout::Geometry;
use crate::limits::CHUNKS_MAX;
use crate::pool::{Candidate, new_member, read_rings};
use crate::types::{SegmentId, Slot, Uuid};
use crate::zoo::{Bug, Mark, planted, reach_if};
use std::collections::BTreeSet;

/// The fewest chunks of a member.
pub(super) const MEMBER_CHUNKS_MIN: u32 = 16;

impl Core {
    /// Evicts the members that failed.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] when too few would stay.
    pub(crate) async fn evict(&self) -> Result<()> {
        let _turn = self.turn().await;
        self.evict_in_turn().await
    }

    /// [`Core::evict`] for who has the turn already.
    pub(super) async fn evict_in_turn(&self) -> Result<()> {
        let before = self.stripes.pool.active().len();
        let outcome = self.reform(|| Ok(())).await;
        let evicted = before.saturating_sub(self.stripes.pool.active().len());
        self.progress.with(|progress| progress.evictions += evicted as u64);
        outcome
    }

    /// Takes a member out for good, as if it broke. Durable on return.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when it is out for good already, when data would be lost without
    /// it, or when too few members would be left to write.
    pub(crate) async fn fail_member(&self, slot: Slot) -> Result<()> {
        self.writable()?;
        self.flush_all().await?;
        let _turn = self.turn().await;
        let record = self.member(slot)?;
        if !matches!(record.state, MemberState::Active | MemberState::Out) {
            let text = format!("member {slot} ({}) is out for good already", record.path);
            return Err(Error::new(Kind::Refused, text));
        }
        if let Some(segment) = self.stripes.space.with(|space| space.needs(slot)) {
            let text = format!(
                "member {slot} ({}) cannot be spared: segment {segment} has no redundancy left without it; \
                 rebuild first",
                record.path
            );
            return Err(Error::new(Kind::Refused, text));
        }
        self.reform(|| self.stripes.pool.fail(slot)).await
    }

    /// Puts a new member in the place of another, which leaves: it is read while it can be, until what it holds
    /// is rebuilt. The new one is wiped. Durable on return; the rebuild is not done then.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when the old one is being replaced already or the new one is too
    /// small; [`Kind::Io`] when the new one fails.
    pub(crate) async fn replace_member(&self, old: Slot, new: Candidate) -> Result<Slot> {
        self.writable()?;
        let new = in_time(&self.env, new, &self.config);
        let failed = |error: &dyn std::fmt::Display| Error::io(format!("{}: {error}", new.path));
        let leaving = self.replaceable(old)?;
        let superblock = self.stripes.pool.superblock();
        let chunks = Geometry { chunk_blocks: superblock.chunk_blocks }.chunks_on(new.device.len());
        let there = superblock.members.iter().filter(|record| record.state != MemberState::Removed);
        let total = there.map(|record| u64::from(record.chunks)).sum::<u64>() + u64::from(chunks);
        if chunks < MEMBER_CHUNKS_MIN || total > CHUNKS_MAX {
            let text = format!("{} has {chunks} chunks: too few or too many", new.path);
            return Err(Error::new(Kind::Refused, text));
        }
        let random = u128::from(self.env.entropy.next_u64()) << 64 | u128::from(self.env.entropy.next_u64());
        let record = new_member(Uuid::from_random(random), chunks, &new.path, leaving.label);
        let pool = &self.stripes.pool;
        let mut slot = self.vacant_slot()?;
        let _turn = loop {
            // Without the turn: where this hangs, others can be evicted meanwhile.
            let introduced = pool.introduce(slot, &record, new.device.as_ref()).await;
            introduced.map_err(|error| failed(&error))?;
            let turn = self.turn().await;
            self.replaceable(old)?;
            match self.vacant_slot()? {
                vacant if vacant == slot => break turn,
                vacant => slot = vacant,
            }
        };
        self.reform(|| {
            self.stripes.space.with(|space| space.add_member(slot, &record));
            pool.replace(old, slot, record, new.device.clone());
            Ok(())
        })
        .await?;
        match pool.device(slot) {
            Some(_) => Ok(slot),
            None => Err(failed(&"it failed as soon as it was used, and is out again")),
        }
    }

    /// Takes a member back into use that was given up and is there again. Durable on return; what it missed is rebuilt
    /// later. Nothing of what was begun there before may be under way any more.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when the member is not out of use, or the candidate is not it;
    /// [`Kind::Io`] when it fails at once.
    pub(crate) async fn return_member(&self, slot: Slot, candidate: Candidate) -> Result<()> {
        self.writable()?;
        let pool = &self.stripes.pool;
        let candidate = in_time(&self.env, candidate, &self.config);
        let at = |error: Error| error.context(&candidate.path);
        let found = read_rings(candidate.device.as_ref()).await;
        let _filling = self.filling().await;
        // What a rebuild has made anew of its columns is durably elsewhere, before it has the chunks of these to give.
        self.checkpoint().await?;
        {
            let _turn = self.turn().await;
            if self.is_ending() {
                return Err(Error::new(Kind::Closed, "the array is being closed"));
            }
            pool.check_out(slot).and_then(|()| pool.check_same(slot, &found)).map_err(at)?;
            self.reform(|| {
                pool.take_back(slot, candidate.device.clone());
                pool.record_path(slot, &candidate.path);
                Ok(())
            })
            .await?;
        }
        self.checkpoint().await?;
        match pool.device(slot) {
            Some(_) => Ok(()),
            None => Err(at(Error::io("it failed as soon as it was used, and is out of use again"))),
        }
    }

    /// The slot that a new member gets.
    fn vacant_slot(&self) -> Result<Slot> {
        let pool = &self.stripes.pool;
        let runway: BTreeSet<Slot> = pool.superblock().checkpoint.runway.iter().map(|at| at.slot).collect();
        pool.vacant_slot(|slot| {
            !runway.contains(&slot) && self.stripes.space.with(|space| space.is_empty(slot))
        })
    }

    fn replaceable(&self, old: Slot) -> Result<MemberRecord> {
        let record = self.member(old)?;
        match record.state {
            MemberState::Leaving => {
                let text = format!("member {old} ({}) is being replaced already", record.path);
                Err(Error::new(Kind::Refused, text))
            }
            _ => Ok(record),
        }
    }

    /// Frees the slots of members that were leaving and that no segment needs any more, as the newest durable
    /// checkpoint says. Returns those that still leave.
    pub(crate) async fn remove_left(&self) -> Result<Vec<Slot>> {
        let _turn = self.turn().await;
        let (gone, stay): (Vec<Slot>, Vec<Slot>) =
            self.stripes.pool.leaving().into_iter().partition(|slot| {
                planted(Bug::LeftTooEarly) || self.stripes.space.with(|space| space.is_empty(*slot))
            });
        let pool = &self.stripes.pool;
        let removed = gone.iter().map(|slot| (*slot, pool.remove(*slot)));
        let devices: Vec<_> = removed.filter_map(|(slot, device)| Some((slot, device?))).collect();
        if !gone.is_empty() {
            match pool.publish(None).await {
                Err(_) if pool.has_suspects() => self.evict_in_turn().await?,
                published => published?,
            }
        }
        for (slot, device) in devices {
            // One that cannot be told has its old superblocks, whose member there is no more.
            let _untold = pool.dismiss(slot, device.as_ref()).await.is_err();
        }
        Ok(stay)
    }

    /// Members known by their chunks alone are in use again: a checkpoint that doubts all their columns is durable.
    pub(super) async fn take_back_recognised(&self) -> Result<()> {
        let pool = &self.stripes.pool;
        if pool.recognised().iter().all(|slot| pool.is_hung(*slot)) {
            return Ok(());
        }
        let _turn = self.turn().await;
        self.reform(|| {
            self.stripes.pool.take_back_recognised();
            Ok(())
        })
        .await
    }

    fn member(&self, slot: Slot) -> Result<MemberRecord> {
        let members = self.stripes.pool.superblock().members;
        let record = members.get(usize::from(slot.0)).filter(|record| record.state != MemberState::Removed);
        record.cloned().ok_or_else(|| Error::new(Kind::NotFound, format!("there is no member {slot}")))
    }

    /// Changes the members while nothing is being written. For who has the turn.
    async fn reform(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        self.progress.with(|progress| progress.halted = true);
        let outcome = self.reform_halted(change).await;
        self.progress.with(|progress| progress.halted = false);
        self.changed.notify_all();
        self.reformed.notify_all();
        outcome
    }

    async fn reform_halted(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        loop {
            let listen = self.changed.listen();
            let quiet =
                self.log.with(|log| log.is_quiet()) && !self.progress.with(|progress| progress.flushing);
            if quiet {
                break;
            }
            listen.await;
        }
        change()?;
        self.stripes.pool.settle().await?;
        self.sync_members();
        if !planted(Bug::StartOverForgotten) {
            let given_up = self.log.with(|log| log.start_over());
            self.give_up(given_up);
        }
        self.give_up(self.cancel_moves());
        self.abandon_streams();
        self.note_change();
        Ok(())
    }

    /// New segments go to the members in use, and to no others.
    pub(super) fn sync_members(&self) {
        let active: BTreeSet<Slot> = self.stripes.pool.active().into_iter().map(|(slot, _)| slot).collect();
        let recovered = self.recovered.with(|recovered| recovered.clone());
        self.stripes.space.with(|space| {
            space.keep_active(&active);
            // What recovery has written to a member that failed before it was durable may be missing there.
            recovered.into_iter().for_each(|id| space.doubt_absent(id));
        });
    }

    /// Nothing more goes to these segments, and what was taken of them but not applied is dead.
    pub(super) fn give_up(&self, segments: impl IntoIterator<Item = SegmentId>) {
        self.stripes.space.with(|space| {
            for segment in segments {
                space.seal(segment);
                space.settle(segment);
            }
        });
    }

    /// The log and the cleaner go on in other segments than these.
    fn leave(&self, segments: &BTreeSet<SegmentId>) {
        let left =
            self.log.with(|log| log.leave_segments(segments)).into_iter().chain(self.leave_moves(segments));
        self.stripes.space.with(|space| left.for_each(|segment| space.seal(segment)));
    }

    /// Seals the open segments in which nothing lives, so that the next checkpoint frees them: each scheme that
    /// was ever written has some.
    pub(crate) fn leave_idle(&self) {
        let idle = self.stripes.space.with(|space| space.idle_open());
        reach_if(!idle.is_empty(), Mark::SegmentLeftIdle);
        self.leave(&idle);
    }

    /// Seals the open segments that lack a column, so that they can be rebuilt, makes everything durable and
    /// commits it: what rebuild works on is what the newest checkpoint covers.
    pub(crate) async fn settle_lacking(&self) -> Result<()> {
        {
            let _turn = self.turn().await;
            let lacking = self.stripes.space.with(|space| space.lacking_open());
            reach_if(!lacking.is_empty(), Mark::SegmentLeftLacking);
            let pages: Vec<SegmentId> = self.meta.with(|meta| {
                let streams = meta
                    .iter_mut()
                    .filter(|stream| stream.segment.is_some_and(|segment| lacking.contains(&segment)));
                streams.filter_map(|stream| stream.segment.take()).collect()
            });
            self.stripes.space.with(|space| pages.into_iter().for_each(|segment| space.seal(segment)));
            self.leave(&lacking);
        }
        self.until_moved().await?;
        self.flush_all().await?;
        self.checkpoint().await
    }
}
