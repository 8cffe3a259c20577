//! Deliberately wrong variants of the engine, by which the simulator is measured: one that has never found a
//! planted bug has proven nothing. Each is a condition at the place where the mistake could be made. They are
//! compiled in only by the feature `zoo`; otherwise `planted` is a constant `false` and nothing remains of them.
//!
//! A bug is planted for one thread (`with`). A simulated run never leaves its thread, so that threads may run
//! different bugs at once.

/// An enum with the list of all its names.
macro_rules! listed {
    ($(#[$what:meta])* $list:ident: $($(#[$doc:meta])* $name:ident,)*) => {
        $(#[$what])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $list {
            $($(#[$doc])* $name,)*
        }

        impl $list {
            /// All of them.
            pub const ALL: &[$list] = &[$($list::$name,)*];
        }
    };
}

mod marks;

pub use marks::Mark;
#[cfg(feature = "zoo")]
pub use marks::take as take_marks;
pub(crate) use marks::{reach, reach_if};

listed! {
    /// A planted bug.
    Bug:

    /// A flush answers without flushing the members.
    SkipFlush,
    /// A record header is taken whose checksum does not match.
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
    /// A record header is taken wherever it is found, whatever place it names.
    HeaderMisplaced,
    /// Every superblock goes to the first slot of its ring, over the newest good copy.
    RingStuck,
    /// Of the superblocks of one epoch, any may be elected.
    ElectByEpoch,
    /// That a member was lost is not told.
    EventForgotten,
    /// A new epoch does not remember the one that it follows.
    HistoryForgotten,
    /// A rebuild puts a column on a member that has another one of the segment.
    TwoColumnsOnOneMember,
    /// The log enters chunks that no checkpoint lists.
    OffRunway,
    /// A chunk of each segment that is freed is not free.
    ChunkLeaked,
    /// User data takes the chunks that are kept for checkpoints and for the cleaner.
    ReserveIgnored,
    /// A segment is freed once the log has left it, whatever still points to it.
    FreedWhileLive,
    /// A block that could be read is returned whatever it is.
    ReadUnverified,
    /// Reconstruction stops reading when it has one good block too few.
    OneTooFew,
    /// What was reconstructed is written to the column beside the one that was damaged.
    HealElsewhere,
    /// The last row of a record has no parity.
    LastRowUnprotected,
    /// Scrub finds that parity is wrong, and leaves it.
    ScrubWithoutParity,
    /// Recovery leaves a torn record without the headers that were not written.
    MendWithoutHeaders,
    /// Scrub leaves headers that are damaged.
    ScrubWithoutHeaders,
    /// A rebuild leaves zeros where parity should be.
    RefillZeros,
    /// A rebuild does not write the headers of a new column.
    RefillHeadless,
    /// A flush that failed is tried again, and trusted when it succeeds.
    TrustFlushRetry,
    /// A write that stored a part counts as a whole one.
    ShortWriteTaken,
    /// What is left of a short write is written from the beginning of the bytes.
    ShortWriteRestarts,
    /// An operation may take for ever.
    DeadlineMissing,
    /// Replay goes on behind a gap in a history.
    GapIgnored,
    /// Replay keeps only what a later record says was durable.
    CutEarly,
    /// Replay takes a record by its header alone, without looking for its blocks.
    TornTaken,
    /// Of records that count only together, some count alone.
    GroupIncomplete,
    /// Replay takes a header that a freed segment left in a chunk for that of a new segment.
    FreedReplayed,
    /// A read finds the oldest state of a block in the write buffer.
    OldestBuffered,
    /// A batch that is durable enters the map before one that came earlier.
    BatchesSwapped,
    /// A trim leaves the blocks that wait in its own batch.
    TrimSparesBatch,
    /// After an eviction nobody writes again what was under way.
    StartOverForgotten,
    /// A flush answers when the records are written, and does not wait until they are durable.
    FlushEarly,
    /// The superblock is written before the pages that it names are durable.
    SwapCommits,
    /// A checkpoint is tried again with a new cut, without what the one that failed had frozen.
    CutForgotten,
    /// A checkpoint carries the mark of the opening before: replay looks for that one's records.
    NonceStale,
    /// A checkpoint says that it has what came after its cut.
    CutLate,
    /// A checkpoint says of an open segment that it covers rows which came after its cut.
    RowsOfLater,
    /// The segment table is written without the segments that are new.
    DirtyForgotten,
    /// A long trim goes through pages that a merge has made and not written yet.
    PagesUnwritten,
    /// A checkpoint that fails leaves the live counts as if it had not.
    CountsKept,
    /// What waits in the write buffer is not counted when a write is accepted.
    ClaimForgotten,
    /// A write of new blocks is accepted however full the array is.
    AdmitAll,
    /// A volume is made before the checkpoint that says so is durable.
    CreateUnsynced,
    /// A volume is deleted before the checkpoint that says so is durable.
    DeleteUnsynced,
    /// What a checkpoint is merging is believed before what came after it.
    FrozenFirst,
    /// A merge keeps the older of two blocks with one address.
    MergeKeepsOld,
    /// A merge forgets what comes behind the last entry of a leaf.
    MergeDropsLast,
    /// A trim leaves its last block.
    TrimShort,
    /// A long trim leaves its last block in the tree.
    LongTrimShort,
    /// A long trim is not seen before a checkpoint has followed it.
    LongTrimUnseen,
    /// The page cache takes pages of one row for one another.
    CacheMixesColumns,
    /// A walk over a tree leaves out a leaf behind each that it visits.
    ScanSkips,
    /// A trim leaves a block alone that the cleaner is moving: the copy brings it back.
    TrimSparesMoves,
    /// A replaced member is wiped before all that it held is rebuilt.
    LeftTooEarly,
    /// A write that covers a part of a block zeroes the rest of it.
    EdgeZeroed,
    /// A write that covers a part of a block takes the rest from before what others wrote meanwhile.
    EditStale,
    /// A block that is lost reads as zeros.
    LossReadsZeros,
    /// A trim that ends inside a block takes the whole block.
    TrimEdgeWide,
    /// Replay forgets that a volume was resized.
    ResizeForgotten,
    /// A volume that shrinks and grows again shows what was cut off.
    GrowShowsOld,
    /// An array is opened for writing with one member fewer than that needs.
    QuorumOff,
    /// Superblocks go to one of the two rings only.
    OneRing,
    /// A block that is found lost is not listed as damage.
    LossUnlisted,
    /// A lost block that was written anew stays listed as damage.
    DamageKept,
    /// Rows that were given up when a member was evicted are waited for: their segment is never free again.
    GivenUpUnsettled,
    /// The newest superblock is that of the opening which began last by the clock.
    ElectByTime,
    /// A rebuild calls a segment complete that it had nothing to make from, although members may return with it.
    ShortAdopted,
    /// Every checkpoint says that nothing follows, as that of a clean close does.
    NothingFollows,
    /// What cannot be read while the log is replayed is taken for an end of it.
    UnreadTaken,
    /// A superblock is taken for the newest although newer ones may be where reads fail.
    OlderElected,
    /// A table counts on a new member before that has superblocks.
    NotIntroduced,
}

#[cfg(feature = "zoo")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is planted in what runs now.
#[cfg(feature = "zoo")]
#[inline]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted in what runs now: none ever is.
#[cfg(not(feature = "zoo"))]
#[inline]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// Runs something with a bug planted in every engine that this thread drives meanwhile; also out of a panic, the bug
/// before is planted again.
#[cfg(feature = "zoo")]
pub fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    struct Restore(Option<Bug>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _restore = Restore(PLANTED.replace(Some(bug)));
    run()
}
