//! Bytes that all connections together may have in flight.
//!
//! Invariant: what is lent and not given back is never more than there is; whoever was refused is rung when
//! something comes back.

use crate::frontend::bell::Bell;
use parking_lot::Mutex;
use std::sync::Arc;

pub(super) struct Budget {
    state: Mutex<State>,
}

struct State {
    free: u64,
    waiting: Vec<Arc<Bell>>,
}

/// Bytes that are lent until this is dropped.
pub(super) struct Lease {
    budget: Arc<Budget>,
    pub(super) bytes: u64,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget { state: Mutex::new(State { free: bytes, waiting: Vec::new() }) })
    }

    /// So many bytes; `None` when there are not enough: then `bell` rings when it is worth asking again.
    pub(super) fn lend(self: &Arc<Budget>, bytes: u64, bell: &Arc<Bell>) -> Option<Lease> {
        let mut state = self.state.lock();
        if bytes > state.free {
            if !state.waiting.iter().any(|other| Arc::ptr_eq(other, bell)) {
                state.waiting.push(bell.clone());
            }
            return None;
        }
        state.free -= bytes;
        Some(Lease { budget: self.clone(), bytes })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.state.lock();
            state.free += self.bytes;
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(|bell| bell.ring());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_lent_than_there_is_and_whoever_waits_is_rung() {
        let budget = Budget::new(100);
        let (one, other) = (Bell::new().expect("an event"), Bell::new().expect("an event"));
        let most = budget.lend(60, &one).expect("there is enough");
        assert!(budget.lend(41, &other).is_none());
        assert!(budget.lend(41, &other).is_none());
        let rest = budget.lend(40, &one).expect("there is enough");
        assert!(other.lie_down());
        other.wake_up(false);
        drop(most);
        assert!(!other.lie_down(), "it was rung");
        assert!(budget.lend(41, &other).is_some());
        drop(rest);
        assert!(budget.lend(100, &other).is_some());
    }
}
