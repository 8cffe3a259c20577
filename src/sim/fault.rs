//! What can go wrong with a simulated member, and how often.

/// A kind of fault. The codes in brackets are those of the fault model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(usize)]
pub enum Fault {
    /// A read returns fewer bytes than asked (D6).
    ShortRead,
    /// A write stores fewer bytes than asked and says so (D6).
    ShortWrite,
    /// A read fails once.
    ReadError,
    /// A block cannot be read until it is rewritten (R3).
    LatentError,
    /// A read returns flipped bits, the next one the right ones (R4).
    UnstableRead,
    /// A read returns what was there before the last write (D4).
    StaleRead,
    /// A read returns the content of another place (D2).
    MisdirectedRead,
    /// A write fails once; any part of it may have been stored.
    WriteError,
    /// A write finds no room; nothing is stored.
    NoSpace,
    /// A write reports success and stores nothing (D3).
    LostWrite,
    /// A write reports success and lands at another place (D1).
    MisdirectedWrite,
    /// A flush fails once; each write it was to cover stays unflushed, is lost at once, or stays readable but is
    /// covered by no later flush (S1).
    FlushError,
    /// A flush reports success and does nothing (D5).
    LyingFlush,
    /// An operation takes long.
    Slow,
    /// An operation completes only when the disk is un-hung (S3).
    Hang,
    /// Operations that hung complete after all, when nobody counts on them any more.
    Late,
    /// The member is gone: every operation fails (S4).
    Vanish,
    /// The member is there again, as it was, and nobody told the engine (S5).
    Flap,
    /// A member returned with content of an earlier time.
    Restored,
    /// Blocks changed at rest (R1, R2).
    Rot,
    /// The power of a disk failed.
    PowerLoss,
    /// It did so before the others' did (P5).
    Freeze,
    /// The process was killed.
    Kill,
    /// The clock on the wall jumped, back or ahead (X1).
    ClockJump,
    /// A block became, in a crash, a mix of what was written to it.
    Torn,
    /// A block lost, in a crash, something that had been written to it but not flushed.
    Unflushed,
}

impl Fault {
    /// All of them, first those of operations.
    pub const ALL: [Fault; 26] = [
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::ReadError,
        Fault::LatentError,
        Fault::UnstableRead,
        Fault::StaleRead,
        Fault::MisdirectedRead,
        Fault::WriteError,
        Fault::NoSpace,
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::FlushError,
        Fault::LyingFlush,
        Fault::Slow,
        Fault::Hang,
        Fault::Late,
        Fault::Vanish,
        Fault::Flap,
        Fault::Restored,
        Fault::Rot,
        Fault::PowerLoss,
        Fault::Freeze,
        Fault::Kill,
        Fault::ClockJump,
        Fault::Torn,
        Fault::Unflushed,
    ];

    /// The faults that strike single operations, by chance or on purpose. The others have methods of their own.
    pub const OF_OPERATIONS: &[Fault] = Fault::ALL.split_at(15).0;

    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::ShortRead => "short read",
            Fault::ShortWrite => "short write",
            Fault::ReadError => "read error",
            Fault::LatentError => "latent error",
            Fault::UnstableRead => "unstable read",
            Fault::StaleRead => "stale read",
            Fault::MisdirectedRead => "misdirected read",
            Fault::WriteError => "write error",
            Fault::NoSpace => "no space",
            Fault::LostWrite => "lost write",
            Fault::MisdirectedWrite => "misdirected write",
            Fault::FlushError => "flush error",
            Fault::LyingFlush => "lying flush",
            Fault::Slow => "slow",
            Fault::Hang => "hang",
            Fault::Late => "late",
            Fault::Vanish => "vanish",
            Fault::Flap => "flap",
            Fault::Restored => "restored",
            Fault::Rot => "rot",
            Fault::PowerLoss => "power loss",
            Fault::Freeze => "freeze",
            Fault::Kill => "kill",
            Fault::ClockJump => "clock jump",
            Fault::Torn => "torn",
            Fault::Unflushed => "unflushed",
        }
    }

    /// The fault's place in a table of [`Fault::OF_OPERATIONS`].
    ///
    /// # Panics
    /// If it does not strike single operations.
    pub(super) fn index(self) -> usize {
        let index = self as usize;
        assert!(index < Fault::OF_OPERATIONS.len(), "{self:?} does not strike single operations");
        index
    }
}

/// How often each fault strikes the operations of a disk. [`Default`] is never.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultPlan {
    per_million: [u32; Fault::OF_OPERATIONS.len()],
}

impl FaultPlan {
    /// A disk without faults.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// The same plan, with `fault` striking `per_million` of a million operations that it can strike.
    ///
    /// # Panics
    /// If the fault is none of [`Fault::OF_OPERATIONS`].
    #[must_use]
    pub fn with(mut self, fault: Fault, per_million: u32) -> FaultPlan {
        self.per_million[fault.index()] = per_million;
        self
    }

    /// How often `fault` strikes, in a million.
    pub(super) fn per_million(&self, fault: Fault) -> u32 {
        self.per_million[fault.index()]
    }
}

/// A kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
}

/// Operations of a disk that fail because of their place in the order of submission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nth {
    /// Their kind; all kinds are counted together for `None`.
    pub op: Option<Op>,
    /// The first of them, from 0 on.
    pub from: u64,
    /// How many.
    pub times: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_operations_has_its_own_place() {
        for (index, fault) in Fault::OF_OPERATIONS.iter().enumerate() {
            assert_eq!(fault.index(), index);
        }
    }

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Fault::ALL.into_iter().map(Fault::name).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        assert_eq!(
            Fault::OF_OPERATIONS.last(),
            Some(&Fault::Hang),
            "what has methods of its own comes behind"
        );
    }

    #[test]
    #[should_panic(expected = "Vanish does not strike single operations")]
    fn a_plan_refuses_faults_that_do_not_strike_operations() {
        let _plan = FaultPlan::none().with(Fault::Vanish, 1);
    }
}
