//! What `inspect` found, as `--json` prints it.

use super::chunks::{Layout, Seen};
use super::rings::{Content, RingSlot};
use crate::names::SchemeName;
use paritas::format::record::{Change, Interval, Owner};
use paritas::format::superblock::{MAJOR, MINOR, MemberState, Superblock};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that is told of a member.
#[derive(Serialize)]
pub(super) struct Document {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) array: String,
    pub(super) slot: u8,
    /// `superblocks` or `records`: what said so, and how large chunks are.
    pub(super) known_by: &'static str,
    pub(super) format: String,
    pub(super) superblocks: Vec<SlotFacts>,
    /// What the newest good copy says.
    pub(super) newest: Option<Newest>,
    pub(super) chunks: Chunks,
}

#[derive(Serialize)]
pub(super) struct SlotFacts {
    pub(super) ring: char,
    pub(super) slot: u64,
    pub(super) offset: u64,
    /// `good`, `empty` or `damaged`.
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copy: Option<Copy>,
}

/// What tells one superblock from another.
#[derive(Serialize)]
pub(super) struct Copy {
    pub(super) array: String,
    pub(super) name: String,
    pub(super) epoch: u64,
    pub(super) commit: u64,
    pub(super) nonce: u64,
    pub(super) member: u8,
}

#[derive(Serialize)]
pub(super) struct Newest {
    pub(super) name: String,
    pub(super) epoch: u64,
    pub(super) commit: u64,
    pub(super) scheme: String,
    pub(super) metadata_scheme: String,
    pub(super) past_epochs: usize,
    pub(super) members: Vec<Member>,
    pub(super) checkpoint: u64,
    pub(super) next_segment: u64,
    pub(super) next_sequence: u64,
    pub(super) boot_segments: Vec<u64>,
    /// Free chunks of this member that the log may enter before the next checkpoint.
    pub(super) runway: usize,
}

#[derive(Serialize)]
pub(super) struct Member {
    pub(super) slot: usize,
    pub(super) uuid: String,
    pub(super) state: &'static str,
    pub(super) since: u64,
    pub(super) chunks: u32,
    pub(super) path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) label: String,
}

/// The chunks, by what they begin with.
#[derive(Serialize)]
pub(super) struct Chunks {
    pub(super) size: u64,
    pub(super) total: u32,
    /// A record of this member. Whether its segment still lives is in the segment table, on all members together.
    pub(super) with_records: u32,
    pub(super) zeros: u32,
    pub(super) damaged: u32,
    pub(super) other: u32,
    /// How many of those with records there are of each scheme.
    pub(super) schemes: BTreeMap<String, u32>,
    pub(super) listed: Vec<ChunkFacts>,
    /// With records or damaged, but not listed.
    pub(super) unlisted: u32,
}

#[derive(Serialize)]
pub(super) struct ChunkFacts {
    pub(super) chunk: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    #[serde(flatten)]
    pub(super) held: Option<Held>,
}

/// What a chunk with records says of itself.
#[derive(Serialize)]
pub(super) struct Held {
    pub(super) segment: u64,
    pub(super) column: u8,
    pub(super) scheme: String,
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) records: Option<Vec<RecordFacts>>,
    /// Why there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<String>,
}

#[derive(Serialize)]
pub(super) struct RecordFacts {
    pub(super) row: u16,
    pub(super) rows: u8,
    pub(super) sequence: u64,
    pub(super) group: (u64, u64),
    pub(super) epoch: u64,
    pub(super) nonce: u64,
    /// Blocks of user data, by number of the volume.
    pub(super) volumes: BTreeMap<u32, u64>,
    /// Those of them that were moved by the cleaner.
    pub(super) moved: u64,
    pub(super) pages: u64,
    pub(super) fill: u64,
    /// Blocks whose description lies on other members.
    pub(super) described_elsewhere: u64,
    /// Absent when it lies on other members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) intervals: Option<Vec<IntervalFacts>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trims: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resizes: Option<usize>,
    /// Why the description tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) damaged: Option<String>,
}

#[derive(Serialize)]
pub(super) struct IntervalFacts {
    pub(super) volume: u32,
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) durable: u64,
}

