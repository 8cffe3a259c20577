//! A device that answers in time, or fails.
//!
//! A member that hangs is as bad as one that is gone. An operation that is given up is not cancelled: it owns
//! its buffers, and may still take effect. So whoever gives up a write must not use the member again.

use super::{Device, DeviceError, Pending};
use crate::runtime::{Clock, Sleep};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Passes operations on, and answers [`DeviceError::Hangs`] for those that take longer than a limit.
pub struct Deadline {
    device: Arc<dyn Device>,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl Deadline {
    /// `device` with a limit to each operation.
    pub fn new(device: Arc<dyn Device>, clock: Arc<dyn Clock>, limit: Duration) -> Deadline {
        Deadline { device, clock, limit }
    }

    fn race<T: 'static>(&self, pending: Pending<T>) -> Pending<T> {
        Box::pin(Race { pending, limit: self.clock.sleep(self.limit) })
    }
}

impl Device for Deadline {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        self.race(self.device.read(offset, len))
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        self.race(self.device.write(offset, pieces))
    }

    fn flush(&self) -> Pending<()> {
        self.race(self.device.flush())
    }
}

/// An operation against its limit.
pub(super) struct Race<T> {
    pub(super) pending: Pending<T>,
    pub(super) limit: Sleep,
}

impl<T> Future for Race<T> {
    type Output = Result<T, DeviceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = self.pending.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        self.limit.as_mut().poll(context).map(|()| Err(DeviceError::Hangs))
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
}
