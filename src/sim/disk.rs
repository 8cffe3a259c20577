//! A simulated member behind the device port, and what a scenario may do to it.

use super::fault::{Fault, FaultPlan, Nth, Op};
use super::hub::SimHub;
use super::media::Image;
use super::world::{Disk, Request};
use crate::device::{Device, DeviceError, Pending, check_range, check_write};
use crate::runtime::{Completer, Ticket, ticket};
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use std::ops::Range;

/// How blocks change at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// One to eight bits of each block flip.
    Flip,
    /// Each block becomes random bytes.
    Garbage,
    /// Each block becomes zeros.
    Zero,
    /// One bit of each block's first 512 bytes flips: where headers say what matters most.
    Nick,
}

/// A simulated member. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    hub: SimHub,
    index: usize,
    bytes: u64,
}

impl SimDisk {
    pub(super) fn new(hub: SimHub, index: usize, bytes: u64) -> SimDisk {
        SimDisk { hub, index, bytes }
    }

    /// The disk's place in the order of creation.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How often faults strike from here on.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.with(|disk| disk.plan = plan);
    }

    /// Lets `fault` strike the next operation that it can strike. Calls add up.
    ///
    /// # Panics
    /// If the fault is none of [`Fault::OF_OPERATIONS`].
    pub fn inject(&self, fault: Fault) {
        let _strikes_operations = fault.index();
        self.with(|disk| *disk.armed.entry(fault).or_default() += 1);
    }

    /// Lets operations fail by their number, counted from now on; none for `None`. A write that fails may have been
    /// stored, in part or as a whole; of what a flush was to cover, any part may be lost.
    pub fn fail_nth(&self, nth: Option<Nth>) {
        self.with(|disk| {
            disk.submitted.clear();
            disk.nth = nth;
        });
    }

    /// Operations of a kind that were submitted since [`SimDisk::fail_nth`].
    pub fn submitted(&self, op: Op) -> u64 {
        self.with(|disk| disk.submitted.get(&op).copied().unwrap_or(0))
    }

    /// Makes blocks unreadable until they are rewritten.
    pub fn latent_error(&self, blocks: Range<u64>) {
        self.hub.with(|world| {
            world.disks[self.index].latent.extend(blocks);
            world.count(Fault::LatentError);
        });
    }

    /// While `full`, no write finds room.
    pub fn set_full(&self, full: bool) {
        self.with(|disk| disk.full = full);
    }

    /// Holds back every operation, pending and further ones, until [`SimDisk::unhang`].
    pub fn hang(&self) {
        self.hub.with(|world| world.hang(self.index));
    }

    /// Lets operations go on that were held back, one by one ([`Fault::Hang`], [`Fault::Slow`]) or all.
    pub fn unhang(&self) {
        self.hub.with(|world| world.release(self.index));
    }

    /// Operations that hang, each for itself ([`Fault::Hang`]), complete after all: long after their time, for whoever
    /// has gone on without them.
    pub fn complete_late(&self) {
        self.hub.with(|world| world.complete_late(self.index));
    }

    /// The power of this disk fails before that of all others, which [`SimHub::power_loss`] takes: what no flush
    /// covered may be lost, and nothing that it is asked meanwhile completes or reaches it.
    pub fn freeze(&self) {
        self.hub.with(|world| world.freeze(self.index));
    }

    /// The member is gone: every operation fails, pending ones too, of which any part may have been stored.
    pub fn vanish(&self) {
        self.hub.with(|world| world.vanish(self.index));
    }

    /// The member is back with what it holds.
    pub fn come_back(&self) {
        self.with(|disk| disk.gone = false);
        self.hub.tell(|| format!("disk {} is back", self.index));
    }

    /// The member is back with what it holds, a moment after it was gone.
    pub(super) fn flap(&self) {
        self.hub.with(|world| {
            world.disks[self.index].gone = false;
            world.count(Fault::Flap);
            world.cast.tell(|| format!("disk {} is back already", self.index));
        });
    }

    /// Whether the member is gone.
    pub fn is_gone(&self) -> bool {
        self.with(|disk| disk.gone)
    }

    /// Whether nothing is under way there, so that somebody else could claim it.
    pub(super) fn is_idle(&self) -> bool {
        self.hub.with(|world| world.is_idle(self.index))
    }

    /// The power of this disk alone fails: [`SimDisk::vanish`], and what no flush covered may be lost.
    pub fn cut_power(&self) {
        self.vanish();
        self.hub.with(|world| world.lose_power(self.index));
    }

    /// The content as it reads now.
    pub fn snapshot(&self) -> Image {
        self.with(|disk| disk.media.image())
    }

    /// Puts earlier content back, durably, as a member that was away for long brings it. Unreadable blocks
    /// stay unreadable.
    pub fn restore(&self, image: &Image) {
        self.hub.with(|world| {
            world.disks[self.index].media.restore(image);
            world.count(Fault::Restored);
        });
    }

    /// Changes blocks at rest, whatever version of them would survive a crash. Counts each block.
    pub fn rot(&self, blocks: Range<u64>, kind: Rot) {
        self.hub.with(|world| {
            for block in blocks {
                let mut mask = [0_u8; BLOCK];
                match kind {
                    Rot::Zero => {}
                    Rot::Nick => mask[world.rng.index(512)] |= 1 << world.rng.below(8),
                    Rot::Garbage => world.rng.fill_bytes(&mut mask),
                    Rot::Flip => {
                        for _ in 0..=world.rng.below(8) {
                            mask[world.rng.index(mask.len())] |= 1 << world.rng.below(8);
                        }
                    }
                }
                let keep = if matches!(kind, Rot::Flip | Rot::Nick) { 0xFF } else { 0 };
                let change = |byte: &mut u8, index: usize| *byte = (*byte & keep) ^ mask[index];
                world.disks[self.index].media.edit(block * BLOCK_U64, mask.len(), change);
                world.count(Fault::Rot);
                world.cast.tell(|| format!("disk {}: block {block} rots ({kind:?})", self.index));
            }
        });
    }

    /// What would be read, at any offset, without an operation.
    pub fn peek(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        self.with(|disk| disk.media.read(offset, len, |piece| out.extend_from_slice(piece)));
        out
    }

    /// Replaces bytes at rest, at any offset, in whatever version of the blocks would survive a crash.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        self.with(|disk| disk.media.edit(offset, bytes.len(), |byte, index| *byte = bytes[index]));
    }

    /// Blocks that were ever written, in order.
    pub fn used_blocks(&self) -> impl Iterator<Item = u64> + use<> {
        self.with(|disk| disk.media.used()).into_iter()
    }

    /// Bytes that were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.with(|disk| disk.read)
    }

    /// Blocks with content that no flush covered yet.
    pub fn unflushed_blocks(&self) -> usize {
        self.with(|disk| disk.media.unflushed())
    }

    fn with<R>(&self, f: impl FnOnce(&mut Disk) -> R) -> R {
        self.hub.with(|world| f(&mut world.disks[self.index]))
    }

    /// Submits at once, if the request is valid.
    fn submit<T: Send + 'static>(
        &self,
        checked: Result<(), DeviceError>,
        request: impl FnOnce(Completer<Result<T, DeviceError>>) -> Request,
    ) -> Pending<T> {
        if let Err(invalid) = checked {
            self.hub.with(|world| world.refused += 1);
            return Box::pin(std::future::ready(Err(invalid)));
        }
        let (completer, ticket) = ticket();
        let request = request(completer);
        self.hub.with(|world| world.submit(self.index, request));
        Box::pin(answer(ticket))
    }
}

