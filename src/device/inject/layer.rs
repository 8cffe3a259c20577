//! The layer itself: a device that passes operations on, or does not.
//!
//! Invariants:
//! - `armed` is set before an operation can see a fault, and exactly while there is one. So an operation that finds it
//!   unset began before the fault, or after the last one was removed.
//! - An operation that is not struck goes to the device as it came, in the caller's call. One that is late goes there
//!   in that call, too; one that hangs goes there when the faults are removed, if somebody still waits for it and the
//!   array still has the device.
//! - Once a vanishing has struck, every operation fails until the faults are removed.

use super::{Fault, FaultKind, MILLION, Span};
use crate::device::{Aligned, Device, DeviceError, Pending, check_write};
use crate::runtime::executor::split_mix;
use crate::runtime::{Env, Listen, Signal};
use crate::types::BLOCK_U64;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A fault and what it has done since the array was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injection {
    /// The fault.
    pub fault: Fault,
    /// How many operations it has struck. A vanishing strikes once, and then everything fails.
    pub struck: u64,
}

/// The faults of one member. Clones are the same.
#[derive(Clone)]
pub struct Injector {
    shared: Arc<Shared>,
    env: Env,
}

struct Shared {
    armed: AtomicBool,
    state: Mutex<State>,
    /// The faults were removed.
    cleared: Signal,
}

#[derive(Default)]
struct State {
    faults: Vec<Active>,
    gone: bool,
}

struct Active {
    injection: Injection,
    /// The fault's own stream of chance.
    stream: u64,
}

/// What happens to an operation.
#[derive(Default)]
struct Strike {
    delay: Option<Duration>,
    outcome: Option<Outcome>,
}

/// Instead of what was asked for.
enum Outcome {
    Fails(DeviceError),
    /// Until this is notified.
    Hangs(Listen),
    /// A write that succeeds and writes nothing.
    Lost,
    /// A write that lands elsewhere; a number to choose the place by.
    Misdirected(u64),
    /// A read with a wrong bit: so many bits behind its first one.
    Flipped(u64),
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Flush,
}

impl Injector {
    /// No faults yet. Time and chance come from `env`, once there are some.
    pub fn new(env: &Env) -> Injector {
        let cleared = Signal::new();
        let shared = Shared { armed: AtomicBool::new(false), state: Mutex::default(), cleared };
        Injector { shared: Arc::new(shared), env: env.clone() }
    }

    /// The device, under these faults and those to come.
    pub fn over(&self, device: Arc<dyn Device>) -> Injected {
        Injected { device, injector: self.clone() }
    }

    /// Adds a fault, from the next operation on. [`Fault::check`] it first: one that is wrong strikes nothing, or
    /// everything.
    pub fn inject(&self, fault: Fault) {
        let stream = self.env.entropy.next_u64();
        let mut state = self.shared.state.lock();
        state.faults.push(Active { injection: Injection { fault, struck: 0 }, stream });
        self.shared.armed.store(true, Ordering::Relaxed);
    }

    /// The faults in the order in which they were added, which is the order in which they are looked at.
    pub fn list(&self) -> Vec<Injection> {
        self.shared.state.lock().faults.iter().map(|active| active.injection).collect()
    }

    /// Removes all faults and returns them. What hung goes on; what was answered stays answered.
    pub fn clear(&self) -> Vec<Injection> {
        let mut state = self.shared.state.lock();
        let removed = std::mem::take(&mut *state);
        self.shared.armed.store(false, Ordering::Relaxed);
        drop(state);
        self.shared.cleared.notify_all();
        removed.faults.into_iter().map(|active| active.injection).collect()
    }

    /// Whether no fault can strike.
    fn is_idle(&self) -> bool {
        !self.shared.armed.load(Ordering::Relaxed)
    }

    /// What happens to an operation on these bytes, none for a flush: the first fault that strikes decides, a delay
    /// goes together with it.
    fn strike(&self, access: Access, bytes: Span) -> Strike {
        let mut state = self.shared.state.lock();
        if state.gone {
            return Strike { delay: None, outcome: Some(Outcome::Fails(DeviceError::Gone)) };
        }
        let mut strike = Strike::default();
        for active in &mut state.faults {
            let kind = active.injection.fault.kind;
            let is_late = matches!(kind, FaultKind::Slow(_));
            if strike.outcome.is_some() && !is_late {
                continue;
            }
            let Some(span) = active.strikes(access, bytes) else { continue };
            let fails = |what: &str| {
                Some(Outcome::Fails(DeviceError::Io(format!("a {what} error, injected on purpose"))))
            };
            strike.outcome = match kind {
                FaultKind::Slow(delay) => {
                    strike.delay = strike.delay.max(Some(delay));
                    strike.outcome
                }
                FaultKind::ReadError => fails("read"),
                FaultKind::WriteError => fails("write"),
                FaultKind::FlushError => fails("flush"),
                FaultKind::Vanish => Some(Outcome::Fails(DeviceError::Gone)),
                // Under the lock: whoever removes the faults after this notifies it.
                FaultKind::Hang => Some(Outcome::Hangs(self.shared.cleared.listen())),
                FaultKind::LostWrite => Some(Outcome::Lost),
                FaultKind::MisdirectedWrite => Some(Outcome::Misdirected(split_mix(&mut active.stream))),
                FaultKind::BitFlip => {
                    let before = (span.offset - bytes.offset) * 8;
                    Some(Outcome::Flipped(before + active.below(span.len * 8)))
                }
            };
        }
        state.gone = matches!(strike.outcome, Some(Outcome::Fails(DeviceError::Gone)));
        strike
    }
}

