//! Files and devices that become the members of a new array. What is refused has changed and created nothing.

use super::discover::{FileId, absolute, is_blank, recorded};
use crate::device::inject::sidecar;
use crate::device::{Device, FileDevice, OpenMode, Ring, open};
use crate::error::{Error, Kind, Result};
use crate::limits::{CHUNK_BLOCKS_MAX, CHUNK_BLOCKS_MIN, MEMBERS_MAX, NAME_BYTES_MAX};
use crate::pool::{Candidate, read_rings};
use crate::types::{BLOCK_U64, Scheme};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The smallest member, in bytes.
pub const MEMBER_BYTES_MIN: u64 = 64 << 20;
/// The default scheme has at most this many data columns.
const DEFAULT_K_MAX: u8 = 8;

/// What a new array is to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateOptions {
    /// Its name; that of the first member's directory when `None`.
    pub name: Option<String>,
    /// The scheme of volumes that name none, and the protection of metadata; [`default_scheme`] when `None`.
    pub scheme: Option<Scheme>,
    /// Bytes of a chunk, a power of two; chosen from the members' sizes when `None`.
    pub chunk: Option<u64>,
    /// Bytes of members that are absent or blank files; blank files keep their size when `None`.
    pub size: Option<u64>,
    /// Overwrite members that hold something else.
    pub force: bool,
}

/// The scheme of an array of that many members that names none: one copy on one member, two below five
/// members, else two parity columns beside at most eight of data.
pub fn default_scheme(members: usize) -> Scheme {
    let (k, m) = match members {
        0 | 1 => (1, 0),
        2..=4 => (1, 1),
        more => (u8::try_from(more - 2).unwrap_or(u8::MAX).min(DEFAULT_K_MAX), 2),
    };
    Scheme::new(k, m).expect("at most ten columns")
}

/// A path that is to become a member.
struct Plan {
    path: PathBuf,
    /// `None` when it does not exist yet.
    claim: Option<FileDevice>,
    /// Bytes that it is to have, where that has to be set.
    resize: Option<u64>,
}

/// The members of the new array, made, sized and claimed.
pub(super) struct Prepared {
    pub(super) members: Vec<Candidate>,
    pub(super) scheme: Scheme,
    pub(super) name: String,
    pub(super) chunk_blocks: Option<u32>,
    /// Undoes what was made, unless it is kept.
    pub(super) undo: Undo,
}

/// What was created and resized on the way.
#[derive(Default)]
pub(super) struct Undo {
    created: Vec<PathBuf>,
    resized: Vec<(PathBuf, u64)>,
}

impl Undo {
    /// The array was made: everything stays.
    pub(super) fn keep(mut self) {
        self.created.clear();
        self.resized.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // The array could not be made; a file that cannot be put back either stays behind blank.
        for path in &self.created {
            let _kept = std::fs::remove_file(path).is_err();
        }
        for (path, len) in &self.resized {
            let _kept = set_len(path, *len).is_err();
        }
    }
}

/// Checks everything, claims what exists, then creates and resizes.
pub(super) async fn prepare(
    paths: &[PathBuf],
    options: &CreateOptions,
    ring: Option<&Ring>,
) -> Result<Prepared> {
    let scheme = options.scheme.unwrap_or_else(|| default_scheme(paths.len()));
    check_count(paths.len(), scheme)?;
    let chunk_blocks = options.chunk.map(check_chunk).transpose()?;
    if let Some(size) = options.size
        && (size < MEMBER_BYTES_MIN || i64::try_from(size).is_err())
    {
        return Err(Error::invalid(format!("a member has 64 MiB at least, not {size} bytes")));
    }
    let paths: Vec<PathBuf> = paths.iter().map(|path| absolute(path)).collect::<Result<_>>()?;
    let name = name_of(options, &paths)?;
    let mut plans = Vec::with_capacity(paths.len());
    let mut seen = Names::default();
    for path in paths {
        plans.push(plan(path, options, ring, &mut seen).await?);
    }
    let mut undo = Undo::default();
    let mut members = Vec::with_capacity(plans.len());
    for plan in plans {
        let path = plan.path.clone();
        let device = carry_out(plan, ring, &mut undo).map_err(|error| claim_error(&path, &error))?;
        members.push(Candidate { device: Arc::new(device), path: recorded(&path) });
    }
    Ok(Prepared { members, scheme, name, chunk_blocks, undo })
}

