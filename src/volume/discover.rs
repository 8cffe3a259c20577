//! Which files and devices are the members of the array that a path names.
//!
//! Everything here only reads. A directory stands for what lies in it, and for nothing else. One member
//! stands for what lies beside it and for what its superblocks record elsewhere, unless what they record
//! is the original of a copy: then the copy stands alone, lest the two be mixed.

use crate::commit::Config;
use crate::device::inject::{Fault, sidecar};
use crate::device::{Deadline, Device, FileDevice, OpenMode, Ring, open};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{MemberState, Superblock};
use crate::limits::{PATH_BYTES_MAX, RING_BYTES};
use crate::pool::{Candidate, Election, Found, REPLACED, elect, read_rings, recognise};
use crate::runtime::{Clock, Env};
use crate::types::{Slot, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The identity of a file or device, whatever its names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum FileId {
    /// File system and inode.
    Regular(u64, u64),
    /// The device's number.
    Block(u64),
}

impl FileId {
    /// `None` for what can be no member: directories, pipes, terminals.
    pub(super) fn of(metadata: &Metadata) -> Option<FileId> {
        let kind = metadata.file_type();
        match (kind.is_file(), kind.is_block_device()) {
            (true, _) => Some(FileId::Regular(metadata.dev(), metadata.ino())),
            (_, true) => Some(FileId::Block(metadata.rdev())),
            _ => None,
        }
    }
}

/// Whether the first and the last MiB of `len` bytes read as zeros.
pub(super) fn is_blank(file: &File, len: u64) -> io::Result<bool> {
    let span = usize::try_from(RING_BYTES.min(len)).expect("at most one MiB");
    let mut bytes = vec![0; span];
    for start in [0, len - span as u64] {
        file.read_exact_at(&mut bytes, start)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The path as superblocks record it: absolute, or the file name alone where that is too long for them.
pub(super) fn recorded(path: &Path) -> String {
    let whole = path.to_string_lossy();
    if whole.len() <= PATH_BYTES_MAX {
        return whole.into_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.len() <= PATH_BYTES_MAX { name.into_owned() } else { String::new() }
}

/// The path from the root on. What it names need not exist.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}

/// What lies in a directory, or beside a member, and is large enough to be one.
pub(super) fn candidates(place: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder_of(place);
    let failed = |error: io::Error| Error::io(format!("{}: {error}", folder.display()));
    let mut found: BTreeMap<FileId, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if sidecar::is_sidecar(&path) {
            continue;
        }
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let Some(id) = FileId::of(&metadata) else { continue };
        if !metadata.is_file() || metadata.len() > 2 * RING_BYTES {
            let known = found.entry(id).or_insert_with(|| path.clone());
            *known = known.clone().min(path);
        }
    }
    let mut paths: Vec<PathBuf> = found.into_values().collect();
    paths.sort();
    Ok(paths)
}

/// What an array is called whose name is lost.
pub(super) fn name_of_folder(place: &Path) -> String {
    folder_of(place).file_name().and_then(|name| name.to_str()).unwrap_or("array").to_owned()
}

fn folder_of(place: &Path) -> &Path {
    if place.is_dir() { place } else { place.parent().unwrap_or(place) }
}

/// How long who looks at a file or device waits for one operation. What does not answer is left alone: nobody may have
/// to wait for a member that hangs.
pub(super) struct Patience {
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl Patience {
    /// As much as members have.
    pub(super) fn new(env: &Env, limit: Duration) -> Patience {
        Patience { clock: env.clock.clone(), limit }
    }

    /// As much as members have where nothing else is said.
    pub(super) fn usual(env: &Env) -> Patience {
        Patience::new(env, Config::default().deadline)
    }
}

/// What strikes a member of `len` bytes on purpose, as its sidecar says.
pub(super) fn kept_faults(path: &Path, len: u64) -> Result<Vec<Fault>> {
    sidecar::load(path, len).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Error::new(Kind::Refused, error.to_string()),
        _ => Error::io(error.to_string()),
    })
}

/// The members found of one array.
pub(super) struct Discovery {
    /// The array.
    pub(super) array: Uuid,
    /// Its newest state.
    pub(super) newest: Superblock,
    /// How many members it takes to write.
    pub(super) quorum: usize,
    /// For each slot the member, opened to be read.
    pub(super) members: Vec<Option<Seen>>,
    /// Members that are there, but gone on purpose.
    pub(super) gone: Vec<(Slot, Seen)>,
    /// Members without a superblock, known by their chunks.
    pub(super) recognised: BTreeSet<Slot>,
    /// What was left alone and why, and which members are missing.
    pub(super) notes: Vec<String>,
}

/// A file or device that was looked at.
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) device: Arc<FileDevice>,
    /// What strikes it on purpose, as its sidecar says; or why that cannot be told.
    pub(super) faults: Result<Vec<Fault>>,
    found: Found,
}

