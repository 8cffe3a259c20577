//! Where the next segment goes, and how much room is left.

use super::table::{Member, Segment, Space};
use crate::format::superblock::ChunkAddress;
use crate::format::tables::ColumnState;
use crate::limits::RUNWAY_CHUNKS_MAX;
use crate::types::{Chunk, Scheme, SegmentId, Slot};
use crate::zoo::{Bug, Mark, planted, reach_if};
use std::collections::{BTreeMap, BTreeSet};

/// What a segment is for: decides which reserve it may use (rule 13).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// User data: must leave both reserves alone.
    Data,
    /// User data that the cleaner moves: may use its own reserve, which makes more room than it takes.
    Clean,
    /// Pages of maps, of the volume table and of the damage list.
    Meta,
    /// Pages of the segment table.
    Boot,
}

/// Chunks of the runway that fall to each of `members` members.
pub fn runway_quota(members: usize) -> usize {
    (RUNWAY_CHUNKS_MAX / members.max(1)).max(1)
}

impl Purpose {
    /// Whether its records are the log's, which replay looks for, and not a checkpoint's.
    pub fn is_log(self) -> bool {
        matches!(self, Purpose::Data | Purpose::Clean)
    }
}

/// Chunks, counted per member, that are kept for whoever makes room (rule 13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserves {
    /// For the next two checkpoints.
    pub checkpoint: u32,
    /// For the cleaner.
    pub cleaner: u32,
}

impl Reserves {
    /// Chunks of each member that a segment of this purpose must leave alone.
    pub fn kept_from(self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Data if planted(Bug::ReserveIgnored) => 0,
            Purpose::Data => (self.checkpoint + self.cleaner) as usize,
            Purpose::Clean => self.checkpoint as usize,
            Purpose::Meta | Purpose::Boot => 0,
        }
    }
}

impl Space {
    /// The widest scheme for new segments: as wide as `wanted` if there are members enough, else narrower
    /// with the same m; with m members or fewer, k = 1 and some columns absent.
    pub fn fit(&self, wanted: Scheme) -> Scheme {
        let active = u8::try_from(self.active()).unwrap_or(u8::MAX);
        let k = wanted.k().min(active.saturating_sub(wanted.m())).max(1);
        Scheme::new(k, wanted.m()).expect("narrower than a valid scheme")
    }

    /// Opens a segment on the members with the most free chunks, so that members of different sizes fill up
    /// together and all are usable; `None` when too few have one. The log goes only to the runway, where replay looks
    /// for it; pages are found through their roots and go to any free chunk, rather to others than those.
    pub fn open(&mut self, wanted: Scheme, purpose: Purpose, reserves: Reserves) -> Option<SegmentId> {
        let scheme = self.fit(wanted);
        let keep = reserves.kept_from(purpose);
        let is_log = purpose.is_log();
        let mut candidates: Vec<(usize, Slot)> = (0..=u8::MAX)
            .map(Slot)
            .zip(&self.members)
            .filter(|(_, member)| member.active && member.free.len() > keep)
            .filter(|(_, member)| !is_log || !member.runway.is_empty())
            .map(|(slot, member)| (member.free.len(), slot))
            .collect();
        let present = usize::from(scheme.width()).min(self.active());
        if candidates.len() < present {
            return None;
        }
        candidates.sort_by_key(|&(room, slot)| (std::cmp::Reverse(room), slot));
        candidates.truncate(present);
        // Parity moves round, so that no member holds all of it.
        let id = self.next;
        let turn = usize::try_from(id.0 % present as u64).expect("smaller than a member count");
        candidates.sort_by_key(|&(_, slot)| slot);
        candidates.rotate_left(turn);
        reach_if(scheme.width() < wanted.width(), Mark::SegmentNarrow);
        reach_if(present < usize::from(scheme.width()), Mark::SegmentLacking);
        let mut columns = vec![ColumnState::Absent; usize::from(scheme.width())];
        for ((_, slot), column) in candidates.into_iter().zip(&mut columns) {
            let member = &mut self.members[usize::from(slot.0)];
            let chunk = if is_log && !planted(Bug::OffRunway) {
                member.runway.first().copied()
            } else {
                member.off_runway()
            };
            let chunk = chunk.expect("a candidate has room");
            member.take(chunk);
            *column = ColumnState::Complete(ChunkAddress { slot, chunk });
        }
        self.next = SegmentId(id.0 + 1);
        self.segments.insert(
            id,
            Segment {
                scheme,
                columns,
                sealed: false,
                rows: 0,
                applied: 0,
                live: 0,
                pending: 0,
                pins: 0,
                purpose,
            },
        );
        self.change(id);
        Some(id)
    }

