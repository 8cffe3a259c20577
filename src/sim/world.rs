//! The events of a simulated run, one at a time: operations of all disks, timers, crashes.
//!
//! Invariants:
//! - Every choice is drawn from `rng`, in an order that only the calls determine: one seed, one history.
//! - An operation is in exactly one of `ready` and `waiting` until it completes or a crash forgets it.
//! - Nothing here wakes a task: answers leave as an [`Event`], so that a waker finds the world unborrowed.

use super::cast::Cast;
use super::fault::{Fault, FaultPlan, Nth, Op};
use super::media::{Media, SECTOR, tear};
use super::rng::Rng;
use super::timers::Timers;
use crate::device::{Aligned, DeviceError};
use crate::runtime::Completer;
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest that an operation takes which [`Fault::Slow`] struck.
const SLOW_MAX: Duration = Duration::from_secs(10);
/// The longest that any other takes beside those that complete before it.
const LATENCY_MAX: Duration = Duration::from_micros(200);

/// Seconds by which a clock may be wrong.
const SKEW_MAX: u64 = 1 << 28;

type Answer<T> = Completer<Result<T, DeviceError>>;

/// What a disk is asked.
pub(super) enum Request {
    Read { offset: u64, len: usize, answer: Answer<Bytes> },
    Write { offset: u64, pieces: Vec<Bytes>, answer: Answer<usize> },
    Flush { mark: u64, answer: Answer<()> },
}

impl Request {
    /// Where it is; a flush is everywhere.
    fn offset(&self) -> u64 {
        match self {
            Request::Read { offset, .. } | Request::Write { offset, .. } => *offset,
            Request::Flush { .. } => 0,
        }
    }

    fn op(&self) -> Op {
        match self {
            Request::Read { .. } => Op::Read,
            Request::Write { .. } => Op::Write,
            Request::Flush { .. } => Op::Flush,
        }
    }
}

struct Operation {
    id: u64,
    disk: usize,
    /// It fails because it is the n-th.
    fails: bool,
    /// When it may complete, if it is not ready. `None`: not before the disk is un-hung.
    due: Option<Duration>,
    /// The disk was gone, or frozen, at some moment since the submission.
    doomed: bool,
    request: Request,
}

/// What happened, to be told once the world is no longer borrowed.
pub(super) enum Event {
    Read(Answer<Bytes>, Result<Bytes, DeviceError>),
    Write(Answer<usize>, Result<usize, DeviceError>),
    Flush(Answer<()>, Result<(), DeviceError>),
    Timer(Completer<()>),
}

impl Event {
    pub(super) fn tell(self) {
        match self {
            Event::Read(answer, result) => answer.complete(result),
            Event::Write(answer, result) => answer.complete(result),
            Event::Flush(answer, result) => answer.complete(result),
            Event::Timer(answer) => answer.complete(()),
        }
    }
}

/// How a crash ends operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    Power,
    Process,
}

pub(super) struct Disk {
    pub(super) blocks: u64,
    pub(super) media: Media,
    pub(super) plan: FaultPlan,
    /// Blocks that cannot be read until they are rewritten.
    pub(super) latent: BTreeSet<u64>,
    /// Faults that strike the next operation they can strike.
    pub(super) armed: BTreeMap<Fault, u32>,
    pub(super) gone: bool,
    pub(super) full: bool,
    pub(super) hung: bool,
    /// It lost its power before the others: nothing that it is asked from then on reaches it.
    frozen: bool,
    /// Bytes that were read.
    pub(super) read: u64,
    /// Operations that were submitted.
    pub(super) submitted: BTreeMap<Op, u64>,
    /// Those that fail by their number.
    pub(super) nth: Option<Nth>,
}

impl Disk {
    /// Counts an operation; whether it is one that fails.
    fn is_nth(&mut self, op: Op) -> bool {
        *self.submitted.entry(op).or_default() += 1;
        let Some(nth) = self.nth.filter(|nth| nth.op.is_none_or(|kind| kind == op)) else { return false };
        let counted = self.submitted.iter().filter(|(kind, _)| nth.op.is_none_or(|op| op == **kind));
        let number = counted.map(|(_, count)| count).sum::<u64>() - 1;
        number.checked_sub(nth.from).is_some_and(|at| at < nth.times)
    }
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Duration,
    /// What the clock on the wall is ahead by.
    pub(super) skew: u64,
    /// The chance, in a million steps, that a timer fires though operations are pending.
    pub(super) early_timers: u64,
    pub(super) disks: Vec<Disk>,
    pub(super) counts: BTreeMap<Fault, u64>,
    pub(super) refused: u64,
    pub(super) cast: Cast,
    trace: Trace,
    timers: Timers,
    ready: Vec<Operation>,
    waiting: Vec<Operation>,
    submitted: u64,
}

