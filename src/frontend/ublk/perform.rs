//! What requests do to a volume.

use super::request::Request;
use crate::error::{Error, Kind, Result};
use crate::frontend::zeros::write_zeros;
use crate::volume::Volume;
use bytes::Bytes;
use rustix::io::Errno;

/// Does what is asked for, with the bytes that are written if it writes any. Returns what was read.
///
/// # Errors
/// As the calls of [`Volume`] that it takes.
pub async fn perform(volume: &Volume, request: Request, payload: Bytes) -> Result<Vec<Bytes>> {
    match request {
        Request::Read { offset, length } => return volume.read_parts_async(offset, length).await,
        Request::Write { offset, durable: false, .. } => volume.write_async(offset, payload).await?,
        Request::Write { offset, durable: true, .. } => volume.write_durable_async(offset, payload).await?,
        Request::Flush => volume.flush_async().await?,
        Request::Trim { offset, length } => volume.trim_async(offset, length).await?,
        Request::WriteZeroes { offset, length, stored: true } => write_zeros(volume, offset, length).await?,
        Request::WriteZeroes { offset, length, stored: false } => {
            volume.write_zeroes_async(offset, length).await?;
        }
    }
    Ok(Vec::new())
}

/// The kernel's number for an error.
pub fn errno(error: &Error) -> Errno {
    match error.kind() {
        Kind::Invalid => Errno::INVAL,
        Kind::NoSpace => Errno::NOSPC,
        Kind::ReadOnly => Errno::ROFS,
        // The disk is gone.
        Kind::NotFound | Kind::Closed => Errno::NODEV,
        _ => Errno::IO,
    }
}
