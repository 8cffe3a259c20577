//! Deliberately wrong variants of the engine, by which the simulator is measured: one that has never found a
//! planted bug has proven nothing. Compiled in only by the feature `zoo`; otherwise `Bugs::has` is a
//! constant `false` and nothing remains of them.

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A flush answers without flushing the members.
    SkipFlush,
    /// Replay takes a record header whose checksum does not match.
    HeaderUnchecked,
    /// A dead segment's chunks are reused before the checkpoint that frees them is durable.
    ReuseEarly,
    /// Reconstruction uses blocks without verifying them, and trusts the result.
    ParityUnverified,
    /// Replay forgets trims.
    TrimForgotten,
    /// A block that the cleaner moved enters the map although it was overwritten meanwhile.
    MoveOverwrites,
    /// A strong volume is made before the metadata that is there already is as strong.
    PagesLeftWeak,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 7] = [
        Bug::SkipFlush,
        Bug::HeaderUnchecked,
        Bug::ReuseEarly,
        Bug::ParityUnverified,
        Bug::TrimForgotten,
        Bug::MoveOverwrites,
        Bug::PagesLeftWeak,
    ];
}

/// The bugs planted in one engine.
#[cfg(feature = "zoo")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bugs(Option<Bug>);

#[cfg(feature = "zoo")]
impl Bugs {
    /// An engine without.
    pub const NONE: Bugs = Bugs(None);

    /// An engine with this bug.
    pub fn planted(bug: Bug) -> Bugs {
        Bugs(Some(bug))
    }

    pub(crate) fn has(self, bug: Bug) -> bool {
        self.0 == Some(bug)
    }
}

/// The bugs planted in one engine: none.
#[cfg(not(feature = "zoo"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bugs;

#[cfg(not(feature = "zoo"))]
impl Bugs {
    /// An engine without.
    pub const NONE: Bugs = Bugs;

    pub(crate) const fn has(self, _bug: Bug) -> bool {
        false
    }
}

/// Where a record header has its checksum.
const CRC_AT: usize = 8;

/// The block with its checksum made to fit: what a reader sees that does not look at checksums.
pub(crate) fn resealed(block: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();
    let crc = crate::checksum::crc64_around(&block, CRC_AT);
    block[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
    block
}
