//! Each kind of fault does what it says, where it says, as often as it says, and nothing else.

use super::*;
use crate::device::{Aligned, Device, DeviceError, Pending, check_range, check_write};
use crate::runtime::{Clock, Entropy, Env, Executor, Order, Owned, Signal, Sleep};
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const BLOCKS: u64 = 16;

/// A device in memory that answers at once. Each block is filled with its number to begin with.
struct Memory {
    content: Owned<Vec<u8>>,
    flushes: Owned<u32>,
}

impl Device for Memory {
    fn len(&self) -> u64 {
        BLOCKS * BLOCK_U64
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        let bytes = check_range(self.len(), offset, len).map(|()| {
            let begin = usize::try_from(offset).expect("small");
            self.content.with(|content| Aligned::copy_of(&content[begin..begin + len]).freeze())
        });
        Box::pin(std::future::ready(bytes))
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        let written = check_write(self.len(), offset, &pieces).inspect(|len| {
            let begin = usize::try_from(offset).expect("small");
            self.content.with(|content| content[begin..begin + len].copy_from_slice(&pieces.concat()));
        });
        Box::pin(std::future::ready(written))
    }

    fn flush(&self) -> Pending<()> {
        self.flushes.with(|flushes| *flushes += 1);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A clock whose sleeps end when the test says so.
struct Bell(Signal);

impl Clock for Bell {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_seconds(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> Sleep {
        Box::pin(self.0.listen())
    }
}

struct Seed(Owned<u64>);

impl Entropy for Seed {
    fn next_u64(&self) -> u64 {
        self.0.with(crate::runtime::executor::split_mix)
    }
}

/// A member under the layer, and what lies below it.
struct Bench {
    memory: Arc<Memory>,
    injector: Injector,
    member: Injected,
    bell: Signal,
}

fn bench(seed: u64) -> Bench {
    let content = (0..BLOCKS).flat_map(|block| vec![u8::try_from(block).expect("small"); BLOCK]).collect();
    let memory = Arc::new(Memory { content: Owned::new(content), flushes: Owned::default() });
    let bell = Signal::new();
    let clock = Arc::new(Bell(bell.clone()));
    let spawner = Executor::new(Order::Fifo).spawner();
    let injector = Injector::new(&Env { clock, entropy: Arc::new(Seed(Owned::new(seed))), spawner });
    let member = injector.over(memory.clone());
    Bench { memory, injector, member, bell }
}

/// What the operation has answered by now.
fn now<T>(pending: &mut Pending<T>) -> Option<Result<T, DeviceError>> {
    match pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn block(fill: u8) -> Vec<Bytes> {
    vec![Aligned::copy_of(&[fill; BLOCK]).freeze()]
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// As without the layer.
    Fine,
    Fails,
    Gone,
    Hangs,
    /// Success was said, but the bytes are not those that they are to be.
    Wrong,
}

fn end<T>(mut pending: Pending<T>, is_right: impl FnOnce(T) -> bool) -> End {
    match now(&mut pending) {
        None => End::Hangs,
        Some(Err(DeviceError::Gone)) => End::Gone,
        Some(Err(_)) => End::Fails,
        Some(Ok(value)) => {
            if is_right(value) {
                End::Fine
            } else {
                End::Wrong
            }
        }
    }
}

impl Bench {
    fn read(&self, at: u64) -> End {
        let fill = u8::try_from(at).expect("small");
        end(self.member.read(at * BLOCK_U64, BLOCK), |bytes| bytes == [fill; BLOCK][..])
    }

    /// Writes what is there already plus 100.
    fn write(&self, at: u64) -> End {
        let fill = u8::try_from(at).expect("small") + 100;
        let place = usize::try_from(at * BLOCK_U64).expect("small");
        let is_there = |len| {
            self.memory.content.with(|content| content[place..place + BLOCK] == [fill; BLOCK]) && len == BLOCK
        };
        end(self.member.write(at * BLOCK_U64, block(fill)), is_there)
    }

    fn flush(&self) -> End {
        let before = self.memory.flushes.with(|flushes| *flushes);
        end(self.member.flush(), |()| self.memory.flushes.with(|flushes| *flushes) == before + 1)
    }

    fn struck(&self) -> Vec<u64> {
        self.injector.list().iter().map(|injection| injection.struck).collect()
    }
}

#[test]
fn every_kind_strikes_what_it_says_and_nothing_else() {
    use End::{Fails, Fine, Gone, Hangs, Wrong};
    let cases = [
        (FaultKind::ReadError, [Fails, Fine, Fine]),
        (FaultKind::WriteError, [Fine, Fails, Fine]),
        (FaultKind::FlushError, [Fine, Fine, Fails]),
        (FaultKind::Slow(Duration::from_millis(1)), [Hangs, Hangs, Hangs]),
        (FaultKind::Hang, [Hangs, Hangs, Hangs]),
        (FaultKind::LostWrite, [Fine, Wrong, Fine]),
        (FaultKind::MisdirectedWrite, [Fine, Wrong, Fine]),
        (FaultKind::BitFlip, [Wrong, Fine, Fine]),
        (FaultKind::Vanish, [Gone, Gone, Gone]),
    ];
    for (kind, expected) in cases {
        let bench = bench(1);
        assert_eq!([bench.read(3), bench.flush()], [Fine; 2]);
        bench.injector.inject(Fault::new(kind));
        assert_eq!([bench.read(3), bench.write(3), bench.flush()], expected, "{kind:?}");
        let removed = bench.injector.clear();
        assert_eq!(removed.len(), 1);
        let strikes = expected.iter().filter(|end| **end != Fine).count() as u64;
        // Once a member is gone, nothing more has to strike it.
        assert_eq!(removed[0].struck, if kind == FaultKind::Vanish { 1 } else { strikes }, "{kind:?}");
        assert_eq!([bench.write(5), bench.flush()], [Fine; 2], "{kind:?} was removed");
        assert!(bench.injector.list().is_empty() && bench.injector.clear().is_empty());
    }
}

#[test]
fn a_write_that_fails_or_is_lost_changes_nothing_and_a_misdirected_one_lands_elsewhere() {
    for kind in [FaultKind::WriteError, FaultKind::LostWrite, FaultKind::MisdirectedWrite] {
        let mut places = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bench = bench(seed);
            let before = bench.memory.content.with(|content| content.clone());
            bench.injector.inject(Fault::new(kind));
            assert_ne!(bench.write(7), End::Fine);
            let after = bench.memory.content.with(|content| content.clone());
            let pairs = before.chunks(BLOCK).zip(after.chunks(BLOCK)).enumerate();
            let changed: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
            assert!(changed.iter().all(|at| after[at * BLOCK..][..BLOCK] == [107; BLOCK]));
            places.extend(changed);
        }
        let all = (0..16).filter(|at| *at != 7).collect();
        assert_eq!(places, if kind == FaultKind::MisdirectedWrite { all } else { Default::default() });
    }
    // A write as long as the member has nowhere else to go.
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::MisdirectedWrite));
    let pieces = vec![Aligned::zeroed(16 * BLOCK).freeze()];
    assert_eq!(end(bench.member.write(0, pieces), |len| len == 16 * BLOCK), End::Fine);
    assert_eq!(bench.memory.content.with(|content| content[BLOCK]), 1);
}

#[test]
fn a_flipped_bit_is_one_inside_the_range_and_the_bytes_stay_aligned() {
    let mut bits = std::collections::BTreeSet::new();
    let bench = bench(3);
    // The last byte of block 2 and the first one of block 3.
    bench.injector.inject(Fault::new(FaultKind::BitFlip).within(3 * BLOCK_U64 - 1, 2));
    for _ in 0..300 {
        let mut read = bench.member.read(BLOCK_U64, 4 * BLOCK);
        let bytes = now(&mut read).expect("at once").expect("read");
        assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK));
        let right = bench.memory.content.with(|content| content[BLOCK..5 * BLOCK].to_vec());
        let wrong: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != right[*at]).collect();
        let [at] = wrong[..] else { panic!("{wrong:?}") };
        assert_eq!((bytes[at] ^ right[at]).count_ones(), 1);
        bits.insert((at, bytes[at] ^ right[at]));
    }
    let all = [2 * BLOCK - 1, 2 * BLOCK].into_iter().flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    assert_eq!(bits, all.collect());
    assert_eq!(bench.read(5), End::Fine);
}

