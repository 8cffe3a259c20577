//! Adapters over [`crate::volume`], for programs that are not linked with the library. Each is a feature of its own.

#[cfg(any(feature = "nbd", feature = "ublk"))]
mod bell;
#[cfg(any(feature = "fuse", feature = "nbd", feature = "ublk"))]
mod complaints;
#[cfg(feature = "fuse")]
pub mod fuse;
#[cfg(feature = "nbd")]
pub mod nbd;
#[cfg(feature = "ublk")]
pub mod ublk;
#[cfg(any(feature = "nbd", feature = "ublk"))]
mod zeros;
