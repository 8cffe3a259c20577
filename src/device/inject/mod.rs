//! Faults on purpose: what a member does wrong because somebody asked for it, to see what comes of it.
//!
//! [`Injected`] is a device over a device. While nothing is injected it passes every operation on, which costs the
//! look at one flag; an [`Injector`] is the hand on the switch, also while the array is in use. [`sidecar`] keeps
//! faults from one opening to the next, in a text file beside the member; [`rot()`] damages the member itself, at once.
//!
//! | kind | strikes | what the array sees |
//! | --- | --- | --- |
//! | `read-error` | reads | an I/O error |
//! | `write-error` | writes | an I/O error; nothing was written |
//! | `flush-error` | flushes | an I/O error; nothing was flushed |
//! | `slow` | all | the answer, later |
//! | `hang` | all | no answer until the fault is removed; till then the operation does not reach the device |
//! | `lost-write` | writes | success; nothing was written |
//! | `misdirected-write` | writes | success; the bytes are elsewhere on the member |
//! | `bit-flip` | reads | one bit is wrong, and may be right in the next read |
//! | `vanish` | all | the device is gone, for this operation and every later one, until the fault is removed |
//!
//! Whether a fault strikes an operation that it could strike is drawn from a generator of its own, whose seed comes
//! from [`Env::entropy`](crate::runtime::Env): under a simulator one seed takes one course.

mod layer;
mod rot;
pub mod sidecar;
#[cfg(test)]
mod tests;
mod text;

pub use layer::{Injected, Injection, Injector};
pub use rot::{Rot, rot};
pub use text::{parse_chance, parse_delay};

use std::time::Duration;

/// What [`Fault::per_million`] counts in.
pub const MILLION: u32 = 1_000_000;

/// What a member does wrong. The table above says what each one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// A read fails.
    ReadError,
    /// A write fails and writes nothing.
    WriteError,
    /// A flush fails and flushes nothing.
    FlushError,
    /// An operation is carried out at once, and answered this late at the earliest. Delays do not add up: of
    /// several, the longest counts. It goes together with one other kind.
    Slow(Duration),
    /// An operation does not get through until the fault is removed.
    Hang,
    /// A write succeeds and writes nothing.
    LostWrite,
    /// A write succeeds and lands elsewhere on the member.
    MisdirectedWrite,
    /// A read returns one wrong bit.
    BitFlip,
    /// The member is gone from here on.
    Vanish,
}

/// Bytes of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first one.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl Span {
    /// What both have, if they have any.
    fn overlap(self, other: Span) -> Option<Span> {
        let start = self.offset.max(other.offset);
        let end = self.offset.saturating_add(self.len).min(other.offset.saturating_add(other.len));
        (start < end).then(|| Span { offset: start, len: end - start })
    }
}

/// A fault: what, where, how often. It is written as `KIND [range=OFF+LEN] [chance=N/M] [count=N] [delay=TIME]`, such
/// as `read-error range=1M+64K chance=1/100`, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To operations that touch these bytes of the member; to all, flushes among them, when `None`.
    pub range: Option<Span>,
    /// To so many of a million of them, by chance.
    pub per_million: u32,
    /// So many times at most, counted anew by every opening; without end when `None`.
    pub count: Option<u64>,
}

impl Fault {
    /// Always, everywhere, without end.
    pub fn new(kind: FaultKind) -> Fault {
        Fault { kind, range: None, per_million: MILLION, count: None }
    }

    /// The same fault, for operations that touch these bytes.
    #[must_use]
    pub fn within(self, offset: u64, len: u64) -> Fault {
        Fault { range: Some(Span { offset, len }), ..self }
    }

    /// The same fault, for so many of a million operations.
    #[must_use]
    pub fn per_million(self, per_million: u32) -> Fault {
        Fault { per_million, ..self }
    }

    /// The same fault, so many times at most.
    #[must_use]
    pub fn times(self, count: u64) -> Fault {
        Fault { count: Some(count), ..self }
    }

    /// Whether the member is gone from the first operation on, whichever that is.
    pub fn is_gone(&self) -> bool {
        self.kind == FaultKind::Vanish && self.range.is_none() && self.per_million == MILLION
    }

    /// What is wrong with the fault, for a member of `len` bytes, if anything is.
    ///
    /// # Errors
    /// A sentence: an empty range or one that begins past the end, a range for flushes, which have none, a chance
    /// that is none or more than all, a count or a delay of nothing.
    pub fn check(&self, len: u64) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{}: {what}", self.kind.name()));
        match self.range {
            Some(_) if self.kind == FaultKind::FlushError => return wrong("a flush has no range"),
            Some(Span { len: 0, .. }) => return wrong("an empty range"),
            Some(Span { offset, len: bytes }) if offset.checked_add(bytes).is_none() => {
                return wrong("a range that ends nowhere");
            }
            Some(Span { offset, .. }) if offset >= len => {
                return wrong(&format!("a range that begins at {offset}, past the member's end at {len}"));
            }
            _ => {}
        }
        match (self.per_million, self.count, self.kind) {
            (0 | 1_000_001.., _, _) => wrong("a chance is more than none and at most all"),
            (_, Some(0), _) => wrong("a count of nothing"),
            (_, _, FaultKind::Slow(Duration::ZERO)) => wrong("a delay of nothing"),
            _ => Ok(()),
        }
    }
}
