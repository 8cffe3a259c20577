//! The ports of time and chance, and what they are in production. The engine asks nobody else (rule 12).

use super::executor::Spawner;
use super::timer::Timers;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A future that resolves when a time has passed.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Seconds since 1970, for people to read. It may jump: nothing is decided by it (rule 8).
    fn wall_seconds(&self) -> u64;
    /// Resolves when `duration` has passed since this call.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// Where chance comes from: identities and nonces.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}

/// What an engine is given from outside, besides its members.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Where tasks go.
    pub spawner: Spawner,
}

impl Env {
    /// The system's clock, whose thread runs already, its randomness, and this executor.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn system(spawner: Spawner) -> io::Result<Env> {
        let clock = SystemClock::new();
        clock.timers.start()?;
        Ok(Env { clock: Arc::new(clock), entropy: Arc::new(OsEntropy), spawner })
    }
}

/// The system's clock. The first sleep, or [`Env::system`], starts one thread, which serves all sleeps and rests
/// between them.
pub struct SystemClock {
    start: Instant,
    timers: Arc<Timers>,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now(), timers: Arc::new(Timers::new()) }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// # Panics
    /// If the system gives no thread for the first sleep of a clock that is not that of [`Env::system`].
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(Timers::sleep(&self.timers, duration))
    }
}

/// The operating system's random number generator.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// If the operating system has no randomness: identities that may repeat are worse than none.
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("the operating system's random number generator answers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Driver;

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_and_not_before() {
        let driver = Driver::start("test").expect("a thread");
        let clock = Arc::new(SystemClock::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        for millis in [60, 20, 40] {
            let (clock, sender) = (clock.clone(), sender.clone());
            driver.spawner().spawn(async move {
                let before = clock.monotonic();
                clock.sleep(Duration::from_millis(millis)).await;
                let slept = clock.monotonic() - before;
                sender.send((millis, slept >= Duration::from_millis(millis))).expect("the test listens");
            });
        }
        let ended: Vec<_> = receiver.iter().take(3).collect();
        assert_eq!(ended, [(20, true), (40, true), (60, true)]);
    }

    #[test]
    fn a_short_sleep_ends_although_a_long_one_began_before_it() {
        let driver = Driver::start("test").expect("a thread");
        let clock = SystemClock::new();
        let _long = clock.sleep(Duration::from_secs(3600));
        std::thread::sleep(Duration::from_millis(30));
        let short = clock.sleep(Duration::from_millis(1));
        let (sender, receiver) = std::sync::mpsc::channel();
        driver.spawner().spawn(async move {
            short.await;
            sender.send(()).expect("the test listens");
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn a_sleep_outlives_the_handle_of_its_clock() {
        let driver = Driver::start("test").expect("a thread");
        let clock = SystemClock::new();
        let sleep = clock.sleep(Duration::from_millis(30));
        let before = Instant::now();
        drop(clock);
        driver.block_on(sleep).expect("alive");
        assert!(before.elapsed() >= Duration::from_millis(29));
    }

    #[test]
    fn a_sleep_without_end_does_not_overflow() {
        let clock = SystemClock::new();
        drop(clock.sleep(Duration::MAX));
    }

    #[test]
    fn the_wall_clock_is_past_2020_and_entropy_does_not_repeat() {
        assert!(SystemClock::new().wall_seconds() > 1_577_836_800);
        assert_ne!(OsEntropy.next_u64(), OsEntropy.next_u64());
    }
}
