//! What stands behind a block device, by whichever means it was made.

use paritas::error::Result;
use std::path::Path;

/// A block device of a volume, and all that serves it. Dropping it takes nothing away that somebody may use.
pub(crate) trait Backing: Send {
    /// The block device.
    fn device(&self) -> &Path;

    /// Whether it is still that of the volume: others than this process may take a device away.
    fn is_there(&self) -> bool;

    /// Flushes the device, and takes it away with everything behind it.
    ///
    /// # Errors
    /// [`Kind::Busy`](paritas::error::Kind::Busy) when somebody uses it, naming them;
    /// [`Kind::Io`](paritas::error::Kind::Io) when it cannot be flushed. It is still there then.
    fn end(&mut self) -> Result<()>;

    /// Whether it can be told that the volume has another size.
    ///
    /// # Errors
    /// [`Kind::Refused`](paritas::error::Kind::Refused), with what to do instead;
    /// [`Kind::Io`](paritas::error::Kind::Io).
    fn may_resize(&self) -> Result<()> {
        Ok(())
    }

    /// Tells the device that the volume has so many bytes now.
    ///
    /// # Errors
    /// [`Kind::Io`](paritas::error::Kind::Io).
    fn resize(&self, size: u64) -> Result<()>;
}