impl Seen {
    fn new(path: &Path, device: Arc<FileDevice>, found: Found) -> Seen {
        let faults = kept_faults(path, device.len());
        Seen { path: path.into(), device, faults, found }
    }

    /// What strikes it on purpose.
    pub(super) fn faults(&self) -> &[Fault] {
        self.faults.as_deref().unwrap_or_default()
    }

    fn newest(&self) -> Option<&Superblock> {
        self.found.copies.iter().max_by_key(|copy| (copy.epoch, copy.commit))
    }

    /// The array and member that it says it is.
    fn says(&self) -> Option<(Uuid, Uuid)> {
        let newest = self.newest()?;
        Some((newest.array, newest.members.get(usize::from(newest.slot.0))?.uuid))
    }
}

/// Finds the array that `place` names: a directory with its members, or any one member. Where several are
/// found, `name` chooses.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Refused`] for several, two histories of one, or a future
/// format; [`Kind::Io`] when the directory cannot be read.
pub(super) async fn discover(place: &Path, name: Option<&str>, patience: Patience) -> Result<Discovery> {
    let place = absolute(place)?;
    let mut scan = Scan {
        patience,
        looked_at: BTreeSet::new(),
        seen: Vec::new(),
        strangers: Vec::new(),
        notes: Vec::new(),
    };
    let array = if place.is_dir() {
        scan.folder(&place).await?;
        scan.only_array(&place, name)?
    } else {
        scan.look_at(&place).await;
        let folder = place.parent().unwrap_or(&place);
        // The member may be readable where its folder is not.
        if let Err(error) = scan.folder(folder).await {
            scan.notes.push(error.to_string());
        }
        let array = scan.array_of(&place, name)?;
        scan.follow_records(array, folder).await;
        array
    };
    scan.elect(array).await
}

/// A file or device without the superblock of a member.
struct Stranger {
    path: PathBuf,
    /// What it is instead of a member.
    what: String,
    /// Its chunks may say that it is one all the same.
    may_be_member: bool,
}

struct Scan {
    patience: Patience,
    looked_at: BTreeSet<FileId>,
    seen: Vec<Seen>,
    /// What is no member of any array.
    strangers: Vec<Stranger>,
    notes: Vec<String>,
}

