//! A small executor that runs the tasks of one shard, one at a time.
//!
//! Which ready task runs next is FIFO in production and chosen by a seed in simulation; nothing else in
//! here decides anything, so that one seed replays one history.
//!
//! Invariants:
//! - A task is in the ready list at most once: `Wakeup::queued` is set exactly while it is there, and for
//!   good once the task has finished.
//! - The futures belong to the executor, never to a waker: dropping the executor drops them all.
//! - No future is polled or dropped while the inbox is locked, so tasks may spawn and wake at any time.
//! - Whoever runs the executor may sleep elsewhere than in `Executor::park`. It says so under the inbox's lock, and
//!   only while no task is ready (`Executor::lie_down`); so a push either comes before that and is seen, or comes
//!   after and takes the word back, under the same lock, and rings the alarm. An alarm ends a sleep also if it rings
//!   before it begins: no wake is lost, and a push to somebody who is awake costs no alarm.

use super::ticket::{Ticket, ticket};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Which of the ready tasks runs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The one that has been ready for longest.
    Fifo,
    /// Any, chosen by this seed.
    Seeded(u64),
}

impl Order {
    /// The index of the next task among `ready` of them, at least one.
    fn choose(&mut self, ready: usize) -> usize {
        match self {
            Order::Fifo => 0,
            Order::Seeded(state) => {
                let scaled = u128::from(split_mix(state)) * ready as u128;
                usize::try_from(scaled >> 64).expect("less than `ready`")
            }
        }
    }
}

/// One step of SplitMix64.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What anyone may reach: the executor's inbox.
struct Shared {
    inbox: Mutex<Inbox>,
    work: Condvar,
    /// Ends a sleep elsewhere.
    alarm: Waker,
}

struct Inbox {
    ready: VecDeque<Ready>,
    /// Tasks that were spawned and have not finished.
    live: usize,
    /// Whoever runs the executor sleeps elsewhere, or is about to, and nobody has rung the alarm.
    asleep: bool,
    closed: bool,
}

/// What whoever runs an executor is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Go on: a task is ready.
    Busy,
    /// Sleep until the alarm rings.
    Asleep,
    /// Stop.
    Closed,
}

enum Ready {
    New(Task),
    Woken(Arc<Wakeup>),
}

impl Shared {
    fn push(&self, ready: Ready) {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            drop(inbox);
            // A task may do anything when it is dropped, so not before the inbox is unlocked.
            drop(ready);
            return;
        }
        inbox.live += usize::from(matches!(ready, Ready::New(_)));
        inbox.ready.push_back(ready);
        let asleep = std::mem::take(&mut inbox.asleep);
        drop(inbox);
        self.work.notify_one();
        if asleep {
            self.alarm.wake_by_ref();
        }
    }

    /// Nothing runs from here on.
    fn close(&self) {
        let dropped = {
            let mut inbox = self.inbox.lock();
            inbox.closed = true;
            std::mem::take(&mut inbox.ready)
        };
        self.work.notify_all();
        self.alarm.wake_by_ref();
        drop(dropped);
    }
}

/// What wakers of one task share.
struct Wakeup {
    slot: usize,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A read-modify-write on both sides: whoever finds the flag set is still seen by the poll that clears it.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.push(Ready::Woken(self.clone()));
        }
    }
}

/// The tasks that have been polled at least once, and the order of the next.
struct Tasks {
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    order: Order,
}

struct Entry {
    future: Task,
    wakeup: Arc<Wakeup>,
    waker: Waker,
}

impl Tasks {
    /// Gives a new task a slot.
    fn insert(&mut self, future: Task, shared: &Arc<Shared>) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let wakeup = Arc::new(Wakeup { slot, queued: AtomicBool::new(true), shared: shared.clone() });
        let waker = Waker::from(wakeup.clone());
        debug_assert!(self.slots[slot].is_none(), "a slot is given away twice");
        self.slots[slot] = Some(Entry { future, wakeup, waker });
        slot
    }

    fn remove(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.slots[slot].take();
        if let Some(entry) = &entry {
            entry.wakeup.queued.store(true, Ordering::Release);
            self.free.push(slot);
        }
        entry
    }
}

/// A single-threaded executor: any thread may run it, one at a time.
pub struct Executor {
    shared: Arc<Shared>,
    tasks: Mutex<Tasks>,
}

impl Executor {
    /// An executor without tasks.
    pub fn new(order: Order) -> Executor {
        Executor::with_alarm(order, Waker::noop().clone())
    }

