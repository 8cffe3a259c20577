//! A volume as a device of the kernel's NBD client, over sockets that only the kernel and this process have.
//!
//! The kernel keeps a name with the device by which it is known again: the volume's file, and the process that serves
//! it. That process has the file locked. Should it die, its guard tells the kernel, which fails whatever is asked of
//! the device from then on, and frees it when nobody uses it any more; the file is left, and names the device.

use super::backing::Backing;
use super::claims::{self, attribute, wait_for};
use super::guard::Guard;
use super::netlink::{Attributes, Family};
use super::place::lock_unserved;
use super::users;
use paritas::error::{Error, Result};
use paritas::frontend::nbd::server::Link;
use paritas::volume::Volume;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The kernel's name for its client.
const FAMILY: &str = "nbd";
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;
const INDEX: u16 = 1;
const SIZE: u16 = 2;
const SECTOR: u16 = 3;
const TIMEOUT: u16 = 4;
const FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const SOCKET: u16 = 1;
const SOCKET_NUMBER: u16 = 1;
const NAME: u16 = 10;

/// Sockets of a device. The kernel has as many queues for it.
const CONNECTIONS: usize = 2;
/// Seconds after which the kernel gives a request up. An array whose members hang one after the other takes minutes;
/// what was asked of a process that died is failed by its guard.
const PATIENCE: u64 = 600;
/// KiB of a request at most: of what the engine takes as one step.
const REQUEST_KIB: &str = "1024";

/// A device of the kernel's client, and the connections to it.
pub(crate) struct Client {
    device: PathBuf,
    index: u32,
    name: String,
    served: Option<(Link, Guard)>,
    /// Locked as long as the volume is served.
    _file: File,
}

