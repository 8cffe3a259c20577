//! Scrubs an array that is served, when enough days have passed since the last one.

use crate::names::{Every, Limit};
use crate::outcome::Failure;
use crate::status::today;
use paritas::error::Error;
use paritas::volume::{Array, JobKind, Pace};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often it looks whether a scrub is due.
const LOOK: Duration = Duration::from_secs(600);
/// How long it lets the array alone when somebody has stopped its scrub.
const REST: Duration = Duration::from_secs(86_400);

/// A thread that does so until it is dismissed.
pub(crate) struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Begins to look after the array. An array that was never scrubbed is due at once.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(array: &Array, every: Every, limit: Limit) -> Result<Option<Keeper>, Failure> {
        let Every(Some(days)) = every else { return Ok(None) };
        let (stop, stopped) = channel();
        let array = array.clone();
        let look = move || keep(&array, days, limit, &stopped);
        let thread = thread::Builder::new().name("keeper".into()).spawn(look);
        let thread = thread.map_err(|error| Failure::io(format!("no thread for scrubs: {error}")))?;
        Ok(Some(Keeper { stop, thread }))
    }

    /// Ends it. The array is closed: a scrub that is under way has ended, and goes on at the next opening.
    pub(crate) fn dismiss(self) {
        // It may have ended with the array.
        let _ended = self.stop.send(()).is_err();
        let _panicked = self.thread.join().is_err();
    }
}

fn keep(array: &Array, days: u16, limit: Limit, stopped: &Receiver<()>) {
    loop {
        let rest = match scrub_when_due(array, days, limit) {
            Err(error) if error.kind() == paritas::error::Kind::Closed => return,
            Err(error) => {
                tracing::warn!("scrub: {error}");
                LOOK
            }
            Ok(true) => REST,
            Ok(false) => LOOK,
        };
        if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Returns whether somebody stopped the scrub.
fn scrub_when_due(array: &Array, days: u16, Limit(limit): Limit) -> Result<bool, Error> {
    let status = array.status()?;
    let is_due = status.scrubbed.is_none_or(|day| today().saturating_sub(day) >= days);
    if !is_due || status.jobs.iter().any(|job| job.running) || array.is_paused(JobKind::Scrub)? {
        return Ok(false);
    }
    let done = array.scrub_paced(Pace { bytes_per_second: limit })?;
    if done.lost > 0 {
        tracing::error!("a scrub found data that is lost: see `paritas status`");
    }
    Ok(done.stopped)
}
