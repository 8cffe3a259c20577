//! Whoever runs the tasks of an engine that has no thread of its own.

/// Lets an engine go on while one of its callers blocks, in that caller's thread.
pub trait Host: Send + Sync {
    /// Lets one thing happen; `false` once nothing ever will.
    fn turn(&self) -> bool;
}

/// Whether this thread is unwinding from a panic: another one would end the process.
pub fn is_unwinding() -> bool {
    std::thread::panicking()
}
