//! What is lost of rows that are beyond repair.

use crate::commit::Core;
use crate::error::Result;
use crate::format::record::Owner;
use crate::stripe::Wanted;
use crate::types::{Identity, Place};

/// Of these blocks those that somebody wants and that cannot be read: they are listed as damage. Pages count as
/// wanted: whether a tree still has them, nobody can say who cannot read them.
pub(super) async fn losses(core: &Core, at_risk: &[(Owner, Place)]) -> Result<u64> {
    let mut lost = 0;
    for (owner, place) in at_risk {
        let (Owner::Data { volume, lba, .. } | Owner::Moved { volume, lba, .. }) = *owner else {
            lost += u64::from(matches!(owner, Owner::Page { .. }));
            continue;
        };
        let Some((pointer, birth)) = core.locate(volume, lba).await? else { continue };
        if pointer.place != *place {
            continue;
        }
        let identity = Identity { owner: volume.0, lba, birth };
        let read = core.stripes().read(&[Wanted { pointer, identity }]).await?;
        if read.iter().any(Option::is_none) {
            core.note_loss(volume, lba);
            lost += 1;
        }
    }
    Ok(lost)
}
