//! The cleaner: makes whole segments free by moving what is live out of the emptiest ones.
//!
//! A round: choose segments; copy their live blocks away, durably; write a checkpoint, which finds the segments
//! dead and frees them. It begins when little is free, works harder while a call waits, and says so when
//! nothing more can be gained. Whatever it looked at in vain it leaves alone until something changed there, so
//! an idle array costs nothing.

use super::choose::{Need, Victim, Walked, page_victims, uneven, victims};
use super::empty::Emptier;
use crate::commit::{Core, Moved, Shortage};
use crate::error::Result;
use crate::space::Purpose;
use crate::types::{Scheme, SegmentId};
use std::sync::Arc;

/// Rounds in a row that may gain nothing while a call waits.
const FUTILE_MAX: u32 = 8;
/// Segments that one round fills at most.
const ROUND_SEGMENTS: u64 = 64;

/// What a step of the cleaner leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Look again.
    Again,
    /// Nothing to do until something changes.
    Rest,
}

#[derive(Default)]
struct Cleaner {
    walked: Walked,
    /// Checkpoints written when nothing was found worth moving: live counts change with the next one.
    looked: Option<u64>,
    /// Checkpoints written when segments of pages were looked at.
    tidied: Option<u64>,
    gain: Gain,
    futile: u32,
}

/// What is free.
#[derive(Clone, Copy, Default)]
struct Room {
    /// Chunks.
    chunks: u64,
    /// Segments of the widest scheme beside all reserves.
    segments: u64,
}

impl Room {
    fn of(core: &Core) -> Room {
        let chunks = core.stripes().space.with(|space| space.free_chunks());
        Room { chunks, segments: core.free_and_low(core.widest()).0 }
    }
}

/// Whether rounds gain anything: only more room than ever since something changed counts. Moving what is live
/// from segment to segment makes what is free fall and rise, and could go on for ever.
#[derive(Default)]
struct Gain {
    /// Counts everything by which blocks may have died.
    changes: u64,
    /// The most that was free since.
    most: Room,
}

impl Gain {
    /// Whether a round that began with so much room, and ended with so much, gained some.
    fn is_one(&mut self, changes: u64, before: Room, after: Room) -> bool {
        if self.changes != changes {
            *self = Gain { changes, most: before };
        }
        let most = self.most;
        self.most =
            Room { chunks: after.chunks.max(most.chunks), segments: after.segments.max(most.segments) };
        after.chunks > most.chunks || after.segments > most.segments
    }
}

/// The cleaner's task: runs until the array is closed or fails.
pub(crate) async fn clean(core: Arc<Core>) {
    let mut cleaner = Cleaner::default();
    loop {
        let listen = core.changed().listen();
        if core.writable().is_err() {
            return;
        }
        match cleaner.step(&core).await {
            Ok(Step::Again) => {}
            Ok(Step::Rest) => listen.await,
            // A page that is damaged, or no room for a checkpoint: nothing that trying again would change.
            Err(_) => {
                cleaner.looked = Some(core.progress().checkpoints);
                core.exhaust(core.changes());
                listen.await;
            }
        }
    }
}

impl Cleaner {
    async fn step(&mut self, core: &Core) -> Result<Step> {
        let checkpoints = core.progress().checkpoints;
        if self.tidied != Some(checkpoints) {
            self.tidied = Some(checkpoints);
            self.tidy(core).await?;
        }
        match core.shortage() {
            Shortage::None => Ok(Step::Rest),
            Shortage::Low if self.looked == Some(checkpoints) => Ok(Step::Rest),
            Shortage::Critical if core.is_exhausted() => Ok(Step::Rest),
            shortage => self.round(core, shortage).await,
        }
    }

    async fn round(&mut self, core: &Core, shortage: Shortage) -> Result<Step> {
        let Some(_cleaning) = core.begin_cleaning() else { return Ok(Step::Rest) };
        let (changes, before) = (core.changes(), Room::of(core));
        if shortage == Shortage::Critical {
            core.leave_idle();
        }
        let mut chosen = self.choose(core, Need::Some);
        if chosen.is_empty() && shortage == Shortage::Critical {
            // Live counts are as of the last checkpoint, and what is dead is not free before the next.
            if core.may_free() {
                core.checkpoint().await?;
            }
            if Room::of(core).chunks > before.chunks {
                return Ok(Step::Again);
            }
        }
        if chosen.is_empty() {
            chosen = self.even_out(core, shortage);
        }
        if chosen.is_empty() && shortage == Shortage::Critical {
            chosen = self.choose(core, Need::Any);
        }
        if chosen.is_empty() {
            self.looked = Some(core.progress().checkpoints);
            let counted = !core.catalog().with(|catalog| catalog.may_shrink());
            if shortage == Shortage::Critical && counted && core.changes() == changes {
                core.exhaust(changes);
            }
            return Ok(if shortage == Shortage::Critical { Step::Again } else { Step::Rest });
        }
        let whole = self.empty(core, &chosen).await?;
        core.checkpoint().await?;
        let has_gained = self.gain.is_one(core.changes(), before, Room::of(core));
        self.account(core, &chosen, whole, has_gained);
        if has_gained {
            self.futile = 0;
            return Ok(Step::Again);
        }
        self.futile += 1;
        if shortage == Shortage::Low {
            self.looked = Some(core.progress().checkpoints);
        } else if self.futile >= FUTILE_MAX {
            self.futile = 0;
            core.exhaust(core.changes());
        }
        Ok(Step::Again)
    }

