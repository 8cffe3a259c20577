//! Where a measurement takes place, and how everything is put back as it was.

use crate::names::show_size;
use crate::outcome::{Failure, say};
use rustix::fs::statvfs;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where the members are when none are given: in memory.
const MEMORY: &str = "/dev/shm";
/// Bytes of a member made here unless the user says otherwise.
const SIZE: u64 = 512 << 20;
/// The smallest member.
const SIZE_MIN: u64 = 64 << 20;
/// What is zeros at both ends of what is blank.
const BLANK: usize = 1 << 20;

/// The members of a measurement.
pub(super) struct Place {
    pub(super) members: Vec<PathBuf>,
    /// How large blank files become.
    pub(super) size: u64,
    /// What holds them, for people.
    pub(super) name: String,
    folder: Option<TempDir>,
}

impl Place {
    /// As many files in memory, if there is room.
    pub(super) fn in_memory(members: usize, size: Option<u64>) -> Result<Place, Failure> {
        let failed = |error: io::Error| Failure::io(format!("{MEMORY}: {error}"));
        let room = free_room(Path::new(MEMORY)).map_err(failed)?;
        let size = choose_size(size, room, members as u64)?;
        let prefix = format!("paritas-bench-{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(MEMORY).map_err(failed)?;
        let members = (0..members).map(|i| folder.path().join(format!("member{i}"))).collect();
        Ok(Place { members, size, name: MEMORY.into(), folder: Some(folder) })
    }

    /// Those that the user names.
    pub(super) fn given(members: &[PathBuf], size: Option<u64>) -> Result<Place, Failure> {
        let folder = members.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
        let name = if folder.as_os_str().is_empty() { ".".into() } else { folder.display().to_string() };
        Ok(Place { members: members.to_vec(), size: size.unwrap_or(SIZE), name, folder: None })
    }

    /// How the members are now, to be put back when it is dropped.
    pub(super) fn remember(&self) -> Result<Restore, Failure> {
        let mut before = Vec::new();
        for path in self.members.iter().filter(|_| self.folder.is_none()) {
            let state =
                State::of(path).map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
            before.push((path.clone(), state));
        }
        Ok(Restore { before, armed: false })
    }

    /// Members that were taken away are there again, blank, with room found for all of them.
    pub(super) fn renew(&self, sizes: &[u64]) -> Result<(), Failure> {
        for (path, size) in self.members.iter().zip(sizes) {
            zero(path, *size).map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// Takes members away: what was in them is gone. False where that cannot be done to one.
    pub(super) fn lose(&self, count: usize) -> Result<bool, Failure> {
        let lost = &self.members[..count];
        if !lost.iter().all(|path| std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file())) {
            return Ok(false);
        }
        for path in lost {
            set_len(path, 0).map_err(|error| Failure::io(format!("{}: {error}", path.display())))?;
        }
        Ok(true)
    }
}

fn choose_size(wanted: Option<u64>, room: u64, members: u64) -> Result<u64, Failure> {
    let most = room / 10 * 9 / members.max(1);
    let size = wanted.unwrap_or(SIZE.min(most >> 20 << 20));
    if size > most || (wanted.is_none() && size < SIZE_MIN) {
        let (room, need) = (show_size(room), show_size(size.max(SIZE_MIN) * members));
        return Err(Failure::refused(format!(
            "{MEMORY} has {room} to give, {members} members need {need} and a tenth: name --members or a smaller --size"
        )));
    }
    Ok(size)
}

/// Bytes that fit into a file system, and into memory besides.
fn free_room(folder: &Path) -> io::Result<u64> {
    let free = statvfs(folder)?;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok((free.f_bavail * free.f_frsize).min(available.map_or(u64::MAX, |kib| kib << 10)))
}

/// How a member was.
enum State {
    Absent,
    File(u64),
    Device,
}

impl State {
    fn of(path: &Path) -> io::Result<State> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.file_type().is_block_device() => Ok(State::Device),
            Ok(metadata) => Ok(State::File(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Absent),
            Err(error) => Err(error),
        }
    }

    /// Blank as it was before.
    fn put_back(&self, path: &Path) -> io::Result<()> {
        match self {
            State::Absent => std::fs::remove_file(path),
            State::File(len) => {
                set_len(path, 0)?;
                set_len(path, *len)
            }
            State::Device => {
                let mut device = OpenOptions::new().write(true).open(path)?;
                let len = device.seek(SeekFrom::End(0))?;
                let zeros = vec![0; BLANK.min(usize::try_from(len).unwrap_or(BLANK))];
                device.write_all_at(&zeros, 0)?;
                device.write_all_at(&zeros, len - zeros.len() as u64)?;
                device.sync_all()
            }
        }
    }
}

fn zero(path: &Path, len: u64) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    io::copy(&mut io::repeat(0).take(len), &mut file)?;
    file.sync_all()
}

fn set_len(path: &Path, len: u64) -> io::Result<()> {
    File::options().write(true).open(path)?.set_len(len)
}

/// Makes the members blank again.
pub(super) struct Restore {
    before: Vec<(PathBuf, State)>,
    armed: bool,
}

impl Restore {
    /// From here on the members are not as they were.
    pub(super) fn arm(&mut self) {
        self.armed = true;
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        for (path, state) in self.before.iter().filter(|_| self.armed) {
            if let Err(error) = state.put_back(path) {
                say(&format!("{} is not blank again: {error}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_in_memory_take_what_is_there_and_never_more() {
        let gib = 1 << 30;
        let size = |wanted, room| choose_size(wanted, room, 10).ok();
        assert_eq!(size(None, 100 * gib), Some(SIZE));
        assert_eq!(size(None, 2 * gib), Some(184 << 20));
        assert_eq!(size(None, gib / 2), None);
        assert_eq!(size(Some(gib), 100 * gib), Some(gib));
        assert_eq!(size(Some(gib), 10 * gib), None);
    }

    #[test]
    fn what_was_blank_is_blank_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<PathBuf> = ["absent", "empty", "zeros"].map(|name| folder.path().join(name)).into();
        File::create(&members[1]).expect("made");
        File::create(&members[2]).expect("made").set_len(8 << 20).expect("sized");
        let place = Place::given(&members, None).expect("a place");
        let write = || members.iter().for_each(|path| std::fs::write(path, [7; 9000]).expect("written"));
        drop(place.remember().expect("looked at"));
        let mut restore = place.remember().expect("looked at");
        write();
        restore.arm();
        drop(restore);
        assert!(!members[0].exists());
        let bytes = |i: usize| std::fs::read(&members[i]).expect("there");
        assert!(bytes(1).is_empty() && bytes(2) == vec![0; 8 << 20]);
        let restore = place.remember().expect("looked at");
        write();
        drop(restore);
        assert_eq!(bytes(2), [7; 9000], "what was not armed is not touched");
    }
}