/// Checks, claims and, where it is absent or empty, creates the one device that is to take a member's place.
pub(super) async fn prepare_one(
    path: PathBuf,
    size: u64,
    force: bool,
    ring: Option<&Ring>,
) -> Result<(Candidate, Undo)> {
    let is_empty = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(_) => true,
    };
    let size = is_empty.then_some(size);
    let options = CreateOptions { size, force, ..CreateOptions::default() };
    let plan = plan(path.clone(), &options, ring, &mut Names::default()).await?;
    let mut undo = Undo::default();
    let device = carry_out(plan, ring, &mut undo).map_err(|error| claim_error(&path, &error))?;
    Ok((Candidate { device: Arc::new(device), path: recorded(&path) }, undo))
}

fn check_count(members: usize, scheme: Scheme) -> Result<()> {
    if members == 0 || members > MEMBERS_MAX {
        return Err(Error::invalid(format!("an array has 1 to {MEMBERS_MAX} members, not {members}")));
    }
    if members < usize::from(scheme.width()) {
        let text = format!("{scheme} needs {} members, {members} are given", scheme.width());
        return Err(Error::new(Kind::Refused, text));
    }
    Ok(())
}

fn check_chunk(bytes: u64) -> Result<u32> {
    let blocks = u32::try_from(bytes / BLOCK_U64).unwrap_or(u32::MAX);
    let fits = (CHUNK_BLOCKS_MIN..=CHUNK_BLOCKS_MAX).contains(&blocks);
    if !fits || !bytes.is_power_of_two() {
        let (least, most) = (CHUNK_BLOCKS_MIN * 4, CHUNK_BLOCKS_MAX / 256);
        let text = format!("a chunk has {least} KiB to {most} MiB, a power of two, not {bytes} bytes");
        return Err(Error::invalid(text));
    }
    Ok(blocks)
}

fn name_of(options: &CreateOptions, paths: &[PathBuf]) -> Result<String> {
    let folder = paths.first().and_then(|path| path.parent()).and_then(Path::file_name);
    let given = || folder.and_then(|name| name.to_str()).unwrap_or("array").to_owned();
    let name = options.name.clone().unwrap_or_else(given);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        let text = format!("'{name}' is no name: 1 to {NAME_BYTES_MAX} bytes without control characters");
        return Err(Error::invalid(text));
    }
    Ok(name)
}

/// What was named already, to find two names of one file.
#[derive(Default)]
struct Names {
    existing: BTreeSet<FileId>,
    /// Directory and name of files that do not exist yet.
    absent: BTreeSet<(u64, u64, OsString)>,
}

async fn plan(path: PathBuf, options: &CreateOptions, ring: Option<&Ring>, seen: &mut Names) -> Result<Plan> {
    let refused = |what: &str| Err(Error::new(Kind::Refused, format!("{} {what}", path.display())));
    let failed = |error: io::Error| claim_error(&path, &error);
    if sidecar::is_sidecar(&path) {
        return refused("has the name of a file that keeps faults: no member may have it");
    }
    let faults = sidecar::path_of(&path);
    if faults.exists() {
        return refused(&format!("would be struck by the faults that {} keeps: remove it", faults.display()));
    }
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return plan_absent(path, options, seen),
        Err(error) => return Err(failed(error)),
    };
    let Some(id) = FileId::of(&metadata) else {
        return refused("is neither a regular file nor a block device");
    };
    if !seen.existing.insert(id) {
        return refused("is named twice");
    }
    let device = open(&path, OpenMode::ReadWrite, ring).map_err(failed)?;
    let found = read_rings(&device).await;
    let blank = is_blank(&File::open(&path).map_err(failed)?, device.len()).map_err(failed)?;
    let is_free = blank || found.has_left();
    if !is_free && !options.force {
        return match found.copies.first() {
            Some(copy) => refused(&format!("is a member of array '{}'; force overwrites it", copy.name)),
            None => refused("holds something; force overwrites it"),
        };
    }
    let resize = options.size.filter(|size| is_free && metadata.is_file() && *size != device.len());
    let len = resize.unwrap_or(device.len());
    if len == 0 {
        return Err(Error::invalid(format!("{} is empty: say how large it is to be", path.display())));
    }
    if len < MEMBER_BYTES_MIN {
        return refused(&format!("has {len} bytes; a member has 64 MiB at least"));
    }
    Ok(Plan { claim: Some(device), resize, path })
}

