//! One value, handed from whoever makes it to whoever waits for it: a task by `await`, a thread by
//! [`Ticket::wait`].
//!
//! Invariant: wakers are called and values dropped outside the lock.

use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The completer was dropped: the value will never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whoever was to answer went away")
    }
}

impl std::error::Error for Dropped {}

/// The two ends of a value that does not exist yet.
pub fn ticket<T>() -> (Completer<T>, Ticket<T>) {
    let shared = Arc::new(Shared { state: Mutex::new(State::Waiting(None)), settled: Condvar::new() });
    (Completer { shared: shared.clone() }, Ticket { shared })
}

struct Shared<T> {
    state: Mutex<State<T>>,
    settled: Condvar,
}

enum State<T> {
    Waiting(Option<Waker>),
    Settled(Result<T, Dropped>),
    Taken,
}

impl<T> Shared<T> {
    /// The first result counts.
    fn settle(&self, result: Result<T, Dropped>) {
        let mut state = self.state.lock();
        let State::Waiting(waker) = &mut *state else { return };
        let waker = waker.take();
        *state = State::Settled(result);
        drop(state);
        self.settled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The end that makes the value.
#[must_use = "dropping a completer answers its ticket with `Dropped`"]
pub struct Completer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Completer<T> {
    /// Hands over the value and wakes whoever waits for it.
    pub fn complete(self, value: T) {
        self.shared.settle(Ok(value));
    }

    /// Whether nobody can receive the value any more.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.shared.settle(Err(Dropped));
    }
}

/// The end that waits. Dropping it abandons the value, which is made all the same.
#[must_use = "a ticket does nothing unless it is awaited or waited for"]
pub struct Ticket<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Ticket<T> {
    /// Whether the value is there, or will never come.
    pub fn is_settled(&self) -> bool {
        matches!(*self.shared.state.lock(), State::Settled(_))
    }

    /// Blocks the calling thread until the value is there. Not for tasks: they would block all others.
    pub fn wait(self) -> Result<T, Dropped> {
        let mut state = self.shared.state.lock();
        while matches!(*state, State::Waiting(_)) {
            self.shared.settled.wait(&mut state);
        }
        take(&mut state)
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let abandoned = std::mem::replace(&mut *self.shared.state.lock(), State::Taken);
        drop(abandoned);
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, Dropped>;

    /// # Panics
    /// When polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock();
        let State::Waiting(waker) = &mut *state else { return Poll::Ready(take(&mut state)) };
        if waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let stale = waker.replace(context.waker().clone());
        drop(state);
        drop(stale);
        Poll::Pending
    }
}

fn take<T>(state: &mut State<T>) -> Result<T, Dropped> {
    match std::mem::replace(state, State::Taken) {
        State::Settled(result) => result,
        State::Waiting(_) | State::Taken => panic!("a ticket is used again after it was answered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Executor, Order};
    use std::time::Duration;

    #[test]
    fn a_thread_waits_for_a_value_from_another_thread() {
        let (completer, ticket) = ticket();
        let maker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            completer.complete(7);
        });
        assert_eq!(ticket.wait(), Ok(7));
        maker.join().expect("no panic");
    }

    #[test]
    fn a_task_waits_for_a_value() {
        let executor = Executor::new(Order::Fifo);
        let (completer, inner) = ticket();
        let outer = executor.spawner().spawn_ticket(inner);
        executor.run_until_stalled();
        completer.complete("here");
        executor.run_until_stalled();
        assert_eq!(outer.wait(), Ok(Ok("here")));
    }

    #[test]
    fn a_dropped_completer_answers_with_an_error() {
        let (completer, ticket) = ticket::<u32>();
        drop(completer);
        assert_eq!(ticket.wait(), Err(Dropped));
        assert_eq!(Dropped.to_string(), "whoever was to answer went away");
    }

    #[test]
    #[should_panic(expected = "a ticket is used again after it was answered")]
    fn a_ticket_is_answered_once() {
        let (completer, mut ticket) = ticket();
        completer.complete(1);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Ok(1)));
        let _panics = Pin::new(&mut ticket).poll(&mut context);
    }

    #[test]
    fn a_dropped_completer_wakes_a_blocked_thread() {
        let (completer, ticket) = ticket::<u32>();
        let waiter = std::thread::spawn(move || ticket.wait());
        std::thread::sleep(Duration::from_millis(20));
        drop(completer);
        assert_eq!(waiter.join().expect("no panic"), Err(Dropped));
    }

    #[test]
    fn the_last_task_to_poll_a_ticket_is_the_one_that_is_woken() {
        let executor = Executor::new(Order::Fifo);
        let (completer, mut inner) = ticket::<u32>();
        let mut noop = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut inner).poll(&mut noop).is_pending());
        let outer = executor.spawner().spawn_ticket(inner);
        executor.run_until_stalled();
        completer.complete(1);
        executor.run_until_stalled();
        assert_eq!(outer.wait(), Ok(Ok(1)));
    }

    #[test]
    fn a_ticket_is_settled_once_there_is_an_answer_or_none_can_come() {
        let (completer, ticket) = ticket();
        assert!(!ticket.is_settled());
        completer.complete(1);
        assert!(ticket.is_settled());
        let (completer, ticket) = super::ticket::<u32>();
        drop(completer);
        assert!(ticket.is_settled());
    }

    #[test]
    fn a_completer_knows_that_its_ticket_was_dropped() {
        let (completer, ticket) = ticket::<u32>();
        assert!(!completer.is_abandoned());
        drop(ticket);
        assert!(completer.is_abandoned());
    }
}