impl Scan {
    /// Looks at every file and block device of a directory, in the order of their names.
    async fn folder(&mut self, folder: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::io(format!("{}: {error}", folder.display()));
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        for path in paths {
            if !sidecar::is_sidecar(&path) {
                self.look_at(&path).await;
            } else if !path.with_extension("").exists() {
                self.notes.push(format!("{} strikes nothing: its member is not here", path.display()));
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, path: &Path) {
        let Some(id) = std::fs::metadata(path).ok().as_ref().and_then(FileId::of) else { return };
        if !self.looked_at.insert(id) {
            return;
        }
        match look(path, &self.patience).await {
            Ok(Ok(seen)) => self.seen.push(seen),
            Ok(Err(stranger)) => self.strangers.push(stranger),
            Err(error) => {
                let what = format!("cannot be read: {error}");
                // One that fails is asked once more, for its chunks; one that hangs is not.
                let may_be_member = error.kind() != io::ErrorKind::TimedOut;
                self.strangers.push(Stranger { path: path.into(), what, may_be_member });
            }
        }
    }

    /// The newest copy of every array.
    fn arrays(&self) -> BTreeMap<Uuid, &Superblock> {
        let mut arrays: BTreeMap<Uuid, &Superblock> = BTreeMap::new();
        for copy in self.seen.iter().filter_map(Seen::newest) {
            let newest = arrays.entry(copy.array).or_insert(copy);
            if (copy.epoch, copy.commit) > (newest.epoch, newest.commit) {
                *newest = copy;
            }
        }
        arrays
    }

    /// The array of a directory.
    fn only_array(&self, folder: &Path, name: Option<&str>) -> Result<Uuid> {
        let mut arrays = self.arrays();
        arrays.retain(|_, newest| name.is_none_or(|name| name == newest.name));
        match (arrays.len(), arrays.first_key_value()) {
            (1, Some((array, _))) => Ok(*array),
            (0, _) => Err(self.none(folder, name)),
            (count, _) => {
                let names: Vec<String> =
                    arrays.iter().map(|(uuid, newest)| format!("'{}' ({uuid})", newest.name)).collect();
                Err(Error::new(
                    Kind::Refused,
                    format!(
                        "{} holds members of {count} arrays: {}; choose one by its name or by one member",
                        folder.display(),
                        names.join(", ")
                    ),
                ))
            }
        }
    }

    /// The array that one member belongs to; also of a member that is gone or whose superblocks are.
    fn array_of(&self, place: &Path, name: Option<&str>) -> Result<Uuid> {
        let own = self.seen.iter().find(|seen| seen.path == place).and_then(Seen::says);
        let mut arrays = self.arrays();
        arrays.retain(|_, newest| name.is_none_or(|name| name == newest.name));
        if let Some((array, _)) = own.filter(|(array, _)| arrays.contains_key(array)) {
            return Ok(array);
        }
        let records = |newest: &Superblock| {
            let mut paths = newest.members.iter().map(|record| Path::new(&record.path));
            paths.any(|path| path == place || path.file_name() == place.file_name())
        };
        arrays.retain(|_, newest| records(newest));
        match (arrays.len(), arrays.first_key_value(), own) {
            (1, Some((array, _)), None) => Ok(*array),
            _ => Err(self.none(place, name)),
        }
    }

    fn none(&self, place: &Path, name: Option<&str>) -> Error {
        if let Some(error) = self.seen.iter().find_map(|seen| seen.found.refused.clone()) {
            return error;
        }
        let what = name.map_or("an array".into(), |name| format!("array '{name}'"));
        let text = format!("{} is no member of {what} and holds none", place.display());
        Error::new(Kind::NotFound, text)
    }

    /// Looks where the superblocks say that members are of which none was seen. One that says it is a member
    /// already seen is the original of a copy, and then none of these count. Strangers are of interest only where a
    /// member was, or under its name in `folder`.
    async fn follow_records(&mut self, array: Uuid, folder: &Path) {
        let known: BTreeSet<Uuid> = self
            .seen
            .iter()
            .filter_map(Seen::says)
            .filter(|(other, _)| *other == array)
            .map(|(_, member)| member)
            .collect();
        let paths: Vec<PathBuf> = match self.arrays().get(&array) {
            Some(newest) => newest.members.iter().map(|record| PathBuf::from(&record.path)).collect(),
            None => return,
        };
        let names: BTreeSet<_> = paths.iter().filter_map(|path| path.file_name()).collect();
        self.strangers.retain(|stranger| {
            let path = &stranger.path;
            let is_here = path.parent() == Some(folder);
            is_here && path.file_name().is_some_and(|name| names.contains(name))
        });
        let before = (self.seen.len(), self.strangers.len());
        for path in paths.iter().filter(|path| path.is_absolute()) {
            self.look_at(path).await;
        }
        let is_original = |seen: &Seen| {
            seen.says().is_some_and(|(other, member)| other == array && known.contains(&member))
        };
        if self.seen[before.0..].iter().any(is_original) {
            self.seen.truncate(before.0);
            self.strangers.truncate(before.1);
        }
    }

    async fn elect(self, array: Uuid) -> Result<Discovery> {
        let Scan { mut seen, strangers, mut notes, .. } = self;
        let found: Vec<Found> = seen.iter_mut().map(|seen| std::mem::take(&mut seen.found)).collect();
        let election = elect(&found, Some(array))?;
        let quorum = election.quorum();
        let Election { newest, members, notes: left, .. } = election;
        for note in left {
            notes.push(format!("{} {}; left alone", seen[note.candidate].path.display(), note.text));
        }
        let mut all: Vec<Option<Seen>> = seen.into_iter().map(Some).collect();
        let mut members: Vec<Option<Seen>> =
            members.into_iter().map(|index| index.and_then(|index| all[index].take())).collect();
        let recognised = recognise_members(&newest, &mut members, &strangers).await;
        let is_member = |path: &Path| members.iter().flatten().any(|seen| seen.path == path);
        for Stranger { path, what, .. } in strangers.iter().filter(|stranger| !is_member(&stranger.path)) {
            notes.push(format!("{} {what}; left alone", path.display()));
        }
        let mut gone = Vec::new();
        for (slot, member) in (0..=u8::MAX).map(Slot).zip(&mut members) {
            let faults = member.as_ref().map_or(&[][..], Seen::faults);
            if let (false, Some(seen)) = (faults.is_empty(), &member) {
                let all: Vec<String> = faults.iter().map(Fault::to_string).collect();
                let (path, all) = (seen.path.display(), all.join("; "));
                notes.push(format!("faults are injected into member {slot} ({path}) on purpose: {all}"));
            }
            if faults.iter().any(Fault::is_gone) {
                gone.extend(member.take().map(|seen| (slot, seen)));
            }
        }
        for (slot, (record, member)) in (0..=u8::MAX).zip(newest.members.iter().zip(&members)) {
            match (record.state, member) {
                (_, Some(seen)) if recognised.contains(&Slot(slot)) => notes.push(format!(
                    "member {slot} ({}): its superblocks are destroyed, its chunks say who it is; rebuild restores \
                     them",
                    seen.path.display()
                )),
                (MemberState::Active, None) => {
                    notes.push(format!("member {slot} ({}) is missing", record.path));
                }
                (MemberState::Out | MemberState::Failed, Some(seen)) => {
                    let path = seen.path.display();
                    notes.push(format!("member {slot} ({path}) is out of use: it missed writes"));
                }
                _ => {}
            }
        }
        Ok(Discovery { array, newest, quorum, members, gone, recognised, notes })
    }
}

/// Finds members that are missing among the strangers by what their chunks say: one that lies where the member was,
/// or else one of the same name, or else, where no other member is missing, any. Where two are as good, neither is.
async fn recognise_members(
    newest: &Superblock,
    members: &mut [Option<Seen>],
    strangers: &[Stranger],
) -> BTreeSet<Slot> {
    let is_missing = |slot: usize, members: &[Option<Seen>]| {
        let in_array = matches!(newest.members[slot].state, MemberState::Active | MemberState::Out);
        in_array && members[slot].is_none()
    };
    let missing = (0..members.len()).filter(|slot| is_missing(*slot, members)).count();
    let mut claims: BTreeMap<Slot, Vec<(u8, Seen)>> = BTreeMap::new();
    for stranger in strangers.iter().filter(|stranger| missing > 0 && stranger.may_be_member) {
        let Ok(device) = FileDevice::open(&stranger.path, OpenMode::ReadOnly) else { continue };
        let Some(slot) = recognise(&device, newest).await else { continue };
        let record = Path::new(&newest.members[usize::from(slot.0)].path);
        let rank = match (record == stranger.path, record.file_name() == stranger.path.file_name()) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) if missing == 1 => 2,
            (false, false) => continue,
        };
        let seen = Seen::new(&stranger.path, Arc::new(device), Found::default());
        claims.entry(slot).or_default().push((rank, seen));
    }
    let mut recognised = BTreeSet::new();
    for (slot, mut claims) in claims {
        claims.sort_by_key(|(rank, _)| *rank);
        let is_tie = claims.get(1).is_some_and(|(rank, _)| *rank == claims[0].0);
        if is_missing(usize::from(slot.0), members) && !is_tie {
            members[usize::from(slot.0)] = Some(claims.swap_remove(0).1);
            recognised.insert(slot);
        }
    }
    recognised
}

