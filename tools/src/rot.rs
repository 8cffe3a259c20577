//! Damage on purpose: blocks of a member file that turn to garbage.

use crate::pieces::{PIECE, fill};
use paritas::limits::RING_BYTES;
use paritas::types::BLOCK;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Overwrites every `nth` block between the superblocks that holds something. Returns how many.
pub(crate) fn rot(member: &Path, nth: usize) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(member)?;
    let end = file.metadata()?.len().saturating_sub(RING_BYTES);
    let mut offset = RING_BYTES;
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; PIECE];
    let (mut full, mut rotten) = (0, 0);
    while offset < end {
        let filled = fill(&mut file, &mut buffer)?;
        for (at, block) in (offset..end).step_by(BLOCK).zip(buffer[..filled].chunks_exact(BLOCK)) {
            if block.iter().all(|byte| *byte == 0) {
                continue;
            }
            full += 1;
            if full % nth == 0 {
                let garbage: Vec<u8> = block.iter().map(|byte| byte.wrapping_mul(5) ^ 0xA5).collect();
                file.write_all_at(&garbage, at)?;
                rotten += 1;
            }
        }
        offset += PIECE as u64;
    }
    file.sync_all()?;
    Ok(rotten)
}