    /// The segments of one round that gain room.
    fn choose(&self, core: &Core, need: Need) -> Vec<Victim> {
        first_of(core, core.stripes().space.with(|space| victims(space, &self.walked, need)))
    }

    /// The segments of one round that are in the way where they are. A call that waits may need more than one.
    fn even_out(&self, core: &Core, shortage: Shortage) -> Vec<Victim> {
        let call = if shortage == Shortage::Critical { core.segments_of_call(core.widest()) } else { 0 };
        let least = core
            .reserves()
            .kept_from(Purpose::Data)
            .saturating_add(usize::try_from(call).unwrap_or(usize::MAX));
        first_of(core, core.stripes().space.with(|space| uneven(space, &self.walked, least)))
    }

    /// Empties segments. Returns those that were walked through to the end.
    async fn empty(&mut self, core: &Core, chosen: &[Victim]) -> Result<Vec<SegmentId>> {
        let mut emptier = Emptier::new(core);
        let mut walked = Vec::new();
        for victim in chosen {
            if core.is_resting() {
                break;
            }
            match emptier.empty(victim.id).await {
                Ok(Moved::All) => walked.push(victim.id),
                Ok(Moved::NoRoom) => break,
                Ok(Moved::Interrupted) => return Ok(Vec::new()),
                // A map that cannot be read: what is left of the segment stays.
                Err(_) => {
                    core.writable()?;
                    walked.push(victim.id);
                }
            }
        }
        match emptier.finish().await? {
            Moved::All => Ok(walked),
            Moved::NoRoom | Moved::Interrupted => Ok(Vec::new()),
        }
    }

    /// After the checkpoint: what is free was cleaned; what was walked through and still lives has a block that
    /// cannot be moved, or one that is not counted out yet.
    fn account(&mut self, core: &Core, chosen: &[Victim], walked: Vec<SegmentId>, has_gained: bool) {
        let cleaned = core.stripes().space.with(|space| {
            self.walked.retain(|id, _| space.get(*id).is_some());
            for id in walked {
                if let Some(segment) = space.get(id) {
                    self.walked.insert(id, segment.live);
                }
            }
            chosen.iter().filter(|victim| space.get(victim.id).is_none()).count()
        });
        core.note_cleaned(cleaned as u64, has_gained);
    }

    /// Has the next checkpoint empty segments of pages, if these are too many. Not while all pages that are too weak
    /// are written anew: what these leave behind is soon empty.
    async fn tidy(&mut self, core: &Core) -> Result<()> {
        if core.is_raising() {
            return Ok(());
        }
        let (touched, most) = core.touched();
        let left = most.saturating_sub(touched) as u64;
        let chosen = core.stripes().space.with(|space| page_victims(space, &self.walked, left));
        let mut emptier = Emptier::new(core);
        for id in chosen {
            // A tree that cannot be read keeps its pages where they are.
            let _kept = emptier.empty(id).await.is_err();
            if let Some(live) = core.stripes().space.with(|space| space.get(id).map(|segment| segment.live)) {
                self.walked.insert(id, live);
            }
        }
        Ok(())
    }
}

/// Segments that a round may fill, and that it should gain. Beside its reserve, a part of what is free for
/// users: a larger round needs fewer checkpoints.
fn allowance(core: &Core, scheme: Scheme) -> (u64, u64) {
    let (free, low) = core.free_and_low(scheme);
    let own = core.stripes().space.with(|space| space.free_segments(scheme, Purpose::Clean, core.reserves()));
    ((own - own.min(free - free / 4)).min(ROUND_SEGMENTS), low)
}

/// The first of these, as many as one round takes: what they have live fits the cleaner's room, and enough is gained.
fn first_of(core: &Core, victims: Vec<Victim>) -> Vec<Victim> {
    let mut chosen: Vec<Victim> = Vec::new();
    // In thousandths of a segment.
    let (mut filled, mut gained) = (0, 0);
    for victim in victims {
        let share = victim.live * 1000 / victim.room;
        let (room, low) = allowance(core, victim.scheme);
        if !chosen.is_empty() && (filled + share > room * 1000 || gained > low * 1000) {
            break;
        }
        filled += share;
        gained += 1000 - share;
        chosen.push(victim);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    // After an eviction took its room, a call waited. Every segment had one dead block, too few to gain a segment in
    // one round, so what is free went 145, 147, 147, 147, 147, 145 and so on: each rise passed for a gain, and the
    // cleaner never said that nothing more can be gained.
    #[test]
    fn what_falls_and_rises_again_is_no_gain() {
        let mut gain = Gain::default();
        let room = |chunks, segments| Room { chunks, segments };
        let free = [140, 145, 147, 147, 145, 147, 145, 147].map(|chunks| room(chunks, 0));
        let rounds = free.iter().zip(&free[1..]);
        let gained: Vec<bool> = rounds.map(|(before, after)| gain.is_one(3, *before, *after)).collect();
        assert_eq!(gained, [true, true, false, false, false, false, false]);
        assert!(gain.is_one(3, room(145, 0), room(145, 1)), "it is spread better");
        assert!(gain.is_one(4, room(145, 0), room(147, 0)), "blocks have died since");
        assert!(!gain.is_one(4, room(145, 0), room(147, 0)));
    }
}