    /// An executor without tasks, run by somebody whose sleep this alarm ends.
    pub(super) fn with_alarm(order: Order, alarm: Waker) -> Executor {
        let inbox = Inbox { ready: VecDeque::new(), live: 0, asleep: false, closed: false };
        Executor {
            shared: Arc::new(Shared { inbox: Mutex::new(inbox), work: Condvar::new(), alarm }),
            tasks: Mutex::new(Tasks { slots: Vec::new(), free: Vec::new(), order }),
        }
    }

    /// A handle that spawns tasks, from inside tasks and from any thread.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone() }
    }

    /// Polls ready tasks until none is ready. Returns how many polls that were.
    ///
    /// # Panics
    /// If the executor is running already, and with the panic of a task: that task is dropped, the
    /// others can go on.
    pub fn run_until_stalled(&self) -> usize {
        self.run(usize::MAX)
    }

    /// [`Executor::run_until_stalled`], but of at most this many polls.
    pub fn run(&self, polls_max: usize) -> usize {
        let mut tasks = self.tasks.try_lock().expect("the executor is running already");
        let mut polls = 0;
        while polls < polls_max
            && let Some(ready) = self.next(&mut tasks.order)
        {
            polls += usize::from(self.poll(&mut tasks, ready));
        }
        polls
    }

    fn next(&self, order: &mut Order) -> Option<Ready> {
        let mut inbox = self.shared.inbox.lock();
        match inbox.ready.len() {
            0 => None,
            1 => inbox.ready.pop_front(),
            ready => match order.choose(ready) {
                0 => inbox.ready.pop_front(),
                index => inbox.ready.swap_remove_back(index),
            },
        }
    }

    /// Polls what is ready; `false` if it finished long ago.
    fn poll(&self, tasks: &mut Tasks, ready: Ready) -> bool {
        let slot = match ready {
            Ready::New(future) => tasks.insert(future, &self.shared),
            Ready::Woken(wakeup) => {
                let current = tasks.slots[wakeup.slot].as_ref();
                if !current.is_some_and(|entry| Arc::ptr_eq(&entry.wakeup, &wakeup)) {
                    return false;
                }
                wakeup.slot
            }
        };
        let entry = tasks.slots[slot].as_mut().expect("inserted or found just above");
        let queued = entry.wakeup.queued.swap(false, Ordering::AcqRel);
        debug_assert!(queued, "a task is polled that was not ready");
        let mut context = Context::from_waker(&entry.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| entry.future.as_mut().poll(&mut context)));
        if matches!(polled, Ok(Poll::Pending)) {
            return true;
        }
        self.shared.inbox.lock().live -= 1;
        drop(tasks.remove(slot));
        if let Err(panic) = polled {
            resume_unwind(panic);
        }
        true
    }

    /// Whether no task is ready to run.
    pub fn is_idle(&self) -> bool {
        self.shared.inbox.lock().ready.is_empty()
    }

    /// Tasks that were spawned and have not finished.
    pub fn tasks(&self) -> usize {
        self.shared.inbox.lock().live
    }

    /// Sleeps until a task is ready; `false` if the executor was closed instead.
    pub(super) fn park(&self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        while inbox.ready.is_empty() && !inbox.closed {
            self.shared.work.wait(&mut inbox);
        }
        !inbox.closed
    }

    /// What whoever runs the executor is to do now. If that is to sleep, it calls [`Executor::get_up`] afterwards.
    pub(super) fn lie_down(&self) -> Rest {
        let mut inbox = self.shared.inbox.lock();
        if inbox.closed {
            return Rest::Closed;
        }
        inbox.asleep = inbox.ready.is_empty();
        if inbox.asleep { Rest::Asleep } else { Rest::Busy }
    }

    /// The sleep is over: nobody needs to ring the alarm.
    pub(super) fn get_up(&self) {
        self.shared.inbox.lock().asleep = false;
    }
}

impl Drop for Executor {
    /// Drops every task, like a crash: wakers that are still held do nothing any more.
    fn drop(&mut self) {
        self.shared.close();
        let tasks = std::mem::take(&mut self.tasks.get_mut().slots);
        drop(tasks);
        self.shared.inbox.lock().live = 0;
    }
}

/// Spawns tasks on an [`Executor`].
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