pub(super) fn format() -> String {
    format!("{MAJOR}.{MINOR}")
}

impl SlotFacts {
    pub(super) fn of(slot: &RingSlot) -> SlotFacts {
        let (state, why) = match &slot.content {
            Content::Good(_) => ("good", None),
            Content::Empty => ("empty", None),
            Content::Damaged(why) => ("damaged", Some(why.clone())),
        };
        let copy = slot.copy().map(|copy| Copy {
            array: copy.array.to_string(),
            name: copy.name.clone(),
            epoch: copy.epoch.0,
            commit: copy.commit,
            nonce: copy.nonce.0,
            member: copy.slot.0,
        });
        SlotFacts { ring: slot.ring, slot: slot.slot, offset: slot.offset, state, why, copy }
    }
}

impl Newest {
    pub(super) fn of(copy: &Superblock, layout: &Layout) -> Newest {
        let members = copy.members.iter().enumerate().map(|(slot, member)| Member {
            slot,
            uuid: member.uuid.to_string(),
            state: state_name(member.state),
            since: member.since.0,
            chunks: member.chunks,
            path: member.path.clone(),
            label: member.label.clone(),
        });
        let checkpoint = &copy.checkpoint;
        Newest {
            name: copy.name.clone(),
            epoch: copy.epoch.0,
            commit: copy.commit,
            scheme: SchemeName::spell(copy.default_scheme),
            metadata_scheme: SchemeName::spell(copy.meta_scheme),
            past_epochs: copy.history.len(),
            members: members.collect(),
            checkpoint: checkpoint.generation,
            next_segment: checkpoint.next_segment.0,
            next_sequence: checkpoint.next_sequence.0,
            boot_segments: checkpoint.boot.iter().map(|segment| segment.id.0).collect(),
            runway: checkpoint.runway.iter().filter(|at| at.slot == layout.slot).count(),
        }
    }
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "active",
        MemberState::Out => "out",
        MemberState::Failed => "failed",
        MemberState::Removed => "removed",
        MemberState::Spare => "spare",
        MemberState::Leaving => "leaving",
    }
}

impl RecordFacts {
    pub(super) fn of(seen: &Seen) -> RecordFacts {
        let record = &seen.part.record;
        let blocks = u64::from(record.rows) * u64::from(record.scheme.k());
        let mut facts = RecordFacts {
            row: record.row.0,
            rows: record.rows,
            sequence: record.sequence.0,
            group: (record.group.0.0, record.group.1.0),
            epoch: record.epoch.0,
            nonce: record.nonce.0,
            volumes: BTreeMap::new(),
            moved: 0,
            pages: 0,
            fill: 0,
            described_elsewhere: blocks.saturating_sub(seen.part.needs() as u64),
            intervals: None,
            trims: None,
            resizes: None,
            damaged: None,
        };
        match &seen.glimpse {
            Err(why) => facts.damaged = Some(why.clone()),
            Ok(glimpse) => {
                facts.described_elsewhere -= glimpse.entries.len() as u64;
                glimpse.entries.iter().for_each(|(_, entry)| facts.count(&entry.owner));
                if let Some((intervals, changes)) = &glimpse.preamble {
                    let trims = changes.iter().filter(|change| matches!(change, Change::Trim { .. })).count();
                    facts.intervals = Some(intervals.iter().map(IntervalFacts::of).collect());
                    facts.trims = Some(trims);
                    facts.resizes = Some(changes.len() - trims);
                }
            }
        }
        facts
    }

    fn count(&mut self, owner: &Owner) {
        match owner {
            Owner::Fill => self.fill += 1,
            Owner::Page { .. } => self.pages += 1,
            Owner::Data { volume, .. } => *self.volumes.entry(volume.0).or_default() += 1,
            Owner::Moved { volume, .. } => {
                *self.volumes.entry(volume.0).or_default() += 1;
                self.moved += 1;
            }
            Owner::Description => {}
        }
    }
}

impl IntervalFacts {
    fn of(interval: &Interval) -> IntervalFacts {
        IntervalFacts {
            volume: interval.volume.0,
            after: interval.after.0,
            through: interval.through.0,
            durable: interval.durable.0,
        }
    }
}