impl Active {
    /// Whether the fault strikes this operation, and counts it; if so, which part of it.
    fn strikes(&mut self, access: Access, bytes: Span) -> Option<Span> {
        let fault = self.injection.fault;
        let fits = match fault.kind {
            FaultKind::ReadError | FaultKind::BitFlip => access == Access::Read,
            FaultKind::WriteError | FaultKind::LostWrite | FaultKind::MisdirectedWrite => {
                access == Access::Write
            }
            FaultKind::FlushError => access == Access::Flush,
            FaultKind::Slow(_) | FaultKind::Hang | FaultKind::Vanish => true,
        };
        let span = match fault.range {
            None => bytes,
            Some(range) => range.overlap(bytes)?,
        };
        if !fits || fault.count.is_some_and(|count| self.injection.struck >= count) {
            return None;
        }
        if fault.per_million < MILLION && self.below(MILLION.into()) >= fault.per_million.into() {
            return None;
        }
        self.injection.struck += 1;
        Some(span)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        let scaled = u128::from(split_mix(&mut self.stream)) * u128::from(n);
        u64::try_from(scaled >> 64).expect("less than n")
    }
}

/// A device under an [`Injector`].
pub struct Injected {
    device: Arc<dyn Device>,
    injector: Injector,
}

impl Injected {
    /// The operation, once the faults are removed. It does not keep the device from being given back meanwhile.
    fn hang<T: Send + 'static>(
        &self,
        cleared: Listen,
        operation: impl FnOnce(Arc<dyn Device>) -> Pending<T> + Send + 'static,
    ) -> Pending<T> {
        let device = Arc::downgrade(&self.device);
        Box::pin(async move {
            cleared.await;
            let device = device.upgrade().ok_or(DeviceError::Gone)?;
            operation(device).await
        })
    }

    /// The answer, not before the delay is over.
    fn late<T: Send + 'static>(&self, delay: Option<Duration>, answer: Pending<T>) -> Pending<T> {
        let Some(delay) = delay else { return answer };
        let sleep = self.injector.env.clock.sleep(delay);
        Box::pin(async move {
            let answer = answer.await;
            sleep.await;
            answer
        })
    }

    /// Another place for a write of `len` bytes at `offset`; `None` where there is none.
    fn elsewhere(&self, offset: u64, len: u64, choice: u64) -> Option<u64> {
        let places = self.device.len().checked_sub(len)? / BLOCK_U64;
        let own = offset / BLOCK_U64;
        let place = choice.checked_rem(places)?;
        Some((place + u64::from(place >= own)) * BLOCK_U64)
    }
}

fn span(offset: u64, len: usize) -> Span {
    Span { offset, len: len as u64 }
}

fn ready<T: Send + 'static>(answer: Result<T, DeviceError>) -> Pending<T> {
    Box::pin(std::future::ready(answer))
}

impl Device for Injected {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        if self.injector.is_idle() {
            return self.device.read(offset, len);
        }
        let Strike { delay, outcome } = self.injector.strike(Access::Read, span(offset, len));
        let answer = match outcome {
            Some(Outcome::Fails(error)) => ready(Err(error)),
            Some(Outcome::Hangs(cleared)) => self.hang(cleared, move |device| device.read(offset, len)),
            Some(Outcome::Flipped(bit)) => flipped(self.device.read(offset, len), bit),
            Some(Outcome::Lost | Outcome::Misdirected(_)) | None => self.device.read(offset, len),
        };
        self.late(delay, answer)
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        if self.injector.is_idle() {
            return self.device.write(offset, pieces);
        }
        // Who errs is told so by the device.
        let Ok(len) = check_write(self.device.len(), offset, &pieces) else {
            return self.device.write(offset, pieces);
        };
        let Strike { delay, outcome } = self.injector.strike(Access::Write, span(offset, len));
        let answer = match outcome {
            Some(Outcome::Fails(error)) => ready(Err(error)),
            Some(Outcome::Hangs(cleared)) => self.hang(cleared, move |device| device.write(offset, pieces)),
            Some(Outcome::Lost) => ready(Ok(len)),
            Some(Outcome::Misdirected(choice)) => match self.elsewhere(offset, len as u64, choice) {
                Some(place) => self.device.write(place, pieces),
                None => ready(Ok(len)),
            },
            Some(Outcome::Flipped(_)) | None => self.device.write(offset, pieces),
        };
        self.late(delay, answer)
    }

    fn flush(&self) -> Pending<()> {
        if self.injector.is_idle() {
            return self.device.flush();
        }
        let Strike { delay, outcome } = self.injector.strike(Access::Flush, span(0, 0));
        let answer = match outcome {
            Some(Outcome::Fails(error)) => ready(Err(error)),
            Some(Outcome::Hangs(cleared)) => self.hang(cleared, |device| device.flush()),
            _ => self.device.flush(),
        };
        self.late(delay, answer)
    }
}

/// What is read, but for one bit.
fn flipped(read: Pending<Bytes>, bit: u64) -> Pending<Bytes> {
    Box::pin(async move {
        let bytes = read.await?;
        let mut copy = Aligned::copy_of(&bytes);
        // Fewer bytes than asked may have come.
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        if let Some(byte) = copy.as_mut().get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
        Ok(copy.freeze())
    })
}
