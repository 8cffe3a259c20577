//! A volume as a file of a FUSE mount of its own, and a loop device over that.
//!
//! What a server that died has left of it is a dead mount, and the loop device that lies on it.

use super::backing::Backing;
use super::loops;
use super::users;
use paritas::error::{Error, Kind, Result};
use paritas::frontend::fuse::server::Mount;
use paritas::volume::Volume;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::path::{Path, PathBuf};

/// A loop device over a mounted file.
pub(crate) struct LoopOverFile {
    device: PathBuf,
    mount: Mount,
}

/// Mounts a volume on a file, and makes a loop device over that.
///
/// # Errors
/// [`Kind::Io`]; nothing is left then.
pub(crate) fn make(volume: &Volume, file: &Path, sector: u32, read_only: bool) -> Result<LoopOverFile> {
    let mut mount = Mount::new(volume, file, read_only, |text| tracing::warn!("{text}"))?;
    match look(file).and_then(|()| loops::make(file, sector, read_only)) {
        Ok(device) => Ok(LoopOverFile { device, mount }),
        Err(error) => {
            mount.unmount()?;
            Err(error)
        }
    }
}

impl Backing for LoopOverFile {
    fn device(&self) -> &Path {
        &self.device
    }

    fn is_there(&self) -> bool {
        loops::file_of(&self.device).as_deref() == Some(self.mount.path())
    }

    fn end(&mut self) -> Result<()> {
        if self.is_there() {
            loops::release(&self.device, true)?;
        }
        if let Err(error) = self.mount.unmount() {
            // The device is gone. Who has the file itself open may go on; it has no name any more.
            tracing::warn!("{error}; {}", users::openers(self.mount.path()).join(", and "));
        }
        Ok(())
    }

    fn resize(&self, _: u64) -> Result<()> {
        look(self.mount.path())?;
        loops::resize(&self.device)
    }
}

/// Lets the kernel learn how large the file is. It remembers that until it is asked for, and a loop device before
/// Linux 6.16 does not ask.
fn look(file: &Path) -> Result<()> {
    fs::metadata(file).map(|_| ()).map_err(|error| Error::io(format!("{}: {error}", file.display())))
}

/// Takes away what a server that died has left of a volume's file: its loop device and its mount.
///
/// # Errors
/// [`Kind::Busy`] when it is served still, [`Kind::Refused`] when somebody uses it; [`Kind::Io`].
pub(crate) fn clear(file: &Path) -> Result<()> {
    let is_dead = match fs::metadata(file) {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => true,
        Err(error) => return Err(Error::io(format!("{}: {error}", file.display()))),
    };
    if !is_dead && users::is_mount_point(file) {
        let text = format!("{} is served by another process", file.display());
        return Err(Error::new(Kind::Busy, text));
    }
    for device in loops::over(file) {
        // What it could not write any more is lost, as in any crash.
        loops::release(&device, false).map_err(|error| {
            error.context("the server that this device had has died, and the device is dead")
        })?;
    }
    if is_dead {
        unmount(file, UnmountFlags::empty()).map_err(|error| {
            let kind = if error == Errno::BUSY { Kind::Refused } else { Kind::Io };
            let users = users::openers(file).join(", and ");
            Error::new(
                kind,
                format!("{}, which a server that died has left: {error}; it {users}", file.display()),
            )
        })?;
    }
    Ok(())
}
