//! Serves a volume to the kernel as a block device.
//!
//! One thread does that ([`Disk`]). What is written is copied once, by the kernel, to where the engine keeps it; what
//! is read goes to the kernel as it came from the engine.
//!
//! When the process dies the kernel stops the device by itself, and fails what was asked for: it notices that the ring
//! is gone. Only an entry is left, of which [`Control::info`] still tells the mark, and which [`Control::delete`] takes
//! away.

mod control;
mod descriptors;
mod payload;
mod queue;
mod ring;
mod tasks;
#[cfg(test)]
mod tests;
mod woken;

pub use control::{CONTROL, Control};

use super::wire::{ANY_DEVICE, Info, Parameters, attribute, feature};
use crate::error::{Error, Result};
use crate::frontend::bell::Bell;
use crate::frontend::complaints::Complaints;
use crate::types::BLOCK;
use crate::volume::Volume;
use ring::Ring;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use tasks::Tasks;

/// Requests that the kernel has for a device at a time.
const DEPTH: u16 = 128;
/// Bytes of a request at most: of what the engine takes as one step.
const REQUEST_BYTES: u32 = 1 << 20;
/// Bytes of a range that is discarded, or made zeros, by one request: as many whole blocks as the kernel can count.
const RANGE_BYTES: u32 = !0xfff;
const _: () = assert!(BLOCK == 0x1000, "whole blocks");
/// Without these there is no such device.
const NEEDED: u64 = feature::ENCODED | feature::COPY;

/// How a device is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Bytes of its sectors, 512 or 4096.
    pub sector: u32,
    /// Nobody may write to it.
    pub read_only: bool,
    /// By which it is known again: see [`Info::mark`].
    pub mark: u64,
}

/// A block device of a volume, `/dev/ublkb` and its number. Dropping it takes nothing away: it is served as long as the
/// process lives, or until it is stopped.
pub struct Disk {
    index: u32,
    thread: JoinHandle<()>,
}

/// Whether the kernel has what is needed here. Returns its features.
///
/// # Errors
/// Why it has not, or why this process may not ask.
pub fn features() -> io::Result<u64> {
    let too_old = || io::Error::new(io::ErrorKind::Unsupported, "it is older than that of Linux 6.5");
    let found = Control::open()?.features().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => error,
        _ => too_old(),
    })?;
    if found & NEEDED == NEEDED { Ok(found) } else { Err(too_old()) }
}

impl Disk {
    /// Makes a device of a volume. `complain` gets a line about a request that failed, not more than a few in a time.
    ///
    /// The caller must be root. The array must not be closed before the device is gone.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io), and no device is left; what [`Volume::size`] has.
    pub fn new(
        volume: &Volume,
        terms: Terms,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Disk> {
        let failed = |error: io::Error| Error::io(format!("the kernel's ublk: {error}"));
        let size = volume.size()?;
        let found = features().map_err(failed)?;
        let mut control = Control::open().map_err(failed)?;
        let info = Info {
            queues: 1,
            depth: DEPTH,
            is_live: false,
            request_bytes: REQUEST_BYTES,
            device: ANY_DEVICE,
            process: 0,
            // No recovery, by intent: see the front page of this front end.
            features: NEEDED | found & feature::RESIZE,
            mark: terms.mark,
        };
        let index = control.add(&info).map_err(failed)?.device;
        let served = serve(volume, terms.read_only, index, Complaints::new(complain));
        let started = served.map(|thread| {
            let parameters = parameters(terms, size);
            let started = control.set(index, &parameters).and_then(|()| control.start(index));
            (thread, started)
        });
        let error = match started {
            Ok((thread, Ok(()))) => return Ok(Disk { index, thread }),
            Ok((thread, Err(error))) => {
                // Its thread ends with it.
                let ended = control.stop(index).map(|()| thread.join());
                ended.err().unwrap_or(error)
            }
            Err(error) => error,
        };
        control.delete(index).map_err(failed)?;
        Err(failed(error))
    }

    /// The device's number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Waits until everything is answered, of a device that was stopped.
    pub fn end(self) {
        // A thread that panicked has let go of the device as well.
        let _panicked = self.thread.join().is_err();
    }
}

fn parameters(terms: Terms, size: u64) -> Parameters {
    let attributes = match terms.read_only {
        true => attribute::READ_ONLY,
        false => attribute::CACHE | attribute::DURABLE,
    };
    Parameters {
        attributes,
        sector: terms.sector,
        block: u32::try_from(BLOCK).expect("4096"),
        best: REQUEST_BYTES,
        request_bytes: REQUEST_BYTES,
        size,
        range_bytes: RANGE_BYTES,
    }
}

/// Starts the thread of a device that was added. It has asked for requests, or is about to, when this returns.
fn serve(volume: &Volume, read_only: bool, index: u32, complaints: Complaints) -> io::Result<JoinHandle<()>> {
    let file = Arc::new(File::options().read(true).write(true).open(format!("/dev/ublkc{index}"))?);
    let bell = Bell::new()?;
    let most = usize::try_from(REQUEST_BYTES).expect("a mebibyte");
    let (volume, data, rung) = (volume.clone(), file.clone(), bell.clone());
    let tasks = Tasks::new(volume, read_only, most, complaints, data, DEPTH, rung)?;
    let (said, hears) = channel();
    let thread = std::thread::Builder::new().name(format!("ublk {index}"));
    let thread = thread.spawn(move || run(file, tasks, &bell, &said))?;
    match hears.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the thread of a device has ended too early")),
    }
}

/// The ring is made in the thread that uses it.
fn run(file: Arc<File>, mut tasks: Tasks, bell: &Arc<Bell>, said: &Sender<io::Result<()>>) {
    let mut ring = match Ring::new(file, bell.clone(), DEPTH) {
        Ok(ring) => ring,
        Err(error) => {
            let _heard = said.send(Err(error)).is_ok();
            return;
        }
    };
    let _heard = said.send(Ok(())).is_ok();
    if let Err(error) = queue::serve(&mut ring, &mut tasks, bell, DEPTH) {
        let name = tasks.volume.name();
        tasks.complaints.tell(&format!("volume {name}: its device has failed: {error}"));
    }
}
