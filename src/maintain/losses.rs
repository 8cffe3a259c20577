//! What is lost of rows that are beyond repair.

use crate::commit::Core;
use crate::error::Result;
use crate::format::record::Owner;
use crate::types::Place;

/// Of these blocks those that somebody wants and that cannot be read: they are listed as damage. Pages count as
/// wanted: whether a tree still has them, nobody can say who cannot read them.
pub(super) async fn losses(core: &Core, at_risk: &[(Owner, Place)]) -> Result<u64> {
    let mut lost = 0;
    for (owner, place) in at_risk {
        let (Owner::Data { volume, lba, .. } | Owner::Moved { volume, lba, .. }) = *owner else {
            lost += u64::from(matches!(owner, Owner::Page { .. }));
            continue;
        };
        let found = core.locate(volume, lba).await?;
        let Some(wanted) = found.filter(|found| found.pointer.place == *place) else { continue };
        let read = core.stripes().read(&[wanted]).await?;
        // Somebody may have written it anew meanwhile.
        let is_lost = read.iter().any(Option::is_none) && core.note_loss(&wanted).await?;
        lost += u64::from(is_lost);
    }
    Ok(lost)
}
