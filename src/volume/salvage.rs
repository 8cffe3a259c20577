//! Salvage for programs: an array whose metadata is lost, from its files and devices.

use super::Shard;
use super::array::Array;
use super::discover::{Patience, absolute, candidates, discover, name_of_folder, recorded};
use super::engine::{settle, start};
use crate::commit::{self, OpenOptions};
use crate::device::inject::sidecar;
use crate::device::{OpenMode, Ring, open};
use crate::error::{Error, Kind, Result};
use crate::pool::Candidate;
use crate::runtime::Env;
use crate::types::Uuid;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`Array::salvage`] made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Salvaged {
    /// The array.
    pub uuid: Uuid,
    /// The files and devices that are its members.
    pub members: Vec<PathBuf>,
    /// Slots of members that are not there.
    pub missing: Vec<u8>,
    /// The volumes' names, and whether each was made of record headers alone: then trims and cuts may be undone.
    pub volumes: Vec<(String, bool)>,
    /// No superblock was left: the array has the name of its directory, and its members new identities.
    pub is_renamed: bool,
}

impl Array {
    /// Builds the metadata of an array anew from its log, also when every superblock of every member is gone: from
    /// the files and devices in a directory, or in that of any one member. Volumes keep name, size, scheme and
    /// content as far as the newest map pages tell; one of whose map too little is left is made of record headers,
    /// which may undo trims. Durable on return; [`Array::rebuild`] then verifies what was not.
    ///
    /// # Errors
    /// [`Kind::Refused`] for an array that opens as it is, for several arrays, for two copies of a member, and while
    /// faults are kept for one of them ([`super::inject`]): what could not be read now would be lost for good;
    /// [`Kind::NotFound`]; [`Kind::Busy`]; [`Kind::NoSpace`]; [`Kind::Io`].
    pub fn salvage(place: impl AsRef<Path>, name: Option<&str>) -> Result<Salvaged> {
        let (driver, ring, env) = start()?;
        let (place, name) = (place.as_ref().to_owned(), name.map(str::to_owned));
        settle(driver.spawn_ticket(async move { salvage(env, ring, &place, name.as_deref()).await }).wait())
    }
}

async fn salvage(env: Env, ring: Option<Ring>, place: &Path, name: Option<&str>) -> Result<Salvaged> {
    let place = absolute(place)?;
    match check(&env, &place, name).await {
        Ok(()) => {
            let text = format!("{} opens as it is: there is nothing to salvage", place.display());
            return Err(Error::new(Kind::Refused, text));
        }
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => {}
        Err(error) => return Err(error),
    }
    let mut paths = Vec::new();
    let mut claimed = Vec::new();
    for path in candidates(&place)? {
        let faults = sidecar::path_of(&path);
        if faults.exists() {
            let text =
                format!("faults would strike on purpose what is to be salvaged: remove {}", faults.display());
            return Err(Error::new(Kind::Refused, text));
        }
        let device = open(&path, OpenMode::ReadWrite, ring.as_ref()).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::ResourceBusy { Kind::Busy } else { Kind::Io };
            Error::new(kind, format!("{}: {error}", path.display()))
        })?;
        claimed.push(Candidate { device: Arc::new(device), path: recorded(&path) });
        paths.push(path);
    }
    let name = name.map_or_else(|| name_of_folder(&place), str::to_owned);
    let commit::Salvaged { array, members, missing, volumes, is_renamed } =
        commit::salvage(env, claimed, &name).await?;
    Ok(Salvaged {
        uuid: array,
        members: members.into_iter().map(|index| paths[index].clone()).collect(),
        missing: missing.into_iter().map(|slot| slot.0).collect(),
        volumes,
        is_renamed,
    })
}