impl World {
    pub(super) fn new(rng: Rng) -> World {
        World {
            rng,
            now: Duration::ZERO,
            skew: 0,
            early_timers: 20_000,
            disks: Vec::new(),
            counts: BTreeMap::new(),
            refused: 0,
            cast: Cast::default(),
            trace: Trace(0),
            timers: Timers::default(),
            ready: Vec::new(),
            waiting: Vec::new(),
            submitted: 0,
        }
    }

    pub(super) fn add_disk(&mut self, blocks: u64) -> usize {
        self.disks.push(Disk {
            blocks,
            media: Media::default(),
            plan: FaultPlan::none(),
            latent: BTreeSet::new(),
            armed: BTreeMap::new(),
            gone: false,
            full: false,
            hung: false,
            frozen: false,
            read: 0,
            submitted: BTreeMap::new(),
            nth: None,
        });
        self.disks.len() - 1
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.0
    }

    pub(super) fn pending(&self) -> usize {
        self.ready.len() + self.waiting.len()
    }

    /// Whether nothing is under way on a disk.
    pub(super) fn is_idle(&self, disk: usize) -> bool {
        self.ready.iter().chain(&self.waiting).all(|operation| operation.disk != disk)
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
        self.trace.mix(&[0xFA, fault as u64]);
    }

    pub(super) fn sleep(&mut self, duration: Duration, answer: Completer<()>) {
        self.timers.set(self.now, duration, answer);
    }

