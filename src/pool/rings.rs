//! The superblock rings of one member.

use crate::device::{Aligned, Device, DeviceError, read_full, write_full};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{MemberState, Superblock};
use crate::layout::{ring_offsets, slot_offset};
use crate::limits::{RING_BYTES, RING_SLOTS, SLOT_BYTES};
use crate::types::BLOCK;
use crate::zoo::{Bug, planted};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What the rings of a device hold.
#[derive(Debug, Default)]
pub struct Found {
    /// Bytes of the device.
    pub len: u64,
    /// Every copy that checks out.
    pub copies: Vec<Superblock>,
    /// Slots that hold something else than zeros or a good copy.
    pub damaged: usize,
    /// A copy that is whole but that this version must not open.
    pub refused: Option<Error>,
    /// The device did not answer in time, and was not asked for the rest.
    pub is_silent: bool,
    /// Some slot cannot be read in either ring: a newer copy may be there.
    pub is_blind: bool,
}

impl Found {
    /// Whether it was a member, was replaced and says so itself ([`super::Pool::dismiss`]): it has no part in any
    /// array.
    pub fn has_left(&self) -> bool {
        let newest = self.copies.iter().max_by_key(|copy| (copy.epoch, copy.commit));
        let own = newest.and_then(|copy| copy.members.get(usize::from(copy.slot.0)));
        self.refused.is_none() && own.is_some_and(|record| record.state == MemberState::Removed)
    }
}

/// Reads every slot of both rings. Unreadable slots count as damaged: the other copies speak for them.
pub async fn read_rings(device: &dyn Device) -> Found {
    let mut found = Found { len: device.len(), ..Found::default() };
    if device.len() < 2 * RING_BYTES {
        return found;
    }
    let (front, back) = ring_offsets(device.len());
    let mut unread = BTreeSet::new();
    // Copies in front by their slots: what lies behind is the same nearly always, and need not be decoded again.
    let mut known: BTreeMap<u64, (Bytes, Superblock)> = BTreeMap::new();
    for ring in [front, back] {
        for slot in 0..RING_SLOTS {
            let read = read_slot(device, slot_offset(ring, slot)).await;
            let decode = |bytes: Bytes| match known.remove(&slot) {
                Some((twin, copy)) if twin == bytes => Ok((bytes, copy)),
                _ => Superblock::decode(&bytes).map(|copy| (bytes, copy)),
            };
            match read.map(|bytes| bytes.and_then(decode)) {
                Ok(Ok((bytes, copy))) => {
                    if ring == front {
                        known.insert(slot, (bytes, copy.clone()));
                    }
                    found.copies.push(copy);
                }
                // Each further read would take as long.
                Err(DeviceError::Hangs) => {
                    (found.is_silent, found.is_blind) = (true, true);
                    return found;
                }
                Err(_) => {
                    found.damaged += 1;
                    found.is_blind |= !unread.insert(slot);
                }
                Ok(Err(error)) => match error.kind() {
                    Kind::NotFound => {}
                    Kind::Refused => found.refused = Some(error),
                    _ => found.damaged += 1,
                },
            }
        }
    }
    found
}

/// Whether a device can read the superblock of `commit`, which it has, in one of its rings.
pub(super) async fn answers(device: &dyn Device, commit: u64) -> bool {
    let (front, back) = ring_offsets(device.len());
    for ring in [front, back] {
        if read_full(device, slot_offset(ring, commit), BLOCK).await.is_ok() {
            return true;
        }
    }
    false
}

/// The bytes of a slot as far as they look like a superblock.
async fn read_slot(device: &dyn Device, offset: u64) -> std::result::Result<Result<Bytes>, DeviceError> {
    let head = read_full(device, offset, BLOCK).await?;
    let length = match Superblock::encoded_len(&head) {
        // An empty slot is zeros; what is neither that nor a superblock was one, or never belonged there.
        Err(_) if head.iter().any(|byte| *byte != 0) => {
            return Ok(Err(Error::corrupt(format!("no superblock at byte {offset}"))));
        }
        Err(error) => return Ok(Err(error)),
        Ok(length) => length,
    };
    if length <= BLOCK {
        return Ok(Ok(head));
    }
    read_full(device, offset, length.min(SLOT_BYTES)).await.map(Ok)
}

/// Writes a superblock to its slot in both rings and makes it durable.
pub async fn write_rings(
    device: &dyn Device,
    superblock: &Superblock,
) -> std::result::Result<(), DeviceError> {
    let encoded = superblock.encode().map_err(|error| DeviceError::Invalid(error.to_string()))?;
    let encoded = Aligned::copy_of(&encoded).freeze();
    let (front, back) = ring_offsets(device.len());
    for ring in [front, back].into_iter().skip(usize::from(planted(Bug::OneRing))) {
        write_full(device, slot_offset(ring, superblock.commit), vec![encoded.clone()]).await?;
    }
    device.flush().await
}

/// Zeros both rings, but for the slot of the commit `spared`, and makes that durable.
pub async fn erase_rings(device: &dyn Device, spared: Option<u64>) -> std::result::Result<(), DeviceError> {
    let spared = spared.map_or(RING_SLOTS, |commit| commit % RING_SLOTS);
    let (front, back) = ring_offsets(device.len());
    let zeros = Aligned::zeroed(usize::try_from(RING_BYTES).expect("a megabyte")).freeze();
    for ring in [front, back] {
        for run in [0..spared, spared + 1..RING_SLOTS].into_iter().filter(|run| !run.is_empty()) {
            let slots = usize::try_from(run.end - run.start).expect("a few");
            let zeros = zeros.slice(..slots * SLOT_BYTES);
            write_full(device, ring + run.start * SLOT_BYTES as u64, vec![zeros]).await?;
        }
    }
    device.flush().await
}
