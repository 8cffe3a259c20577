//! What is said about clients and requests that fail: a few lines, however many there are.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Lines that may be said in one go, and the time after which another one may be.
const BURST: u32 = 10;
const PACE: Duration = Duration::from_secs(5);

/// Says what failed, and no more than somebody can read.
pub(crate) struct Complaints {
    tell: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<Silence>,
}

struct Silence {
    left: u32,
    since: Instant,
    unsaid: u64,
}

impl Complaints {
    pub(crate) fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Complaints {
        let state = Silence { left: BURST, since: Instant::now(), unsaid: 0 };
        Complaints { tell: Box::new(tell), state: Mutex::new(state) }
    }

    pub(crate) fn tell(&self, text: &str) {
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
