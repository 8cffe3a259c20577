//! PORT: what a member device is.
//!
//! The contract. Offsets and lengths are whole multiples of [`BLOCK`], buffers are aligned to it; anything
//! else is refused with [`DeviceError::Invalid`]. At most one 512-byte sector is atomic. Nothing is ordered
//! and nothing is durable until a flush, submitted after the writes it is to cover had completed, succeeds.
//! A flush that failed says nothing about those writes and neither does a later one. An operation may move
//! fewer bytes than asked (a multiple of 512, possibly none); [`read_full`] and [`write_full`] go on until done.
//! Every submitted operation completes exactly once; dropping whoever waits for it never cancels it, and
//! its buffers belong to the operation until then.

mod blocking;
pub mod buffer;
pub mod deadline;
pub mod file;
pub mod frame;
pub mod image;
pub mod inject;
pub mod io;
pub mod meter;
pub mod open;
mod place;
pub mod ring;
pub mod room;
mod uring;

pub use buffer::Aligned;
pub use deadline::Deadline;
pub use file::{FileDevice, Kind};
pub use frame::Frame;
pub use image::Image;
pub use io::{read_full, write_full};
pub use meter::Meter;
pub use open::{OpenMode, open};
pub use place::place;
pub use ring::Ring;
pub use room::Room;
pub use uring::Turner;

use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use rustix::io::Errno;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// How a device failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceError {
    /// The operation was misaligned or out of range: a defect of the caller.
    Invalid(String),
    /// This operation failed; others may succeed.
    Io(String),
    /// The device is out of room. It stays readable.
    NoSpace,
    /// The device is gone: nothing will succeed until it returns.
    Gone,
    /// The operation did not answer in time. It may still take effect: the device must not be written again.
    Hangs,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Invalid(what) => write!(f, "invalid request: {what}"),
            DeviceError::Io(what) => write!(f, "I/O error: {what}"),
            DeviceError::NoSpace => f.write_str("no space left on the device"),
            DeviceError::Gone => f.write_str("the device is gone"),
            DeviceError::Hangs => f.write_str("the device does not answer"),
        }
    }
}

impl std::error::Error for DeviceError {}

impl DeviceError {
    /// What an error of the system means for a member.
    fn of(error: &std::io::Error) -> DeviceError {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => DeviceError::NoSpace,
            Some(Errno::NODEV | Errno::NXIO | Errno::NOMEDIUM) => DeviceError::Gone,
            _ => DeviceError::Io(error.to_string()),
        }
    }
}

/// A submitted operation that will complete with `T`. Dropping it does not cancel the operation.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, DeviceError>> + Send>>;

/// A member device. Each call submits at once; the future only waits.
pub trait Device: Send + Sync {
    /// Bytes of the device, as found when it was opened.
    fn len(&self) -> u64;
    /// Whether the device has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads up to `len` bytes at `offset`, aligned to [`BLOCK`] in memory; fewer may come back.
    fn read(&self, offset: u64, len: usize) -> Pending<Bytes>;
    /// Writes the pieces one after the other at `offset`; returns the bytes written, which may be fewer.
    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize>;
    /// Makes every write that completed before this call durable.
    fn flush(&self) -> Pending<()>;
    /// What was asked of it, where that is counted.
    fn meter(&self) -> Option<&Meter> {
        None
    }
}

/// Refuses a range that is misaligned or reaches past the end of a device of `device_len` bytes.
pub(crate) fn check_range(device_len: u64, offset: u64, len: usize) -> Result<(), DeviceError> {
    let invalid = |what: &str| {
        Err(DeviceError::Invalid(format!("{len} bytes at {offset} of a device of {device_len}: {what}")))
    };
    if !offset.is_multiple_of(BLOCK_U64) || !len.is_multiple_of(BLOCK) {
        return invalid("not whole blocks");
    }
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    if end.is_none_or(|end| end > device_len) {
        return invalid("past the end");
    }
    Ok(())
}

/// Refuses what [`check_range`] refuses and pieces that are no whole blocks or not aligned in memory.
/// Returns the bytes of all pieces.
pub(crate) fn check_write(device_len: u64, offset: u64, pieces: &[Bytes]) -> Result<usize, DeviceError> {
    let mut total = 0;
    for piece in pieces {
        if !piece.len().is_multiple_of(BLOCK) {
            return Err(DeviceError::Invalid(format!("a piece of {} bytes is no whole blocks", piece.len())));
        }
        if !piece.is_empty() && !piece.as_ptr().addr().is_multiple_of(BLOCK) {
            return Err(DeviceError::Invalid(format!("a piece of {} bytes is not aligned", piece.len())));
        }
        total += piece.len();
    }
    check_range(device_len, offset, total)?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_say_what_a_member_is_to_do() {
        let error = |errno: Errno| DeviceError::of(&errno.into());
        assert!(matches!(error(Errno::IO), DeviceError::Io(_)));
        assert_eq!([Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(error), [const { DeviceError::NoSpace }; 3]);
        assert_eq!([Errno::NODEV, Errno::NXIO].map(error), [const { DeviceError::Gone }; 2]);
    }

    #[test]
    fn every_error_says_what_went_wrong() {
        let texts = [
            (DeviceError::Invalid("512 bytes".into()), "invalid request: 512 bytes"),
            (DeviceError::Io("bad sector".into()), "I/O error: bad sector"),
            (DeviceError::NoSpace, "no space left on the device"),
            (DeviceError::Gone, "the device is gone"),
            (DeviceError::Hangs, "the device does not answer"),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn ranges_are_whole_blocks_inside_the_device() {
        assert_eq!(check_range(8192, 4096, 4096), Ok(()));
        assert_eq!(check_range(8192, 8192, 0), Ok(()));
        for (offset, len) in [(512, 4096), (0, 512), (4096, 8192), (12288, 0), (u64::MAX - 4095, 4096)] {
            assert!(matches!(check_range(8192, offset, len), Err(DeviceError::Invalid(_))), "{offset} {len}");
        }
    }

    #[test]
    fn pieces_are_whole_blocks_aligned_in_memory() {
        let block = Aligned::zeroed(BLOCK).freeze();
        assert_eq!(check_write(8192, 0, &[block.clone(), Bytes::new(), block.clone()]), Ok(8192));
        let shifted = Aligned::zeroed(2 * BLOCK).freeze().slice(512..512 + BLOCK);
        for pieces in [vec![shifted], vec![block.slice(..512)], vec![block.clone(), block.clone(), block]] {
            assert!(matches!(check_write(8192, 0, &pieces), Err(DeviceError::Invalid(_))));
        }
    }
}