    pub(super) fn submit(&mut self, disk: usize, request: Request) {
        let id = self.submitted;
        self.submitted += 1;
        self.trace.submitted(id, disk, &request);
        let Disk { gone, hung, frozen, .. } = self.disks[disk];
        let fails = self.disks[disk].is_nth(request.op());
        let mut operation =
            Operation { id, disk, fails, due: Some(self.now), doomed: gone || frozen, request };
        if gone {
            self.ready.push(operation);
            return;
        }
        let offset = operation.request.offset();
        if self.strikes(disk, Fault::Hang, offset) {
            operation.due = None;
        } else if self.strikes(disk, Fault::Slow, offset) {
            operation.due = Some(self.now + self.up_to(SLOW_MAX));
        }
        if hung || operation.due != Some(self.now) {
            self.waiting.push(operation);
        } else {
            self.ready.push(operation);
        }
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.below(u64::try_from(most.as_micros()).expect("seconds")))
    }

    /// Lets the next thing happen. `None` if nothing is left that can.
    pub(super) fn step(&mut self) -> Option<Event> {
        loop {
            let next_timer = self.timers.next();
            let next_due = self.waiting.iter().filter_map(|operation| self.due(operation)).min();
            let wake = next_timer.into_iter().chain(next_due).min();
            let idle = self.ready.is_empty();
            let Some(wake) = wake.filter(|wake| idle || *wake <= self.now || self.early()) else {
                return if idle { None } else { Some(self.complete_any()) };
            };
            self.now = self.now.max(wake);
            self.release_due();
            if next_timer == Some(wake) {
                let (deadline, answer) = self.timers.take();
                self.trace.mix(&[0x71, u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX)]);
                return Some(Event::Timer(answer));
            }
        }
    }

    fn early(&mut self) -> bool {
        self.rng.chance(self.early_timers, 1_000_000)
    }

    fn due(&self, operation: &Operation) -> Option<Duration> {
        operation.due.filter(|_| !self.disks[operation.disk].hung)
    }

    /// Moves operations whose time has come to the ready ones.
    fn release_due(&mut self) {
        let mut index = 0;
        while let Some(operation) = self.waiting.get(index) {
            if self.due(operation).is_some_and(|due| due <= self.now) {
                let operation = self.waiting.remove(index);
                self.ready.push(operation);
            } else {
                index += 1;
            }
        }
    }

    /// Holds every operation of a disk back.
    pub(super) fn hang(&mut self, disk: usize) {
        self.count(Fault::Hang);
        self.hold(disk);
    }

    fn hold(&mut self, disk: usize) {
        self.disks[disk].hung = true;
        let (held, ready) = std::mem::take(&mut self.ready).into_iter().partition(|op| op.disk == disk);
        self.ready = ready;
        self.waiting.extend::<Vec<Operation>>(held);
    }

    /// The operations of a disk that hang complete after all.
    pub(super) fn complete_late(&mut self, disk: usize) {
        let now = self.now;
        let hanging =
            self.waiting.iter_mut().filter(|operation| operation.disk == disk && operation.due.is_none());
        let count = hanging.map(|operation| operation.due = Some(now)).count();
        (0..count).for_each(|_| self.count(Fault::Late));
    }

    /// Lets the operations of a disk go on that were held back; slow ones too.
    pub(super) fn release(&mut self, disk: usize) {
        self.disks[disk].hung = false;
        let (released, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|op| op.disk == disk);
        self.waiting = waiting;
        self.ready.extend::<Vec<Operation>>(released);
    }

    /// Takes a disk away: every operation fails, pending ones too, of which any part may have been stored.
    pub(super) fn vanish(&mut self, disk: usize) {
        self.count(Fault::Vanish);
        self.cast.tell(|| format!("disk {disk} vanishes"));
        self.release(disk);
        self.disks[disk].gone = true;
        let mut ready = std::mem::take(&mut self.ready);
        self.doom(disk, &mut ready);
        self.ready = ready;
    }

    /// The power of a disk fails before the others': nothing completes any more, nothing else reaches it until all have
    /// failed.
    pub(super) fn freeze(&mut self, disk: usize) {
        self.count(Fault::Freeze);
        self.cast.tell(|| format!("disk {disk} loses its power before the others"));
        self.hold(disk);
        self.disks[disk].frozen = true;
        let mut waiting = std::mem::take(&mut self.waiting);
        self.doom(disk, &mut waiting);
        self.waiting = waiting;
        self.lose_power(disk);
    }

    /// Ends a disk's operations, of which any part may have been stored.
    fn doom(&mut self, disk: usize, operations: &mut [Operation]) {
        for operation in operations.iter_mut().filter(|operation| operation.disk == disk && !operation.doomed)
        {
            operation.doomed = true;
            self.interrupt(operation);
        }
    }

    /// Whether `fault` strikes an operation at `offset` now: on purpose or by chance.
    fn strikes(&mut self, disk: usize, fault: Fault, offset: u64) -> bool {
        let Disk { armed, plan, .. } = &mut self.disks[disk];
        let on_purpose = armed.get_mut(&fault).filter(|left| **left > 0).map(|left| *left -= 1).is_some();
        let per_million = plan.per_million(fault);
        let drawn = on_purpose || (per_million > 0 && self.rng.chance(u64::from(per_million), 1_000_000));
        let strikes = drawn && self.cast.lets(disk, fault);
        if strikes {
            self.count(fault);
            self.cast.tell(|| format!("disk {disk}: {} at block {}", fault.name(), offset / BLOCK_U64));
        }
        strikes
    }

    /// Whether an operation fails with this: because it is the n-th, on purpose, or by chance.
    fn fails(&mut self, disk: usize, is_nth: bool, fault: Fault, offset: u64) -> bool {
        if is_nth {
            self.count(fault);
        }
        is_nth || self.strikes(disk, fault, offset)
    }

    fn complete_any(&mut self) -> Event {
        let index = self.rng.index(self.ready.len());
        let Operation { id, disk, fails, doomed, request, .. } = self.ready.swap_remove(index);
        let latency = self.up_to(LATENCY_MAX);
        self.now += latency;
        let event = match request {
            Request::Read { answer, .. } if doomed => Event::Read(answer, Err(DeviceError::Gone)),
            Request::Write { answer, .. } if doomed => Event::Write(answer, Err(DeviceError::Gone)),
            Request::Flush { answer, .. } if doomed => Event::Flush(answer, Err(DeviceError::Gone)),
            Request::Read { offset, len, answer } => Event::Read(answer, self.read(disk, offset, len, fails)),
            Request::Write { offset, pieces, answer } => {
                Event::Write(answer, self.write(disk, offset, &pieces, fails))
            }
            Request::Flush { mark, answer } => Event::Flush(answer, self.flush(disk, mark, fails)),
        };
        self.trace.completed(id, &event);
        event
    }

    fn read(&mut self, disk: usize, offset: u64, len: usize, fails: bool) -> Result<Bytes, DeviceError> {
        if self.fails(disk, fails, Fault::ReadError, offset) {
            return Err(DeviceError::Io("read failed".into()));
        }
        let blocks = offset / BLOCK_U64..(offset + bytes(len)) / BLOCK_U64;
        if len > 0 && self.strikes(disk, Fault::LatentError, offset) {
            let block = self.rng.range(blocks.clone());
            self.disks[disk].latent.insert(block);
        }
        if let Some(block) = self.disks[disk].latent.range(blocks).next() {
            return Err(DeviceError::Io(format!("block {block} is unreadable")));
        }
        let short = len > 0 && self.strikes(disk, Fault::ShortRead, offset);
        let len = if short { self.rng.index(len / SECTOR) * SECTOR } else { len };
        let content = if self.strikes(disk, Fault::StaleRead, offset) {
            let mut buffer = Aligned::with_capacity(len);
            self.disks[disk].media.read_previous(offset, len, |piece| buffer.push(piece));
            buffer.freeze()
        } else {
            let misdirected = self.strikes(disk, Fault::MisdirectedRead, offset);
            let offset = if misdirected { self.elsewhere(disk, offset, len) } else { offset };
            self.disks[disk].media.read_aligned(offset, len)
        };
        let unstable = len > 0 && self.strikes(disk, Fault::UnstableRead, offset);
        let content = if unstable { self.flipped(&content) } else { content };
        self.disks[disk].read += bytes(len);
        Ok(content)
    }

    /// The same, but for a few bits.
    fn flipped(&mut self, content: &[u8]) -> Bytes {
        let mut flipped = Aligned::copy_of(content);
        for _ in 0..=self.rng.below(8) {
            flipped.as_mut()[self.rng.index(content.len())] ^= 1 << self.rng.below(8);
        }
        flipped.freeze()
    }

    fn write(
        &mut self,
        disk: usize,
        offset: u64,
        pieces: &[Bytes],
        fails: bool,
    ) -> Result<usize, DeviceError> {
        let total = pieces.iter().map(Bytes::len).sum();
        if self.disks[disk].full {
            self.count(Fault::NoSpace);
            return Err(DeviceError::NoSpace);
        }
        if self.strikes(disk, Fault::NoSpace, offset) {
            return Err(DeviceError::NoSpace);
        }
        if self.fails(disk, fails, Fault::WriteError, offset) {
            self.store_interrupted(disk, offset, pieces);
            return Err(DeviceError::Io("write failed".into()));
        }
        if self.strikes(disk, Fault::LostWrite, offset) {
            return Ok(total);
        }
        let misdirected = self.strikes(disk, Fault::MisdirectedWrite, offset);
        let offset = if misdirected { self.elsewhere(disk, offset, total) } else { offset };
        if total > 0 && self.strikes(disk, Fault::ShortWrite, offset) {
            let written = self.rng.index(total / SECTOR) * SECTOR;
            self.store(disk, offset, &Bytes::from(pieces.concat()).slice(..written));
            return Ok(written);
        }
        let mut at = offset;
        for piece in pieces {
            self.store(disk, at, piece);
            at += bytes(piece.len());
        }
        Ok(total)
    }

    fn flush(&mut self, disk: usize, mark: u64, fails: bool) -> Result<(), DeviceError> {
        if self.fails(disk, fails, Fault::FlushError, 0) {
            self.disks[disk].media.fail_flush(mark, &mut self.rng);
            return Err(DeviceError::Io("flush failed".into()));
        }
        if !self.strikes(disk, Fault::LyingFlush, 0) {
            self.disks[disk].media.flush(mark);
        }
        Ok(())
    }

    /// Whole blocks that are written can be read again.
    fn store(&mut self, disk: usize, offset: u64, content: &Bytes) {
        let disk = &mut self.disks[disk];
        disk.media.write(offset, content);
        if !disk.latent.is_empty() {
            let end = (offset + bytes(content.len())) / BLOCK_U64;
            disk.latent.retain(|block| !(offset.div_ceil(BLOCK_U64)..end).contains(block));
        }
    }

    /// Whatever becomes of a write that will not complete.
    fn interrupt(&mut self, operation: &Operation) {
        if let Request::Write { offset, pieces, .. } = &operation.request {
            self.store_interrupted(operation.disk, *offset, pieces);
        }
    }

    /// Stores the whole, a part or nothing of a write.
    fn store_interrupted(&mut self, disk: usize, offset: u64, pieces: &[Bytes]) {
        let new = Bytes::from(pieces.concat());
        if new.is_empty() {
            return;
        }
        match self.rng.below(3) {
            0 => {}
            1 => self.store(disk, offset, &new),
            _ => {
                let mut content = Vec::with_capacity(new.len());
                self.disks[disk].media.read(offset, new.len(), |piece| content.extend_from_slice(piece));
                tear(&mut self.rng, &mut content, &new);
                self.store(disk, offset, &content.into());
                self.count(Fault::Torn);
            }
        }
    }

    /// Another place of the disk for `len` bytes: near, or where something was written.
    fn elsewhere(&mut self, disk: usize, offset: u64, len: usize) -> u64 {
        let Disk { blocks, media, .. } = &self.disks[disk];
        let last = blocks - bytes(len.div_ceil(BLOCK));
        let here = offset / BLOCK_U64;
        let used: Vec<u64> = media.used().into_iter().filter(|block| *block <= last).collect();
        let place = if used.is_empty() || self.rng.chance(1, 2) {
            self.rng.range(here.saturating_sub(64)..last.min(here + 64) + 1)
        } else {
            used[self.rng.index(used.len())]
        };
        let place = match place {
            place if place != here => place,
            _ if here < last => here + 1,
            _ => here.saturating_sub(1),
        };
        place * BLOCK_U64
    }

    /// A crash of everything: pending operations never complete. They are returned
    /// so that the caller drops them once the world is no longer borrowed.
    pub(super) fn crash(&mut self, crash: Crash) -> impl Sized + use<> {
        let mut forgotten = std::mem::take(&mut self.ready);
        forgotten.append(&mut self.waiting);
        // In any order: they were all on their way at once.
        for left in (1..forgotten.len()).rev() {
            forgotten.swap(left, self.rng.index(left + 1));
        }
        for operation in forgotten.iter().filter(|operation| !operation.doomed) {
            self.interrupt(operation);
        }
        for disk in self.disks.iter_mut().filter(|disk| disk.frozen) {
            (disk.hung, disk.frozen) = (false, false);
        }
        if crash == Crash::Power {
            self.cast.tell(|| "the power fails".into());
            self.jump_clock();
            (0..self.disks.len()).for_each(|disk| self.lose_power(disk));
        } else {
            self.cast.tell(|| "the process is killed".into());
            self.count(Fault::Kill);
        }
        forgotten
    }

    /// Sets the clock on the wall to anything.
    pub(super) fn jump_clock(&mut self) {
        self.skew = self.rng.below(SKEW_MAX);
        self.count(Fault::ClockJump);
    }

    /// What a disk had not made durable may be lost.
    pub(super) fn lose_power(&mut self, disk: usize) {
        let mut reports = Vec::new();
        self.disks[disk].media.lose_power(&mut self.rng, |fault| reports.push(fault));
        reports.into_iter().for_each(|fault| self.count(fault));
        self.count(Fault::PowerLoss);
    }
}