/// Whether the array opens, and all its metadata is there.
async fn check(env: &Env, place: &Path, name: Option<&str>) -> Result<()> {
    let found = discover(place, name, Patience::usual(env)).await?;
    let options = OpenOptions { read_only: true, array: Some(found.array), ..OpenOptions::default() };
    let readers = found.readers().into_iter().map(|(_, reader)| reader).collect();
    let (shard, _) = Shard::open(env.clone(), readers, options).await?;
    shard.core().check().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BLOCK, BLOCK_U64};
    use crate::volume::{CreateOptions, Status};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const MEMBER: u64 = 64 << 20;

    fn paths(folder: &Path) -> Vec<PathBuf> {
        (0..4).map(|i| folder.join(format!("m{i}"))).collect()
    }

    fn create(folder: &Path) -> Array {
        let options = CreateOptions { size: Some(MEMBER), ..CreateOptions::default() };
        Array::create(&paths(folder), &options).expect("made")
    }

    fn fill(folder: &Path, ranges: &[(u64, usize)]) {
        for path in paths(folder) {
            let file = File::options().write(true).open(path).expect("opened");
            for &(offset, len) in ranges {
                file.write_all_at(&vec![0; len], offset).expect("written");
            }
        }
    }

    fn without_superblocks(folder: &Path) {
        fill(folder, &[(0, 1 << 20), (MEMBER - (1 << 20), 1 << 20)]);
    }

    fn opened(folder: &Path) -> Array {
        Array::open(folder, &crate::volume::OpenOptions::default()).expect("opened")
    }

    #[test]
    fn what_no_checkpoint_had_is_replayed_behind_the_maps_trims_and_sizes_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        // Several lives, so that older maps and records of all of them lie about.
        create(folder).create_volume("v", 8 << 20, None).expect("created");
        let mut expected = vec![0; 10 << 20];
        for life in 1..=4u8 {
            let array = opened(folder);
            let volume = array.volume("v").expect("found");
            let at = usize::from(life) << 20;
            for (offset, len) in [(0, 700 * BLOCK), (at, 1 << 20), (at + (3 << 20), 3 * BLOCK)] {
                volume.write(offset as u64, vec![life; len]).expect("written");
                expected[offset..offset + len].fill(life);
            }
            volume.flush().expect("flushed");
            if life % 2 == 0 {
                array.close().expect("closed");
                let array = opened(folder);
                let volume = array.volume("v").expect("found");
                volume.trim(at as u64, 1 << 20).expect("trimmed");
                volume.trim(BLOCK_U64, BLOCK_U64).expect("trimmed");
                volume.resize((8 << 20) + u64::from(life) * BLOCK_U64).expect("resized");
                volume.flush().expect("flushed");
                expected[at..at + (1 << 20)].fill(0);
                expected[BLOCK..2 * BLOCK].fill(0);
            }
        }
        without_superblocks(folder);
        assert_eq!(Status::of(folder, None).map(|_| ()).map_err(|error| error.kind()), Err(Kind::NotFound));
        let salvaged = Array::salvage(folder, None).expect("salvaged");
        assert_eq!(salvaged.volumes, [("v".to_owned(), false)]);
        let array = opened(folder);
        let volume = array.volume("v").expect("found");
        let size = (8 << 20) + 4 * BLOCK;
        assert_eq!(volume.size().expect("there"), size as u64);
        assert!(volume.read(0, size).expect("read") == expected[..size]);
        volume.write(0, vec![9; BLOCK]).expect("written");
        volume.flush().expect("flushed");
        array.close().expect("closed");
        assert_eq!(Array::salvage(folder, None).map_err(|error| error.kind()), Err(Kind::Refused));
        let volume = opened(folder).volume("v").expect("found");
        assert_eq!(volume.read(0, BLOCK).expect("read"), vec![9; BLOCK]);
    }

    #[test]
    fn of_two_copies_of_a_member_and_of_nothing_nothing_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let kind = || Array::salvage(folder, None).map_err(|error| error.kind());
        assert_eq!(kind(), Err(Kind::NotFound));
        let array = create(folder);
        let volume = array.create_volume("v", 1 << 20, None).expect("created");
        volume.write_durable(0, vec![1; BLOCK]).expect("written");
        array.close().expect("closed");
        without_superblocks(folder);
        std::fs::copy(folder.join("m1"), folder.join("copy")).expect("copied");
        assert_eq!(kind(), Err(Kind::Refused));
        std::fs::remove_file(folder.join("m1")).expect("removed");
        Array::salvage(folder, None).expect("the copy will do");
        assert_eq!(opened(folder).volume("v").expect("found").read(0, BLOCK).expect("read"), vec![1; BLOCK]);
    }
}
