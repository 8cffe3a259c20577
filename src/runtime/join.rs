//! Waiting for several futures at once.
//!
//! Invariant: a future is polled when it was woken, and not when only others were: a call of many blocks has a future
//! for each, and they are woken in many turns.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Waits for all of them. Outputs come in the order of the futures.
pub fn join_all<F: Future>(futures: Vec<F>) -> JoinAll<F> {
    let waker = Arc::new(Mutex::new(Waker::noop().clone()));
    let start = |future| {
        let call = Arc::new(Call { is_due: AtomicBool::new(true), waker: waker.clone() });
        State::Running { future: Box::pin(future), waker: Waker::from(call.clone()), call }
    };
    JoinAll { states: futures.into_iter().map(start).collect(), waker: waker.clone() }
}

enum State<F: Future> {
    Running { future: Pin<Box<F>>, waker: Waker, call: Arc<Call> },
    Done(Option<F::Output>),
}

/// See [`join_all`].
pub struct JoinAll<F: Future> {
    states: Vec<State<F>>,
    /// Of whoever waits for all of them.
    waker: Arc<Mutex<Waker>>,
}

/// Whether a future is to be polled, and who is to be woken for that.
struct Call {
    is_due: AtomicBool,
    waker: Arc<Mutex<Waker>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_due.swap(true, Ordering::AcqRel) {
            // A waker may do anything, even poll.
            let waker = self.waker.lock().clone();
            waker.wake();
        }
    }
}

// No state is pinned in place: the futures are boxed, the outputs are only moved.
impl<F: Future> Unpin for JoinAll<F> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Before anybody is polled: whoever is due from here on wakes this waker.
        self.waker.lock().clone_from(context.waker());
        let mut waiting = false;
        for state in &mut self.states {
            if let State::Running { future, waker, call } = state {
                if !call.is_due.swap(false, Ordering::AcqRel) {
                    waiting = true;
                    continue;
                }
                match future.as_mut().poll(&mut Context::from_waker(waker)) {
                    Poll::Ready(output) => *state = State::Done(Some(output)),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            return Poll::Pending;
        }
        let outputs = self.states.iter_mut().map(|state| match state {
            State::Done(output) => output.take().expect("polled after it was done"),
            State::Running { .. } => unreachable!("nothing is waiting"),
        });
        Poll::Ready(outputs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Executor, Order, ticket};

    #[test]
    fn outputs_come_in_the_order_of_the_futures_whichever_is_done_first() {
        let executor = Executor::new(Order::Fifo);
        let (first, late) = ticket();
        let (second, early) = ticket();
        let joined = executor.spawner().spawn_ticket(join_all(vec![late, early]));
        second.complete(2);
        executor.run_until_stalled();
        assert_eq!(executor.tasks(), 1, "it waits for the other one");
        first.complete(1);
        executor.run_until_stalled();
        let outputs: Vec<u8> = joined.wait().expect("done").into_iter().flatten().collect();
        assert_eq!(outputs, [1, 2]);
    }

    #[test]
    fn a_future_is_polled_when_it_is_woken_and_only_then() {
        const FUTURES: usize = 100;
        let executor = Executor::new(Order::Fifo);
        let polls = Arc::new(Mutex::new(vec![0; FUTURES]));
        let (completers, tickets): (Vec<_>, Vec<_>) = (0..FUTURES).map(|_| ticket()).unzip();
        let counted = |(index, mut ticket): (usize, crate::runtime::Ticket<usize>)| {
            let polls = polls.clone();
            std::future::poll_fn(move |context| {
                polls.lock()[index] += 1;
                Pin::new(&mut ticket).poll(context)
            })
        };
        let joined =
            executor.spawner().spawn_ticket(join_all(tickets.into_iter().enumerate().map(counted).collect()));
        executor.run_until_stalled();
        for (index, completer) in completers.into_iter().enumerate().rev() {
            completer.complete(index);
            executor.run_until_stalled();
        }
        let outputs: Vec<usize> = joined.wait().expect("done").into_iter().flatten().collect();
        assert!(outputs.into_iter().eq(0..FUTURES));
        assert_eq!(*polls.lock(), [2; FUTURES], "once to begin, once to end");
    }

    #[test]
    fn whoever_polls_last_is_woken() {
        let executor = Executor::new(Order::Fifo);
        let (completer, ticket) = ticket();
        let mut joined = join_all(vec![ticket]);
        assert!(Pin::new(&mut joined).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let joined = executor.spawner().spawn_ticket(joined);
        executor.run_until_stalled();
        completer.complete(7);
        executor.run_until_stalled();
        assert_eq!(joined.wait(), Ok(vec![Ok(7)]));
    }
}