fn bytes(len: usize) -> u64 {
    u64::try_from(len).expect("usize has at most 64 bits")
}

/// A hash of everything that happened.
struct Trace(u64);

impl Trace {
    fn mix(&mut self, values: &[u64]) {
        for value in values {
            self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.0 ^= self.0 >> 29;
        }
    }

    fn submitted(&mut self, id: u64, disk: usize, request: &Request) {
        self.mix(&[0x50, id, bytes(disk)]);
        match request {
            Request::Read { offset, len, .. } => self.mix(&[1, *offset, bytes(*len)]),
            Request::Write { offset, pieces, .. } => {
                self.mix(&[2, *offset]);
                for piece in pieces {
                    self.mix(&[bytes(piece.len()), u64::from(crc32fast::hash(piece))]);
                }
            }
            Request::Flush { mark, .. } => self.mix(&[3, *mark]),
        }
    }

    fn completed(&mut self, id: u64, event: &Event) {
        self.mix(&[0xC0, id]);
        match event {
            Event::Read(_, Ok(read)) => self.mix(&[bytes(read.len()), u64::from(crc32fast::hash(read))]),
            Event::Write(_, Ok(written)) => self.mix(&[bytes(*written)]),
            Event::Flush(_, Ok(())) | Event::Timer(_) => {}
            Event::Read(_, Err(error)) | Event::Write(_, Err(error)) | Event::Flush(_, Err(error)) => {
                self.mix(&[0xE0, u64::from(crc32fast::hash(error.to_string().as_bytes()))]);
            }
        }
    }
}