/// The kernel's client, as this process may use it.
///
/// # Errors
/// Why it may not, or cannot.
pub(crate) fn family() -> io::Result<Family> {
    let family = Family::named(FAMILY)?;
    if family.highest < u32::from(NAME) {
        let text = "it is older than that of Linux 5.14, and keeps no names for devices";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(family)
}

/// Makes a device of a volume; `file` is the volume's file.
///
/// # Errors
/// [`Kind::Io`](paritas::error::Kind::Io); no device is left then.
pub(crate) fn make(volume: &Volume, file: &Path, sector: u32, read_only: bool) -> Result<Client> {
    let failed = |error: io::Error| Error::io(format!("the kernel's NBD client: {error}"));
    let kept = |error: io::Error| Error::io(format!("{}: {error}", file.display()));
    let mut lock = File::options().write(true).open(file).map_err(kept)?;
    lock.try_lock().map_err(|error| kept(error.into()))?;
    let family = family().map_err(failed)?;
    let name = name_of(file, std::process::id());
    let (link, terms, sockets) = Link::new(volume, read_only, CONNECTIONS, |text| tracing::warn!("{text}"))?;
    let list = sockets.iter().fold(Attributes::default(), |list, socket| {
        let number = Attributes::default().with(SOCKET_NUMBER, &socket.as_raw_fd().to_ne_bytes());
        list.with_nested(SOCKET, &number)
    });
    let wanted = Attributes::default()
        .with(SIZE, &terms.size.to_ne_bytes())
        .with(SECTOR, &u64::from(sector).to_ne_bytes())
        .with(TIMEOUT, &PATIENCE.to_ne_bytes())
        .with(FLAGS, &u64::from(terms.flags).to_ne_bytes())
        .with_nested(SOCKETS, &list)
        .with(NAME, &terminated(&name));
    let made = family.ask(CONNECT, &wanted).map_err(failed)?;
    // From here on they are the kernel's alone.
    drop(sockets);
    let unsaid = || Error::io("the kernel's NBD client does not say which device it has made");
    let index = made.find(INDEX).map(u32::from_ne_bytes).ok_or_else(unsaid)?;
    let device = PathBuf::from(format!("/dev/nbd{index}"));
    let finished = finish(&device, &name, sector, &mut lock)
        .and_then(|()| Guard::start(index, &name).map_err(|error| Error::io(format!("a guard: {error}"))));
    match finished {
        Ok(guard) => Ok(Client { device, index, name, served: Some((link, guard)), _file: lock }),
        Err(error) => {
            disconnect(index).map_err(failed)?;
            link.end();
            Err(error)
        }
    }
}

/// The device is what was asked for, and its name is in the volume's file.
fn finish(device: &Path, name: &str, sector: u32, file: &mut File) -> Result<()> {
    wait_for(|| device.exists());
    let wanted = [("backend", name), ("queue/logical_block_size", &sector.to_string())];
    for (attribute_name, value) in wanted {
        let found = attribute(device, attribute_name);
        if found.as_deref() != Some(value) {
            let text = format!("{} has {found:?} for {attribute_name}, and not {value}", device.display());
            return Err(Error::io(text));
        }
    }
    let limit = Path::new("/sys/block").join(device.file_name().unwrap_or_default());
    // Smaller requests are slower, and no failure.
    let _smaller = fs::write(limit.join("queue/max_sectors_kb"), REQUEST_KIB).is_err();
    let written = file.set_len(0).and_then(|()| file.write_all(device.as_os_str().as_encoded_bytes()));
    written.map_err(|error| Error::io(format!("the file of {}: {error}", device.display())))
}

impl Backing for Client {
    fn device(&self) -> &Path {
        &self.device
    }

    fn is_there(&self) -> bool {
        is_named(self.index, &self.name)
    }

    fn end(&mut self) -> Result<()> {
        if self.is_there() {
            release(&self.device, self.index, true)?;
        }
        if let Some((link, guard)) = self.served.take() {
            guard.dismiss();
            link.end();
        }
        Ok(())
    }

    fn resize(&self, size: u64) -> Result<()> {
        let wanted = Attributes::default()
            .with(INDEX, &self.index.to_ne_bytes())
            .with(SIZE, &size.to_ne_bytes())
            .with(NAME, &terminated(&self.name));
        let told = family().and_then(|family| family.ask(RECONFIGURE, &wanted));
        told.map(|_| ()).map_err(|error| Error::io(format!("{}: {error}", self.device.display())))
    }
}

/// By which a device is known again.
fn name_of(file: &Path, process: u32) -> String {
    format!("{} {process}", file.display())
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// Whether a device has this name still.
pub(crate) fn is_named(index: u32, name: &str) -> bool {
    attribute(&PathBuf::from(format!("/dev/nbd{index}")), "backend").as_deref() == Some(name)
}

/// The volume's file that a device is made of, if it is one of ours.
pub(crate) fn file_of(device: &Path) -> Option<PathBuf> {
    let name = attribute(device, "backend")?;
    let (file, process) = name.rsplit_once(' ')?;
    process.bytes().all(|byte| byte.is_ascii_digit()).then(|| file.into())
}

/// Fails all requests that a device has and will have, and takes it away as soon as nobody has it open.
///
/// # Errors
/// The kernel's.
pub(crate) fn disconnect(index: u32) -> io::Result<()> {
    let which = Attributes::default().with(INDEX, &index.to_ne_bytes());
    family()?.ask(DISCONNECT, &which).map(|_| ())
}

fn release(device: &Path, index: u32, flush: bool) -> Result<()> {
    let failed = |error: io::Error| Error::io(format!("{}: {error}", device.display()));
    let name = attribute(device, "backend");
    let take = || disconnect(index).map_err(failed);
    claims::release(device, flush, take, || attribute(device, "backend").is_none_or(|now| Some(now) != name))
}

/// Takes away what a server that died has left of a volume's file: its device.
///
/// # Errors
/// `Kind::Busy` when it is served still, or somebody uses it; `Kind::Io`.
pub(crate) fn clear(file: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::io(format!("{}: {error}", file.display()));
    let _lock = lock_unserved(file)?;
    for device in users::names(Path::new("/sys/block")).map(|name| Path::new("/dev").join(name)) {
        if file_of(&device).as_deref() != Some(file) {
            continue;
        }
        let number = device.to_str().and_then(|path| path.strip_prefix("/dev/nbd")?.parse().ok());
        let Some(index) = number else { continue };
        // Its guard does the same, unless it died as well. Whoever has the device mounted learns that it is dead.
        disconnect(index).map_err(failed)?;
        if !wait_for(|| file_of(&device).as_deref() != Some(file) || !users::of(&device).is_empty()) {
            return Err(failed(io::Error::other(format!("{} does not go", device.display()))));
        }
        if file_of(&device).as_deref() == Some(file) {
            let error = claims::busy(&device, &users::of(&device));
            return Err(error.context("the server that this device had has died, and the device is dead"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use paritas::error::Kind;

    #[test]
    fn what_is_no_device_of_the_client_has_no_file_and_no_name() {
        for device in ["/dev/null", "/dev/no-such-device", "/"] {
            assert_eq!(file_of(Path::new(device)), None);
        }
        assert!(!is_named(u32::MAX, ""));
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