fn plan_absent(path: PathBuf, options: &CreateOptions, seen: &mut Names) -> Result<Plan> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("{} names no file", path.display())));
    };
    if std::fs::symlink_metadata(&path).is_ok() {
        let text = format!("{} is a link that leads nowhere", path.display());
        return Err(Error::new(Kind::Refused, text));
    }
    let folder = std::fs::metadata(folder).map_err(|error| claim_error(folder, &error))?;
    if !seen.absent.insert((folder.dev(), folder.ino(), name.to_owned())) {
        return Err(Error::new(Kind::Refused, format!("{} is named twice", path.display())));
    }
    if options.size.is_none() {
        let text = format!("{} does not exist: say how large it is to be", path.display());
        return Err(Error::invalid(text));
    }
    Ok(Plan { path, claim: None, resize: options.size })
}

fn carry_out(plan: Plan, ring: Option<&Ring>, undo: &mut Undo) -> io::Result<FileDevice> {
    let Plan { path, claim, resize } = plan;
    let Some(len) = resize else {
        return match claim {
            Some(device) => Ok(device),
            None => open(&path, OpenMode::ReadWrite, ring),
        };
    };
    match claim {
        None => {
            OpenOptions::new().write(true).create_new(true).open(&path)?;
            undo.created.push(path.clone());
        }
        Some(device) => undo.resized.push((path.clone(), device.len())),
    }
    set_len(&path, len)?;
    sync_folder(&path)?;
    open(&path, OpenMode::ReadWrite, ring)
}

fn set_len(path: &Path, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(len)
}

/// A file that is made is durable only with its name.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn claim_error(path: &Path, error: &io::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::ResourceBusy => Error::new(Kind::Busy, text),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::new(Kind::NoSpace, text)
        }
        _ => Error::io(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Array;

    #[test]
    fn the_default_scheme_grows_with_the_members() {
        let schemes: Vec<String> =
            [1, 2, 4, 5, 6, 10, 11, 255].map(|members| default_scheme(members).to_string()).into();
        assert_eq!(schemes, ["single", "mirror", "mirror", "3+2", "4+2", "8+2", "8+2", "8+2"]);
    }

    #[test]
    fn what_is_no_array_is_refused_and_what_was_begun_is_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(path("nowhere"), path("link")).expect("a link");
        let blank = path("blank");
        File::create(&blank).expect("made").set_len(4096).expect("room");
        let options = CreateOptions { size: Some(MEMBER_BYTES_MIN), ..CreateOptions::default() };
        let refused = |members: &[PathBuf], what: &str| {
            let error = Array::create(members, &options).err().expect("refused");
            assert!(error.to_string().contains(what), "{error:?}");
            assert_eq!(std::fs::metadata(&blank).expect("there").len(), 4096);
            let left: BTreeSet<OsString> = std::fs::read_dir(folder.path())
                .expect("read")
                .map(|entry| entry.expect("read").file_name())
                .collect();
            assert_eq!(left, ["blank".into(), "link".into()].into());
            error.kind()
        };
        assert_eq!(refused(&[], "an array has 1 to 255 members, not 0"), Kind::Invalid);
        assert_eq!(refused(&[path("link"), path("a")], "is a link that leads nowhere"), Kind::Refused);
        assert_eq!(refused(&[path("a"), path("gone").join("..")], "names no file"), Kind::Invalid);
        assert_eq!(refused(&[path("a"), blank.join("b")], "Not a directory"), Kind::Io);
        // No file can be made there: two members are, by then.
        assert_eq!(refused(&[blank.clone(), path("a"), "/proc/paritas".into()], "/proc/paritas"), Kind::Io);
    }

    #[test]
    fn what_the_system_says_about_a_member_is_what_a_caller_can_do_about_it() {
        let kind = |kind: io::ErrorKind| claim_error(Path::new("/m"), &kind.into()).kind();
        assert_eq!(kind(io::ErrorKind::ResourceBusy), Kind::Busy);
        assert_eq!(kind(io::ErrorKind::StorageFull), Kind::NoSpace);
        assert_eq!(kind(io::ErrorKind::FileTooLarge), Kind::NoSpace);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), Kind::Io);
    }

    #[test]
    fn chunks_are_powers_of_two_within_their_bounds() {
        assert_eq!(check_chunk(32 << 10).expect("the smallest"), CHUNK_BLOCKS_MIN);
        assert_eq!(check_chunk(128 << 20).expect("the largest"), CHUNK_BLOCKS_MAX);
        for bytes in [0, 1, 4096, 16 << 10, 96 << 10, (64 << 10) + 1, 256 << 20, 1 << 63] {
            assert_eq!(check_chunk(bytes).map_err(|error| error.kind()), Err(Kind::Invalid), "{bytes}");
        }
    }
}
