//! Which requests are to be looked at again.
//!
//! Invariant: whoever is woken is found by the next [`Woken::take`] that follows the ring of the bell.

use crate::frontend::bell::Bell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

/// One bit for each request.
pub(super) struct Woken {
    words: Box<[AtomicU64]>,
    bell: Arc<Bell>,
}

struct Tag {
    tag: u16,
    woken: Arc<Woken>,
}

impl Woken {
    /// For so many requests; who waits for them is rung.
    pub(super) fn new(depth: u16, bell: Arc<Bell>) -> Arc<Woken> {
        let words = (0..depth.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Woken { words, bell })
    }

    /// What wakes a request.
    pub(super) fn waker(self: &Arc<Woken>, tag: u16) -> Waker {
        Waker::from(Arc::new(Tag { tag, woken: self.clone() }))
    }

    /// Those that were woken since.
    pub(super) fn take(&self, found: &mut Vec<u16>) {
        for (word, first) in self.words.iter().zip((0..).step_by(64)) {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let bit = u16::try_from(bits.trailing_zeros()).expect("less than 64");
                bits &= bits - 1;
                found.push(first + bit);
            }
        }
    }
}

impl Wake for Tag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Tag { tag, woken } = &**self;
        woken.words[usize::from(tag / 64)].fetch_or(1 << (tag % 64), Ordering::AcqRel);
        woken.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_woken_is_taken_once_and_the_bell_rings() {
        let bell = Bell::new().expect("an event");
        let woken = Woken::new(130, bell.clone());
        let taken = || {
            let mut found = Vec::new();
            woken.take(&mut found);
            found
        };
        assert!(bell.lie_down());
        bell.wake_up(false);
        for tag in [129, 0, 63, 64, 0] {
            woken.waker(tag).wake_by_ref();
        }
        assert!(!bell.lie_down(), "it was rung");
        assert_eq!(taken(), [0, 63, 64, 129]);
        assert!(taken().is_empty() && bell.lie_down());
    }
}
