//! How fast calls may come while the cleaner is at work: so that what is free lasts until its round is over. Pure.
//!
//! Invariants:
//! - All calls together keep the pace, however many threads they come from: each takes its time behind those before.
//! - Nobody is kept longer than [`WAIT_MAX`] by it: it smooths, and what is short in the end is decided elsewhere.

use std::time::Duration;

/// The longest that one call is kept.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Shorter waits are taken together: the timer is not finer.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// What a round is believed to take before one was measured.
const FIRST: Duration = Duration::from_millis(100);
/// A round that takes longer than the last ones is believed to go on for one in so many parts of what these took.
const LEFT_MIN: u32 = 8;
/// Of what is free one in so many parts is for calls while a round is under way. The cleaner fills segments itself
/// before it frees any, and the next round begins with what is left.
const SPENT: u64 = 2;

/// The pace of calls.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// What a round takes: the mean, the last ones counting most.
    round: Duration,
    /// When the round under way began.
    begun: Duration,
    /// When what was let in so far has had its time.
    taken: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { round: FIRST, begun: Duration::ZERO, taken: Duration::ZERO }
    }
}

impl Pace {
    /// A round of the cleaner begins.
    pub(super) fn begin(&mut self, now: Duration) {
        self.begun = now;
    }

    /// The round is over, and has freed something.
    pub(super) fn end(&mut self, now: Duration) {
        self.round = (self.round + now.saturating_sub(self.begun)) / 2;
    }

    /// A call of so many blocks comes at `now`, while there is room for `free`. How long it is to wait.
    pub(super) fn take(&mut self, now: Duration, blocks: u64, free: u64) -> Duration {
        let left = self.round.saturating_sub(now.saturating_sub(self.begun)).max(self.round / LEFT_MIN);
        let share = (free / SPENT).max(1);
        let cost = left.as_nanos() * u128::from(blocks) / u128::from(share);
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        // What was not taken while nobody came is not saved up.
        self.taken = self.taken.max(now).saturating_add(cost).min(now + WAIT_MAX);
        let wait = self.taken - now;
        if wait < WAIT_MIN { Duration::ZERO } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Rounds take a second, and one begins.
    fn pace() -> Pace {
        Pace { round: 1000 * MILLI, begun: Duration::ZERO, taken: Duration::ZERO }
    }

    #[test]
    fn what_is_free_lasts_until_the_round_is_over_and_calls_come_at_one_pace() {
        let (mut pace, mut now, mut free) = (pace(), Duration::ZERO, 4000);
        let mut rates = Vec::new();
        for _ in 0..10 {
            let before = free;
            while now < 100 * MILLI * u32::try_from(rates.len() + 1).expect("few") {
                now += pace.take(now, 1, free).max(MILLI / 20);
                free -= 1;
            }
            rates.push(before - free);
        }
        assert!((400..1600).contains(&free), "{free}: {rates:?}");
        assert!(rates.iter().all(|rate| (150..600).contains(rate)), "{rates:?}");
    }

    #[test]
    fn calls_come_one_behind_the_other_and_save_nothing_up() {
        let mut pace = pace();
        let waits: Vec<Duration> = (0..3).map(|_| pace.take(Duration::ZERO, 3, 1000)).collect();
        assert_eq!(waits, [6 * MILLI, 12 * MILLI, 18 * MILLI]);
        assert_eq!(pace.take(500 * MILLI, 3, 1000), 3 * MILLI, "half of the round is over");
        assert_eq!(pace.take(5000 * MILLI, 12, 1000), 3 * MILLI, "it should have been over");
    }

    #[test]
    fn short_waits_are_taken_together_and_long_ones_have_an_end() {
        let mut pace = pace();
        let waits: Vec<Duration> = (0..5).map(|_| pace.take(Duration::ZERO, 1, 8000)).collect();
        assert!(
            waits[..3].iter().all(Duration::is_zero) && waits[3] >= MILLI && waits[4] > waits[3],
            "{waits:?}"
        );
        assert_eq!(pace.take(MILLI, 256, 0), WAIT_MAX);
        assert_eq!(pace.take(MILLI, 1, 100), WAIT_MAX, "nor do those behind wait longer");
    }

    #[test]
    fn where_much_is_free_nobody_waits_and_the_pace_follows_the_rounds() {
        let mut pace = pace();
        assert!((0..1000).all(|_| pace.take(Duration::ZERO, 1, 100_000_000).is_zero()));
        for _ in 0..20 {
            pace.begin(50 * MILLI);
            pace.end(60 * MILLI);
        }
        assert!(pace.round < 11 * MILLI, "{:?}", pace.round);
    }
}