/// What a path holds: the superblocks of a member, or something else.
async fn look(path: &Path, patience: &Patience) -> io::Result<std::result::Result<Seen, Stranger>> {
    let device = Arc::new(FileDevice::open(path, OpenMode::ReadOnly)?);
    let in_time = Deadline::new(device.clone(), patience.clock.clone(), patience.limit);
    let found = read_rings(&in_time).await;
    if found.is_silent {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    }
    let stranger =
        |what: &str, may_be_member| Ok(Err(Stranger { path: path.into(), what: what.into(), may_be_member }));
    if found.has_left() {
        return stranger(REPLACED, false);
    }
    if found.copies.is_empty() && found.refused.is_none() {
        let blank = is_blank(&File::open(path)?, device.len())?;
        return stranger(if blank { "is blank" } else { "is no member of an array" }, true);
    }
    Ok(Ok(Seen::new(path, device, found)))
}

impl Discovery {
    /// Members in use that are there, superblocks included.
    pub(super) fn in_use(&self) -> usize {
        let members = (0..=u8::MAX).map(Slot).zip(self.newest.members.iter().zip(&self.members));
        members
            .filter(|(slot, _)| !self.recognised.contains(slot))
            .filter(|(_, (record, seen))| record.state == MemberState::Active && seen.is_some())
            .count()
    }

