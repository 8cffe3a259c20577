//! The log: what is accepted and waits in memory, batch by batch, until its records are durable; and replay,
//! which finds them again.

mod batch;
mod doubts;
mod edits;
mod queue;
mod replay;

pub use batch::{Batch, Buffered};
pub use edits::EditId;
pub use queue::{Log, Placed, Queued, Stage};
pub use replay::{Chapter, Entered, Gap, Move, Opening, Replayed, places, replay, retell};
