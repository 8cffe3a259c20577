//! A member whose superblocks are destroyed, known by its chunks.
//!
//! The header of every record names the array and, in its own line of the column table, the slot and the chunk
//! that it lies in. Found exactly there, it proves that the device is that slot's member, or once was. It proves
//! no more: what was written since may be missing. So the member is not trusted:
//!
//! 1. it is out of use, it does not count for the quorum, and all its columns are doubted
//!    ([`crate::space::Space::doubt_member`]): read where nothing else is left, and then only by the witnesses in
//!    headers;
//! 2. a checkpoint makes the doubt durable on the members in use;
//! 3. only then is it in use again and gets superblocks ([`super::Pool::take_back_recognised`]);
//! 4. a rebuild verifies and completes its columns in place.
//!
//! A crash before 3 leaves it without superblocks, and it is recognised anew; one after it finds the doubt in the
//! segment table.

use super::Candidate;
use super::elect::Election;
use super::rings::Found;
use crate::device::{Device, DeviceError, read_full};
use crate::format::record::HeaderPart;
use crate::format::superblock::{MemberState, Superblock};
use crate::layout::Geometry;
use crate::types::{BLOCK, Chunk, Row, Slot};
use std::collections::BTreeSet;

/// Chunks that are looked at: a device that is no member must not take long.
const PROBES_MAX: usize = 512;
/// At each end of a member, where data and pages go first.
const PROBES_AT_ENDS: u32 = 96;
/// So many headers that agree are enough.
const HEADERS_ENOUGH: usize = 8;

/// The slot of the member of the array of `newest` that the chunks of a device say it is. `None` when they do not
/// say so, disagree, or speak of a member that was removed, failed, or had another size.
pub async fn recognise(device: &dyn Device, newest: &Superblock) -> Option<Slot> {
    let geometry = Geometry { chunk_blocks: newest.chunk_blocks };
    let chunks = geometry.chunks_on(device.len());
    let mut known: Option<Slot> = None;
    let mut headers = 0;
    for chunk in places(newest, chunks) {
        let block = match read_full(device, geometry.byte_offset(chunk, Row(0)), BLOCK).await {
            Ok(block) => block,
            Err(DeviceError::Hangs | DeviceError::Gone) => return None,
            Err(_) => continue,
        };
        let Some(slot) = slot_of(&block, newest, chunk) else { continue };
        if known.is_some_and(|known| known != slot) {
            return None;
        }
        known = Some(slot);
        headers += 1;
        if headers == HEADERS_ENOUGH {
            break;
        }
    }
    known.filter(|slot| {
        newest.members.get(usize::from(slot.0)).is_some_and(|record| {
            matches!(record.state, MemberState::Active | MemberState::Out) && record.chunks == chunks
        })
    })
}

/// The slot that a header says it lies in, if it is one of the array and says that it lies in this chunk.
fn slot_of(block: &[u8], newest: &Superblock, chunk: Chunk) -> Option<Slot> {
    let part = HeaderPart::decode(block, None).ok()?;
    let record = &part.record;
    let own = record.columns[usize::from(part.column.0)].filter(|own| own.chunk == chunk)?;
    let is_ours =
        record.array == newest.array && record.chunk_blocks == newest.chunk_blocks && record.row == Row(0);
    is_ours.then_some(own.slot)
}

/// Where to look: where the superblock knows of headers, at both ends, and all over.
fn places(newest: &Superblock, chunks: u32) -> Vec<Chunk> {
    let boot = newest.checkpoint.boot.iter().flat_map(|segment| &segment.columns);
    let known = boot.filter_map(|column| column.address()).map(|at| at.chunk.0);
    let ends = (0..PROBES_AT_ENDS).flat_map(|at| [at, chunks.wrapping_sub(at + 1)]);
    let step = (chunks / u32::try_from(PROBES_MAX / 2).expect("small")).max(1);
    let all_over = (0..chunks).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let mut seen = BTreeSet::new();
    let places = known.take(PROBES_MAX / 4).chain(ends).chain(all_over);
    places.filter(|at| *at < chunks && seen.insert(*at)).take(PROBES_MAX).map(Chunk).collect()
}

impl Election {
    /// Looks for missing members among the candidates that have no superblock.
    pub async fn recognise(&mut self, candidates: &[Candidate], found: &[Found]) {
        for (index, (candidate, found)) in candidates.iter().zip(found).enumerate() {
            if !found.copies.is_empty() || found.refused.is_some() || found.is_silent {
                continue;
            }
            let Some(slot) = recognise(candidate.device.as_ref(), &self.newest).await else { continue };
            let member = &mut self.members[usize::from(slot.0)];
            if member.is_some() {
                continue;
            }
            *member = Some(index);
            self.recognised.insert(slot);
            self.notes.retain(|note| note.candidate != index);
        }
    }
}
