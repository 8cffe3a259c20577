//! Where servers keep what their devices need: in the run folder, never in one of the user's.

use super::users;
use paritas::error::{Error, Kind, Result};
use paritas::types::Uuid;
use std::fmt::Write;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Bytes of a file's name that are the volume's, before what tells long ones apart.
const NAME_BYTES: usize = 200;

/// What belongs to one array.
pub(crate) struct Place {
    /// The folder with a file for each volume that is attached. It is made when it is needed.
    pub(crate) volumes: PathBuf,
    /// Where it says what people should know.
    pub(crate) log: PathBuf,
}

impl Place {
    pub(crate) fn of(folder: &Path, array: Uuid) -> Place {
        let named = |end: &str| folder.join(format!("{array}{end}"));
        Place { volumes: named(""), log: named(".log") }
    }

    /// The array of a volume's file, if it is one of those below `folder`.
    pub(crate) fn of_file(folder: &Path, file: &Path) -> Option<Place> {
        let volumes = file.parent()?;
        let mut log = volumes.file_name()?.to_owned();
        log.push(".log");
        let is_ours = volumes.parent() == Some(folder);
        is_ours.then(|| Place { volumes: volumes.into(), log: folder.join(log) })
    }

    /// The file of a volume.
    pub(crate) fn file(&self, volume: &str) -> PathBuf {
        self.volumes.join(file_name(volume))
    }
}

/// The file of a volume, of all below `folder`, in which the path of a device is: what a server that died has left of a
/// device that is gone.
pub(crate) fn file_naming(folder: &Path, device: &Path) -> Option<PathBuf> {
    let inside = |folder: &Path| users::names(folder).map(|name| folder.join(name)).collect::<Vec<_>>();
    // What is mounted on one is no such file, and large.
    let is_plain = |path: &PathBuf| {
        !users::is_mount_point(path)
            && fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= NAME_BYTES as u64)
    };
    let files = inside(folder).into_iter().filter(|path| path.is_dir()).flat_map(|folder| inside(&folder));
    let mut named = files
        .filter(is_plain)
        .filter(|path| fs::read(path).is_ok_and(|text| text == device.as_os_str().as_encoded_bytes()));
    named.next()
}

/// Locks the file of a volume whose server died: one that lives has it locked.
///
/// # Errors
/// [`Kind::Busy`] when it is served still; [`Kind::Io`].
pub(crate) fn lock_unserved(file: &Path) -> Result<File> {
    let failed = |error: std::io::Error| Error::io(format!("{}: {error}", file.display()));
    let lock = File::open(file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Busy, format!("{} is served by another process", file.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes a folder, and those above it, that only this user may look into.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A volume's name as that of a file: what else there is than letters, digits and a few marks becomes a number.
fn file_name(volume: &str) -> String {
    let mut name = String::new();
    for byte in volume.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || byte == b'.' && !name.is_empty();
        if plain {
            name.push(char::from(byte));
        } else {
            write!(name, "%{byte:02X}").expect("a string takes everything");
        }
    }
    if name.len() > NAME_BYTES {
        let mut hasher = DefaultHasher::new();
        volume.hash(&mut hasher);
        name.truncate(NAME_BYTES);
        write!(name, "~{:016x}", hasher.finish()).expect("a string takes everything");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_volumes_become_names_of_files_each_its_own() {
        assert_eq!(file_name("mail-1_a.b"), "mail-1_a.b");
        assert_eq!(file_name("a/b c%\n"), "a%2Fb%20c%25%0A");
        assert_eq!((file_name("."), file_name("..")), ("%2E".into(), "%2E.".into()));
        let long = |end: &str| format!("{}{end}", "/".repeat(239));
        let names: BTreeSet<String> =
            [".", "..", "a/b", "a%2Fb", &long("a"), &long("b")].map(file_name).into();
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|name| name.len() < 255 && !name.contains(['/', '\0'])));
    }

    #[test]
    fn a_file_of_a_volume_leads_to_what_belongs_to_its_array() {
        let (folder, array) = (Path::new("/run/paritas"), Uuid([7; 16]));
        let place = Place::of(folder, array);
        let found = Place::of_file(folder, &place.file("a/b")).expect("one of ours");
        assert_eq!((&found.volumes, &found.log), (&place.volumes, &place.log));
        assert!(Place::of_file(folder, Path::new("/var/lib/disk.img")).is_none());
        assert!(Place::of_file(folder, Path::new("/run/paritas/file")).is_none());
        assert!(Place::of_file(folder, Path::new("/")).is_none());
    }

    #[test]
    fn a_device_that_is_gone_is_found_by_the_file_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = folder.path().join("array");
        make_folder(&array).expect("made");
        fs::write(array.join("a"), "/dev/nbd1").expect("written");
        fs::write(array.join("b"), "/dev/nbd11").expect("written");
        fs::write(folder.path().join("array.log"), "/dev/nbd2").expect("written");
        let found = |device: &str| file_naming(folder.path(), Path::new(device));
        assert_eq!(found("/dev/nbd11"), Some(array.join("b")));
        assert_eq!((found("/dev/nbd2"), found("/dev/nbd")), (None, None));
    }
}
