//! Waiting for several futures at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for all of them. Outputs come in the order of the futures.
pub fn join_all<F: Future>(futures: Vec<F>) -> JoinAll<F> {
    let states = futures.into_iter().map(|future| State::Running(Box::pin(future))).collect();
    JoinAll { states }
}

enum State<F: Future> {
    Running(Pin<Box<F>>),
    Done(Option<F::Output>),
}

/// See [`join_all`].
pub struct JoinAll<F: Future> {
    states: Vec<State<F>>,
}

// No state is pinned in place: the futures are boxed, the outputs are only moved.
impl<F: Future> Unpin for JoinAll<F> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = false;
        for state in &mut self.states {
            if let State::Running(future) = state {
                match future.as_mut().poll(context) {
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
            State::Running(_) => unreachable!("nothing is waiting"),
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
}
