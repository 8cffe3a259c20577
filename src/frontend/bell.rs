//! Ends the sleep of a thread that waits for descriptors.
//!
//! Invariant: a ring between two sleeps is found by the second one, which then does not begin; a ring during a sleep
//! ends it. Whoever is awake is not disturbed: that costs no call of the kernel.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const RUNG: u8 = 2;

/// Rung by anybody, heard by the one thread that waits for it.
pub(crate) struct Bell {
    event: OwnedFd,
    state: AtomicU8,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Arc<Bell>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Bell { event, state: AtomicU8::new(AWAKE) }))
    }

    pub(crate) fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            // It fails only when it has been rung 2^64 times without anybody listening.
            let _heard = rustix::io::write(&self.event, &1u64.to_ne_bytes()).is_ok();
        }
    }

    /// Whether to sleep, until the descriptor can be read: not when it was rung meanwhile.
    pub(crate) fn lie_down(&self) -> bool {
        let asleep = self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if asleep.is_err() {
            self.state.store(AWAKE, Ordering::Release);
        }
        asleep.is_ok()
    }

    /// After a sleep; `heard` when the descriptor could be read. Whoever rings may not have come to its write: then
    /// the next sleep is a short one, which hears it.
    pub(crate) fn wake_up(&self, heard: bool) {
        self.state.store(AWAKE, Ordering::Release);
        if heard {
            let _silent = rustix::io::read(&self.event, &mut [0; 8]).is_err();
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn hears(bell: &Bell) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&now)).expect("polled") == 1
    }

    #[test]
    fn a_ring_before_a_sleep_prevents_it_and_one_within_ends_it() {
        let bell = Bell::new().expect("an event");
        bell.ring();
        assert!(!hears(&bell), "nobody sleeps: no call of the kernel");
        assert!(!bell.lie_down());
        assert!(bell.lie_down());
        bell.ring();
        assert!(hears(&bell));
        bell.wake_up(true);
        assert!(!hears(&bell));
        assert!(bell.lie_down());
        bell.wake_up(false);
        assert!(bell.lie_down());
    }

    #[test]
    fn a_ring_that_comes_late_ends_one_sleep_and_no_more() {
        let bell = Bell::new().expect("an event");
        assert!(bell.lie_down());
        bell.ring();
        // The sleeper woke for another reason, before the ring could be heard.
        bell.wake_up(false);
        assert!(bell.lie_down());
        assert!(hears(&bell));
        bell.wake_up(true);
        assert!(bell.lie_down() && !hears(&bell));
    }
}
