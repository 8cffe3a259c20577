//! "Look again": wakes everyone who listens. It carries no value; the listener checks its condition anew.
//!
//! Invariants: a notification reaches every [`Listen`] that was created before it, polled or not; a
//! listener holds at most one waker here and takes it along when it is dropped.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Wakes all who listen. Clones are the same signal.
///
/// Listen first, then check, then wait, and no notification is missed:
/// `loop { let changed = signal.listen(); if condition() { break } changed.await }`.
#[derive(Clone, Default)]
pub struct Signal {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Notifications so far.
    notified: u64,
    /// Listeners so far: the next one's key.
    listeners: u64,
    /// In the order in which they began to listen, which is the order in which they are woken.
    wakers: BTreeMap<u64, Waker>,
}

impl Signal {
    /// A signal that nobody listens to.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Wakes everyone who listens now.
    pub fn notify_all(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.notified += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Resolves at the first notification after this call.
    pub fn listen(&self) -> Listen {
        let mut state = self.state.lock();
        state.listeners += 1;
        Listen { signal: self.clone(), seen: state.notified, key: state.listeners }
    }
}

/// Resolves at the first notification after its creation.
#[must_use = "a listener does nothing unless it is awaited"]
pub struct Listen {
    signal: Signal,
    seen: u64,
    key: u64,
}

impl Future for Listen {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.signal.state.lock();
        if state.notified != self.seen {
            return Poll::Ready(());
        }
        let stale = state.wakers.insert(self.key, context.waker().clone());
        drop(state);
        drop(stale);
        Poll::Pending
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        let waker = self.signal.state.lock().wakers.remove(&self.key);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Executor, Order, Owned};

    #[test]
    fn a_notification_between_listening_and_waiting_is_not_missed() {
        let executor = Executor::new(Order::Fifo);
        let signal = Signal::new();
        let listen = signal.listen();
        signal.notify_all();
        executor.spawner().spawn(listen);
        executor.run_until_stalled();
        assert_eq!(executor.tasks(), 0);
    }

    #[test]
    fn a_notification_before_listening_does_not_count() {
        let executor = Executor::new(Order::Fifo);
        let signal = Signal::new();
        signal.notify_all();
        executor.spawner().spawn(signal.listen());
        executor.run_until_stalled();
        assert_eq!(executor.tasks(), 1);
    }

    #[test]
    fn a_notification_wakes_everyone() {
        let executor = Executor::new(Order::Fifo);
        let signal = Signal::new();
        let count = Arc::new(Owned::new(0));
        for threshold in 1..=5 {
            let (signal, count) = (signal.clone(), count.clone());
            executor.spawner().spawn(async move {
                loop {
                    let changed = signal.listen();
                    if count.with(|count| *count >= threshold) {
                        break;
                    }
                    changed.await;
                }
            });
        }
        executor.run_until_stalled();
        for left in (0..5).rev() {
            count.with(|count| *count += 1);
            signal.notify_all();
            executor.run_until_stalled();
            assert_eq!(executor.tasks(), left);
        }
    }

    #[test]
    fn a_dropped_listener_leaves_nothing_behind() {
        let signal = Signal::new();
        let mut listen = signal.listen();
        assert!(Pin::new(&mut listen).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(signal.state.lock().wakers.len(), 1);
        drop(listen);
        assert_eq!(signal.state.lock().wakers.len(), 0);
    }
}