/// A crash forgets operations: they never complete.
async fn answer<T>(ticket: Ticket<Result<T, DeviceError>>) -> Result<T, DeviceError> {
    match ticket.await {
        Ok(result) => result,
        Err(_) => std::future::pending().await,
    }
}

impl Device for SimDisk {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let checked = check_range(self.bytes, offset, len);
        self.submit(checked, |answer| Request::Read { offset, len, answer })
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        let checked = check_write(self.bytes, offset, &pieces).map(|_| ());
        self.submit(checked, |answer| Request::Write { offset, pieces, answer })
    }

    fn flush(&self) -> Pending<()> {
        let mark = self.with(|disk| disk.media.mark());
        self.submit(Ok(()), |answer| Request::Flush { mark, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Aligned;
    use crate::runtime::{Clock, Executor, Order};
    use std::time::Duration;

    const BLOCKS: u64 = 256;

    struct Bench {
        hub: SimHub,
        disk: SimDisk,
        executor: Executor,
    }

    impl Bench {
        fn new(seed: u64) -> Bench {
            let hub = SimHub::new(seed);
            let disk = hub.disk(BLOCKS * BLOCK_U64);
            Bench { hub, disk, executor: Executor::new(Order::Seeded(seed)) }
        }

        /// `None` if the operation never completes.
        fn wait<T: Send + 'static>(&self, pending: Pending<T>) -> Option<Result<T, DeviceError>> {
            let mut ticket = self.executor.spawner().spawn_ticket(pending);
            loop {
                self.executor.run_until_stalled();
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                if let std::task::Poll::Ready(result) = std::pin::Pin::new(&mut ticket).poll(&mut context) {
                    return result.ok();
                }
                if !self.hub.step() {
                    return None;
                }
            }
        }

        fn read(&self, block: u64, blocks: usize) -> Result<Bytes, DeviceError> {
            self.wait(self.disk.read(block * BLOCK_U64, blocks * BLOCK)).expect("completes")
        }

        fn write(&self, block: u64, fill: u8) -> Result<usize, DeviceError> {
            self.wait(self.disk.write(block * BLOCK_U64, pieces(fill, 1))).expect("completes")
        }

        fn flush(&self) -> Result<(), DeviceError> {
            self.wait(self.disk.flush()).expect("completes")
        }

        fn written(&self, fill: u8) {
            (0..8).for_each(|block| assert_eq!(self.write(block, fill), Ok(BLOCK)));
        }
    }

    fn pieces(fill: u8, count: usize) -> Vec<Bytes> {
        vec![Aligned::copy_of(&[fill; BLOCK]).freeze(); count]
    }

    fn all(bytes: &[u8], fill: u8) -> bool {
        bytes.iter().all(|byte| *byte == fill)
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zeros() {
        let bench = Bench::new(1);
        bench.written(7);
        let bytes = bench.read(7, 2).expect("read");
        assert!(all(&bytes[..BLOCK], 7) && all(&bytes[BLOCK..], 0));
        assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK));
        assert_eq!(bench.disk.used_blocks().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        assert_eq!((bench.hub.refused(), bench.hub.counts().len()), (0, 0));
    }

    #[test]
    fn misaligned_requests_are_refused_and_counted() {
        let bench = Bench::new(1);
        let invalid = |result| matches!(result, Some(Err(DeviceError::Invalid(_))));
        let shifted = Aligned::zeroed(2 * BLOCK).freeze().slice(512..512 + BLOCK);
        assert!(invalid(bench.wait(bench.disk.read(512, BLOCK)).map(|read| read.map(|_| 0))));
        assert!(invalid(bench.wait(bench.disk.read(0, 512)).map(|read| read.map(|_| 0))));
        assert!(invalid(bench.wait(bench.disk.write(0, vec![shifted]))));
        assert!(invalid(bench.wait(bench.disk.write(BLOCKS * BLOCK_U64, pieces(1, 1)))));
        assert_eq!((bench.hub.refused(), bench.hub.pending()), (4, 0));
    }

    #[test]
    fn a_flush_covers_what_completed_before_it_was_submitted_whenever_it_completes() {
        let bench = Bench::new(3);
        bench.written(1);
        let flush = bench.disk.flush();
        assert_eq!(bench.wait(bench.disk.write(0, pieces(2, 1))), Some(Ok(BLOCK)));
        bench.wait(flush);
        assert_eq!(bench.disk.unflushed_blocks(), 1);
    }

    #[test]
    fn operations_complete_in_any_order() {
        let last_written = |seed| {
            let bench = Bench::new(seed);
            drop(bench.disk.write(0, pieces(1, 1)));
            drop(bench.disk.write(0, pieces(2, 1)));
            while bench.hub.step() {}
            bench.disk.peek(0, 1)[0]
        };
        let seen: std::collections::BTreeSet<u8> = (0..20).map(last_written).collect();
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn transfers_may_be_short_by_whole_sectors() {
        for seed in 0..50 {
            let bench = Bench::new(seed);
            bench.disk.inject(Fault::ShortWrite);
            let written = bench.wait(bench.disk.write(0, pieces(1, 4))).expect("completes").expect("written");
            assert!(written < 4 * BLOCK && written.is_multiple_of(512), "{written}");
            let content = bench.disk.peek(0, 4 * BLOCK);
            assert!(all(&content[..written], 1) && all(&content[written..], 0));
            bench.disk.inject(Fault::ShortRead);
            let read = bench.read(0, 4).expect("read");
            assert!(read.len() < 4 * BLOCK && read[..] == content[..read.len()]);
        }
    }

    #[test]
    fn errors_strike_once() {
        let bench = Bench::new(1);
        bench.written(1);
        let faults = [Fault::ReadError, Fault::WriteError, Fault::FlushError, Fault::NoSpace];
        faults.into_iter().for_each(|fault| bench.disk.inject(fault));
        assert!(matches!(bench.read(0, 1), Err(DeviceError::Io(_))));
        assert_eq!(bench.write(0, 2), Err(DeviceError::NoSpace));
        assert!(matches!(bench.write(0, 2), Err(DeviceError::Io(_))));
        assert!(matches!(bench.flush(), Err(DeviceError::Io(_))));
        assert_eq!((bench.read(0, 1).map(|read| read.len()), bench.write(0, 3)), (Ok(BLOCK), Ok(BLOCK)));
        assert_eq!(bench.flush(), Ok(()));
        faults.into_iter().for_each(|fault| assert_eq!(bench.hub.count(fault), 1, "{fault:?}"));
    }

    #[test]
    fn a_full_disk_stays_readable() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.disk.set_full(true);
        assert_eq!(bench.write(0, 2), Err(DeviceError::NoSpace));
        assert!(all(&bench.read(0, 1).expect("read"), 1));
        bench.disk.set_full(false);
        assert_eq!(bench.write(0, 2), Ok(BLOCK));
    }

    #[test]
    fn a_latent_error_stays_until_the_block_is_rewritten() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.disk.latent_error(2..4);
        for _ in 0..2 {
            assert!(matches!(bench.read(0, 8), Err(DeviceError::Io(_))));
            assert!(bench.read(4, 4).is_ok());
        }
        bench.write(2, 2).expect("written");
        assert!(bench.read(2, 1).is_ok() && bench.read(3, 1).is_err());
        bench.disk.inject(Fault::LatentError);
        assert!(bench.read(5, 1).is_err() && bench.read(5, 1).is_err());
    }

    #[test]
    fn an_unstable_read_is_right_the_next_time() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.disk.inject(Fault::UnstableRead);
        assert!(!all(&bench.read(0, 1).expect("read"), 1));
        assert!(all(&bench.read(0, 1).expect("read"), 1));
    }

    #[test]
    fn a_stale_read_returns_what_was_before_the_last_write() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.write(0, 2).expect("written");
        bench.flush().expect("flushed");
        bench.disk.inject(Fault::StaleRead);
        let stale = bench.read(0, 2).expect("read");
        assert!(all(&stale[..BLOCK], 1) && all(&stale[BLOCK..], 0));
        assert!(all(&bench.read(0, 1).expect("read"), 2));
    }

    #[test]
    fn a_misdirected_read_returns_another_place() {
        for seed in 0..50 {
            let bench = Bench::new(seed);
            bench.write(5, 5).expect("written");
            bench.disk.inject(Fault::MisdirectedRead);
            assert!(all(&bench.read(5, 1).expect("read"), 0));
        }
    }

    #[test]
    fn lost_and_misdirected_writes_report_success() {
        for seed in 0..50 {
            let bench = Bench::new(seed);
            bench.written(1);
            bench.disk.inject(Fault::LostWrite);
            assert_eq!(bench.write(3, 2), Ok(BLOCK));
            assert!(all(&bench.disk.peek(0, 8 * BLOCK), 1));
            bench.disk.inject(Fault::MisdirectedWrite);
            assert_eq!(bench.write(3, 2), Ok(BLOCK));
            assert!(all(&bench.disk.peek(3 * BLOCK_U64, BLOCK), 1));
            let landed =
                bench.disk.used_blocks().filter(|block| all(&bench.disk.peek(block * BLOCK_U64, BLOCK), 2));
            assert_eq!(landed.count(), 1);
        }
    }

    #[test]
    fn a_lying_flush_shows_at_power_loss() {
        let survives = |seed, lies: bool| {
            let bench = Bench::new(seed);
            bench.written(1);
            if lies {
                bench.disk.inject(Fault::LyingFlush);
            }
            assert_eq!(bench.flush(), Ok(()));
            bench.hub.power_loss();
            all(&bench.disk.peek(0, 8 * BLOCK), 1)
        };
        assert!((0..50).all(|seed| survives(seed, false)));
        assert!(!(0..50).all(|seed| survives(seed, true)));
    }

    #[test]
    fn after_a_failed_flush_later_flushes_succeed_and_yet_writes_are_lost() {
        let survives = |seed| {
            let bench = Bench::new(seed);
            bench.written(1);
            bench.disk.inject(Fault::FlushError);
            assert!(bench.flush().is_err());
            assert_eq!(bench.flush(), Ok(()));
            bench.hub.power_loss();
            all(&bench.disk.peek(0, BLOCK), 1)
        };
        let survived = (0..100).filter(|seed| survives(*seed)).count();
        assert!((20..80).contains(&survived), "{survived}");
    }

    #[test]
    fn slow_operations_take_time_and_hung_ones_for_ever() {
        let bench = Bench::new(1);
        bench.disk.inject(Fault::Slow);
        bench.written(1);
        assert!(bench.hub.monotonic() > Duration::from_millis(10), "{:?}", bench.hub.monotonic());
        bench.disk.inject(Fault::Hang);
        assert!(bench.wait(bench.disk.flush()).is_none());
        assert_eq!((bench.flush(), bench.hub.pending()), (Ok(()), 1));
        bench.disk.unhang();
        assert!(bench.hub.step());
        bench.disk.hang();
        let read = bench.disk.read(0, BLOCK);
        assert!(!bench.hub.step());
        bench.disk.unhang();
        assert!(bench.wait(read).is_some());
        assert_eq!(bench.hub.pending(), 0);
    }

    #[test]
    fn a_disk_that_vanished_fails_everything_and_returns_with_what_it_held() {
        for seed in 0..20 {
            let bench = Bench::new(seed);
            bench.written(1);
            let pending = bench.disk.write(0, pieces(2, 1));
            bench.disk.hang();
            bench.disk.vanish();
            let late = bench.disk.write(BLOCK_U64, pieces(3, 1));
            bench.disk.come_back();
            assert_eq!(bench.wait(pending), Some(Err(DeviceError::Gone)));
            assert_eq!(bench.wait(late), Some(Err(DeviceError::Gone)));
            assert!(all(&bench.read(1, 7).expect("read"), 1));
            bench.disk.vanish();
            assert_eq!(bench.flush(), Err(DeviceError::Gone));
            assert!(bench.disk.is_gone());
        }
    }

    #[test]
    fn cutting_the_power_of_one_disk_spares_the_others() {
        let lost = |seed| {
            let bench = Bench::new(seed);
            let other = bench.hub.disk(BLOCK_U64);
            bench.written(1);
            assert_eq!(bench.wait(other.write(0, pieces(1, 1))), Some(Ok(BLOCK)));
            bench.disk.cut_power();
            assert_eq!((bench.disk.unflushed_blocks(), other.unflushed_blocks()), (0, 1));
            !all(&bench.disk.peek(0, 8 * BLOCK), 1)
        };
        assert!((0..20).any(lost));
    }

    #[test]
    fn a_member_returns_with_earlier_content() {
        let bench = Bench::new(1);
        bench.written(1);
        let image = bench.disk.snapshot();
        bench.written(2);
        bench.write(9, 2).expect("written");
        bench.disk.restore(&image);
        assert!(all(&bench.disk.peek(0, 8 * BLOCK), 1) && all(&bench.disk.peek(9 * BLOCK_U64, BLOCK), 0));
        assert_eq!(bench.disk.unflushed_blocks(), 0);
    }

    #[test]
    fn rot_changes_exactly_the_chosen_blocks() {
        for kind in [Rot::Flip, Rot::Garbage, Rot::Zero] {
            let bench = Bench::new(1);
            bench.written(1);
            bench.disk.rot(2..4, kind);
            assert_eq!(bench.hub.count(Fault::Rot), 2);
            for block in 0..8 {
                let content = bench.disk.peek(block * BLOCK_U64, BLOCK);
                assert_eq!(!all(&content, 1), (2..4).contains(&block), "{kind:?} {block}");
                let changed = content.iter().filter(|byte| **byte != 1).count();
                assert!(changed <= 9 || kind != Rot::Flip, "{changed}");
            }
        }
    }

    #[test]
    fn bytes_are_poked_at_any_offset() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.disk.poke(4095, &[8, 9]);
        assert_eq!(bench.disk.peek(4094, 4), [1, 8, 9, 1]);
    }

    #[test]
    fn what_hung_completes_late() {
        let bench = Bench::new(1);
        bench.written(1);
        bench.disk.inject(Fault::Hang);
        let hanging = bench.disk.write(0, pieces(2, 1));
        assert_eq!(bench.write(1, 3), Ok(BLOCK), "the next one");
        assert!(!bench.hub.step() && all(&bench.disk.peek(0, BLOCK), 1));
        bench.disk.complete_late();
        assert_eq!(bench.wait(hanging), Some(Ok(BLOCK)));
        assert!(all(&bench.disk.peek(0, BLOCK), 2));
        assert_eq!(bench.hub.count(Fault::Late), 1);
    }

    #[test]
    fn a_disk_that_froze_keeps_what_was_flushed_and_nothing_that_it_was_asked_later() {
        let (mut pending, mut unflushed) = (0, 0);
        for seed in 0..200 {
            let bench = Bench::new(seed);
            bench.write(0, 1).expect("written");
            bench.flush().expect("flushed");
            bench.write(1, 1).expect("written");
            drop(bench.disk.write(2 * BLOCK_U64, pieces(1, 1)));
            bench.disk.freeze();
            let later = bench.disk.write(3 * BLOCK_U64, pieces(1, 1));
            assert_eq!(bench.wait(later), None);
            assert_eq!(bench.wait(bench.disk.flush()), None);
            bench.hub.power_loss();
            assert!(all(&bench.disk.peek(0, BLOCK), 1) && all(&bench.disk.peek(3 * BLOCK_U64, BLOCK), 0));
            unflushed += u32::from(all(&bench.disk.peek(BLOCK_U64, BLOCK), 1));
            pending += u32::from(all(&bench.disk.peek(2 * BLOCK_U64, BLOCK), 1));
            assert_eq!((bench.write(3, 2), bench.flush()), (Ok(BLOCK), Ok(())), "with power again");
        }
        assert!((20..180).contains(&unflushed) && (10..150).contains(&pending), "{unflushed} {pending}");
    }

    #[test]
    fn a_plan_strikes_as_often_as_it_says() {
        let bench = Bench::new(1);
        bench.disk.set_plan(FaultPlan::none().with(Fault::ReadError, 100_000));
        let failed = (0..2000).filter(|_| bench.read(0, 1).is_err()).count();
        assert!((150..250).contains(&failed), "{failed}");
        assert_eq!(bench.hub.count(Fault::ReadError), u64::try_from(failed).expect("small"));
        assert_eq!(bench.hub.counts().len(), 1);
    }
}
