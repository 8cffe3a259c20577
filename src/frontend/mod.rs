//! Adapters over [`crate::volume`], for programs that are not linked with the library. Each is a feature of its own.

#[cfg(feature = "nbd")]
pub mod nbd;