    /// The chunks that the next checkpoint lists: the runway as it is, so that what is entered while the
    /// checkpoint is written is still found, then the chunks of the segments it frees and other free ones; all
    /// beside those of `entered`, which the log has entered since the cut and which count, too.
    pub fn plan_runway(
        &mut self,
        freed: &[SegmentId],
        entered: &BTreeSet<ChunkAddress>,
    ) -> Vec<ChunkAddress> {
        let freed: BTreeSet<ChunkAddress> =
            freed.iter().filter_map(|id| self.segments.get(id)).flat_map(Segment::chunks).collect();
        let active = self.active();
        let share = RUNWAY_CHUNKS_MAX.saturating_sub(entered.len()) / active.max(1);
        let mut plan = Vec::new();
        let members = (0..=u8::MAX).map(Slot).zip(&mut self.members);
        for (slot, member) in members.filter(|(_, member)| member.active) {
            let taken = entered.iter().filter(|address| address.slot == slot).count();
            let room = runway_quota(active).saturating_sub(taken).min(share);
            // Members that joined have made the shares smaller: what is beyond is not entered any more.
            while member.runway.len() > room {
                member.runway.pop_last();
            }
            let fresh = freed.iter().filter(|address| address.slot == slot).map(|address| address.chunk);
            let other = member.free.difference(&member.runway).copied().chain(fresh);
            let more = room - member.runway.len();
            let chosen: Vec<Chunk> = member.runway.iter().copied().chain(other.take(more)).collect();
            plan.extend(chosen.into_iter().map(|chunk| ChunkAddress { slot, chunk }));
        }
        plan
    }

    /// The checkpoint that lists `plan` is durable on all members in use: the log may enter those chunks.
    pub fn install_runway(&mut self, plan: &[ChunkAddress]) {
        let mut listed = vec![Vec::new(); self.members.len()];
        for address in plan {
            listed[usize::from(address.slot.0)].push(address.chunk);
        }
        for (member, listed) in self.members.iter_mut().zip(listed) {
            member.runway = listed.into_iter().filter(|chunk| member.free.contains(chunk)).collect();
        }
    }

    /// How many segments of this scheme and purpose the free chunks allow.
    pub fn free_segments(&self, wanted: Scheme, purpose: Purpose, reserves: Reserves) -> u64 {
        let keep = reserves.kept_from(purpose);
        self.segments_of(wanted, |member| member.free.len().saturating_sub(keep) as u64)
    }

    /// How many segments of this scheme user data may fill on the members in use, if nothing else is there.
    pub fn most_segments(&self, wanted: Scheme, reserves: Reserves) -> u64 {
        let keep = reserves.kept_from(Purpose::Data) as u64;
        self.segments_of(wanted, |member| u64::from(member.chunks).saturating_sub(keep))
    }

    /// How many chunks of each member in use are free.
    pub fn free_of_members(&self) -> BTreeMap<Slot, usize> {
        let members = (0..=u8::MAX).map(Slot).zip(&self.members);
        members.filter(|(_, member)| member.active).map(|(slot, member)| (slot, member.free.len())).collect()
    }

    /// Whether less than half is taken of what user data may fill of each member.
    pub fn is_roomy(&self, reserves: Reserves) -> bool {
        let keep = reserves.kept_from(Purpose::Data);
        let mut active = self.members.iter().filter(|member| member.active);
        active.all(|member| {
            let chunks = member.chunks as usize;
            2 * (chunks - member.free.len()) < chunks.saturating_sub(keep)
        })
    }

    /// The largest s such that s segments of `width` distinct members each fit, which is when the sum of
    /// min(room, s) is s * width or more. Taking the members with the most room each time, as [`Space::open`]
    /// does, gets there.
    ///
    /// Whatever fits, fits into the sum of min(room, more) / width, too, for every `more` above it: so what is reckoned
    /// from above never falls below what fits, and fits when it stays. Among members of one size it stays at once.
    fn segments_of(&self, wanted: Scheme, room: impl Fn(&Member) -> u64) -> u64 {
        let active = || self.members.iter().filter(|member| member.active);
        let width = u64::from(self.fit(wanted).width()).min(active().count() as u64).max(1);
        let mut most = active().map(&room).sum::<u64>() / width;
        loop {
            let fit = active().map(|member| room(member).min(most)).sum::<u64>() / width;
            if fit == most {
                return most;
            }
            most = fit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::new_member;
    use crate::types::Uuid;

    /// By trying: as long as segments fit, one after the other, each on the members with the most room.
    fn greedy(chunks: &[u32], width: usize) -> u64 {
        let mut rooms = chunks.to_vec();
        for segments in 0.. {
            rooms.sort_unstable_by(|a, b| b.cmp(a));
            if rooms[width - 1] == 0 {
                return segments;
            }
            rooms[..width].iter_mut().for_each(|room| *room -= 1);
        }
        unreachable!("rooms end")
    }

    #[test]
    fn as_many_segments_fit_as_can_be_opened_one_after_the_other() {
        let sizes: [&[u32]; 7] = [
            &[9, 9, 9, 9],
            &[100, 1, 1],
            &[1000, 3, 2, 1],
            &[7, 5, 3, 2, 1],
            &[50, 50, 1, 1],
            &[0, 0, 4],
            &[13; 6],
        ];
        for chunks in sizes {
            let member = |chunks: &u32| new_member(Uuid::default(), *chunks, "m", String::new());
            let members: Vec<_> = chunks.iter().map(member).collect();
            let space = Space::new(8, &members, SegmentId(0)).expect("sound");
            for width in 2..=u8::try_from(chunks.len()).expect("few") {
                let scheme = Scheme::new(1, width - 1).expect("sound");
                let most = space.most_segments(scheme, Reserves { checkpoint: 0, cleaner: 0 });
                assert_eq!(most, greedy(chunks, usize::from(width)), "{chunks:?}, {width}");
            }
        }
    }
}
