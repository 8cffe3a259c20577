//! How members are opened: claimed first, then given the fastest way to the device that the system grants.
//!
//! Invariants:
//! - The claim is a lock on the open file that does the I/O: it lasts until the last operation has ended, also
//!   if its owner is killed.
//! - A file bypasses the page cache exactly if a ring drives it.

use super::{Aligned, FileDevice, Ring};
use crate::types::{BLOCK, BLOCK_U64};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long an opener waits for the owner before it: a killed one's last operation may still be on its way.
pub(super) const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const CLAIM_POLL: Duration = Duration::from_millis(20);

/// What a device is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// To be read, whoever else has it open.
    ReadOnly,
    /// To be read and written, by nobody else.
    ReadWrite,
}

/// Opens what is at `path` as a member: past the page cache on this ring if the file takes direct I/O, else as
/// [`FileDevice::open`] does. [`FileDevice::kind`] tells which it is.
///
/// # Errors
/// Those of [`FileDevice::open`].
pub fn open(path: impl AsRef<Path>, mode: OpenMode, ring: Option<&Ring>) -> io::Result<FileDevice> {
    open_within(path.as_ref(), mode, ring, CLAIM_WAIT)
}

pub(super) fn open_within(
    path: &Path,
    mode: OpenMode,
    ring: Option<&Ring>,
    wait: Duration,
) -> io::Result<FileDevice> {
    let claimed = claim(path, mode, wait)?;
    if let Some(ring) = ring
        && takes_direct_io(&claimed)?
    {
        match FileDevice::over_ring(claimed.clone(), ring) {
            Some(device) => return Ok(device),
            None => set_direct(&claimed.file, false)?,
        }
    }
    Ok(FileDevice::blocking(claimed))
}

/// An open file that is claimed if it is to be written.
#[derive(Clone)]
pub(super) struct Claimed {
    pub(super) file: Arc<File>,
    pub(super) mode: OpenMode,
    /// Bytes, fixed from here on.
    pub(super) len: u64,
}

/// Opens the file and, to write, claims it within `wait`.
pub(super) fn claim(path: &Path, mode: OpenMode, wait: Duration) -> io::Result<Claimed> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let text = format!("{} is neither a regular file nor a block device", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    if mode == OpenMode::ReadWrite {
        options.write(true);
        if kind.is_block_device() {
            // The kernel's own claim: refuses what is mounted or part of another array.
            let exclusive = OFlags::EXCL.bits();
            options.custom_flags(i32::try_from(exclusive).expect("a low bit"));
        }
    }
    let deadline = Instant::now() + wait;
    let file = loop {
        match try_claim(&options, path, mode) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(CLAIM_POLL);
            }
            claimed => break claimed?,
        }
    };
    let len = (&file).seek(SeekFrom::End(0))?;
    Ok(Claimed { file: Arc::new(file), mode, len })
}

fn try_claim(options: &OpenOptions, path: &Path, mode: OpenMode) -> io::Result<File> {
    let file = options.open(path)?;
    if mode == OpenMode::ReadWrite {
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let text = format!("{} is open for writing elsewhere", path.display());
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            TryLockError::Error(error) => error,
        })?;
    }
    Ok(file)
}

/// Switches the file to direct I/O if it takes that in whole blocks, which only a read can tell.
fn takes_direct_io(claimed: &Claimed) -> io::Result<bool> {
    if claimed.len < BLOCK_U64 || set_direct(&claimed.file, true).is_err() {
        return Ok(false);
    }
    let read = claimed.file.read_at(Aligned::zeroed(BLOCK).as_mut(), 0);
    let refused = read.is_err_and(|error| {
        matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS))
    });
    if refused {
        set_direct(&claimed.file, false)?;
    }
    Ok(!refused)
}

/// The open file's flag is changed rather than the file opened again, so that the claim holds all along.
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Kind;
    use tempfile::NamedTempFile;

    fn is_direct(device: &FileDevice) -> bool {
        fcntl_getfl(&device.claimed().file).expect("flags").contains(OFlags::DIRECT)
    }

    #[test]
    fn a_ring_drives_a_file_exactly_where_the_system_grants_both() {
        let file = NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(BLOCK_U64).expect("room");
        let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a low bit");
        let direct = OpenOptions::new().read(true).custom_flags(direct).open(file.path());
        let takes_direct = direct.is_ok_and(|file| file.read_at(Aligned::zeroed(BLOCK).as_mut(), 0).is_ok());
        let ring = Ring::new().ok();
        let granted = ring.is_some();
        let expected = if takes_direct && granted { Kind::Ring } else { Kind::Blocking };
        for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
            let ring = ring.as_ref().map(|(ring, _)| ring);
            let device = open(file.path(), mode, ring).expect("opens");
            assert_eq!((device.kind(), is_direct(&device)), (expected, expected == Kind::Ring));
            drop(device);
            let device = open(file.path(), mode, None).expect("opens");
            assert_eq!((device.kind(), is_direct(&device)), (Kind::Blocking, false));
        }
    }

    #[test]
    fn a_file_without_a_block_or_without_direct_io_is_of_the_blocking_kind() {
        let empty = NamedTempFile::new().expect("a temporary file");
        // A regular file of a block in length on a file system without direct I/O, where there is one.
        let refusing = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
        let ring = Ring::new().ok();
        let ring = ring.as_ref().map(|(ring, _)| ring);
        for path in [empty.path(), refusing].into_iter().filter(|path| path.exists()) {
            let device = open(path, OpenMode::ReadOnly, ring).expect("opens");
            assert_eq!((device.kind(), is_direct(&device)), (Kind::Blocking, false), "{}", path.display());
        }
    }
}
