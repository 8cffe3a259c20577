//! The order: data durable, then records, then roots. The core that owns all state of an open array, its
//! writer, its checkpoint, its way back after a crash.

mod admit;
mod capacity;
mod check;
mod checkpoint;
mod core;
mod edit;
mod lookup;
mod members;
mod mount;
mod moves;
mod pace;
mod pages;
mod raise;
mod reins;
mod room;
mod salvage;
mod sink;
mod writer;

pub(crate) use self::core::Seen;
pub use self::core::{Config, Core, Progress};
pub(crate) use admit::{Step, check_range};
pub(crate) use capacity::{FILL_MAX, blocks_per_segment};
pub(crate) use edit::Editing;
pub use mount::{CreateOptions, OpenOptions, Upkeep, create, open};
pub(crate) use moves::{Candidate, Moved, Moving};
pub use reins::Reins;
pub(crate) use room::Shortage;
pub use salvage::{Salvaged, salvage};
