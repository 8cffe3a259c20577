//! The superblock: who the members are, which epoch it is, where the newest checkpoint is rooted.

mod bytes;
mod checkpoint;
mod events;
mod jobs;
mod members;
mod rules;
mod sentences;
#[cfg(test)]
mod tests;

pub use events::{Event, EventKind, EventLog};

use crate::format::tables::SegmentRecord;
use crate::types::{Chunk, Epoch, Nonce, Pointer, Scheme, SegmentId, Sequence, Slot, Uuid};

/// The format's version. Another one is refused: what changes within it is announced by [`Features`].
pub const MAJOR: u16 = 1;
/// The newest feature bits that the writer knew of; of no consequence to a reader.
pub const MINOR: u16 = 0;

/// What the array uses beyond the format's first version. This version knows no bit of any kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Whoever does not know one of these must leave the array alone.
    pub incompat: u64,
    /// Whoever does not know one of these must not write.
    pub ro_compat: u64,
    /// Whoever does not know these may ignore them, but carries them on.
    pub compat: u64,
}

impl Features {
    /// The incompatible bits known here.
    pub const INCOMPAT: u64 = 0;
    /// The read-only compatible bits known here.
    pub const RO_COMPAT: u64 = 0;

    /// Whether all bits that forbid writing to those who do not know them are known here.
    pub fn writable(&self) -> bool {
        self.ro_compat & !Features::RO_COMPAT == 0
    }
}

/// Whether the array reads and writes a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// In use: it has every write.
    Active,
    /// Out of use since [`MemberRecord::since`]: what it holds may be stale.
    Out,
    /// Taken out for good by the operator; it stays out until it is replaced.
    Failed,
    /// A slot whose member was removed; the slot is free.
    Removed,
    /// A blank member that waits to take the place of another.
    Spare,
    /// It was replaced. Nothing is written to it any more; what it holds is rebuilt elsewhere, from itself while
    /// it can be read. Then its slot is free.
    Leaving,
}

/// One row of the member table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRecord {
    /// The member's identity.
    pub uuid: Uuid,
    /// Whether it is in use.
    pub state: MemberState,
    /// The epoch of the last change of `state`.
    pub since: Epoch,
    /// Chunks on it.
    pub chunks: u32,
    /// Errors charged to it since they were last cleared: read, write, flush, checksum.
    pub errors: [u32; 4],
    /// Where it was when it was last opened; a hint.
    pub path: String,
    /// Its failure domain, possibly empty.
    pub label: String,
}

/// What a job does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum JobKind {
    /// Gives segments the columns that they lack.
    Rebuild,
    /// Verifies every block of every segment and heals what it can.
    Scrub,
}

/// A long job, as far as it has come: what an interrupted one goes on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// What it does.
    pub kind: JobKind,
    /// Bytes of members that are done.
    pub done: u64,
    /// Bytes of members that there are to do, those done included; an estimate.
    pub total: u64,
    /// Segments below this one are done, for a job that goes by their numbers.
    pub next: SegmentId,
}

/// The root of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The top page.
    pub pointer: Pointer,
    /// Its level; 0 is a leaf.
    pub level: u8,
}

/// A superseded epoch of this array's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The nonce of the opening that made it.
    pub nonce: Nonce,
}

/// A chunk of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkAddress {
    /// The member.
    pub slot: Slot,
    /// The chunk on it.
    pub chunk: Chunk,
}

/// The roots of one checkpoint, and where replay starts behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Counts checkpoints.
    pub generation: u64,
    /// The opening that wrote it: replay counts its records only.
    pub nonce: Nonce,
    /// Data segments from here on were opened later than the checkpoint's cut: replay looks for them in the
    /// runway.
    pub next_segment: SegmentId,
    /// Where the log goes on.
    pub next_sequence: Sequence,
    /// Where volume numbers go on.
    pub next_volume: u32,
    /// The segment table ([`crate::format::tables`]).
    pub segments: Option<Root>,
    /// The volume table.
    pub volumes: Option<Root>,
    /// The damage list.
    pub damage: Option<Root>,
    /// The segments that hold the pages of the segment table. They are not in the table itself: so the table
    /// can be found, and writing it does not change it.
    pub boot: Vec<SegmentRecord>,
    /// The free chunks that the log may enter before the next checkpoint.
    pub runway: Vec<ChunkAddress>,
}

impl Checkpoint {
    /// That of an array in which nothing was ever written.
    pub fn blank(nonce: Nonce) -> Checkpoint {
        Checkpoint {
            generation: 0,
            nonce,
            next_segment: SegmentId(0),
            next_sequence: Sequence(0),
            next_volume: 1,
            segments: None,
            volumes: None,
            damage: None,
            boot: Vec::new(),
            runway: Vec::new(),
        }
    }

    /// Whether a log may follow: nobody has closed the array behind it.
    pub fn has_log(&self) -> bool {
        self.nonce != Nonce::NONE
    }
}

/// Everything that one superblock slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// What it takes to understand the array.
    pub features: Features,
    /// The array.
    pub array: Uuid,
    /// Its name.
    pub name: String,
    /// Which member this copy is written on. All else is the same on every member.
    pub slot: Slot,
    /// Blocks in a chunk.
    pub chunk_blocks: u32,
    /// The scheme of volumes that name none.
    pub default_scheme: Scheme,
    /// The strongest protection in use, or a stronger one: what all metadata has at least.
    pub meta_scheme: Scheme,
    /// Raised at every opening for writing and at every change of the members in use.
    pub epoch: Epoch,
    /// The opening that wrote this copy.
    pub nonce: Nonce,
    /// Counts superblock commits; with the epoch it orders them.
    pub commit: u64,
    /// Earlier epochs, newest first, at most [`crate::limits::HISTORY_MAX`].
    pub history: Vec<PastEpoch>,
    /// The member table; a slot number is an index in it.
    pub members: Vec<MemberRecord>,
    /// Jobs under way or interrupted, at most one of each kind, in the order of [`JobKind`].
    pub jobs: Vec<Job>,
    /// The day on which a scrub came to its end last, in days since 1970-01-01; 0: never.
    pub scrubbed: u16,
    /// What happened.
    pub events: EventLog,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
}
