//! Blocks that a call is about to change in part. It must know what they were, and while it reads them and waits
//! for room, others may write them: what they write is noted here, so that the call builds on the newest state
//! in the moment it is accepted. Nobody waits for anybody, and nothing has to be tried again.
//!
//! Invariant: the newest state of a block is the last note of an edit, or, without one, what any read says that
//! began after [`Edits::begin`].

use super::batch::Buffered;
use crate::types::{Lba, VolumeId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A block that is about to be changed in part, by one call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EditId {
    volume: VolumeId,
    lba: Lba,
    serial: u64,
}

/// Edits under way. As many as there are calls: each has its own bytes in memory anyway.
#[derive(Debug, Default)]
pub(super) struct Edits {
    notes: BTreeMap<EditId, Option<Buffered>>,
    begun: u64,
}

impl Edits {
    /// From here on, what becomes of a block is noted.
    pub(super) fn begin(&mut self, volume: VolumeId, lba: Lba) -> EditId {
        self.begun += 1;
        let id = EditId { volume, lba, serial: self.begun };
        self.notes.insert(id, None);
        id
    }

    /// What became of the block since the edit began.
    pub(super) fn note(&self, id: EditId) -> Option<Buffered> {
        self.notes.get(&id).cloned().flatten()
    }

    /// Nobody asks any more.
    pub(super) fn end(&mut self, id: EditId) {
        self.notes.remove(&id);
    }

    /// Consecutive blocks were written.
    pub(super) fn wrote(&mut self, volume: VolumeId, lba: Lba, blocks: &[Bytes]) {
        for (at, note) in self.range(volume, lba, blocks.len() as u64) {
            let index = usize::try_from(at.0 - lba.0).expect("an index of the slice");
            *note = Some(Buffered::Data(blocks[index].clone()));
        }
    }

    /// A range was trimmed.
    pub(super) fn trimmed(&mut self, volume: VolumeId, lba: Lba, blocks: u64) {
        self.range(volume, lba, blocks).for_each(|(_, note)| *note = Some(Buffered::Hole));
    }

    fn range(
        &mut self,
        volume: VolumeId,
        lba: Lba,
        blocks: u64,
    ) -> impl Iterator<Item = (Lba, &mut Option<Buffered>)> {
        // Nothing is looked up in a map that is empty: without edits under way a write costs what it did.
        let first = |lba| EditId { volume, lba, serial: 0 };
        let range = first(lba)..first(lba.plus(blocks));
        self.notes.range_mut(range).map(|(id, note)| (id.lba, note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: VolumeId = VolumeId(1);

    fn data(fill: u8) -> Bytes {
        Bytes::from(vec![fill; 4])
    }

    #[test]
    fn every_edit_of_a_block_is_told_the_newest_state_and_no_other() {
        let mut edits = Edits::default();
        let (a, b) = (edits.begin(V, Lba(5)), edits.begin(V, Lba(5)));
        let other = edits.begin(VolumeId(2), Lba(5));
        assert_eq!(edits.note(a), None);
        edits.wrote(V, Lba(4), &[data(1), data(2), data(3)]);
        assert_eq!(edits.note(a), Some(Buffered::Data(data(2))));
        assert_eq!(edits.note(b), Some(Buffered::Data(data(2))));
        let late = edits.begin(V, Lba(5));
        edits.wrote(V, Lba(6), &[data(4)]);
        edits.wrote(V, Lba(4), &[data(4)]);
        assert_eq!((edits.note(late), edits.note(other)), (None, None));
        edits.trimmed(V, Lba(0), 6);
        assert_eq!((edits.note(a), edits.note(late)), (Some(Buffered::Hole), Some(Buffered::Hole)));
        edits.trimmed(V, Lba(0), 5);
        edits.wrote(V, Lba(5), &[data(9)]);
        assert_eq!(edits.note(b), Some(Buffered::Data(data(9))));
        [a, b, other, late].into_iter().for_each(|id| edits.end(id));
        assert!(edits.notes.is_empty());
    }
}
