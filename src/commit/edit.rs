//! A block that a call changes in part, from before it is read until the call is accepted.

use super::core::Core;
use crate::log::{Buffered, EditId};
use crate::types::{Lba, VolumeId};

/// An edit under way; it ends when this is dropped.
pub(crate) struct Editing<'a> {
    core: &'a Core,
    id: EditId,
}

impl Core {
    /// A call is about to change a block in part. Whatever is read of it from here on is its newest state
    /// unless [`Editing::noted`] says otherwise.
    pub(crate) fn edit(&self, volume: VolumeId, lba: Lba) -> Editing<'_> {
        Editing { core: self, id: self.log.with(|log| log.begin_edit(volume, lba)) }
    }
}

impl Editing<'_> {
    /// What others made of the block since the edit began.
    pub(crate) fn noted(&self) -> Option<Buffered> {
        self.core.log.with(|log| log.noted(self.id))
    }
}

impl Drop for Editing<'_> {
    fn drop(&mut self) {
        self.core.log.with(|log| log.end_edit(self.id));
    }
}
