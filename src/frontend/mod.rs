//! Adapters over [`crate::volume`], for programs that are not linked with the library. Each is a feature of its own.

#[cfg(any(feature = "fuse", feature = "nbd"))]
mod complaints;
#[cfg(feature = "fuse")]
pub mod fuse;
#[cfg(feature = "nbd")]
pub mod nbd;
