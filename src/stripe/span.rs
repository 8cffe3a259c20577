//! Consecutive blocks of a column, unverified, as the rest of this folder gets them from members; and reads that take
//! too long: what they were for is reconstructed from other members before anyone waits any longer.
//!
//! Invariants:
//! - Nothing is lost by it: where the others do not suffice, whoever reads waits for the late ones after all.
//! - A late read is never forgotten. If nobody waits for it, a task of its own does, so that a member which does not
//!   answer at all is still given up.
//! - At most [`LATE_MAX`] reads are late at a time. Beyond that everybody waits for their member: an array that is slow
//!   as a whole is not made slower by more reads.

use super::{Stripes, View};
use crate::device::{DeviceError, Pending, read_full};
use crate::format::superblock::ChunkAddress;
use crate::pool::{Fault, Pool};
use crate::runtime::{Env, Owned, Sleep};
use crate::types::{BLOCK, Column, Row, Slot};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a read may take before it is late: more than a busy disk needs, less than a person notices.
const PATIENCE: Duration = Duration::from_millis(200);
/// Late reads at a time.
const LATE_MAX: u32 = 32;

/// Who waits, and how many late reads there are.
pub(super) struct Hedge {
    env: Env,
    late: Arc<Owned<u32>>,
}

impl Hedge {
    pub(super) fn new(env: Env) -> Hedge {
        Hedge { env, late: Arc::new(Owned::new(0)) }
    }
}

/// Consecutive blocks of a column, unverified, or the read of them that is late.
pub(super) enum Prompt {
    Answered(Vec<Option<Bytes>>),
    Late(Late),
}

/// A read that takes too long. Dropping it leaves it to a task of its own.
pub(super) struct Late {
    /// `None` once somebody waits for it.
    read: Option<Pending<Bytes>>,
    slot: Slot,
    column: Column,
    first: Row,
    count: usize,
    pool: Arc<Pool>,
    env: Env,
    late: Arc<Owned<u32>>,
}

impl Drop for Late {
    fn drop(&mut self) {
        self.late.with(|late| *late -= 1);
        let Some(read) = self.read.take() else { return };
        let (pool, slot) = (self.pool.clone(), self.slot);
        self.env.spawner.spawn(async move {
            if let Err(error) = read.await {
                blame(&pool, slot, &error);
            }
        });
    }
}

/// A read failed. A member on which one hangs is given up: the next would only hang again.
fn blame(pool: &Pool, slot: Slot, error: &DeviceError) {
    pool.charge(slot, Fault::Read);
    if *error == DeviceError::Hangs {
        pool.give_up(slot);
    }
}

impl Stripes {
    /// Consecutive blocks of a column, unverified, as [`Stripes::span`] reads them, unless that takes too long.
    pub(super) async fn prompt_span(&self, view: &View, column: Column, first: Row, count: usize) -> Prompt {
        let nothing = vec![None; count];
        let Some(address) = view.columns[usize::from(column.0)] else { return Prompt::Answered(nothing) };
        let Some((device, offset)) = self.locate_to_read(address, first, count) else {
            return Prompt::Answered(nothing);
        };
        let read = device.read(offset, count * BLOCK);
        let has_others = view.scheme.m() > 0;
        let outcome = match has_others && self.hedge.late.with(|late| *late < LATE_MAX) {
            true => Race { read: Some(read), limit: self.hedge.env.clock.sleep(PATIENCE) }.await,
            false => Ok(read.await),
        };
        match outcome {
            Ok(answer) => Prompt::Answered(self.accept(view, column, first, count, answer).await),
            Err(read) => {
                let Hedge { env, late } = &self.hedge;
                late.with(|late| *late += 1);
                let (pool, env, late) = (self.pool.clone(), env.clone(), late.clone());
                let (read, slot) = (Some(read), address.slot);
                Prompt::Late(Late { read, slot, column, first, count, pool, env, late })
            }
        }
    }

    /// Waits for a late read after all.
    pub(super) async fn wait_for(&self, view: &View, mut late: Late) -> Vec<Option<Bytes>> {
        let answer = late.read.take().expect("nobody else waits for it").await;
        self.accept(view, late.column, late.first, late.count, answer).await
    }

    /// What a read of blocks answered; where it does not have all of them, they are read again, one by one if need be.
    async fn accept(
        &self,
        view: &View,
        column: Column,
        first: Row,
        count: usize,
        answer: Result<Bytes, DeviceError>,
    ) -> Vec<Option<Bytes>> {
        match answer {
            Ok(bytes) if bytes.len() == count * BLOCK => split(&bytes, count),
            Ok(_short) => self.span(view, column, first, count).await,
            Err(error) => match view.columns[usize::from(column.0)] {
                Some(address) => self.scattered(address, first, count, &error).await,
                None => vec![None; count],
            },
        }
    }

    /// Consecutive blocks of a column, unverified; block by block where the whole cannot be read.
    pub(super) async fn span(
        &self,
        view: &View,
        column: Column,
        first: Row,
        count: usize,
    ) -> Vec<Option<Bytes>> {
        let nothing = vec![None; count];
        let Some(address) = view.columns[usize::from(column.0)] else { return nothing };
        let Some((device, offset)) = self.locate_to_read(address, first, count) else { return nothing };
        match read_full(device.as_ref(), offset, count * BLOCK).await {
            Ok(bytes) => split(&bytes, count),
            Err(error) => self.scattered(address, first, count, &error).await,
        }
    }

    /// Blocks one by one, as they could not be read at once.
    async fn scattered(
        &self,
        address: ChunkAddress,
        first: Row,
        count: usize,
        error: &DeviceError,
    ) -> Vec<Option<Bytes>> {
        self.blame_read(address.slot, error);
        let mut blocks = vec![None; count];
        for (row, block) in (first.0..).map(Row).zip(&mut blocks) {
            let Some((device, offset)) = self.locate_to_read(address, row, 1) else { break };
            *block = read_full(device.as_ref(), offset, BLOCK).await.ok();
        }
        blocks
    }

    /// A read failed. A member on which one hangs is given up: the next would only hang again.
    pub(super) fn blame_read(&self, slot: Slot, error: &DeviceError) {
        blame(&self.pool, slot, error);
    }
}

/// The blocks of a read.
fn split(bytes: &Bytes, count: usize) -> Vec<Option<Bytes>> {
    (0..count).map(|index| Some(bytes.slice(index * BLOCK..(index + 1) * BLOCK))).collect()
}

/// A read against its limit: its answer, or else the read itself.
struct Race {
    /// `None` when it is over.
    read: Option<Pending<Bytes>>,
    limit: Sleep,
}

impl Future for Race {
    type Output = Result<Result<Bytes, DeviceError>, Pending<Bytes>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let read = self.read.as_mut().expect("not polled again when it is over");
        if let Poll::Ready(answer) = read.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        match self.limit.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(self.read.take().expect("just seen"))),
            Poll::Pending => Poll::Pending,
        }
    }
}
