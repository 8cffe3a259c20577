//! The thread of a device: it takes requests, begins them, answers those that are done, and sleeps when there is
//! nothing of that. It never waits for the engine.
//!
//! There is one, and one call of the kernel for each round of it: what is answered goes to the kernel with the call
//! that waits for what comes next. What is in flight is bounded by the requests that the kernel has for the device.

use super::ring::Ring;
use super::tasks::Tasks;
use crate::frontend::bell::Bell;
use crate::frontend::ublk::wire::{GONE, Transfer};
use rustix::io::Errno;
use std::io;

/// Serves until the device goes.
///
/// # Errors
/// When the kernel takes no more answers. The device fails then, as the ring goes with this thread.
pub(super) fn serve(ring: &mut Ring, tasks: &mut Tasks, bell: &Bell, depth: u16) -> io::Result<()> {
    (0..depth).for_each(|tag| ring.ask(tag, Transfer::Fetch));
    let mut left = depth;
    let mut woken = Vec::new();
    loop {
        tasks.woken(&mut woken);
        for tag in woken.drain(..) {
            if let Some(result) = tasks.look(tag) {
                ring.ask(tag, Transfer::Commit(result));
            }
        }
        while let Some((tag, said)) = ring.next() {
            match said {
                0 => {
                    if let Some(result) = tasks.begin(tag) {
                        ring.ask(tag, Transfer::Commit(result));
                    }
                }
                GONE => left -= 1,
                _ => {
                    let error = Errno::from_raw_os_error(said.wrapping_neg());
                    return Err(io::Error::other(format!("it takes no answer: {error}")));
                }
            }
        }
        if left == 0 {
            return Ok(());
        }
        let asleep = bell.lie_down();
        let entered = ring.enter(asleep);
        if asleep {
            bell.wake_up(false);
        }
        entered?;
    }
}