#[test]
fn a_fault_strikes_only_operations_that_touch_its_range() {
    for kind in [FaultKind::ReadError, FaultKind::LostWrite, FaultKind::Hang, FaultKind::BitFlip] {
        let bench = bench(1);
        bench.injector.inject(Fault::new(kind).within(4 * BLOCK_U64 + 100, BLOCK_U64));
        for at in 0..8 {
            let operation = if kind == FaultKind::LostWrite { bench.write(at) } else { bench.read(at) };
            assert_eq!(operation != End::Fine, (4..6).contains(&at), "{kind:?} at {at}");
        }
        assert_eq!(bench.flush(), End::Fine, "a flush has no range");
        assert_eq!(bench.struck(), [2]);
    }
}

#[test]
fn a_fault_strikes_as_often_as_it_says() {
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::ReadError).times(3));
    assert_eq!((0..10).filter(|_| bench.read(1) == End::Fails).count(), 3);
    assert_eq!(bench.struck(), [3]);
    bench.injector.inject(Fault::new(FaultKind::ReadError).times(1));
    assert_eq!([bench.read(1), bench.read(1)], [End::Fails, End::Fine]);
}

#[test]
fn chance_is_what_it_says_and_one_seed_takes_one_course() {
    let course = |seed| {
        let bench = bench(seed);
        bench.injector.inject(Fault::new(FaultKind::ReadError).per_million(250_000));
        (0..4000).map(|_| bench.read(1) == End::Fails).collect::<Vec<bool>>()
    };
    let first = course(1);
    let strikes = first.iter().filter(|struck| **struck).count();
    assert!((900..1100).contains(&strikes), "{strikes} of 4000");
    assert_eq!(course(1), first);
    assert_ne!(course(2), first);
}

