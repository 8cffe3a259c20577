//! What requests do to a volume.

use super::request::Request;
use crate::error::{Error, Kind, Result};
use crate::types::SECTOR_U64;
use crate::volume::Volume;
use bytes::Bytes;
use fuser::Errno;

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// These bytes were read.
    Data(Bytes),
    /// A size, or a place.
    Number(u64),
    /// There is no such place.
    Nowhere,
}

/// Does what is asked for.
///
/// # Errors
/// As the calls of [`Volume`] that it takes.
pub async fn perform(volume: &Volume, request: Request) -> Result<Answer> {
    match request {
        Request::Size => return volume.size_async().await.map(Answer::Number),
        Request::Read { offset, length } => return read(volume, offset, length).await.map(Answer::Data),
        Request::Write { offset, data } => volume.write_async(offset, data).await?,
        Request::Flush => volume.flush_async().await?,
        Request::Trim { offset, length } => volume.trim_async(offset, length).await?,
        Request::WriteZeroes { offset, length } => volume.write_zeroes_async(offset, length).await?,
        Request::Seek { offset, hole } => return seek(volume, offset, hole).await,
    }
    Ok(Answer::Done)
}

/// Asks for the volume's size only when the range is none of the engine's.
async fn read(volume: &Volume, offset: u64, length: u64) -> Result<Bytes> {
    let count = |bytes: u64| usize::try_from(bytes).map_err(|_| Error::invalid("more bytes than memory has"));
    match volume.read_async(offset, count(length)?).await {
        Err(error) if error.kind() == Kind::Invalid => {}
        outcome => return outcome,
    }
    let end = offset.saturating_add(length).min(volume.size_async().await?);
    if offset >= end {
        return Ok(Bytes::new());
    }
    let skip = offset % SECTOR_U64;
    // A size is a multiple of whole blocks, so this does not reach past it.
    let whole = (skip + (end - offset)).next_multiple_of(SECTOR_U64);
    let bytes = volume.read_async(offset - skip, count(whole)?).await?;
    Ok(bytes.slice(count(skip)?..count(skip + (end - offset))?))
}

/// The end of the volume counts as a hole.
async fn seek(volume: &Volume, offset: u64, hole: bool) -> Result<Answer> {
    let size = volume.size_async().await?;
    if offset >= size {
        return Ok(Answer::Nowhere);
    }
    let mut at = offset - offset % SECTOR_U64;
    while at < size {
        for extent in volume.extents_async(at, size - at).await? {
            if extent.is_hole == hole {
                return Ok(Answer::Number(at.max(offset)));
            }
            at += extent.bytes;
        }
    }
    Ok(if hole { Answer::Number(size) } else { Answer::Nowhere })
}

/// The kernel's number for an error.
pub fn errno(error: &Error) -> Errno {
    match error.kind() {
        Kind::Invalid => Errno::EINVAL,
        Kind::NoSpace => Errno::ENOSPC,
        Kind::ReadOnly => Errno::EROFS,
        // The disk is gone.
        Kind::NotFound | Kind::Closed => Errno::ENODEV,
        _ => Errno::EIO,
    }
}
