//! Sleeps of a simulated run, and whose time is over next.
//!
//! Nearly all are limits of operations: thousands, of a few lengths, and hardly one is ever reached. Sleeps of one
//! length end in the order in which they began.

use crate::runtime::Completer;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

struct Timer {
    deadline: Duration,
    /// The how many-th it is.
    nth: u64,
    answer: Completer<()>,
}

/// Invariants: no list is empty; each is in the order of deadlines, and of numbers where these are the same.
#[derive(Default)]
pub(super) struct Timers {
    /// By their length.
    lists: BTreeMap<Duration, VecDeque<Timer>>,
    begun: u64,
}

impl Timers {
    /// A sleep begins. Time never goes back.
    pub(super) fn set(&mut self, now: Duration, length: Duration, answer: Completer<()>) {
        self.begun += 1;
        let timer = Timer { deadline: now.saturating_add(length), nth: self.begun, answer };
        self.lists.entry(length).or_default().push_back(timer);
    }

    /// The next deadline that someone still waits for.
    pub(super) fn next(&mut self) -> Option<Duration> {
        self.lists.retain(|_, list| {
            while list.pop_front_if(|timer| timer.answer.is_abandoned()).is_some() {}
            !list.is_empty()
        });
        self.first().map(|timer| timer.deadline)
    }

    fn first(&self) -> Option<&Timer> {
        let firsts = self.lists.values().filter_map(VecDeque::front);
        firsts.min_by_key(|timer| (timer.deadline, timer.nth))
    }

    /// Ends the sleep that is over next, of those that [`Timers::next`] has just seen.
    pub(super) fn take(&mut self) -> (Duration, Completer<()>) {
        let nth = self.first().expect("just seen").nth;
        let next = |list: &mut VecDeque<Timer>| list.pop_front_if(|timer| timer.nth == nth);
        let Timer { deadline, answer, .. } = self.lists.values_mut().find_map(next).expect("just found");
        (deadline, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ticket;

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_and_not_at_all_when_nobody_waits() {
        let mut timers = Timers::default();
        let mut tickets = Vec::new();
        for (now, length) in [(0, 9), (0, 2), (1, 1), (1, 9), (2, 3), (3, 2)] {
            let (completer, ticket) = ticket();
            timers.set(Duration::from_secs(now), Duration::from_secs(length), completer);
            tickets.push(Some(ticket));
        }
        tickets[0] = None;
        let mut order = Vec::new();
        while let Some(next) = timers.next() {
            let (deadline, answer) = timers.take();
            answer.complete(());
            let ended =
                tickets.iter().position(|ticket| ticket.as_ref().is_some_and(|ticket| ticket.is_settled()));
            let ended = ended.expect("one of them");
            tickets[ended] = None;
            assert_eq!(next, deadline);
            order.push((ended, deadline.as_secs()));
        }
        assert_eq!(order, [(1, 2), (2, 2), (4, 5), (5, 5), (3, 10)]);
    }
}
