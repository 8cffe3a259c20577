//! The thread behind [`super::SystemClock`]: sleeps until the next deadline, answers its ticket, goes on.
//!
//! Invariants: `deadlines` holds exactly the sleeps that are neither over nor dropped; the thread runs
//! while a clock or a sleep exists, from the first sleep on, and rests without a timeout when there is none.

use super::ticket::{Completer, Ticket, ticket};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer sleeps are cut to this: a deadline must be expressible.
const SLEEP_MAX: Duration = Duration::from_secs(1 << 31);

/// A deadline, and a number that tells equal ones apart.
type Key = (Instant, u64);

#[derive(Default)]
struct State {
    deadlines: BTreeMap<Key, Completer<()>>,
    sleeps: u64,
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
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers { shared: Arc::default(), thread: Mutex::new(None) }
    }

    /// Registers a deadline `duration` from now.
    pub(super) fn sleep(self: &Arc<Timers>, duration: Duration) -> TimerSleep {
        self.start();
        let (completer, ticket) = ticket();
        let mut state = self.shared.state.lock();
        state.sleeps += 1;
        let key = (Instant::now() + duration.min(SLEEP_MAX), state.sleeps);
        state.deadlines.insert(key, completer);
        let is_next = state.deadlines.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(state);
        if is_next {
            self.shared.changed.notify_one();
        }
        TimerSleep { timers: self.clone(), key, ticket }
    }

    fn start(&self) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = self.shared.clone();
            let spawned = thread::Builder::new().name("paritas-timer".into()).spawn(move || run(&shared));
            *thread = Some(spawned.expect("the system has a thread for the clock"));
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    while !state.stopped {
        match state.deadlines.first_key_value().map(|(key, _)| key.0) {
            None => shared.changed.wait(&mut state),
            Some(deadline) if deadline > Instant::now() => {
                shared.changed.wait_until(&mut state, deadline);
            }
            Some(_) => {
                let due = state.deadlines.pop_first();
                parking_lot::MutexGuard::unlocked(&mut state, || {
                    if let Some((_, completer)) = due {
                        completer.complete(());
                    }
                });
            }
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.get_mut().take() {
            // A waker that the timer thread calls may drop the last handle; it then ends by itself.
            if thread.thread().id() != thread::current().id() {
                thread.join().expect("the timer thread does not panic");
            }
        }
    }
}

/// One sleep.
pub(super) struct TimerSleep {
    timers: Arc<Timers>,
    key: Key,
    ticket: Ticket<()>,
}

impl Future for TimerSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.ticket).poll(context).map(|answer| {
            debug_assert!(answer.is_ok(), "a sleep keeps its timers alive");
        })
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
        assert!(timers.thread.lock().is_none());
    }
}
