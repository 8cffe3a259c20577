//! What requests do to a volume.

use crate::error::{Error, Kind};
use crate::frontend::nbd::reply::Run;
use crate::frontend::nbd::request::Command;
use crate::frontend::nbd::wire::Errno;
use crate::frontend::zeros::write_zeros;
use crate::types::BLOCK_U64;
use crate::volume::Volume;
use bytes::Bytes;

/// Extents of one reply.
const EXTENTS: usize = 2048;
/// Steps of one command that prepares a read: it is a hint.
const CACHE_STEPS: usize = 64;

/// What came of it.
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// These bytes were read.
    Data(Vec<Bytes>),
    /// This is allocated.
    Runs(Vec<Run>),
}

impl Outcome {
    /// How many are to be sent, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Outcome::Done => 0,
            Outcome::Data(parts) => parts.iter().map(Bytes::len).sum(),
            Outcome::Runs(runs) => runs.len() * size_of::<Run>(),
        }
    }
}

/// Why it was not done.
pub(super) struct Failed {
    pub(super) error: Errno,
    pub(super) text: String,
    /// The byte at which it failed.
    pub(super) at: Option<u64>,
}

pub(super) async fn perform(volume: Volume, command: Command, payload: Bytes) -> Result<Outcome, Failed> {
    carry_out(&volume, command, payload).await.map_err(|error| explain(&error, command))
}

async fn carry_out(volume: &Volume, command: Command, payload: Bytes) -> Result<Outcome, Error> {
    match command {
        Command::Read { length: 0, .. } | Command::Disconnect => {}
        Command::Read { offset, length } => {
            return volume.read_parts_async(offset, length).await.map(Outcome::Data);
        }
        Command::Write { offset, durable: false } => volume.write_async(offset, payload).await?,
        Command::Write { offset, durable: true } => volume.write_durable_async(offset, payload).await?,
        Command::Flush => volume.flush_async().await?,
        Command::Trim { offset, length, durable } => {
            volume.trim_async(offset, length).await?;
            flush_if(volume, durable).await?;
        }
        Command::WriteZeroes { offset, length, durable, stored } => {
            match stored {
                true => write_zeros(volume, offset, length).await?,
                false => volume.write_zeroes_async(offset, length).await?,
            }
            flush_if(volume, durable).await?;
        }
        Command::Cache { offset, length } => cache(volume, offset, length).await?,
        Command::BlockStatus { offset, length, one } => {
            let found = volume.extents_async(offset, length).await?;
            let most = if one { 1 } else { EXTENTS };
            return Ok(Outcome::Runs(found.iter().take(most).map(|it| (it.bytes, it.is_hole)).collect()));
        }
    }
    Ok(Outcome::Done)
}

async fn flush_if(volume: &Volume, durable: bool) -> Result<(), Error> {
    if durable { volume.flush_async().await } else { Ok(()) }
}

/// The engine keeps the map in memory, and no data: that part of the map is read.
async fn cache(volume: &Volume, mut offset: u64, length: u64) -> Result<(), Error> {
    let end = offset + length;
    for _ in 0..CACHE_STEPS {
        if offset == end {
            break;
        }
        let told = volume.extents_async(offset, end - offset).await?;
        offset += told.iter().map(|extent| extent.bytes).sum::<u64>();
    }
    Ok(())
}

fn explain(error: &Error, command: Command) -> Failed {
    let number = match error.kind() {
        Kind::Invalid => Errno::Inval,
        Kind::NoSpace => Errno::NoSpc,
        Kind::ReadOnly => Errno::Perm,
        Kind::Closed => Errno::Shutdown,
        _ => Errno::Io,
    };
    let at = match (error.kind(), command) {
        (Kind::DataLoss { lba, .. }, Command::Read { offset, .. }) => Some((lba.0 * BLOCK_U64).max(offset)),
        _ => None,
    };
    Failed { error: number, text: error.to_string(), at }
}