    /// Refuses an array for whose members faults are kept that cannot be read: whoever asked for them must not wait
    /// in vain.
    ///
    /// # Errors
    /// [`Kind::Refused`] with file and line; [`Kind::Io`].
    pub(super) fn check_faults(&self) -> Result<()> {
        let mut all = self.members.iter().flatten().chain(self.gone.iter().map(|(_, seen)| seen));
        all.try_for_each(|seen| seen.faults.as_ref().map(|_| ()).map_err(Error::clone))
    }

    fn slotted(&self) -> impl Iterator<Item = (Slot, &Seen)> {
        (0..=u8::MAX).map(Slot).zip(&self.members).filter_map(|(slot, seen)| Some((slot, seen.as_ref()?)))
    }

    /// The members, to be read by this process and any other.
    pub(super) fn readers(&self) -> Vec<(Slot, Candidate)> {
        let reader = |seen: &Seen| Candidate { device: seen.device.clone(), path: recorded(&seen.path) };
        self.slotted().map(|(slot, seen)| (slot, reader(seen))).collect()
    }

    /// The members, to be written by this process alone, claimed in the order of their slots. One that
    /// cannot be opened is left out, unless the reason concerns the process and not the member.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process has one, [`Kind::ReadOnly`] when this one may not write one.
    pub(super) fn claim(&mut self, ring: Option<&Ring>) -> Result<Vec<(Slot, Candidate)>> {
        let mut claimed = Vec::new();
        let mut notes = Vec::new();
        for (slot, seen) in self.slotted() {
            match open(&seen.path, OpenMode::ReadWrite, ring) {
                Ok(device) => {
                    let path = recorded(&seen.path);
                    claimed.push((slot, Candidate { device: Arc::new(device), path }));
                }
                Err(error) => {
                    let text = format!("{}: {error}", seen.path.display());
                    match error.kind() {
                        io::ErrorKind::ResourceBusy => return Err(Error::new(Kind::Busy, text)),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                            return Err(Error::new(Kind::ReadOnly, text));
                        }
                        _ => notes.push(text),
                    }
                }
            }
        }
        self.notes.append(&mut notes);
        Ok(claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_superblocks_is_recorded_by_its_file_name_or_not_at_all() {
        let longest = format!("/{}", "d".repeat(PATH_BYTES_MAX - 1));
        assert_eq!(recorded(Path::new(&longest)), longest);
        assert_eq!(recorded(Path::new(&format!("{longest}/disk.img"))), "disk.img");
        assert_eq!(recorded(Path::new(&format!("{longest}dd"))), "");
    }
}
