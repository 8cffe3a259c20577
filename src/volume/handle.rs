//! A volume in the hands of a program. For ordering and durability see [`Array`](super::Array).

use super::bytes::placed;
use super::engine::{Engine, settle};
use super::{Extent, Shard, VolumeInfo};
use crate::device::meter::{Meter, Operation};
use crate::error::{Error, Kind, Result};
use crate::runtime::Ticket;
use crate::types::{BLOCK_U64, Scheme, VolumeId};
use bytes::Bytes;
use std::sync::Arc;

/// A volume of an open array.
#[derive(Clone)]
pub struct Volume {
    engine: Arc<Engine>,
    id: VolumeId,
    name: Arc<str>,
    scheme: Scheme,
    meter: Meter,
}

pub(super) fn whole_blocks(bytes: u64) -> Result<u64> {
    if !bytes.is_multiple_of(BLOCK_U64) {
        let text = format!("{bytes} bytes are no multiple of {BLOCK_U64}");
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(bytes / BLOCK_U64)
}

impl Volume {
    pub(super) fn new(engine: Arc<Engine>, info: VolumeInfo) -> Volume {
        let VolumeInfo { id, name, scheme, .. } = info;
        let meter = engine.meters.of(id.0.into());
        Volume { engine, id, name: name.into(), scheme, meter }
    }

    /// Starts a call that is counted.
    fn start_counted<T, F>(
        &self,
        operation: Operation,
        bytes: usize,
        call: impl FnOnce(Shard) -> F + Send + 'static,
    ) -> Ticket<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let clock = self.engine.clock.clone();
        let tally = self.meter.begin(operation, clock.monotonic());
        self.engine.start(async move |shard: Shard| {
            let done = call(shard).await;
            tally.end(done.as_ref().ok().map(|_| bytes as u64), clock.monotonic());
            done
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`Kind::NotFound`] once it is deleted, [`Kind::Closed`].
    pub fn size(&self) -> Result<u64> {
        settle(self.engine.wait(self.start_size()))
    }

    /// [`Volume::size`] as a future.
    ///
    /// # Errors
    /// As [`Volume::size`].
    pub async fn size_async(&self) -> Result<u64> {
        settle(self.start_size().await)
    }

    fn start_size(&self) -> Ticket<Result<u64>> {
        let id = self.id;
        self.engine.start(async move |shard: Shard| {
            let blocks =
                shard.core().catalog().with(|catalog| catalog.get(id).map(|volume| volume.blocks))?;
            Ok(blocks * BLOCK_U64)
        })
    }

    /// Reads `len` bytes at `offset`, both multiples of 512. What was never written, or trimmed, is zeros.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a misaligned range or one outside the volume; [`Kind::DataLoss`], naming the
    /// first blocks that more damage has hit than the scheme tolerates, also when the range has only a part
    /// of them.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        settle(self.engine.wait(self.start_read(offset, len)))
    }

    /// [`Volume::read`] as a future.
    ///
    /// # Errors
    /// As [`Volume::read`].
    pub async fn read_async(&self, offset: u64, len: usize) -> Result<Bytes> {
        settle(self.start_read(offset, len).await)
    }

    fn start_read(&self, offset: u64, len: usize) -> Ticket<Result<Bytes>> {
        let id = self.id;
        self.start_counted(Operation::Read, len, async move |shard: Shard| {
            shard.read_at(id, offset, len as u64).await
        })
    }

    /// [`Volume::read_async`], in parts that lie somewhere in memory, one behind the other the bytes of the range:
    /// nothing is copied to put them together. For whoever passes them on, to a socket for example.
    ///
    /// # Errors
    /// As [`Volume::read`].
    pub async fn read_parts_async(&self, offset: u64, len: usize) -> Result<Vec<Bytes>> {
        let id = self.id;
        let started = self.start_counted(Operation::Read, len, async move |shard: Shard| {
            shard.read_parts_at(id, offset, len as u64).await
        });
        settle(started.await)
    }

    /// Writes at `offset`; it and the length are multiples of 512, better of 4096: a block that is written in
    /// part is read first. Not durable before a flush. Bytes that lie in memory as they will in their blocks
    /// (for whole blocks: at a multiple of 4096) are not copied.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a misaligned range or one outside the volume, [`Kind::DataLoss`] when a block that
    /// is written in part is lost, [`Kind::NoSpace`], [`Kind::ReadOnly`]. A call longer than 1 MiB may have
    /// been accepted in part.
    pub fn write(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        settle(self.engine.wait(self.start_write(offset, data.into(), false)))
    }

    /// [`Volume::write`] as a future.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub async fn write_async(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        settle(self.start_write(offset, data.into(), false).await)
    }

    /// [`Volume::write`], durable on return, and with it everything accepted before (FUA).
    ///
    /// # Errors
    /// As [`Volume::write`] and [`Volume::flush`].
    pub fn write_durable(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        settle(self.engine.wait(self.start_write(offset, data.into(), true)))
    }

    /// [`Volume::write_durable`] as a future.
    ///
    /// # Errors
    /// As [`Volume::write_durable`].
    pub async fn write_durable_async(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        settle(self.start_write(offset, data.into(), true).await)
    }

    fn start_write(&self, offset: u64, data: Bytes, durable: bool) -> Ticket<Result<()>> {
        let id = self.id;
        // In the caller's thread: copies run beside each other.
        let data = placed(offset, data);
        self.start_counted(Operation::Write, data.len(), async move |shard: Shard| {
            if !data.is_empty() {
                shard.write_at(id, offset, data).await?;
            }
            if durable {
                shard.flush(id).await?;
            }
            Ok(())
        })
    }

    /// Makes a range, of multiples of 512 bytes, read as zeros: one step of the history, whatever its length.
    /// Whole blocks, and blocks that are left with nothing but zeros, give their space free; a block that keeps
    /// other bytes is written with zeros in the range. Not durable before a flush.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn trim(&self, offset: u64, len: u64) -> Result<()> {
        settle(self.engine.wait(self.start_trim(offset, len)))
    }

    /// [`Volume::trim`] as a future.
    ///
    /// # Errors
    /// As [`Volume::trim`].
    pub async fn trim_async(&self, offset: u64, len: u64) -> Result<()> {
        settle(self.start_trim(offset, len).await)
    }

    /// Writes zeros. Zeros take no space: this is [`Volume::trim`], which promises them.
    ///
    /// # Errors
    /// As [`Volume::trim`].
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.trim(offset, len)
    }

    /// [`Volume::write_zeroes`] as a future.
    ///
    /// # Errors
    /// As [`Volume::trim`].
    pub async fn write_zeroes_async(&self, offset: u64, len: u64) -> Result<()> {
        self.trim_async(offset, len).await
    }

    fn start_trim(&self, offset: u64, len: u64) -> Ticket<Result<()>> {
        let id = self.id;
        self.start_counted(Operation::Write, 0, async move |shard: Shard| {
            if len > 0 {
                shard.trim_at(id, offset, len).await?;
            }
            Ok(())
        })
    }

    /// What the bytes from `offset` on are, stored or holes, without reading any of them: neighbours of different
    /// kinds, which reach `len` bytes far, or less far where one call does not tell more; both are multiples of 512.
    /// Zeros that were written are stored; what was never written, or trimmed, is a hole. What the map cannot tell
    /// because it is damaged counts as stored.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a misaligned range or one outside the volume, [`Kind::NotFound`], [`Kind::Closed`].
    pub fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>> {
        settle(self.engine.wait(self.start_extents(offset, len)))
    }

    /// [`Volume::extents`] as a future.
    ///
    /// # Errors
    /// As [`Volume::extents`].
    pub async fn extents_async(&self, offset: u64, len: u64) -> Result<Vec<Extent>> {
        settle(self.start_extents(offset, len).await)
    }

    fn start_extents(&self, offset: u64, len: u64) -> Ticket<Result<Vec<Extent>>> {
        let id = self.id;
        self.engine.start(async move |shard: Shard| shard.extents(id, offset, len).await)
    }

    /// Makes everything durable that was accepted before this call, with full redundancy.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] when too few members are left; then nothing of what is missing is known to be
    /// durable. [`Kind::LostWrites`] when durable writes of the volume are known to be lost, until
    /// [`Array::clear`](super::Array::clear); what else was accepted is durable then.
    pub fn flush(&self) -> Result<()> {
        settle(self.engine.wait(self.start_flush()))
    }

    /// [`Volume::flush`] as a future.
    ///
    /// # Errors
    /// As [`Volume::flush`].
    pub async fn flush_async(&self) -> Result<()> {
        settle(self.start_flush().await)
    }

    fn start_flush(&self) -> Ticket<Result<()>> {
        let id = self.id;
        self.start_counted(Operation::Flush, 0, async move |shard: Shard| shard.flush(id).await.map(|_| ()))
    }

    /// Changes the volume's size to `len` bytes, a multiple of 4096. What is cut off is lost, what is
    /// added reads as zeros. Not durable before a flush.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an impossible size, [`Kind::NoSpace`], [`Kind::ReadOnly`].
    pub fn resize(&self, len: u64) -> Result<()> {
        settle(self.engine.wait(self.start_resize(len)))
    }

    /// [`Volume::resize`] as a future.
    ///
    /// # Errors
    /// As [`Volume::resize`].
    pub async fn resize_async(&self, len: u64) -> Result<()> {
        settle(self.start_resize(len).await)
    }

    fn start_resize(&self, len: u64) -> Ticket<Result<()>> {
        let id = self.id;
        self.engine.start(async move |shard: Shard| shard.resize(id, whole_blocks(len)?).await.map(|_| ()))
    }
}
