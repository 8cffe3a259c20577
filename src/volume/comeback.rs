//! A member that is there again while the array is open.

use super::Shard;
use super::array::Array;
use super::discover::{absolute, kept_faults, recorded};
use super::engine::settle;
use super::make::claim_error;
use crate::device::inject::Injector;
use crate::device::{Device, OpenMode, open};
use crate::error::{Error, Kind, Result};
use crate::pool::Candidate;
use crate::types::Slot;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Array {
    /// Takes a member back into use that failed, hung or was away, and is there again: where it was, or at `path`. It
    /// holds what it held; what it missed is rebuilt in the background or by [`Array::rebuild`]. Durable on return.
    /// An opening does the same with whoever is back.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when the member is in use or out for good, when what is there is not the
    /// member, or all are simulated ([`crate::sim::trial`]); [`Kind::Busy`] when another process has it, or while
    /// something is under way there that was begun before it was given up; [`Kind::Io`].
    pub fn return_member(&self, slot: u8, path: Option<&Path>) -> Result<()> {
        self.engine.check_real()?;
        let slot = Slot(slot);
        let present = self.engine.present.clone();
        let (was, injector) = settle(self.engine.wait(self.engine.start(async move |shard: Shard| {
            let pool = &shard.core().stripes().pool;
            pool.let_go(slot)?;
            let recorded: PathBuf = pool.superblock().members[usize::from(slot.0)].path.clone().into();
            Ok(present.with(|present| {
                let found = present.found(slot).map(|(path, _)| path.clone());
                (found.unwrap_or(recorded), present.injector(slot).cloned())
            }))
        })))?;
        let path = match path {
            Some(path) => absolute(path)?,
            None if was.is_absolute() => was,
            None => {
                let text =
                    format!("only the name of member {slot} is known, {}: say where it is", was.display());
                return Err(Error::new(Kind::NotFound, text));
            }
        };
        // In the caller's thread: what hangs may hang already when it is opened.
        let device = open(&path, OpenMode::ReadWrite, self.engine.ring.as_ref());
        let device = device.map_err(|error| claim_error(&path, &error))?;
        let (size, present) = (device.len(), self.engine.present.clone());
        let kept = if injector.is_none() { kept_faults(&path, size)? } else { Vec::new() };
        settle(self.engine.wait(self.engine.start(async move |shard: Shard| {
            let injector = injector.unwrap_or_else(|| Injector::new(shard.core().env()));
            kept.into_iter().for_each(|fault| injector.inject(fault));
            let device = Arc::new(injector.over(Arc::new(device)));
            shard.return_member(slot, Candidate { device, path: recorded(&path) }).await?;
            present.with(|present| present.join(slot, path, size, injector));
            Ok(())
        })))
    }
}
