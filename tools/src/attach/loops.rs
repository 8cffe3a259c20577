//! Loop devices, made and taken away by `losetup`: every distribution has it, it knows the ways of old and new
//! kernels, and it costs no unsafe code. The crates for this either need a C library's headers to be built or lack
//! sector sizes.

use super::claims::{self, attribute};
use super::means::program;
use super::users;
use paritas::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Takes a loop device away that nobody uses: see [`claims::release`].
///
/// # Errors
/// Its.
pub(crate) fn release(device: &Path, flush: bool) -> Result<()> {
    let file = file_of(device);
    let take = || run(losetup()?.arg("--detach").arg(device)).map(|_| ());
    claims::release(device, flush, take, || file_of(device).is_none() || file_of(device) != file)
}

/// Tells a loop device that its file has another size.
pub(crate) fn resize(device: &Path) -> Result<()> {
    run(losetup()?.arg("--set-capacity").arg(device)).map(|_| ())
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
}
