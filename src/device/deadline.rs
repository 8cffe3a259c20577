//! A device that answers in time, or fails.
//!
//! A member that hangs is as bad as one that is gone. An operation that is given up is not cancelled: it owns
//! its buffers, and may still take effect. So whoever gives up a write must not use the member again.
//!
//! The limit is waited for in two parts. The second begins when the engine has seen the first end, and then it sees
//! answers, too: a process that was stopped, or a machine that slept, longer than the limit blames no device for it.

use super::meter::{Meter, Operation, Tally};
use super::{Device, DeviceError, Pending};
use crate::runtime::{Clock, Sleep};
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Which part of the limit the second one is.
const LAST_PART: u32 = 10;

/// Passes operations on, and answers [`DeviceError::Hangs`] for those that take longer than a limit. Counts them, and
/// how long they take.
pub struct Deadline {
    device: Arc<dyn Device>,
    clock: Arc<dyn Clock>,
    limit: Duration,
    meter: Meter,
}

impl Deadline {
    /// `device` with a limit to each operation.
    pub fn new(device: Arc<dyn Device>, clock: Arc<dyn Clock>, limit: Duration) -> Deadline {
        Deadline { device, clock, limit, meter: Meter::default() }
    }

    fn race<T: 'static>(
        &self,
        operation: Operation,
        pending: Pending<T>,
        bytes: fn(&T) -> usize,
    ) -> Pending<T> {
        if planted(Bug::DeadlineMissing) {
            return pending;
        }
        let last = self.limit / LAST_PART;
        let limit = self.clock.sleep(self.limit - last);
        let tally = Some(self.meter.begin(operation, self.clock.monotonic()));
        Box::pin(Timed {
            race: Race { pending, limit, last: Some((self.clock.clone(), last)) },
            clock: self.clock.clone(),
            tally,
            bytes,
        })
    }
}

impl Device for Deadline {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.race(Operation::Read, self.device.read(offset, len), Bytes::len)
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        self.race(Operation::Write, self.device.write(offset, pieces), |written| *written)
    }

    fn flush(&self) -> Pending<()> {
        self.race(Operation::Flush, self.device.flush(), |()| 0)
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.meter)
    }
}

/// An operation against its limit, and how long it takes.
struct Timed<T> {
    race: Race<T>,
    clock: Arc<dyn Clock>,
    /// Until it has ended.
    tally: Option<Tally>,
    /// How many it has moved.
    bytes: fn(&T) -> usize,
}

impl<T> Future for Timed<T> {
    type Output = Result<T, DeviceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.race).poll(context));
        if let Some(tally) = self.tally.take() {
            let bytes = answer.as_ref().ok().map(|moved| (self.bytes)(moved) as u64);
            tally.end(bytes, self.clock.monotonic());
        }
        Poll::Ready(answer)
    }
}

/// An operation against its limit.
pub(super) struct Race<T> {
    pub(super) pending: Pending<T>,
    pub(super) limit: Sleep,
    /// How much longer it takes once `limit` is over.
    pub(super) last: Option<(Arc<dyn Clock>, Duration)>,
}

impl<T> Future for Race<T> {
    type Output = Result<T, DeviceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = self.pending.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        while self.limit.as_mut().poll(context).is_ready() {
            match self.last.take() {
                Some((clock, last)) => self.limit = clock.sleep(last),
                None => return Poll::Ready(Err(DeviceError::Hangs)),
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Executor, Order, ticket};
    use crate::types::BLOCK;

    /// A device that never answers, and a clock that rings at once when told to.
    struct Dead;

    impl Device for Dead {
        fn len(&self) -> u64 {
            1 << 20
        }
        fn read(&self, _: u64, _: usize) -> Pending<Bytes> {
            Box::pin(std::future::pending())
        }
        fn write(&self, _: u64, _: Vec<Bytes>) -> Pending<usize> {
            Box::pin(std::future::ready(Ok(BLOCK)))
        }
        fn flush(&self) -> Pending<()> {
            Box::pin(std::future::pending())
        }
    }

    struct Bell;

    impl Clock for Bell {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn wall_seconds(&self) -> u64 {
            0
        }
        fn sleep(&self, _: Duration) -> Sleep {
            Box::pin(std::future::ready(()))
        }
    }

    fn answer<T: Send + 'static>(pending: Pending<T>) -> Result<T, DeviceError> {
        let executor = Executor::new(Order::Fifo);
        let (completer, waiting) = ticket();
        executor.spawner().spawn(async move { completer.complete(pending.await) });
        executor.run_until_stalled();
        waiting.wait().expect("answered")
    }

    #[test]
    fn what_hangs_fails_when_its_time_is_over_and_what_answers_in_time_does_not() {
        let device = Deadline::new(Arc::new(Dead), Arc::new(Bell), Duration::from_secs(1));
        assert_eq!(answer(device.read(0, BLOCK)), Err(DeviceError::Hangs));
        assert_eq!(answer(device.flush()), Err(DeviceError::Hangs));
        assert_eq!(answer(device.write(0, Vec::new())), Ok(BLOCK));
    }
    /// A clock that a test winds on: a sleep ends in the poll that finds its time over.
    #[derive(Default)]
    struct Wound(Arc<std::sync::atomic::AtomicU64>);

    impl Clock for Wound {
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(std::sync::atomic::Ordering::Relaxed))
        }
        fn wall_seconds(&self) -> u64 {
            0
        }
        fn sleep(&self, duration: Duration) -> Sleep {
            let (end, now) = (self.monotonic() + duration, Wound(self.0.clone()));
            Box::pin(std::future::poll_fn(move |_| match now.monotonic() >= end {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }))
        }
    }

    #[test]
    fn a_process_that_was_stopped_longer_than_the_limit_looks_for_the_answer_before_it_blames_the_device() {
        let now = Arc::<std::sync::atomic::AtomicU64>::default();
        let wind = |seconds| now.store(seconds, std::sync::atomic::Ordering::Relaxed);
        let limit = Duration::from_secs(30);
        let device = Deadline::new(Arc::new(Dead), Arc::new(Wound(now.clone())), limit);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut read = device.read(0, BLOCK);
        for (seconds, hangs) in [(26, false), (100, false), (102, false), (103, true)] {
            wind(seconds);
            assert_eq!(read.as_mut().poll(&mut context).is_ready(), hangs, "at {seconds}");
        }
        wind(0);
        let mut read = device.read(0, BLOCK);
        for (seconds, hangs) in [(27, false), (29, false), (30, true)] {
            wind(seconds);
            assert_eq!(read.as_mut().poll(&mut context).is_ready(), hangs, "at {seconds}");
        }
    }
}
