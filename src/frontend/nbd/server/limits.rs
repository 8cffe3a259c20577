//! What clients may take, and how much is said about those that take more.

use crate::frontend::nbd::wire::PAYLOAD_MAX;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// What clients may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time. More are closed at once.
    pub connections: usize,
    /// Requests of one connection in flight. More wait in its socket.
    pub requests: usize,
    /// Bytes of one connection in flight, read or written. One request of any size is always among them.
    pub connection_bytes: u64,
    /// Bytes of all connections in flight.
    pub bytes: u64,
    /// How long the handshake may take, with that of TLS.
    pub handshake: Duration,
    /// How long a client may be silent in the middle of a request, or not take anything of its replies.
    pub stall: Duration,
    /// How long a request's bytes may take to arrive in all.
    pub request: Duration,
    /// How long what is in flight may take when the server stops.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            requests: 128,
            connection_bytes: 2 * PAYLOAD_MAX as u64,
            bytes: 16 * PAYLOAD_MAX as u64,
            handshake: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            request: Duration::from_secs(300),
            farewell: Duration::from_secs(10),
        }
    }
}

/// Lines that may be said in one go, and the time after which another one may be.
const BURST: u32 = 10;
const PACE: Duration = Duration::from_secs(5);

/// Says what failed, and no more than somebody can read.
pub(super) struct Complaints {
    tell: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<Silence>,
}

struct Silence {
    left: u32,
    since: Instant,
    unsaid: u64,
}

impl Complaints {
    pub(super) fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Complaints {
        let state = Silence { left: BURST, since: Instant::now(), unsaid: 0 };
        Complaints { tell: Box::new(tell), state: Mutex::new(state) }
    }

    pub(super) fn tell(&self, text: &str) {
        let unsaid = {
            let mut state = self.state.lock();
            let rested = state.since.elapsed().as_secs() / PACE.as_secs();
            if rested > 0 {
                state.left = state.left.saturating_add(u32::try_from(rested).unwrap_or(BURST)).min(BURST);
                state.since = Instant::now();
            }
            if state.left == 0 {
                state.unsaid += 1;
                return;
            }
            state.left -= 1;
            std::mem::take(&mut state.unsaid)
        };
        match unsaid {
            0 => (self.tell)(text),
            _ => (self.tell)(&format!("{text} ({unsaid} other complaints were left out)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_thousand_complaints_are_a_few_lines() {
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        let complaints = Complaints::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (0..1000).for_each(|_| complaints.tell("it failed"));
        assert!((BURST..BURST + 3).contains(&told.load(Ordering::Relaxed)));
    }
}