impl Spawner {
    /// Makes a task of `future`, ready to run. If the executor is gone, drops it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.shared.push(Ready::New(Box::pin(future)));
    }

    /// Makes a task of `future`; the ticket receives what it returns, or [`super::Dropped`] if it
    /// panics or the executor goes away before. Dropping the ticket does not stop the task.
    pub fn spawn_ticket<T, F>(&self, future: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (completer, ticket) = ticket();
        self.spawn(async move { completer.complete(future.await) });
        ticket
    }

    /// Stops the executor: its tasks never run again, and new ones are dropped.
    pub fn close(&self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Owned;
    use std::future::poll_fn;
    use std::sync::Weak;

    /// Returns `Pending` once, after waking itself if it is told to.
    fn pause(wakes: bool) -> impl Future<Output = ()> + Send {
        let mut first = true;
        poll_fn(move |context| {
            if !std::mem::replace(&mut first, false) {
                return Poll::Ready(());
            }
            if wakes {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }

    /// Stores its waker and never finishes.
    fn stuck(waker: Arc<Owned<Option<Waker>>>) -> impl Future<Output = ()> + Send {
        poll_fn(move |context| {
            waker.with(|slot| *slot = Some(context.waker().clone()));
            Poll::Pending
        })
    }

    fn order_of(order: Order) -> Vec<u32> {
        let executor = Executor::new(order);
        let log = Arc::new(Owned::new(Vec::new()));
        for task in 0..8 {
            let log = log.clone();
            executor.spawner().spawn(async move {
                log.with(|log| log.push(task));
                pause(true).await;
                log.with(|log| log.push(task));
            });
        }
        assert_eq!(executor.run_until_stalled(), 16);
        log.with(std::mem::take)
    }

    #[test]
    fn fifo_runs_tasks_in_the_order_in_which_they_became_ready() {
        let twice: Vec<u32> = (0..8).chain(0..8).collect();
        assert_eq!(order_of(Order::Fifo), twice);
    }

    #[test]
    fn one_seed_gives_one_order_and_another_seed_another() {
        assert_eq!(order_of(Order::Seeded(1)), order_of(Order::Seeded(1)));
        let distinct: std::collections::BTreeSet<_> = (0..20).map(|s| order_of(Order::Seeded(s))).collect();
        assert!(distinct.len() > 15, "{} orders", distinct.len());
    }

    #[test]
    fn a_task_that_is_woken_twice_is_queued_once() {
        let executor = Executor::new(Order::Fifo);
        let mut first = true;
        executor.spawner().spawn(poll_fn(move |context| {
            if std::mem::replace(&mut first, false) {
                (0..3).for_each(|_| context.waker().wake_by_ref());
            }
            Poll::Pending
        }));
        assert_eq!(executor.run_until_stalled(), 2);
    }

    #[test]
    fn a_task_that_is_woken_while_it_is_polled_runs_again() {
        let executor = Executor::new(Order::Fifo);
        executor.spawner().spawn(pause(true));
        assert!(!executor.is_idle());
        assert_eq!(executor.run_until_stalled(), 2);
        assert!(executor.is_idle());
    }

    #[test]
    fn a_task_that_nobody_wakes_stays() {
        let executor = Executor::new(Order::Fifo);
        executor.spawner().spawn(pause(false));
        assert_eq!(executor.run_until_stalled(), 1);
        assert_eq!(executor.run_until_stalled(), 0);
        assert_eq!((executor.tasks(), executor.is_idle()), (1, true));
    }

    #[test]
    fn tasks_spawn_tasks() {
        let executor = Executor::new(Order::Seeded(7));
        let spawner = executor.spawner();
        let done = Arc::new(Owned::new(0));
        let counter = done.clone();
        executor.spawner().spawn(async move {
            for _ in 0..10 {
                let counter = counter.clone();
                spawner.spawn(async move { counter.with(|done| *done += 1) });
            }
        });
        assert_eq!(executor.run_until_stalled(), 11);
        done.with(|done| assert_eq!(*done, 10));
    }

    #[test]
    fn threads_spawn_and_wake_tasks() {
        let executor = Executor::new(Order::Fifo);
        let (completer, ticket) = crate::runtime::ticket();
        let spawner = executor.spawner();
        let sum = spawner.spawn_ticket(async move { ticket.await.map(|n: u32| n + 1) });
        assert_eq!(executor.run_until_stalled(), 1);
        std::thread::spawn(move || completer.complete(41));
        assert!(executor.park());
        executor.run_until_stalled();
        assert_eq!(sum.wait(), Ok(Ok(42)));
    }

    /// Counts how often it rings.
    struct Alarm(std::sync::atomic::AtomicUsize);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_alarm_rings_once_for_who_sleeps_and_never_for_who_is_awake() {
        let alarm = Arc::new(Alarm(std::sync::atomic::AtomicUsize::new(0)));
        let rung = || alarm.0.swap(0, Ordering::Relaxed);
        let executor = Executor::with_alarm(Order::Fifo, alarm.clone().into());
        executor.spawner().spawn(pause(true));
        assert_eq!((executor.lie_down(), rung()), (Rest::Busy, 0));
        executor.spawner().spawn(pause(false));
        assert_eq!((executor.run(1), executor.lie_down(), rung()), (1, Rest::Busy, 0));
        executor.run_until_stalled();
        assert_eq!((executor.lie_down(), rung()), (Rest::Asleep, 0));
        (0..3).for_each(|_| executor.spawner().spawn(pause(false)));
        assert_eq!(rung(), 1);
        executor.get_up();
        executor.run_until_stalled();
        assert_eq!(executor.lie_down(), Rest::Asleep);
        executor.get_up();
        executor.spawner().spawn(pause(false));
        assert_eq!((executor.lie_down(), rung()), (Rest::Busy, 0));
        executor.spawner().close();
        assert_eq!((executor.lie_down(), rung()), (Rest::Closed, 1));
    }

    #[test]
    fn a_finished_task_is_dropped_at_once_and_its_slot_is_used_again() {
        let executor = Executor::new(Order::Fifo);
        let waker = Arc::new(Owned::new(None));
        let held = Arc::new(());
        let weak: Weak<()> = Arc::downgrade(&held);
        let mut polls = 0;
        let slot = waker.clone();
        executor.spawner().spawn(poll_fn(move |context| {
            let _held = &held;
            slot.with(|slot| *slot = Some(context.waker().clone()));
            polls += 1;
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        executor.run_until_stalled();
        let stale = waker.with(|waker| waker.clone()).expect("polled");
        stale.wake_by_ref();
        executor.run_until_stalled();
        assert!(weak.upgrade().is_none());
        executor.spawner().spawn(pause(false));
        executor.run_until_stalled();
        stale.wake();
        assert!(executor.is_idle(), "a waker of a finished task wakes the next owner of its slot");
    }

    #[test]
    fn a_task_that_was_woken_in_its_last_poll_does_not_wake_the_next_owner_of_its_slot() {
        let executor = Executor::new(Order::Fifo);
        executor.spawner().spawn(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::Ready(())
        }));
        executor.spawner().spawn(pause(false));
        assert_eq!(executor.run_until_stalled(), 2);
    }

    #[test]
    fn dropping_the_executor_drops_all_tasks_even_if_wakers_are_held() {
        let executor = Executor::new(Order::Fifo);
        let waker = Arc::new(Owned::new(None));
        let (completer, polled) = crate::runtime::ticket::<()>();
        let (unpolled_completer, unpolled) = crate::runtime::ticket::<()>();
        let spawner = executor.spawner();
        let inner = stuck(waker.clone());
        spawner.spawn(async move {
            inner.await;
            completer.complete(());
        });
        executor.run_until_stalled();
        spawner.spawn(async move { unpolled_completer.complete(()) });
        drop(executor);
        assert!(polled.wait().is_err());
        assert!(unpolled.wait().is_err());
        waker.with(Option::take).expect("polled").wake();
        assert!(spawner.spawn_ticket(async {}).wait().is_err(), "spawned on a dropped executor");
    }

    #[test]
    fn a_panic_in_a_task_reaches_whoever_runs_the_executor_and_spares_the_other_tasks() {
        let executor = Executor::new(Order::Fifo);
        let lost = executor.spawner().spawn_ticket(async { panic!("on purpose") });
        let kept = executor.spawner().spawn_ticket(async { 5 });
        let panic = catch_unwind(AssertUnwindSafe(|| executor.run_until_stalled())).expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
        assert_eq!(executor.tasks(), 1);
        executor.run_until_stalled();
        let lost: Result<(), _> = lost.wait();
        assert!(lost.is_err());
        assert_eq!(kept.wait(), Ok(5));
    }

    #[test]
    #[should_panic(expected = "running already")]
    fn a_task_cannot_run_its_own_executor() {
        let executor = Arc::new(Executor::new(Order::Fifo));
        let inner = executor.clone();
        executor.spawner().spawn(async move {
            inner.run_until_stalled();
        });
        executor.run_until_stalled();
    }
}
