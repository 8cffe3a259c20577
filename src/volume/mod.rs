//! What a user holds: arrays and the volumes of an open one. [`Array`] and [`Volume`] are for programs,
//! [`Shard`] is what they and the simulator drive.
//!
//! **Ordering and durability.** A write, trim or resize is numbered when it is accepted, and is then seen
//! by every read that begins later. It is durable when a flush that began later has succeeded, and for a
//! write with FUA when it returns. After a crash a volume is a prefix of its history that contains
//! everything flushed. One call of up to [`crate::limits::WRITE_BLOCKS_MAX`] blocks is one step of that
//! history; a longer one is a sequence of such steps in order of address.
//!
//! **Addresses** are multiples of 512 bytes; multiples of 4096 are faster. A block that is written in part is
//! read first, and its other bytes stay as the newest call before this one in the history left them: calls that
//! overlap in time come one after the other, whatever parts of a block they touch. If the block is lost, so
//! that its other bytes are not known, the call fails and changes nothing of its step.

mod array;
mod bytes;
mod comeback;
mod cursor;
mod discover;
mod engine;
pub mod events;
mod extent;
mod figures;
mod handle;
pub mod inject;
mod make;
mod members;
mod read;
mod salvage;
mod shard;
mod status;

pub use crate::commit::Upkeep;
pub use crate::device::meter::{Figures, Operation};
pub use crate::format::superblock::JobKind;
pub use crate::maintain::{Pace, Rebuilt, Scrub};
pub use array::{Array, OpenOptions};
pub use cursor::Cursor;
pub use extent::Extent;
pub use figures::{Activity, MemberActivity, VolumeActivity};
pub use handle::Volume;
pub use make::{CreateOptions, MEMBER_BYTES_MIN, default_scheme};
pub use salvage::Salvaged;
pub use shard::{Shard, VolumeInfo};
pub(crate) use status::condition;
pub use status::{
    Damage, InjectedFault, JobStatus, Loss, MemberHealth, MemberStatus, State, Status, VolumeStatus, Work,
};
