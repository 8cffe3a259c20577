//! The order: data durable, then records, then roots. The core that owns all state of an open array, its
//! writer, its checkpoint, its way back after a crash.

mod admit;
mod check;
mod checkpoint;
mod core;
mod edit;
mod lookup;
mod members;
mod mount;
mod pages;
mod sink;
mod writer;

pub use self::core::{Config, Core, Progress};
pub(crate) use admit::{Step, check_range};
pub(crate) use edit::Editing;
pub use mount::{CreateOptions, OpenOptions, Upkeep, create, open};
