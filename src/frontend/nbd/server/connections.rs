//! All connections of a server: what they may have together, how they begin and how they end.

use super::budget::Budget;
use super::limits::Limits;
use super::listen::Socket;
use crate::frontend::bell::Bell;
use crate::frontend::complaints::Complaints;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the one that admits rests when the system has no more threads to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Connections {
    pub(super) limits: Limits,
    pub(super) budget: Arc<Budget>,
    pub(super) complaints: Complaints,
    is_stopping: AtomicBool,
    open: Mutex<BTreeMap<u64, Arc<Bell>>>,
    left: Condvar,
}

impl Connections {
    pub(super) fn new(limits: Limits, complain: impl Fn(&str) + Send + Sync + 'static) -> Connections {
        Connections {
            budget: Budget::new(limits.bytes),
            limits,
            complaints: Complaints::new(complain),
            is_stopping: AtomicBool::new(false),
            open: Mutex::default(),
            left: Condvar::new(),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Each answers what it has accepted, and ends.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.open.lock().values().for_each(|bell| bell.ring());
    }

    /// A thread for a client that serves it, unless there are too many. Whether there is one.
    pub(super) fn admit(
        self: &Arc<Connections>,
        number: u64,
        socket: Socket,
        serve: impl FnOnce(Socket, Arc<Bell>) + Send + 'static,
    ) -> bool {
        let Ok(bell) = Bell::new() else {
            self.complaints.tell("no event of the kernel for a client");
            return false;
        };
        {
            let mut open = self.open.lock();
            if open.len() >= self.limits.connections {
                drop(open);
                self.complaints.tell(&format!("{socket}: turned away, too many are connected"));
                return false;
            }
            open.insert(number, bell.clone());
        }
        // Whoever stopped the server before that has not rung this one.
        if self.is_stopping() {
            bell.ring();
        }
        let connections = self.clone();
        let thread = std::thread::Builder::new().name(format!("nbd {number}"));
        let spawned = thread.spawn(move || {
            serve(socket, bell);
            connections.leave(number);
        });
        if let Err(error) = &spawned {
            self.leave(number);
            self.complaints.tell(&format!("no thread for a client: {error}"));
            std::thread::sleep(EXHAUSTED);
        }
        spawned.is_ok()
    }

    fn leave(&self, number: u64) {
        self.open.lock().remove(&number);
        self.left.notify_all();
    }

    /// Waits until all have ended, which were told to.
    pub(super) fn wait(&self) {
        // Each keeps to the same limit; this is for one that the system keeps from running.
        let until = Instant::now() + 2 * self.limits.farewell;
        let mut open = self.open.lock();
        while !open.is_empty() && !self.left.wait_until(&mut open, until).timed_out() {}
    }
}
