//! The bytes of the checkpoint: a part of fixed length, and the lists at the end of the superblock.

use crate::error::Result;
use crate::format::page::{Key, Value};
use crate::format::superblock::{Checkpoint, ChunkAddress, Root};
use crate::format::tables::SegmentRecord;
use crate::format::wire::{Reader, Writer};
use crate::limits::RUNWAY_CHUNKS_MAX;
use crate::types::{Chunk, Nonce, Pointer, SegmentId, Sequence, Slot};

/// Bytes of a boot segment besides its columns.
pub(super) const BOOT_BYTES: usize = 8 + 16;
/// Bytes of a column of a boot segment.
pub(super) const BOOT_COLUMN_BYTES: usize = 16;
pub(super) const RUNWAY_BYTES: usize = 8;
const ROOT_RESERVED_BYTES: usize = 7;

impl Checkpoint {
    pub(super) fn put_fixed(&self, writer: &mut Writer) {
        writer.u64(self.generation);
        writer.u64(self.nonce.0);
        writer.u64(self.next_segment.0);
        writer.u64(self.next_sequence.0);
        for root in [self.segments, self.volumes, self.damage] {
            match root {
                Some(root) => {
                    writer.bytes(&root.pointer.to_value());
                    writer.u8(root.level);
                    writer.zeros(ROOT_RESERVED_BYTES);
                }
                None => writer.zeros(16 + 1 + ROOT_RESERVED_BYTES),
            }
        }
    }

    pub(super) fn put_lists(&self, writer: &mut Writer) {
        for segment in &self.boot {
            writer.u64(segment.id.0);
            for (_, value) in segment.entries() {
                writer.bytes(&value);
            }
        }
        for at in &self.runway {
            writer.u32(at.chunk.0);
            writer.u8(at.slot.0);
            writer.zeros(3);
        }
    }

    pub(super) fn take_fixed(reader: &mut Reader<'_>) -> Result<Checkpoint> {
        Ok(Checkpoint {
            next_volume: reader.u32("next volume")?,
            generation: reader.u64("generation")?,
            nonce: Nonce(reader.u64("checkpoint nonce")?),
            next_segment: SegmentId(reader.u64("next segment")?),
            next_sequence: Sequence(reader.u64("next sequence")?),
            segments: take_root(reader, "segment table")?,
            volumes: take_root(reader, "volume table")?,
            damage: take_root(reader, "damage list")?,
            boot: Vec::new(),
            runway: Vec::new(),
        })
    }
}

/// A root. No pointer is all zeros, because none reaches back zero rows: zeros mean that there is no root.
fn take_root(reader: &mut Reader<'_>, field: &str) -> Result<Option<Root>> {
    let value = reader.array(field)?;
    let level = reader.u8(field)?;
    reader.zeros(ROOT_RESERVED_BYTES)?;
    if value == [0; 16] && level == 0 {
        return Ok(None);
    }
    Ok(Some(Root { pointer: Pointer::from_value(&value).map_err(|error| error.context(field))?, level }))
}

/// A boot segment: its number, then the values of its row as the segment table would have them.
pub(super) fn take_boot(reader: &mut Reader<'_>) -> Result<SegmentRecord> {
    let id = SegmentId(reader.u64("boot segment")?);
    let head: Value = reader.array("boot segment")?;
    let width = u64::from(head[0]) + u64::from(head[1]);
    let mut entries = vec![(SegmentRecord::first_key(id), head)];
    for field in 1..=width {
        entries.push((Key(id.0, field), reader.array("boot column")?));
    }
    SegmentRecord::from_entries(&entries)
}

/// The longest of the lists, and every opening reads it many times: one look at the bytes of each chunk.
pub(super) fn take_runway(reader: &mut Reader<'_>, len: u16) -> Result<Vec<ChunkAddress>> {
    let len = usize::from(len);
    if len > RUNWAY_CHUNKS_MAX {
        return Err(reader.corrupt("runway", format_args!("{len}, at most {RUNWAY_CHUNKS_MAX} allowed")));
    }
    let (chunks, _) = reader.bytes("runway", len * RUNWAY_BYTES)?.as_chunks::<RUNWAY_BYTES>();
    if chunks.iter().any(|[_, _, _, _, _, reserved @ ..]| *reserved != [0; 3]) {
        return Err(reader.corrupt("reserved", "not zero"));
    }
    let address = |[c0, c1, c2, c3, slot, ..]: &[u8; RUNWAY_BYTES]| ChunkAddress {
        slot: Slot(*slot),
        chunk: Chunk(u32::from_le_bytes([*c0, *c1, *c2, *c3])),
    };
    Ok(chunks.iter().map(address).collect())
}
