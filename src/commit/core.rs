//! The core: one owner of map, open segments and in-flight records. Tasks of one executor share it; each
//! touches a part of its state in a closure, and no borrow outlives an await.

use super::capacity::Limits;
use super::checkpoint::Cut;
use super::moves::{Moves, Touches};
use super::reins::Reins;
use super::room::Supply;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{Checkpoint, EventKind, JobKind};
use crate::format::tables::DamageRecord;
use crate::log::{Buffered, Log};
use crate::map::{Catalog, Known, PageCache, Volume};
use crate::runtime::{Env, Owned, Signal};
use crate::space::Reserves;
use crate::stripe::Stripes;
use crate::types::{Lba, Nonce, Number, Scheme, SegmentId, Sequence, VolumeId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// Limits that are stated at open (rule 11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of accepted writes that wait in memory.
    pub write_buffer: u64,
    /// Bytes of map pages kept in memory.
    pub map_cache: u64,
    /// Entries of the overlay that waits to be merged.
    pub overlay: u64,
    /// How long a member may take for one operation before it counts as failed.
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            write_buffer: 128 << 20,
            map_cache: 256 << 20,
            overlay: 1 << 18,
            deadline: Duration::from_secs(30),
        }
    }
}

/// What memory says of a block.
pub(crate) enum Seen {
    /// Its bytes, which wait in the write buffer.
    Bytes(Bytes),
    /// What the map says of it, as far as it is in memory.
    Known(Known),
}

/// What the writer and the checkpoint are doing.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Someone writes a checkpoint or evicts a member.
    pub busy: bool,
    /// Someone flushes the members for the log.
    pub(super) flushing: bool,
    /// Bytes of records that are being written for the log.
    pub(super) in_flight: u64,
    /// No new records: a member is being evicted.
    pub(super) halted: bool,
    /// The array takes no more writes, and why.
    pub(super) failed: Option<Error>,
    /// The array is being closed: jobs come to their end.
    pub(super) closing: bool,
    /// A job works on the segments.
    pub(super) maintaining: bool,
    /// Someone gives columns to segments, or takes a member back that may have some.
    filling: bool,
    /// Which one, if it is a long one.
    pub(super) job: Option<JobKind>,
    /// How jobs are held, by their kinds.
    pub(super) reins: BTreeMap<JobKind, Reins>,
    /// Someone makes all metadata stronger.
    pub(super) raising: bool,
    /// The array was closed.
    pub(super) closed: bool,
    /// Checkpoints written since the array was opened.
    pub checkpoints: u64,
    /// Members evicted since the array was opened.
    pub evictions: u64,
    /// Rebuilds that found work and left none since the array was opened.
    pub rebuilds: u64,
    /// Times that all metadata was made stronger since the array was opened.
    pub raises: u64,
    /// User bytes accepted since the array was opened.
    pub accepted: u64,
    /// Blocks that the cleaner moved since the array was opened.
    pub moved_blocks: u64,
    /// Segments that the cleaner emptied and whose chunks are free again.
    pub cleaned_segments: u64,
}

/// Where the segment table's and the checkpoint's own records go.
#[derive(Clone, Debug, Default)]
pub(super) struct MetaStream {
    pub(super) segment: Option<SegmentId>,
}

/// How far the history of each volume is durable, and its size then.
type Heads = BTreeMap<VolumeId, (Number, u64)>;

/// An open array.
pub struct Core {
    pub(super) env: Env,
    pub(super) stripes: Stripes,
    pub(super) log: Owned<Log>,
    pub(super) catalog: Owned<Catalog>,
    pub(super) cache: Owned<PageCache>,
    pub(super) progress: Owned<Progress>,
    pub(super) meta: Owned<[MetaStream; 2]>,
    /// Something changed that somebody may wait for.
    pub(super) changed: Signal,
    /// The members in use changed, or the array is closing.
    pub(super) reformed: Signal,
    pub(super) config: Config,
    pub(super) nonce: Nonce,
    pub(super) limits: Owned<Limits>,
    /// How strong new pages are: as strong as the superblock says of all, or stronger.
    pub(super) target: Owned<Scheme>,
    /// Who waits for room and who makes it.
    pub(super) supply: Owned<Supply>,
    /// What the cleaner has under way.
    pub(super) moves: Owned<Moves>,
    /// Pages that the next checkpoint writes anew.
    pub(super) touches: Owned<Touches>,
    /// Segments that the log had entered when the array was opened, until the checkpoint of the opening is durable.
    pub(super) recovered: Owned<BTreeSet<SegmentId>>,
    /// What the checkpoint being written covers; kept when an attempt fails.
    pub(super) cut: Owned<Option<Cut>>,
    pub(super) read_only: bool,
}

impl Core {
    /// Redundancy, and what it did.
    pub fn stripes(&self) -> &Stripes {
        &self.stripes
    }

