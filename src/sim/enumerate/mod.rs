//! Crash enumeration: every image that a power loss may leave behind small workloads, recovered and checked.
//!
//! A *story* is mkfs, or an array that is opened and a few calls ([`stories`]). It is told once, on members that
//! remember what they have not flushed. A *moment* is where the power fails: right before a flush makes something
//! durable, and before something else is promised. Between two moments what may be lost only grows, so they have the
//! images of all write boundaries. An *image* is a moment and what the members come back with: each write whole, torn
//! or absent, disk by disk, in every order that was possible (`grow` has the rules and their bounds). The engine
//! opens it; each volume must be exactly what it was at the number that the engine says, none before the last
//! flush; the tables must agree; and a block must be written, flushed and read. If the run is *followed*, the same
//! is done for each moment of it, openings after a crash of the opening included.
//!
//! Images that agree on every block that the engine reads from the opening to the end are one to it, for it is
//! deterministic. So contents are chosen only when they are read (`members`), one run stands for all images that it
//! has not told apart, and the number of these is exact. What the limits leave out is counted too.
//!
//! What this does not have: calls at the same time, members that fail besides, schedules other than the one
//! that `members` describes, and crashes of the recovery of a crashed recovery.
//!
//! | module | what it is |
//! | --- | --- |
//! | `grow` | what may become of writes that were not flushed |
//! | `cell` | contents of blocks whose fates hang together |
//! | `image` | all contents of the members at one moment |
//! | `members` | the members of one run |
//! | `life` | one life of the engine's process, and its checks |
//! | `history` | what a volume may be after a crash |
//! | `workload` | the stories |
//! | `explore` | from a story to all its images, and the tally |

mod cell;
mod explore;
mod grow;
mod history;
mod image;
mod life;
mod members;
mod workload;

pub(super) use explore::guarded;
pub use explore::{Enumeration, Failure, Limits, Tally, repeat};
pub use grow::{SUBSET_BLOCKS_MAX, TEARS};
pub(super) use history::{Blocks, Expected, History, is_same, patched, tagged};
pub use workload::{Act, Story, schemes, stories};
