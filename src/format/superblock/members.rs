//! The bytes of the member table and of the earlier epochs.

use crate::error::Result;
use crate::format::superblock::{MemberRecord, MemberState, PastEpoch};
use crate::format::wire::{Reader, Writer, count};
use crate::limits::{LABEL_BYTES_MAX, PATH_BYTES_MAX};
use crate::types::{Epoch, Nonce, Uuid};

pub(super) const PAST_EPOCH_BYTES: usize = 16;
/// Bytes of a member, its path and label apart.
pub(super) const MEMBER_BYTES: usize = 48;

impl PastEpoch {
    pub(super) fn put(&self, writer: &mut Writer) {
        writer.u64(self.epoch.0);
        writer.u64(self.nonce.0);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<PastEpoch> {
        Ok(PastEpoch { epoch: Epoch(reader.u64("past epoch")?), nonce: Nonce(reader.u64("past nonce")?) })
    }
}

impl MemberState {
    fn number(self) -> u8 {
        match self {
            MemberState::Active => 1,
            MemberState::Out => 2,
            MemberState::Failed => 3,
            MemberState::Removed => 4,
            MemberState::Spare => 5,
            MemberState::Leaving => 6,
        }
    }

    fn from_number(number: u8) -> Option<MemberState> {
        use MemberState::{Active, Failed, Leaving, Out, Removed, Spare};
        [Active, Out, Failed, Removed, Spare, Leaving].into_iter().find(|state| state.number() == number)
    }
}

impl MemberRecord {
    pub(super) fn put(&self, writer: &mut Writer) {
        writer.bytes(&self.uuid.0);
        writer.u8(self.state.number());
        writer.u8(count(self.path.len()));
        writer.u8(count(self.label.len()));
        writer.zeros(1);
        writer.u32(self.chunks);
        writer.u64(self.since.0);
        for errors in self.errors {
            writer.u32(errors);
        }
        writer.bytes(self.path.as_bytes());
        writer.bytes(self.label.as_bytes());
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<MemberRecord> {
        let uuid = Uuid(reader.array("member")?);
        let number = reader.u8("member state")?;
        let state = MemberState::from_number(number).ok_or_else(|| {
            reader.corrupt("member state", format_args!("no state has the number {number}"))
        })?;
        let path_bytes = usize::from(reader.u8("path length")?);
        let label_bytes = usize::from(reader.u8("label length")?);
        reader.zeros(1)?;
        let chunks = reader.u32("member chunks")?;
        let since = Epoch(reader.u64("member epoch")?);
        let mut errors = [0; 4];
        for errors in &mut errors {
            *errors = reader.u32("member errors")?;
        }
        let path = reader.text("path", path_bytes, PATH_BYTES_MAX)?;
        let label = reader.text("label", label_bytes, LABEL_BYTES_MAX)?;
        Ok(MemberRecord { uuid, state, since, chunks, errors, path, label })
    }
}