    /// The volumes.
    pub fn catalog(&self) -> &Owned<Catalog> {
        &self.catalog
    }

    /// What the writer did.
    pub fn progress(&self) -> Progress {
        self.progress.with(|progress| progress.clone())
    }

    /// The ports of time and chance.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Whether writes are refused, and why.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`], [`Kind::Closed`], or what made the array fail.
    pub fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(Kind::ReadOnly, "the array is open for reading only"));
        }
        self.progress.with(|progress| match (&progress.failed, progress.closed) {
            (Some(error), _) => Err(error.clone()),
            (None, true) => Err(Error::new(Kind::Closed, "the array is closed")),
            (None, false) => Ok(()),
        })
    }

    pub(super) fn fail(&self, error: &Error) {
        self.progress.with(|progress| {
            progress.failed.get_or_insert_with(|| error.clone());
        });
        self.changed.notify_all();
        self.reformed.notify_all();
    }

    /// The scheme of a volume's stream.
    pub(crate) fn scheme(&self, volume: VolumeId) -> Result<Scheme> {
        self.catalog.with(|catalog| catalog.get(volume).map(|volume| volume.scheme))
    }

    /// The turn to write a checkpoint or to evict: one at a time.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            let listen = self.changed.listen();
            if self.progress.with(|progress| !std::mem::replace(&mut progress.busy, true)) {
                return Turn(self);
            }
            listen.await;
        }
    }

    /// What memory says of consecutive blocks of a volume, the first of them at `lba`: the write buffer, else the map
    /// as far as it is in memory.
    pub(crate) fn look(&self, scheme: Scheme, volume: VolumeId, lba: Lba, blocks: usize) -> Vec<Seen> {
        let known = self.catalog.with(|catalog| catalog.look(volume, lba, blocks));
        let buffered = self.log.with(|log| log.look(scheme, volume, lba, blocks));
        let seen = |(known, buffered)| match buffered {
            Some(Buffered::Data(bytes)) => Seen::Bytes(bytes),
            Some(Buffered::Hole) => Seen::Known(Known::Hole),
            None => Seen::Known(known),
        };
        known.into_iter().zip(buffered).map(seen).collect()
    }

    /// The first block of a range that is in memory, written and not in the tree yet.
    pub(crate) fn first_in_memory(&self, scheme: Scheme, volume: VolumeId, range: Range<Lba>) -> Option<Lba> {
        let buffered = self.log.with(|log| log.first_written(scheme, volume, range.clone()));
        let mapped = self.catalog.with(|catalog| catalog.first_mapped(volume, range));
        buffered.into_iter().chain(mapped).min()
    }

    /// A read may have made a suspect of a member: the writer evicts it.
    pub(crate) fn wake_for_suspects(&self) {
        if !self.read_only && self.stripes.pool.has_suspects() {
            self.changed.notify_all();
        }
    }

    /// Something changed that somebody may wait for.
    pub(crate) fn changed(&self) -> &Signal {
        &self.changed
    }

    /// The scheme of new pages.
    pub(super) fn meta_scheme(&self) -> Scheme {
        self.target.with(|target| *target)
    }

    /// Where the log goes on.
    pub(crate) fn next_sequence(&self) -> Sequence {
        self.log.with(|log| log.next_sequence())
    }

    /// What is kept free.
    pub(crate) fn reserves(&self) -> Reserves {
        self.limits.with(|limits| limits.reserves)
    }

    /// Whether nothing that was durable in a volume is known to be lost, or all of that is acknowledged.
    ///
    /// # Errors
    /// [`Kind::LostWrites`].
    pub(crate) fn check_losses(&self, volume: VolumeId) -> Result<()> {
        self.catalog.with(|catalog| {
            let Some((first, count)) = catalog.damage.lost_writes(volume) else { return Ok(()) };
            let name = &catalog.get(volume)?.name;
            let text = format!(
                "at least {count} writes, trims or resizes of volume '{name}', from number {first} on, are lost with \
                 the records that held them, or may be, because who could tell was away; what they changed is as it \
                 was before. `paritas clear`, or Array::clear, acknowledges this"
            );
            Err(Error::new(Kind::LostWrites { volume }, text))
        })
    }

    /// Why a flush failed, and what it leaves in doubt. It stays so until the array is opened anew, because
    /// nothing is accepted any more: the volume then goes on from what is durable, as after a crash.
    pub(crate) fn unflushed(&self, volume: VolumeId, error: Error) -> Error {
        self.catalog.with(|catalog| match catalog.get(volume) {
            Ok(Volume { name, durable, issued, .. }) if durable < issued => error.context(&format!(
                "volume '{name}' is durable up to number {durable}, what was accepted since, up to number \
                 {issued}, is not"
            )),
            _ => error,
        })
    }

    /// Acknowledges the recorded damage, and zeroes the error counts of the members: flushes no longer fail for
    /// what is lost, and lost blocks stay lost until they are written anew: who reads one lists it again.
    /// Durable on return. Returns what was acknowledged.
    ///
    /// # Errors
    /// When it could not be made durable: then the damage is recorded as before.
    pub async fn clear(&self) -> Result<Vec<DamageRecord>> {
        self.writable()?;
        let cleared = self.catalog.with(|catalog| catalog.damage.clear());
        self.stripes.pool.forget_errors();
        let entries = cleared.len() as u64;
        self.stripes.pool.note(EventKind::DamageCleared, |event| event.amounting_to(entries));
        let durable = self.checkpoint().await;
        if durable.is_err() {
            self.catalog.with(|catalog| cleared.iter().for_each(|record| catalog.damage.record(*record)));
        }
        durable.map(|()| cleared)
    }

    /// Flushes everything, writes a last checkpoint and stops the writer and the cleaner.
    ///
    /// # Errors
    /// When something accepted could not be made durable.
    pub async fn close(&self) -> Result<()> {
        self.progress.with(|progress| progress.closing = true);
        self.reformed.notify_all();
        let _maintenance = self.maintenance().await;
        let mut settled = None;
        if !self.read_only {
            self.rest(true).await;
            match self.settle_all().await {
                Ok(heads) => settled = Some(heads),
                Err(error) => {
                    self.rest(false).await;
                    return Err(error);
                }
            }
        }
        self.progress.with(|progress| progress.closed = true);
        self.changed.notify_all();
        if let Some(heads) = settled {
            self.mark_closed(heads).await;
        }
        Ok(())
    }

    /// Makes everything durable and commits it. Returns what the checkpoint covers, or less.
    async fn settle_all(&self) -> Result<Heads> {
        self.flush_all().await?;
        let heads = self.heads();
        self.checkpoint().await?;
        Ok(heads)
    }

    /// How far each volume's history is durable, and its size then.
    fn heads(&self) -> Heads {
        self.catalog.with(|catalog| {
            catalog.iter().map(|(id, volume)| (id, (volume.durable, volume.durable_blocks))).collect()
        })
    }

    /// Nothing more is accepted. If the last checkpoint covers everything, the superblocks say so: the next opening
    /// needs no log, nor anybody to answer for its end.
    async fn mark_closed(&self, covered: Heads) {
        let _turn = self.turn().await;
        if !self.log.with(|log| log.is_empty()) || self.heads() != covered {
            return;
        }
        let last = self.stripes.pool.superblock().checkpoint;
        // Where it is not durable the next opening looks for a log, and finds none.
        let _unmarked = self.stripes.pool.publish(Some(Checkpoint { nonce: Nonce::NONE, ..last })).await;
    }

    /// The right to work on the segments in the background: one job at a time.
    pub(crate) async fn maintenance(&self) -> Maintenance<'_> {
        loop {
            let listen = self.changed.listen();
            if self.progress.with(|progress| !std::mem::replace(&mut progress.maintaining, true)) {
                return Maintenance(self);
            }
            listen.await;
        }
    }

    /// The right to give columns to segments, which a rebuild has for some of them at a time, or to take a member back:
    /// a column that is being made anew elsewhere must not come back meanwhile.
    pub(crate) async fn filling(&self) -> Filling<'_> {
        loop {
            let listen = self.changed.listen();
            if self.progress.with(|progress| !std::mem::replace(&mut progress.filling, true)) {
                return Filling(self);
            }
            listen.await;
        }
    }

    /// Jobs are to end where they are: the array is being closed, or has failed.
    pub(crate) fn is_ending(&self) -> bool {
        self.progress.with(|progress| progress.closing) || self.writable().is_err()
    }

    /// A rebuild found work and left none.
    pub(crate) fn note_rebuilt(&self, written: u64) {
        self.stripes.pool.note(EventKind::Rebuilt, |event| event.amounting_to(written));
        self.progress.with(|progress| progress.rebuilds += 1);
    }

    /// Resolves when the members in use have changed, or the array is being closed.
    pub(crate) fn reformed(&self) -> crate::runtime::Listen {
        self.reformed.listen()
    }

    /// The number known durable, to be told in records.
    pub(super) fn durable(&self, volume: VolumeId) -> Number {
        self.catalog.with(|catalog| catalog.get(volume).map_or(Number(0), |volume| volume.durable))
    }
}

/// See [`Core::maintenance`].
pub(crate) struct Maintenance<'a>(&'a Core);

impl Drop for Maintenance<'_> {
    fn drop(&mut self) {
        self.0.progress.with(|progress| progress.maintaining = false);
        self.0.changed.notify_all();
    }
}

/// See [`Core::filling`].
pub(crate) struct Filling<'a>(&'a Core);

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.progress.with(|progress| progress.filling = false);
        self.0.changed.notify_all();
    }
}

pub(super) struct Turn<'a>(&'a Core);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.progress.with(|progress| progress.busy = false);
        self.0.changed.notify_all();
    }
}
