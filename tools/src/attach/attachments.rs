//! Volumes of an open array that are block devices.
//!
//! Invariants:
//! - A volume has at most one device.
//! - A step that fails takes back those before it: neither a device nor a mount nor a file is left.
//! - Of a device that somebody uses nothing is taken away.

use super::backing::Backing;
use super::means::{self, Means};
use super::place::{Place, make_folder};
use super::{fuse, nbd, ublk, users};
use paritas::error::{Error, Kind, Result};
use paritas::volume::Volume;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a device's sectors, unless told.
const SECTOR: u32 = 4096;

/// How a device is to be. What is `None` is as it is already, or else chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    /// Bytes of its sectors, 512 or 4096.
    pub(crate) sector: Option<u32>,
    /// Nobody may write to it.
    pub(crate) read_only: bool,
    /// By what it is made.
    pub(crate) means: Option<Means>,
}

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
    /// By what it was made.
    pub(crate) means: Means,
}

impl Attached {
    /// As it is told.
    pub(crate) fn document(&self) -> Value {
        let Attached { volume, device, sector, read_only, means } = self;
        let means = means.name();
        json!({ "volume": volume, "device": device, "sector": sector, "read_only": read_only, "means": means })
    }
}

struct Attachment {
    told: Attached,
    file: PathBuf,
    backing: Box<dyn Backing>,
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

    /// Makes a block device of a volume, or tells which one it is already, which then is as large as the volume.
    ///
    /// # Errors
    /// [`Kind::Exists`] when it is another one than is wished for; [`Kind::Refused`] when somebody uses what a server
    /// that died has left of it, or there are no means; [`Kind::Io`].
    pub(crate) fn attach(&mut self, volume: &Volume, wish: Wish) -> Result<Attached> {
        if let Some(told) = self.still(volume.name())? {
            self.resized(volume)?;
            return same(told, wish);
        }
        let file = self.place.file(volume.name());
        clear(&file)?;
        let made = make_folder(&self.place.volumes).and_then(|()| create(&file));
        made.map_err(|error| Error::io(format!("{}: {error}", file.display())))?;
        match attach(volume, &file, wish) {
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
        if attachment.backing.is_there() {
            return Ok(Some(attachment.told.clone()));
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
        attachment.backing.end()?;
        let file = attachment.file.clone();
        self.by_name.remove(name);
        self.remove(&file);
        Ok(())
    }

    /// The file of a volume, and the folder with the last one.
    fn remove(&self, file: &Path) {
        // Whatever is left here is in nobody's way, and found by the next attachment.
        let _left = fs::remove_file(file).is_err() || fs::remove_dir(&self.place.volumes).is_err();
    }

    /// All that are attached.
    pub(crate) fn list(&self) -> Vec<Attached> {
        self.by_name.values().map(|attachment| attachment.told.clone()).collect()
    }

    /// Whether a volume may get another size: its device, if it has one, must learn of it.
    ///
    /// # Errors
    /// As [`Backing::may_resize`].
    pub(crate) fn may_resize(&self, volume: &str) -> Result<()> {
        self.by_name.get(volume).map_or(Ok(()), |attachment| attachment.backing.may_resize())
    }

    /// Tells the device of a volume that it has another size now.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub(crate) fn resized(&self, volume: &Volume) -> Result<()> {
        let Some(attachment) = self.by_name.get(volume.name()) else { return Ok(()) };
        attachment.backing.resize(volume.size()?)
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
fn same(told: Attached, wish: Wish) -> Result<Attached> {
    if wish.sector.is_none_or(|sector| sector == told.sector)
        && wish.means.is_none_or(|means| means == told.means)
        && wish.read_only == told.read_only
    {
        return Ok(told);
    }
    let access = if told.read_only { "to be read only" } else { "to be written" };
    let Attached { volume, device, sector, means, .. } = &told;
    let (device, means) = (device.display(), means.name());
    let text = format!(
        "{volume} is {device} already, by {means}, with sectors of {sector} bytes, {access}: detach it first"
    );
    Err(Error::new(Kind::Exists, text))
}

fn create(file: &Path) -> std::io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(file).map(|_| ())
}

/// By the best means that work, or by those that are wished for.
fn attach(volume: &Volume, file: &Path, wish: Wish) -> Result<Attachment> {
    let (sector, read_only) = (wish.sector.unwrap_or(SECTOR), wish.read_only);
    let mut failures: Vec<String> = Vec::new();
    for means in means::usable(wish.means)? {
        let made: Result<Box<dyn Backing>> = match means {
            Means::Ublk => ublk::make(volume, file, sector, read_only).map(|made| Box::new(made) as _),
            Means::Nbd => nbd::make(volume, file, sector, read_only).map(|made| Box::new(made) as _),
            Means::Fuse => fuse::make(volume, file, sector, read_only).map(|made| Box::new(made) as _),
        };
        match made {
            Ok(backing) => {
                let device = backing.device().to_owned();
                let told = Attached { volume: volume.name().into(), device, sector, read_only, means };
                return Ok(Attachment { told, file: file.into(), backing });
            }
            Err(error) => {
                tracing::warn!("{}: {error}", means.name());
                failures.push(error.to_string());
            }
        }
    }
    Err(Error::io(failures.join("; ")))
}

/// Takes away what a server that died has left of a volume's file, by whichever means it was attached: its device, its
/// mount, and the file.
///
/// # Errors
/// [`Kind::Refused`] when somebody uses it, or serves it still; [`Kind::Io`].
pub(crate) fn clear(file: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("{}: {error}", file.display()));
    if fs::symlink_metadata(file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    fuse::clear(file)?;
    nbd::clear(file)?;
    ublk::clear(file)?;
    fs::remove_file(file).map_err(failed)
}