#[test]
fn what_hangs_goes_on_when_the_fault_is_removed_and_not_before() {
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::Hang));
    let mut write = bench.member.write(BLOCK_U64, block(77));
    let mut flush = bench.member.flush();
    assert!(now(&mut write).is_none() && now(&mut flush).is_none());
    assert_eq!(bench.memory.content.with(|content| content[BLOCK]), 1, "it did not reach the device");
    bench.injector.clear();
    assert_eq!(now(&mut write), Some(Ok(BLOCK)));
    assert_eq!(now(&mut flush), Some(Ok(())));
    assert_eq!(bench.memory.content.with(|content| content[BLOCK]), 77);
}

#[test]
fn what_hangs_keeps_no_device() {
    let Bench { memory, injector, member, .. } = bench(1);
    injector.inject(Fault::new(FaultKind::Hang));
    let mut read = member.read(0, BLOCK);
    assert!(now(&mut read).is_none());
    drop(member);
    assert_eq!(Arc::strong_count(&memory), 1, "the claim of a member outlives nobody's patience");
    let gone = Arc::downgrade(&memory);
    drop(memory);
    assert!(gone.upgrade().is_none());
    injector.clear();
    assert_eq!(now(&mut read), Some(Err(DeviceError::Gone)));
}

#[test]
fn what_is_slow_is_done_at_once_and_answered_late_also_if_it_fails() {
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::Slow(Duration::from_millis(5))));
    let mut write = bench.member.write(BLOCK_U64, block(77));
    assert!(now(&mut write).is_none());
    assert_eq!(bench.memory.content.with(|content| content[BLOCK]), 77);
    bench.bell.notify_all();
    assert_eq!(now(&mut write), Some(Ok(BLOCK)));
    bench.injector.inject(Fault::new(FaultKind::ReadError));
    bench.injector.inject(Fault::new(FaultKind::Slow(Duration::from_millis(9))));
    let mut read = bench.member.read(0, BLOCK);
    assert!(now(&mut read).is_none());
    bench.bell.notify_all();
    assert!(matches!(now(&mut read), Some(Err(DeviceError::Io(_)))));
    assert_eq!(bench.struck(), [2, 1, 1]);
}

#[test]
fn of_several_faults_the_first_that_strikes_decides() {
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::ReadError).times(1));
    bench.injector.inject(Fault::new(FaultKind::Hang).within(0, BLOCK_U64));
    bench.injector.inject(Fault::new(FaultKind::Vanish).times(1));
    let ends = [bench.read(0), bench.read(0), bench.read(1), bench.read(0), bench.read(2)];
    assert_eq!(ends, [End::Fails, End::Hangs, End::Gone, End::Gone, End::Gone]);
    assert_eq!(bench.struck(), [1, 1, 1]);
}

#[test]
fn a_defect_of_the_caller_is_told_by_the_device_whatever_is_injected() {
    let bench = bench(1);
    bench.injector.inject(Fault::new(FaultKind::LostWrite));
    let shifted = Aligned::zeroed(2 * BLOCK).freeze().slice(512..512 + BLOCK);
    for (offset, piece) in
        [(512, block(0)[0].clone()), (BLOCKS * BLOCK_U64, block(0)[0].clone()), (0, shifted)]
    {
        let answer = now(&mut bench.member.write(offset, vec![piece]));
        assert!(matches!(answer, Some(Err(DeviceError::Invalid(_)))), "{answer:?}");
    }
    assert_eq!(bench.struck(), [0]);
}
