//! Coverage marks: what must have happened to the engine before its tests mean anything. Each stands where a state
//! changes, or where a rare decision is made; `tools/zoo` runs seeds and failing operations until all were reached, and
//! one that is not is an error. They are compiled in only by the feature `zoo`; otherwise nothing remains of them.
//!
//! Like a planted bug, what was reached is known to the thread that drives the engine.

listed! {
    /// Something that must have happened.
    Mark:

    // Members.
    /// A member in use failed, and is out of use.
    MemberEvicted,
    /// Several were evicted at once.
    SeveralEvicted,
    /// Too few would have stayed: nobody is evicted, and nothing is written any more.
    EvictionRefused,
    /// The next one failed while the eviction of another was written down.
    EvictedWhileSettling,
    /// A member did not answer in time.
    MemberHung,
    /// A member in use is not there at an opening.
    MemberAbsent,
    /// A member that was out of use is there again.
    MemberBack,
    /// It is taken back while the array is open.
    MemberReturned,
    /// The superblocks of a member are gone; its chunks tell who it is.
    MemberRecognised,
    /// Such a member is in use again.
    MemberTakenBack,
    /// An operator takes a member out for good.
    MemberFailed,
    /// A member in use is replaced, and leaves.
    MemberReplaced,
    /// One that is out of use is replaced, and leaves.
    AbsentReplaced,
    /// The new one has a slot that nobody had.
    SlotAdded,
    /// The new one has the slot of one that was removed.
    SlotReused,
    /// Nothing needs a member any more that was leaving.
    MemberRemoved,

    // Columns of segments.
    /// A segment is opened on fewer members than its volume wants.
    SegmentNarrow,
    /// A segment is opened without some of its columns.
    SegmentLacking,
    /// A column may miss what recovery found, because its member was away.
    ColumnDoubted,
    /// All columns of a member are doubted.
    MemberDoubted,
    /// A doubted column is complete again where it was.
    ColumnFilledInPlace,
    /// A column is complete on another member than before.
    ColumnFilledElsewhere,
    /// A column that a segment never had is complete.
    ColumnAdded,
    /// The chunk that was claimed for a column is not used.
    ClaimGivenBack,

    // Segments.
    /// No record fits into a segment any more.
    SegmentFull,
    /// What was taken of an open segment and not applied is given up.
    SegmentGivenUp,
    /// An open segment is left because nothing lives in it and room is short.
    SegmentLeftIdle,
    /// An open segment is left so that it can be rebuilt.
    SegmentLeftLacking,
    /// Replay finds a segment that the table does not have.
    SegmentFound,
    /// Replay finds more in a segment than the table has.
    SegmentGrown,
    /// A dead segment is not freed because somebody reads it.
    SegmentPinned,
    /// A dead segment is free.
    SegmentFreed,

    // Batches.
    /// A batch becomes several records that count only together.
    BatchSplit,
    /// A member was evicted while a batch was placed.
    BatchPlacedAnew,
    /// A batch that was placed is written again elsewhere.
    BatchWrittenAgain,
    /// A batch has no room for now.
    BatchStalled,
    /// A batch takes what is kept for the cleaner.
    CleanersReserveTaken,
    /// No chunk of the runway is left for the log.
    RunwayOutrun,
    /// A call of a part of a block builds on what another call has written meanwhile.
    EditNoted,
    /// A call waits for the cleaner.
    RoomAwaited,
    /// A call is slowed down while the cleaner is at work.
    CallPaced,

    // Checkpoints.
    /// A member fails under a checkpoint, which begins anew.
    CheckpointAgain,
    /// It has the cut of the attempt before.
    CutTakenAgain,
    /// Live counts go back to what they were.
    CountsReverted,
    /// The segment table is written anew.
    TableWrittenAnew,
    /// A page is written anew because its segment is to be empty.
    PageTouched,

    // Openings.
    /// The array was closed: there is no log to look for.
    LogClosed,
    /// A record cannot be described.
    RecordBroken,
    /// A segment ends where nobody answers for it who has missed nothing.
    EndUnproven,
    /// Of records that count only together, some are missing.
    GroupIncomplete,
    /// A record was never whole.
    RecordTorn,
    /// A record cannot be read, and may be whole.
    RecordUnread,
    /// What was durable of a history is gone.
    HistoryGap,
    /// Something of a history may be gone.
    HistoryDoubted,
    /// What could not be read is asked for again.
    SecondLook,
    /// A block that the cleaner has moved is found where it is now.
    MoveReplayed,
    /// A block that the cleaner has moved was overwritten later.
    MoveOvertaken,

    // Reads.
    /// A block is good when it is read again.
    ReadAgain,
    /// A late read is waited for, because the other members do not suffice.
    LateAwaited,
    /// A row of a record is healed while it is verified.
    RowMended,
    /// A header is healed.
    HeaderMended,
    /// A block that could not be read was overwritten meanwhile, and is not lost.
    LossOvertaken,
    /// A block is listed as lost.
    LossListed,

    // The cleaner, rebuild, scrub.
    /// A claimed block was overwritten: its copy is dead.
    ClaimLost,
    /// A member is evicted under a move.
    MoveInterrupted,
    /// There is no room for what the cleaner moves.
    MoveCramped,
    /// Nothing more can be freed.
    Exhausted,
    /// A rebuild goes on with what another one has left.
    RebuildResumed,
    /// A rebuild leaves a column to the member that may come back with it.
    RebuildSpares,
    /// A rebuild tries again where it found no room.
    RebuildTriesAgain,
    /// A segment is freed, or a member evicted, while it is rebuilt.
    RebuildInVain,
    /// A scrub goes on where another one ended.
    ScrubResumed,
    /// A scrub writes superblocks anew.
    SuperblocksMended,
    /// Metadata cannot be made stronger.
    RaiseFailed,
}

#[cfg(feature = "zoo")]
thread_local! {
    static REACHED: std::cell::RefCell<std::collections::BTreeSet<Mark>> =
        const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}

/// It happens now.
#[cfg(feature = "zoo")]
pub(crate) fn reach(mark: Mark) {
    REACHED.with_borrow_mut(|reached| reached.insert(mark));
}

/// It happens now; nobody counts.
#[cfg(not(feature = "zoo"))]
#[inline]
pub(crate) const fn reach(_mark: Mark) {}

/// It happens now, if it does.
#[inline]
pub(crate) fn reach_if(happens: bool, mark: Mark) {
    if happens {
        reach(mark);
    }
}

/// What this thread has reached since it was asked the last time.
#[cfg(feature = "zoo")]
pub fn take() -> std::collections::BTreeSet<Mark> {
    REACHED.take()
}
