//! What a driver's thread may sleep in instead of a lock: I/O that it carries out itself.

use std::io;
use std::task::Waker;

/// I/O of one thread. Between tasks the thread calls [`Reactor::submit`] and then [`Reactor::complete`], over and
/// over, and [`Reactor::finish`] once when it ends.
pub trait Reactor: Send {
    /// Ends the sleep under way, or else the next one, from any thread.
    fn alarm(&self) -> Waker;

    /// Hands over what tasks have asked for since. If `sleep`, waits until something is done or the alarm rings; may
    /// return earlier.
    ///
    /// # Errors
    /// If nothing will be done any more. The reactor is then dropped, and whoever waits is told.
    fn submit(&mut self, sleep: bool) -> io::Result<()>;

    /// Answers for what is done, which makes tasks ready.
    fn complete(&mut self);

    /// Carries out what was asked for, and takes no more. Returns when all is done, or when that takes too long.
    fn finish(&mut self);
}
