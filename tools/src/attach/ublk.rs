//! A volume as a device that the kernel asks this process for (ublk).
//!
//! The kernel keeps a number with the device by which it is known again, made of the path of the volume's file, which
//! the serving process has locked, and which names the device. Should that process die, the kernel stops the device
//! by itself: what was asked of it fails, its name goes at once, and whoever has it mounted learns that it is
//! dead. So it needs no guard. An entry is left, which whoever clears the file deletes.

use super::backing::Backing;
use super::claims::{self, attribute, wait_for};
use super::place::lock_unserved;
use super::users;
use paritas::error::{Error, Kind, Result};
use paritas::frontend::ublk::server::{Control, Disk, Terms, features};
use paritas::frontend::ublk::wire::{Info, feature};
use paritas::volume::Volume;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the kernel lists its entries.
const ENTRIES: &str = "/sys/class/ublk-char";
const ENTRY: &str = "ublkc";

/// A device of the kernel's ublk, and what serves it.
pub(crate) struct Served {
    device: PathBuf,
    index: u32,
    mark: u64,
    disk: Option<Disk>,
    /// Locked as long as the volume is served.
    _file: File,
}

/// What keeps ublk from being used here; else whether its devices may get another size.
///
/// # Errors
/// Why it may not be used, or cannot.
pub(crate) fn may_resize() -> io::Result<bool> {
    Ok(features()? & feature::RESIZE != 0)
}

/// Makes a device of a volume; `file` is the volume's file.
///
/// # Errors
/// [`Kind::Io`]; no device is left then.
pub(crate) fn make(volume: &Volume, file: &Path, sector: u32, read_only: bool) -> Result<Served> {
    let kept = |error: io::Error| Error::io(format!("{}: {error}", file.display()));
    let mut lock = File::options().write(true).open(file).map_err(kept)?;
    lock.try_lock().map_err(|error| kept(error.into()))?;
    let mark = mark_of(file);
    let terms = Terms { sector, read_only, mark };
    let disk = Disk::new(volume, terms, |text| tracing::warn!("{text}"))?;
    let index = disk.index();
    let device = PathBuf::from(format!("/dev/ublkb{index}"));
    let finished = finish(&device, sector, &mut lock);
    let mut served = Served { device, index, mark, disk: Some(disk), _file: lock };
    if let Err(error) = finished {
        served.take_away()?;
        return Err(error);
    }
    Ok(served)
}

/// The device is what was asked for, and its name is in the volume's file.
fn finish(device: &Path, sector: u32, file: &mut File) -> Result<()> {
    let failed = |error: io::Error| Error::io(format!("the file of {}: {error}", device.display()));
    wait_for(|| device.exists());
    let (name, wanted) = ("queue/logical_block_size", sector.to_string());
    let found = attribute(device, name);
    if found.as_deref() != Some(&wanted) {
        let text = format!("{} has {found:?} for {name}, and not {wanted}", device.display());
        return Err(Error::io(text));
    }
    // The engine writes in the order of its log, and reads what it is asked for: another order only costs.
    let queue = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("queue");
    let _slower = fs::write(queue.join("scheduler"), "none").is_err();
    file.set_len(0).and_then(|()| file.write_all(device.as_os_str().as_bytes())).map_err(failed)
}

impl Served {
    /// Stops the device, whoever uses it, and waits until nothing is left of it that can go.
    fn take_away(&mut self) -> Result<()> {
        stop(self.index)?;
        // Its thread ends with it, and lets go of the entry.
        if let Some(disk) = self.disk.take() {
            disk.end();
        }
        delete(self.index, self.mark)
    }
}

impl Backing for Served {
    fn device(&self) -> &Path {
        &self.device
    }

    fn is_there(&self) -> bool {
        info_of(self.index, self.mark).is_ok_and(|found| found.is_some_and(|info| info.is_live))
    }

    fn end(&mut self) -> Result<()> {
        if self.is_there() {
            let is_gone = || !self.is_there();
            claims::release(&self.device, true, || stop(self.index), is_gone)?;
        }
        self.take_away()
    }

    fn may_resize(&self) -> Result<()> {
        if may_resize().map_err(failed)? {
            return Ok(());
        }
        let text = format!(
            "{} cannot get another size while it is attached: the kernel's ublk is older than that of Linux 6.16. \
             Detach it first, or attach it by other means",
            self.device.display()
        );
        Err(Error::new(Kind::Refused, text))
    }

    fn resize(&self, size: u64) -> Result<()> {
        // Counted in 512 bytes, whatever the sectors are.
        let now = attribute(&self.device, "size").and_then(|sectors| sectors.parse::<u64>().ok());
        if now.is_some_and(|sectors| sectors * 512 == size) {
            return Ok(());
        }
        self.may_resize()?;
        let told = Control::open().and_then(|mut control| control.resize(self.index, size));
        told.map_err(|error| Error::io(format!("{}: {error}", self.device.display())))
    }
}

fn failed(error: io::Error) -> Error {
    Error::io(format!("the kernel's ublk: {error}"))
}

/// By which the device of a volume's file is known again: 64 bits of FNV-1a, which no version of anything changes.
fn mark_of(file: &Path) -> u64 {
    let mix = |mark: u64, byte: &u8| (mark ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    file.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// How a device is, if it has this mark.
fn info_of(index: u32, mark: u64) -> io::Result<Option<Info>> {
    Ok(Control::open()?.info(index)?.filter(|info| info.mark == mark))
}

fn stop(index: u32) -> Result<()> {
    Control::open().and_then(|mut control| control.stop(index)).map_err(failed)
}

/// Deletes the entry of a device that is stopped, if it still has this mark. Whoever has the device open keeps the
/// entry until that ends.
fn delete(index: u32, mark: u64) -> Result<()> {
    let is_gone = || info_of(index, mark).is_ok_and(|found| found.is_none());
    if is_gone() {
        return Ok(());
    }
    Control::open().and_then(|mut control| control.delete(index)).map_err(failed)?;
    wait_for(is_gone);
    Ok(())
}

/// The numbers of all entries.
fn entries() -> impl Iterator<Item = u32> {
    users::names(Path::new(ENTRIES)).filter_map(|name| name.to_str()?.strip_prefix(ENTRY)?.parse().ok())
}

/// Takes away what a server that died has left of a volume's file: its device.
///
/// # Errors
/// [`Kind::Busy`] when it is served still, or somebody uses it; [`Kind::Io`].
pub(crate) fn clear(file: &Path) -> Result<()> {
    let _lock = lock_unserved(file)?;
    let mark = mark_of(file);
    for index in entries() {
        if info_of(index, mark).map_err(failed)?.is_none() {
            continue;
        }
        let device = PathBuf::from(format!("/dev/ublkb{index}"));
        // The kernel does the same, sooner or later. Whoever has the device mounted learns that it is dead.
        stop(index)?;
        let users = users::of(&device);
        if !users.is_empty() {
            let error = claims::busy(&device, &users);
            return Err(error.context("the server that this device had has died, and the device is dead"));
        }
        delete(index, mark)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_again_by_a_mark_that_stays_the_same() {
        // The figures of the function's authors.
        assert_eq!(mark_of(Path::new("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(mark_of(Path::new("a")), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mark_of(Path::new("foobar")), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_file_that_another_has_locked_is_not_cleared() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(clear(file.path()).is_ok());
        let served = File::open(file.path()).expect("there");
        served.lock().expect("locked");
        assert_eq!(clear(file.path()).expect_err("locked").kind(), Kind::Busy);
    }
}
