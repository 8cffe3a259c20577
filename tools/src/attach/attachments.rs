//! Volumes of an open array that are block devices: each is a file of a FUSE mount of its own, and a loop device over
//! that.
//!
//! Invariants:
//! - A volume has at most one device.
//! - A step that fails takes back those before it: neither a device nor a mount nor a file is left.
//! - Of a device that somebody uses nothing is taken away.

use super::loops;
use super::place::{Place, make_folder};
use super::users;
use paritas::error::{Error, Kind, Result};
use paritas::frontend::fuse::server::Mount;
use paritas::volume::Volume;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a device's sectors, unless told.
const SECTOR: u32 = 4096;

/// A volume that is a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attached {
    /// The volume's name.
    pub(crate) volume: String,
    /// The block device.
    pub(crate) device: PathBuf,
    /// Bytes of its sectors.
    pub(crate) sector: u32,
    /// Nobody may write to it.
    pub(crate) read_only: bool,
}

impl Attached {
    /// As it is told.
    pub(crate) fn document(&self) -> Value {
        let Attached { volume, device, sector, read_only } = self;
        json!({ "volume": volume, "device": device, "sector": sector, "read_only": read_only })
    }
}

struct Attachment {
    told: Attached,
    mount: Mount,
}

/// The volumes of one array that are devices. Dropping it takes no device away.
pub(crate) struct Attachments {
    place: Place,
    by_name: BTreeMap<String, Attachment>,
}

impl Attachments {
    /// None yet. What a server of this array that died has left, and nobody uses, is taken away.
    pub(crate) fn new(place: Place) -> Attachments {
        for name in users::names(&place.volumes) {
            // Whoever needs it will be told.
            let _kept = clear(&place.volumes.join(name)).is_err();
        }
        Attachments { place, by_name: BTreeMap::new() }
    }

    /// Makes a block device of a volume, with sectors of 512 or 4096 bytes, or tells which one it is already, which
    /// then is as large as the volume.
    ///
    /// # Errors
    /// [`Kind::Exists`] when it is one with other sectors, or that more or fewer may write to; [`Kind::Refused`] when
    /// somebody uses what a server that died has left of it; [`Kind::Io`].
    pub(crate) fn attach(
        &mut self,
        volume: &Volume,
        sector: Option<u32>,
        read_only: bool,
    ) -> Result<Attached> {
        if let Some(told) = self.still(volume.name())? {
            self.resized(volume.name())?;
            return same(told, sector, read_only);
        }
        let (file, sector) = (self.place.file(volume.name()), sector.unwrap_or(SECTOR));
        clear(&file)?;
        let made = make_folder(&self.place.volumes).and_then(|()| create(&file));
        made.map_err(|error| Error::io(format!("{}: {error}", file.display())))?;
        let attached = attach(volume, &file, sector, read_only);
        match attached {
            Ok(attachment) => {
                let told = attachment.told.clone();
                self.by_name.insert(volume.name().into(), attachment);
                Ok(told)
            }
            Err(error) => {
                self.remove(&file);
                Err(error)
            }
        }
    }

    /// What was attached under this name, if it still is: others than this process may take a device away.
    fn still(&mut self, name: &str) -> Result<Option<Attached>> {
        let Some(attachment) = self.by_name.get(name) else { return Ok(None) };
        let told = attachment.told.clone();
        if loops::file_of(&told.device).as_deref() == Some(attachment.mount.path()) {
            return Ok(Some(told));
        }
        self.end(name)?;
        Ok(None)
    }

    /// Flushes a device, and takes it away with everything behind it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is none of these, [`Kind::Busy`] when somebody uses it, naming them, [`Kind::Io`]
    /// when it cannot be flushed. It is still attached then.
    pub(crate) fn detach(&mut self, device: &Path) -> Result<()> {
        let mut all = self.by_name.iter();
        let name = all.find(|(_, attachment)| attachment.told.device == device).map(|(name, _)| name.clone());
        let none = || Error::new(Kind::NotFound, format!("{} is no volume of this array", device.display()));
        self.end(&name.ok_or_else(none)?)
    }

