//! Block devices that are to go: nobody else may use one meanwhile, and whoever does is named.

use super::users;
use paritas::error::{Error, Kind, Result};
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long somebody may have a device open who only looks what is on it: whatever watches for new devices does.
const GLANCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Takes a device away that nobody uses, by `take`; what was written to it is flushed before if `flush` says so.
/// Returns when `is_gone`, which it is when nobody has it open any more.
///
/// # Errors
/// [`Kind::Busy`], naming who uses it, and [`Kind::Io`] when it cannot be flushed: it is still there then. As `take`.
pub(crate) fn release(
    device: &Path,
    flush: bool,
    take: impl FnOnce() -> Result<()>,
    is_gone: impl Fn() -> bool,
) -> Result<()> {
    // Whoever mounts a device claims it so, and cannot from here on.
    let claim = claim(device)?;
    if flush {
        claim.sync_all().map_err(|error| {
            Error::io(format!("{} cannot be flushed, and stays: {error}", device.display()))
        })?;
    }
    wait_for(|| users::device_openers(device).is_empty());
    let openers = users::device_openers(device);
    if !openers.is_empty() {
        return Err(busy(device, &openers));
    }
    take()?;
    // It goes with the last one who has it open: this one.
    drop(claim);
    if wait_for(is_gone) {
        return Ok(());
    }
    match users::of(device) {
        users if users.is_empty() => Err(Error::io(format!("{}: it does not go", device.display()))),
        users => Err(busy(device, &users)),
    }
}

/// Opens a device so that nobody else can mount it.
fn claim(device: &Path) -> Result<File> {
    let exclusive = i32::try_from(OFlags::EXCL.bits()).expect("a low bit");
    let open = || File::options().read(true).custom_flags(exclusive).open(device);
    let is_busy = |error: &io::Error| error.kind() == io::ErrorKind::ResourceBusy;
    let mut opened = open();
    // Whoever has claimed it is seen somewhere, or is about to let it go.
    wait_for(|| {
        let waits = opened.as_ref().is_err_and(is_busy) && users::of(device).is_empty();
        if waits {
            opened = open();
        }
        !waits
    });
    opened.map_err(|error| match is_busy(&error) {
        true => busy(device, &users::of(device)),
        false => Error::io(format!("{}: {error}", device.display())),
    })
}

pub(crate) fn busy(device: &Path, users: &[String]) -> Error {
    let device = device.display();
    Error::new(
        Kind::Busy,
        match users {
            [] => format!("{device} is in use"),
            users => format!("{device} {}: end that first", users.join(", and ")),
        },
    )
}

/// Whether it comes true while somebody may be glancing at a device.
pub(crate) fn wait_for(mut is_true: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + GLANCE;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        thread::sleep(PAUSE);
    }
}

/// What the kernel says of a block device under a name.
pub(crate) fn attribute(device: &Path, name: &str) -> Option<String> {
    let path = Path::new("/sys/block").join(device.file_name()?).join(name);
    Some(fs::read_to_string(path).ok()?.trim_end_matches('\n').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_device_is_in_the_error() {
        let device = Path::new("/dev/loop7");
        let users = ["is mounted on /mnt", "is open in process 7 (dd)"].map(String::from);
        let error = busy(device, &users);
        assert_eq!(error.kind(), Kind::Busy);
        assert_eq!(
            error.to_string(),
            "/dev/loop7 is mounted on /mnt, and is open in process 7 (dd): end that first"
        );
    }
}
