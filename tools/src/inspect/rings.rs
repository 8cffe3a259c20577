//! The superblocks of one member, slot by slot.

use paritas::device::Image;
use paritas::error::Kind;
use paritas::format::superblock::Superblock;
use paritas::layout::{ring_offsets, slot_offset};
use paritas::limits::{RING_BYTES, RING_SLOTS, SLOT_BYTES};
use paritas::types::BLOCK;

/// What a slot holds.
pub(super) enum Content {
    Good(Box<Superblock>),
    /// Zeros: never written.
    Empty,
    /// Why it is no good copy.
    Damaged(String),
}

/// A place for a superblock.
pub(super) struct RingSlot {
    /// `A` in front, `B` at the end.
    pub(super) ring: char,
    pub(super) slot: u64,
    /// The byte at which it begins.
    pub(super) offset: u64,
    pub(super) content: Content,
}

impl RingSlot {
    pub(super) fn copy(&self) -> Option<&Superblock> {
        match &self.content {
            Content::Good(copy) => Some(copy),
            _ => None,
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.content, Content::Damaged(_))
    }
}

/// Every slot of both rings; none where the member is too short for rings.
pub(super) fn slots(image: &Image) -> Vec<RingSlot> {
    if image.len() < 2 * RING_BYTES {
        return Vec::new();
    }
    let (front, back) = ring_offsets(image.len());
    let rings = [('A', front), ('B', back)].into_iter();
    let places = rings
        .flat_map(|(ring, start)| (0..RING_SLOTS).map(move |slot| (ring, slot, slot_offset(start, slot))));
    places
        .map(|(ring, slot, offset)| RingSlot { ring, slot, offset, content: content(image, offset) })
        .collect()
}

/// The copy that an array would go by, were this its only member.
pub(super) fn newest(slots: &[RingSlot]) -> Option<&Superblock> {
    slots.iter().filter_map(RingSlot::copy).max_by_key(|copy| (copy.epoch, copy.commit))
}

fn content(image: &Image, offset: u64) -> Content {
    let mut bytes = vec![0; BLOCK];
    if let Err(error) = image.read(offset, &mut bytes) {
        return Content::Damaged(format!("cannot be read: {error}"));
    }
    let length = match Superblock::encoded_len(&bytes) {
        Ok(length) => length.min(SLOT_BYTES),
        Err(error) if error.kind() == Kind::NotFound && bytes.iter().all(|byte| *byte == 0) => {
            return Content::Empty;
        }
        Err(error) => return Content::Damaged(error.to_string()),
    };
    bytes.resize(length, 0);
    match image.read(offset, &mut bytes) {
        Err(error) => Content::Damaged(format!("cannot be read: {error}")),
        Ok(()) => match Superblock::decode(&bytes) {
            Ok(copy) => Content::Good(Box::new(copy)),
            Err(error) => Content::Damaged(error.to_string()),
        },
    }
}
