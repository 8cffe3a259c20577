//! The slots alone, and the ring on pipes: what is not there yet hangs until somebody writes it.

use super::super::Ring;
use super::*;
use crate::runtime::{Clock, Driver, Sleep, SystemClock, Ticket, ticket};
use crate::types::BLOCK;
use std::fs::File;
use std::io::Write;
use std::sync::Barrier;

fn lane() -> Arc<Lane> {
    let (ring, _turner) = Ring::new().expect("a ring");
    ring.lane(Arc::new(tempfile::tempfile().expect("a file"))).expect("the first")
}

fn is_granted() -> bool {
    Ring::new().is_ok()
}

#[test]
fn what_is_put_off_is_tried_again_but_not_for_ever() {
    if !is_granted() {
        return;
    }
    let mut flight = InFlight::default();
    let (answer, ticket) = ticket();
    let key = flight.insert(Slot::new(lane(), Request::Flush { answer }));
    assert!(!flight.is_put_off(key, 0));
    assert!(!flight.is_put_off(key, -Errno::IO.raw_os_error()));
    for _ in 0..RETRIES_MAX / 4 {
        assert!(flight.is_put_off(key, -Errno::INTR.raw_os_error()));
        assert!(flight.is_put_off(key, -Errno::CANCELED.raw_os_error()));
        assert!(flight.is_put_off(key, -Errno::AGAIN.raw_os_error()));
        assert!(flight.is_put_off(key, -Errno::AGAIN.raw_os_error()));
    }
    assert!(!flight.is_put_off(key, -Errno::AGAIN.raw_os_error()));
    flight.remove(key).request.finish(-Errno::NOSPC.raw_os_error());
    assert_eq!(ticket.wait(), Ok(Err(DeviceError::NoSpace)));
}

#[test]
fn a_thread_that_ends_early_keeps_the_memory_and_the_claim_and_tells_who_waits() {
    if !is_granted() {
        return;
    }
    let mut flight = InFlight::default();
    let lane = lane();
    let file = lane.file.clone();
    let piece = Bytes::from(vec![3; BLOCK]);
    let mut tickets = Vec::new();
    for _ in 0..DEPTH + 1 {
        let (answer, ticket) = ticket();
        let operation = Operation::Write { offset: 0, pieces: vec![piece.clone()], answer };
        if let Some(operation) = lane.begin(operation) {
            flight.insert(Slot::new(lane.clone(), Request::new(operation)));
        }
        tickets.push(ticket);
    }
    drop(lane);
    drop(flight);
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_err()));
    assert!(!piece.is_unique(), "the kernel's bytes were let go");
    assert_eq!(Arc::strong_count(&file), 2, "the claim was let go");
}

