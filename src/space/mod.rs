//! Which chunks are free, and the segment table. Pure: no I/O.

mod allocate;
mod refill;
mod table;

pub use allocate::{Purpose, Reserves, runway_quota};
pub use refill::Lacking;
pub use table::{Segment, Space};
