//! The thread behind [`super::SystemClock`]: sleeps until the next deadline, wakes whoever waits for it, goes on.
//!
//! Most sleeps are limits that are never reached: they begin and end with an operation. So these cost no wake of the
//! thread, which may look once when nothing is due any more.
//!
//! Invariants:
//! - `deadlines` holds exactly the sleeps that are neither over nor dropped.
//! - The thread looks again at `looks_at`, or before; `None`: when it is notified.
//! - It runs while a clock or a sleep exists, from the first sleep on, and rests without a timeout when it finds none.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer sleeps are cut to this: a deadline must be expressible.
const SLEEP_MAX: Duration = Duration::from_secs(1 << 31);

/// A deadline, and a number that tells equal ones apart.
type Key = (Instant, u64);

#[derive(Default)]
struct State {
    deadlines: BTreeMap<Key, Option<Waker>>,
    sleeps: u64,
    looks_at: Option<Instant>,
    thread: Option<JoinHandle<()>>,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// All sleeps of one clock.
pub(super) struct Timers {
    shared: Arc<Shared>,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers { shared: Arc::default() }
    }

    /// Starts the thread, if it does not run already.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(&self) -> io::Result<()> {
        self.start_locked(&mut self.shared.state.lock())
    }

    fn start_locked(&self, state: &mut State) -> io::Result<()> {
        if state.thread.is_none() {
            let shared = self.shared.clone();
            let spawned = thread::Builder::new().name("paritas-timer".into()).spawn(move || run(&shared));
            state.thread = Some(spawned?);
        }
        Ok(())
    }

    /// Registers a deadline `duration` from now.
    pub(super) fn sleep(self: &Arc<Timers>, duration: Duration) -> TimerSleep {
        let deadline = Instant::now() + duration.min(SLEEP_MAX);
        let mut state = self.shared.state.lock();
        self.start_locked(&mut state).expect("the system has a thread for the clock");
        state.sleeps += 1;
        let key = (deadline, state.sleeps);
        state.deadlines.insert(key, None);
        let is_next = state.looks_at.is_none_or(|at| deadline < at);
        drop(state);
        if is_next {
            self.shared.changed.notify_one();
        }
        TimerSleep { timers: self.clone(), key }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    while !state.stopped {
        state.looks_at = state.deadlines.first_key_value().map(|(key, _)| key.0);
        match state.looks_at {
            None => shared.changed.wait(&mut state),
            Some(deadline) if deadline > Instant::now() => {
                shared.changed.wait_until(&mut state, deadline);
            }
            Some(_) => {
                let waker = state.deadlines.pop_first().and_then(|(_, waker)| waker);
                // A waker may do anything, even begin another sleep.
                MutexGuard::unlocked(&mut state, || waker.into_iter().for_each(Waker::wake));
            }
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        let thread = {
            let mut state = self.shared.state.lock();
            state.stopped = true;
            state.thread.take()
        };
        self.shared.changed.notify_one();
        // A waker that the timer thread calls may drop the last handle; it then ends by itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            thread.join().expect("the timer thread does not panic");
        }
    }
}

/// One sleep.
pub(super) struct TimerSleep {
    timers: Arc<Timers>,
    key: Key,
}

impl Future for TimerSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.timers.shared.state.lock();
        let Some(waker) = state.deadlines.get_mut(&self.key) else { return Poll::Ready(()) };
        if waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let stale = waker.replace(context.waker().clone());
        drop(state);
        drop(stale);
        Poll::Pending
    }
}

impl Drop for TimerSleep {
    fn drop(&mut self) {
        let forgotten = self.timers.shared.state.lock().deadlines.remove(&self.key);
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_sleep_is_forgotten() {
        let timers = Arc::new(Timers::new());
        let sleep = timers.sleep(Duration::from_secs(3600));
        assert_eq!(timers.shared.state.lock().deadlines.len(), 1);
        drop(sleep);
        assert_eq!(timers.shared.state.lock().deadlines.len(), 0);
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let timers = Arc::new(Timers::new());
        drop(timers.sleep(Duration::from_secs(3600)));
        let shared = Arc::downgrade(&timers.shared);
        drop(timers);
        assert!(shared.upgrade().is_none(), "the thread still holds its state");
    }

    #[test]
    fn no_thread_is_started_before_the_first_sleep() {
        let timers = Timers::new();
        assert!(timers.shared.state.lock().thread.is_none());
    }
    #[test]
    fn limits_that_are_not_reached_do_not_wake_the_thread() {
        let timers = Arc::new(Timers::new());
        let first = timers.sleep(Duration::from_secs(3600));
        let looks_at = || timers.shared.state.lock().looks_at;
        while looks_at().is_none() {
            thread::yield_now();
        }
        let before = looks_at();
        drop(first);
        for _ in 0..100 {
            drop(timers.sleep(Duration::from_secs(3601)));
        }
        thread::sleep(Duration::from_millis(20));
        assert_eq!(looks_at(), before);
    }

    #[test]
    fn a_thread_that_looks_too_early_rests_until_it_is_needed() {
        let timers = Arc::new(Timers::new());
        drop(timers.sleep(Duration::from_millis(20)));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(timers.shared.state.lock().looks_at, None);
        let (sender, receiver) = std::sync::mpsc::channel();
        let driver = crate::runtime::Driver::start("test").expect("a thread");
        let sleep = timers.sleep(Duration::from_millis(1));
        driver.spawner().spawn(async move {
            sleep.await;
            sender.send(()).expect("the test listens");
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(()));
    }
}
