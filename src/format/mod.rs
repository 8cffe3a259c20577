//! PURE: bytes <-> values. Nothing here performs I/O, and every byte that is parsed is hostile until
//! checked (rule 10): bounds, counts, allocation; reserved bytes are zero and verified. All integers are
//! little-endian.
#![doc = include_str!("FORMAT.md")]

pub mod page;
pub mod record;
pub mod superblock;
pub mod tables;
pub mod wire;