#[test]
fn a_slot_that_is_vacated_keeps_nothing() {
    if !is_granted() {
        return;
    }
    let mut flight = InFlight::default();
    let lane = lane();
    let file = lane.file.clone();
    let piece = Bytes::from(vec![3; BLOCK]);
    let (answer, ticket) = ticket();
    let operation = Operation::Write { offset: 0, pieces: vec![piece.clone()], answer };
    let key = flight.insert(Slot::new(lane, Request::new(operation)));
    flight.remove(key).request.finish(4096);
    drop(flight);
    assert_eq!(ticket.wait(), Ok(Ok(BLOCK)));
    assert!(piece.is_unique());
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn one_lane_has_as_many_operations_under_way_as_its_depth_and_the_others_wait_in_order() {
    if !is_granted() {
        return;
    }
    let lane = lane();
    let begun = |len: usize| {
        let (answer, _ticket) = ticket();
        lane.begin(Operation::Read { offset: 0, len, answer })
    };
    assert!((0..DEPTH).all(|len| begun(len).is_some()));
    assert!((DEPTH..DEPTH + 2).all(|len| begun(len).is_none()));
    for expected in [Some(DEPTH), Some(DEPTH + 1), None] {
        let next = lane.end().map(|operation| match operation {
            Operation::Read { len, .. } => len,
            Operation::Write { .. } | Operation::Flush { .. } => 0,
        });
        assert_eq!(next, expected);
    }
    assert!(begun(0).is_some());
    assert!(begun(0).is_none());
}

/// A ring and its thread, where the kernel grants one.
fn started(patience: Duration) -> Option<(Ring, Driver)> {
    let (ring, mut turner) = Ring::new().ok()?;
    turner.patience = patience;
    Some((ring, Driver::start_with("test", turner).expect("a thread")))
}

/// A lane on a pipe: a read hangs until something is written at the other end.
fn hanging(ring: &Ring) -> (Arc<Lane>, io::PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    (ring.lane(Arc::new(file)).expect("few lanes"), writer)
}

/// A lane on a file of this many blocks.
fn lane_on_file(ring: &Ring, blocks: u64) -> Arc<Lane> {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(blocks * BLOCK as u64).expect("room");
    ring.lane(Arc::new(file)).expect("few lanes")
}

fn read(lane: &Arc<Lane>) -> Ticket<Result<Bytes, DeviceError>> {
    let (answer, ticket) = ticket();
    lane.submit(Operation::Read { offset: 0, len: BLOCK, answer });
    ticket
}

fn in_ten_seconds() -> Sleep {
    SystemClock::new().sleep(Duration::from_secs(10))
}

#[test]
fn a_member_that_hangs_keeps_no_other_waiting() {
    let Some((ring, _driver)) = started(PATIENCE) else { return };
    let (hung, mut writer) = hanging(&ring);
    // Twice as many as it may have under way.
    let waiting: Vec<_> = (0..2 * DEPTH).map(|_| read(&hung)).collect();
    let healthy = lane_on_file(&ring, 1);
    for _ in 0..1000 {
        assert_eq!(read(&healthy).wait(), Ok(Ok(Bytes::from_static(&[0; BLOCK]))));
    }
    let fed = thread::spawn(move || {
        for _ in 0..2 * DEPTH {
            writer.write_all(&[7; BLOCK]).expect("somebody reads");
        }
    });
    for ticket in waiting {
        assert!(!ticket.wait().expect("answered").expect("read").is_empty());
    }
    fed.join().expect("no panic");
}

#[test]
fn the_end_waits_for_what_is_under_way_and_what_waits() {
    let Some((ring, driver)) = started(PATIENCE) else { return };
    let (lane, mut writer) = hanging(&ring);
    let reads: Vec<_> = (0..DEPTH + 3).map(|_| read(&lane)).collect();
    drop(lane);
    let fed = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        for _ in 0..DEPTH + 3 {
            writer.write_all(&[7; BLOCK]).expect("somebody reads");
        }
    });
    drop(driver);
    for ticket in reads {
        assert!(!ticket.wait().expect("carried out").expect("read").is_empty());
    }
    fed.join().expect("no panic");
}

#[test]
fn a_device_that_hangs_holds_the_end_up_for_a_limited_time_and_keeps_its_claim() {
    let Some((ring, driver)) = started(Duration::from_millis(50)) else { return };
    let (lane, _writer) = hanging(&ring);
    let (file, reading) = (Arc::downgrade(&lane.file), read(&lane));
    drop(lane);
    let late = ring.vacant(SystemClock::new().sleep(Duration::from_millis(10)));
    assert_eq!(driver.block_on(late), Ok(Err(DeviceError::Hangs)));
    drop(driver);
    assert!(reading.wait().is_err(), "somebody waits for ever");
    assert!(file.upgrade().is_some(), "the claim was let go");
}

#[test]
fn a_task_that_panics_ends_the_thread_after_what_was_under_way() {
    let Some((ring, driver)) = started(PATIENCE) else { return };
    let (lane, mut writer) = hanging(&ring);
    let (file, reading) = (Arc::downgrade(&lane.file), read(&lane));
    let panicked: Result<(), _> = driver.block_on(async { panic!("on purpose") });
    assert!(panicked.is_err());
    writer.write_all(&[7; BLOCK]).expect("somebody reads");
    assert!(reading.wait().expect("carried out").is_ok());
    drop(driver);
    assert!(read(&lane).wait().is_err(), "taken by nobody");
    drop(lane);
    assert!(file.upgrade().is_none(), "the claim was kept");
}

#[test]
fn a_ring_is_vacant_once_its_last_operation_has_ended() {
    let Some((ring, driver)) = started(PATIENCE) else { return };
    assert_eq!(driver.block_on(ring.vacant(in_ten_seconds())), Ok(Ok(())));
    let (lane, mut writer) = hanging(&ring);
    drop(read(&lane));
    drop(lane);
    let vacant = driver.spawn_ticket(ring.vacant(in_ten_seconds()));
    writer.write_all(&[7; BLOCK]).expect("somebody reads");
    assert_eq!(vacant.wait(), Ok(Ok(())));
}

