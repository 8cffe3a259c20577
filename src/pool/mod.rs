//! Who the members are: election at open, the member table, eviction, superblock commits.

mod change;
mod chronicle;
mod comeback;
mod elect;
mod members;
mod recognise;
mod rings;

pub use elect::{Candidate, Election, Note, REPLACED, Witnesses, elect};
pub use members::{Fault, Identity, Pool, new_member};
pub use recognise::recognise;
pub use rings::{Found, erase_rings, read_rings, write_rings};