    fn end(&mut self, name: &str) -> Result<()> {
        let Some(attachment) = self.by_name.get_mut(name) else { return Ok(()) };
        let (device, file) = (attachment.told.device.clone(), attachment.mount.path().to_owned());
        if loops::file_of(&device).as_deref() == Some(&file) {
            loops::release(&device, true)?;
        }
        if let Err(error) = attachment.mount.unmount() {
            // The device is gone. Who has the file itself open may go on; it has no name any more.
            tracing::warn!("{error}; {}", users::openers(&file).join(", and "));
        }
        self.by_name.remove(name);
        self.remove(&file);
        Ok(())
    }

    /// The file that a volume was mounted on, and the folder with the last one.
    fn remove(&self, file: &Path) {
        // Whatever is left here is in nobody's way, and found by the next attachment.
        let _left = fs::remove_file(file).is_err() || fs::remove_dir(&self.place.volumes).is_err();
    }

    /// All that are attached.
    pub(crate) fn list(&self) -> Vec<Attached> {
        self.by_name.values().map(|attachment| attachment.told.clone()).collect()
    }

    /// Tells the device of a volume that it has another size now.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub(crate) fn resized(&self, volume: &str) -> Result<()> {
        let Some(attachment) = self.by_name.get(volume) else { return Ok(()) };
        // The kernel remembers a size until it is asked for.
        let path = attachment.mount.path();
        fs::metadata(path).map_err(|error| Error::io(format!("{}: {error}", path.display())))?;
        loops::resize(&attachment.told.device)
    }

    /// Takes all devices away that nobody uses, and says what keeps the others. What was written to these is flushed.
    pub(crate) fn detach_all(&mut self) -> Vec<Error> {
        let names: Vec<String> = self.by_name.keys().cloned().collect();
        let mut errors = Vec::new();
        for name in names {
            let Err(error) = self.end(&name) else { continue };
            errors.push(error);
            let device = &self.by_name[&name].told.device;
            if let Err(error) = File::open(device).and_then(|device| device.sync_all()) {
                errors.push(Error::io(format!("{} cannot be flushed: {error}", device.display())));
            }
        }
        errors
    }
}

/// What is attached already, if that is what is asked for.
fn same(told: Attached, sector: Option<u32>, read_only: bool) -> Result<Attached> {
    if sector.is_none_or(|sector| sector == told.sector) && read_only == told.read_only {
        return Ok(told);
    }
    let access = if told.read_only { "to be read only" } else { "to be written" };
    let Attached { volume, device, sector, .. } = &told;
    let device = device.display();
    let text =
        format!("{volume} is {device} already, with sectors of {sector} bytes, {access}: detach it first");
    Err(Error::new(Kind::Exists, text))
}

fn create(file: &Path) -> std::io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(file).map(|_| ())
}

fn attach(volume: &Volume, file: &Path, sector: u32, read_only: bool) -> Result<Attachment> {
    let mut mount = Mount::new(volume, file, read_only, |text| tracing::warn!("{text}"))?;
    match loops::make(file, sector, read_only) {
        Ok(device) => {
            let told = Attached { volume: volume.name().into(), device, sector, read_only };
            Ok(Attachment { told, mount })
        }
        Err(error) => {
            mount.unmount()?;
            Err(error)
        }
    }
}

/// Takes away what a server that died has left of a volume's file: its loop device, its mount, and the file.
///
/// # Errors
/// [`Kind::Refused`] when somebody uses it, or serves it still; [`Kind::Io`].
pub(crate) fn clear(file: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("{}: {error}", file.display()));
    let is_dead = match fs::metadata(file) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => true,
        Err(error) => return Err(failed(error)),
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
    fs::remove_file(file).map_err(failed)
}