#[test]
fn a_ring_takes_so_many_lanes_that_its_queue_has_room_for_all() {
    let Ok((ring, _turner)) = Ring::new() else { return };
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let mut lanes: Vec<_> = (0..LANES_MAX).map(|_| ring.lane(file.clone()).expect("room")).collect();
    assert!(ring.lane(file.clone()).is_none());
    lanes.pop();
    assert!(ring.lane(file).is_some());
}

#[test]
fn no_wake_from_another_thread_is_lost() {
    const ROUNDS: u32 = 5000;
    let Some((ring, driver)) = started(PATIENCE) else { return };
    let (lane, start) = (lane_on_file(&ring, 1), Barrier::new(4));
    thread::scope(|scope| {
        for turn in 0..4 {
            let (lane, driver, start) = (&lane, &driver, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    // By a task that is spawned, by a task that is woken, and by an operation from outside.
                    match (turn + round) % 3 {
                        0 => assert_eq!(driver.block_on(async move { round }), Ok(round)),
                        1 => {
                            let (completer, ticket) = ticket();
                            let woken = driver.spawn_ticket(ticket);
                            completer.complete(round);
                            assert_eq!(woken.wait(), Ok(Ok(round)));
                        }
                        _ => assert!(read(lane).wait().expect("answered").is_ok()),
                    }
                }
            });
        }
    });
}

#[test]
fn a_member_in_memory_answers_what_is_small_at_once_and_as_any_other() {
    let Some((ring, driver)) = started(PATIENCE) else { return };
    let memory = rustix::fs::memfd_create("member", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let lane = ring.lane(Arc::new(memory.into())).expect("the first");
    assert!(lane.is_memory);
    let write = |lane: &Arc<Lane>, offset, pieces| {
        let (answer, ticket) = ticket();
        lane.submit(Operation::Write { offset, pieces, answer });
        ticket.wait().expect("answered")
    };
    let get = |offset, len| {
        let (answer, ticket) = ticket();
        lane.submit(Operation::Read { offset, len, answer });
        ticket.wait().expect("answered")
    };
    for blocks in [1, AT_ONCE_MAX / BLOCK, AT_ONCE_MAX / BLOCK + 1, 100] {
        let pieces: Vec<Bytes> = (1..=200).take(blocks).map(|fill| Bytes::from(vec![fill; BLOCK])).collect();
        assert_eq!(write(&lane, 0, pieces.clone()), Ok(blocks * BLOCK));
        assert_eq!(get(0, blocks * BLOCK), Ok(Bytes::from(pieces.concat())));
    }
    assert_eq!(get(99 * BLOCK as u64, 2 * BLOCK).map(|bytes| bytes.len()), Ok(BLOCK), "no more is there");
    let (answer, flushed) = ticket();
    lane.submit(Operation::Flush { answer });
    assert_eq!(flushed.wait(), Ok(Ok(())));
    let to_read = ring.lane(Arc::new(File::open(path).expect("opened to read"))).expect("another");
    for blocks in [1, 100] {
        let refused = write(&to_read, 0, vec![Bytes::from(vec![1; blocks * BLOCK])]);
        assert!(matches!(refused, Err(DeviceError::Io(_))), "{refused:?}");
    }
    drop(driver);
}

#[test]
fn what_a_member_in_memory_is_asked_for_last_is_done_before_the_thread_ends() {
    let Ok((ring, mut turner)) = Ring::new() else { return };
    let memory = rustix::fs::memfd_create("member", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
    let memory = Arc::new(File::from(memory));
    let lane = ring.lane(memory.clone()).expect("the first");
    let (answer, ticket) = ticket();
    lane.submit(Operation::Write { offset: 0, pieces: vec![Bytes::from(vec![5; BLOCK])], answer });
    drop(lane);
    turner.finish();
    assert_eq!(ticket.wait(), Ok(Ok(BLOCK)));
    assert_eq!(memory.metadata().expect("there").len(), BLOCK as u64);
    assert_eq!(Arc::strong_count(&memory), 1, "the claim is kept");
}
