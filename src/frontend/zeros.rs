//! Zeros that take space, so that overwriting them never fails for want of it.

use crate::device::Aligned;
use crate::error::Result;
use crate::types::BLOCK_U64;
use crate::volume::Volume;

/// Zeros that are written in one go.
const ZEROS: usize = 1 << 20;

pub(crate) async fn write_zeros(volume: &Volume, mut offset: u64, mut length: u64) -> Result<()> {
    let zeros = Aligned::zeroed(ZEROS).freeze();
    while length > 0 {
        let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS - skip);
        volume.write_async(offset, zeros.slice(skip..skip + piece)).await?;
        offset += piece as u64;
        length -= piece as u64;
    }
    Ok(())
}
