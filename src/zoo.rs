//! Deliberately wrong variants of the engine, by which the simulator is measured: one that has never found a
//! planted bug has proven nothing. Each is a condition at the place where the mistake could be made. They are
//! compiled in only by the feature `zoo`; otherwise [`planted`] is a constant `false` and nothing remains of them.
//!
//! A bug is planted for one thread ([`with`]). A simulated run never leaves its thread, so that threads may run
//! different bugs at once.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];
        }
    };
}

bugs! {
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
