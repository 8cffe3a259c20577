//! Loop devices, made and taken away by `losetup`: every distribution has it, it knows the ways of old and new
//! kernels, and it costs no unsafe code. The crates for this either need a C library's headers to be built or lack
//! sector sizes.

use super::means::program;
use super::users;
use paritas::error::{Error, Kind, Result};
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long somebody may have a device open who only looks what is on it: whatever watches for new devices does.
const GLANCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Makes a loop device of a file, with direct I/O and sectors of so many bytes.
///
/// # Errors
/// [`Kind::Io`], and no device is left.
pub(crate) fn make(file: &Path, sector: u32, read_only: bool) -> Result<PathBuf> {
    let sector_size = sector.to_string();
    let mut command = losetup()?;
    command.args(["--find", "--show", "--direct-io=on", "--sector-size", &sector_size]);
    if read_only {
        command.arg("--read-only");
    }
    let device = PathBuf::from(run(command.arg("--").arg(file))?);
    // An older kernel takes what it does not know for something else.
    let wanted = [("loop/dio", "1"), ("queue/logical_block_size", sector_size.as_str())];
    for (name, value) in wanted {
        let found = attribute(&device, name);
        if found.as_deref() != Some(value) {
            let text = format!("{} has {found:?} for {name}, and not {value}", device.display());
            let left = release(&device, false).err().map(|error| format!("; it is left: {error}"));
            return Err(Error::io(text + &left.unwrap_or_default()));
        }
    }
    Ok(device)
}

/// The loop devices of a file.
pub(crate) fn over(file: &Path) -> Vec<PathBuf> {
    let blocks = users::names(Path::new("/sys/block"));
    let devices = blocks.map(|name| Path::new("/dev").join(name));
    devices.filter(|device| file_of(device).is_some_and(|found| found == file)).collect()
}

/// The file of a loop device, if it is one that has a file.
pub(crate) fn file_of(device: &Path) -> Option<PathBuf> {
    attribute(device, "loop/backing_file").map(PathBuf::from)
}

/// Takes a loop device away that nobody uses; what was written to it is flushed before if `flush` says so.
///
/// # Errors
/// [`Kind::Busy`], naming who uses it, and [`Kind::Io`] when it cannot be flushed: it is still there then.
pub(crate) fn release(device: &Path, flush: bool) -> Result<()> {
    let failed = |error: io::Error| Error::io(format!("{}: {error}", device.display()));
    // Whoever mounts a device claims it so, and cannot from here on.
    let claim = claim(device)?;
    if flush {
        claim.sync_all().map_err(|error| {
            Error::io(format!("{} cannot be flushed, and stays: {error}", device.display()))
        })?;
    }
    wait_for(|| users::openers(device).is_empty());
    let openers = users::openers(device);
    if !openers.is_empty() {
        return Err(busy(device, &openers));
    }
    run(losetup()?.arg("--detach").arg(device))?;
    // It goes with the last one who has it open: this one.
    let file = file_of(device);
    drop(claim);
    if wait_for(|| file_of(device).is_none() || file_of(device) != file) {
        return Ok(());
    }
    match users::of(device) {
        users if users.is_empty() => Err(failed(io::Error::other("it does not go"))),
        users => Err(busy(device, &users)),
    }
}

/// Tells a loop device that its file has another size.
pub(crate) fn resize(device: &Path) -> Result<()> {
    run(losetup()?.arg("--set-capacity").arg(device)).map(|_| ())
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

fn busy(device: &Path, users: &[String]) -> Error {
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
fn wait_for(mut is_true: impl FnMut() -> bool) -> bool {
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

fn attribute(device: &Path, name: &str) -> Option<String> {
    let path = Path::new("/sys/block").join(device.file_name()?).join(name);
    Some(fs::read_to_string(path).ok()?.trim_end_matches('\n').into())
}

fn losetup() -> Result<Command> {
    let path = program("losetup").ok_or_else(|| Error::io("losetup is missing: install util-linux"))?;
    Ok(Command::new(path))
}

/// What it prints.
fn run(command: &mut Command) -> Result<String> {
    let name = "losetup";
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::io(format!("{name}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::io(format!("{name}: {}", said.trim().trim_start_matches("losetup: "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_loop_device_has_no_file_and_is_no_loop_device() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(over(file.path()).is_empty());
        for device in ["/dev/null", "/dev/no-such-device", "/"] {
            assert_eq!(file_of(Path::new(device)), None);
        }
    }

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
