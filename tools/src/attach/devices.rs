//! The devices of the array that a server has open, for all who ask it, one after the other.

use super::attachments::{Attached, Attachments, Wish};
use super::place::Place;
use paritas::error::{Error, Kind, Result};
use paritas::volume::{Array, Volume};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Which volumes of an open array are devices.
pub(crate) struct Devices {
    state: Mutex<State>,
    changed: Condvar,
    /// The array is open to be read only.
    read_only: bool,
}

struct State {
    attachments: Attachments,
    /// All are to be taken away.
    is_ending: bool,
}

impl Devices {
    /// None yet.
    pub(crate) fn new(place: Place, read_only: bool) -> Devices {
        let state = State { attachments: Attachments::new(place), is_ending: false };
        Devices { state: Mutex::new(state), changed: Condvar::new(), read_only }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a device of a volume: see [`Attachments::attach`].
    ///
    /// # Errors
    /// Its, [`Kind::NotFound`] without such a volume, and [`Kind::Refused`] when nothing can be written.
    pub(crate) fn attach(&self, array: &Array, volume: &str, wish: Wish) -> Result<Attached> {
        if self.read_only && !wish.read_only {
            return Err(Error::new(
                Kind::Refused,
                "the array is open to be read only, for volumes that are attached so: detach these first",
            ));
        }
        let volume = array.volume(volume)?;
        self.state().attachments.attach(&volume, wish)
    }

    /// Flushes a device and takes it away.
    ///
    /// # Errors
    /// See [`Attachments::detach`].
    pub(crate) fn detach(&self, device: &Path) -> Result<()> {
        let detached = self.state().attachments.detach(device);
        self.changed.notify_all();
        detached
    }

    /// The device of a volume.
    pub(crate) fn of(&self, volume: &str) -> Option<PathBuf> {
        let attached = self.state().attachments.list();
        attached.into_iter().find(|attached| attached.volume == volume).map(|attached| attached.device)
    }

    /// Whether a device is one of these.
    pub(crate) fn has(&self, device: &Path) -> bool {
        self.state().attachments.list().iter().any(|attached| attached.device == device)
    }

    /// Whether no volume is a device.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().attachments.list().is_empty()
    }

    /// Whether a volume may get another size: see [`Attachments::may_resize`].
    ///
    /// # Errors
    /// Its.
    pub(crate) fn may_resize(&self, volume: &str) -> Result<()> {
        self.state().attachments.may_resize(volume)
    }

    /// Tells the device of a volume, if it is one, that it has another size now.
    ///
    /// # Errors
    /// See [`Attachments::resized`].
    pub(crate) fn resized(&self, volume: &Volume) -> Result<()> {
        self.state().attachments.resized(volume)
    }

    /// Orders all devices to go. For whoever is in [`Devices::wait`].
    pub(crate) fn end(&self) {
        self.state().is_ending = true;
        self.changed.notify_all();
    }

    /// Waits until no volume is a device any more. Those that somebody uses when they are ordered to go are waited for.
    pub(crate) fn wait(&self) {
        let mut state = self.state();
        while !state.attachments.list().is_empty() {
            if std::mem::take(&mut state.is_ending) {
                for error in state.attachments.detach_all() {
                    tracing::warn!("{error}; this server goes on until that is detached");
                }
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
