//! A member that was out of use and is there again while the array is open.
//!
//! It holds what it held when it was given up, and has missed everything since: as at an opening, it is in use at once,
//! and durably so only together with the next checkpoint, behind which it has missed nothing
//! ([`Pool`](super::Pool) says why).

use super::elect::{descends, newest_copy, own_uuid};
use super::members::Pool;
use super::rings::Found;
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::MemberState;
use crate::layout::Geometry;
use crate::types::Slot;
use std::sync::Arc;

impl Pool {
    /// Whether a member is out of use and may be in use again, if it is there.
    ///
    /// # Errors
    /// [`Kind::Refused`], [`Kind::NotFound`].
    pub fn check_out(&self, slot: Slot) -> Result<()> {
        self.state.with(|state| {
            let record = state.superblock.members.get(usize::from(slot.0));
            let refused = |what: &str| {
                let path = record.map_or("", |record| record.path.as_str());
                Err(Error::new(Kind::Refused, format!("member {slot} ({path}) {what}")))
            };
            match record.map_or(MemberState::Removed, |record| record.state) {
                MemberState::Out if !state.recognised.contains(&slot) => Ok(()),
                MemberState::Out => {
                    refused("is known by its chunks alone, and comes back when the array is opened anew")
                }
                MemberState::Active => refused("is in use"),
                MemberState::Failed => refused("was taken out for good; put something in its place"),
                MemberState::Leaving => refused("is being replaced"),
                MemberState::Removed | MemberState::Spare => {
                    Err(Error::new(Kind::NotFound, format!("there is no member {slot}")))
                }
            }
        })
    }

    /// Whether a device, with these superblocks, is the member that is out of use.
    ///
    /// # Errors
    /// [`Kind::Refused`]; [`Kind::Io`] when its superblocks cannot be read.
    pub fn check_same(&self, slot: Slot, found: &Found) -> Result<()> {
        let superblock = self.superblock();
        let record = &superblock.members[usize::from(slot.0)];
        let refused = |what: &str| Err(Error::new(Kind::Refused, format!("it {what}")));
        let Some(head) = newest_copy(found, superblock.array) else {
            return match &found.refused {
                Some(error) => Err(error.clone()),
                None if found.is_silent => Err(Error::io("it does not answer")),
                None if found.damaged > 0 => Err(Error::io("its superblocks are damaged or cannot be read")),
                None => refused("has no superblock of this array"),
            };
        };
        if head.slot != slot || own_uuid(head) != Some(record.uuid) {
            return refused("is another member");
        }
        if !descends(&superblock, head) {
            return refused("was written without this array: open the array anew to have them compared");
        }
        let chunks = Geometry { chunk_blocks: superblock.chunk_blocks }.chunks_on(found.len);
        if chunks < record.chunks {
            return refused("is shorter than it was");
        }
        Ok(())
    }

    /// Lets go of the device of a member that is out of use: whoever claims it anew knows then that nothing of before
    /// is under way there any more.
    ///
    /// # Errors
    /// As [`Pool::check_out`].
    pub fn let_go(&self, slot: Slot) -> Result<()> {
        self.check_out(slot)?;
        let device = self.state.with(|state| state.devices[usize::from(slot.0)].take());
        drop(device);
        Ok(())
    }

    /// A member that is out of use is in use again, on this device, in a new epoch.
    pub fn take_back(&self, slot: Slot, device: Arc<dyn Device>) {
        let now = self.now();
        self.state.with(|state| state.take_back(slot, device, now));
    }
}
