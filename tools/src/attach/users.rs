//! Who uses a device or a file: whoever is to be asked to stop before it can go.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Who uses the device, each as "is mounted on /mnt" or "is open in process 7 (dd)"; nobody, as far as this process
/// may see. This process itself does not count.
pub(crate) fn of(device: &Path) -> Vec<String> {
    with_partitions(device, of_itself)
}

/// The processes that have a device open, or a part of it, other than this one.
pub(crate) fn device_openers(device: &Path) -> Vec<String> {
    with_partitions(device, openers)
}

fn with_partitions(device: &Path, users_of: impl Fn(&Path) -> Vec<String>) -> Vec<String> {
    let mut users = users_of(device);
    for partition in partitions(device) {
        let place = partition.display();
        users.extend(users_of(&partition).iter().map(|user| format!("has {place}, which {user}")));
    }
    users
}

/// The parts of a device, where the kernel has found a table of them on it.
fn partitions(device: &Path) -> Vec<PathBuf> {
    let Some(name) = device.file_name() else { return Vec::new() };
    let folder = Path::new("/sys/block").join(name);
    let parts = names(&folder).filter(|part| folder.join(part).join("partition").exists());
    parts.map(|part| Path::new("/dev").join(part)).collect()
}

fn of_itself(device: &Path) -> Vec<String> {
    let number = fs::metadata(device).map(|found| found.rdev()).unwrap_or_default();
    let mut users: Vec<String> = mounts(device, number)
        .into_iter()
        .map(|place| format!("is mounted on {}", place.display()))
        .collect();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let is_swap = |line: &str| line.split_whitespace().next().is_some_and(|path| Path::new(path) == device);
    if swaps.lines().any(is_swap) {
        users.push("is swapped to".into());
    }
    let name = device.file_name().unwrap_or_default();
    users.extend(
        names(&Path::new("/sys/class/block").join(name).join("holders"))
            .map(|holder| format!("is used by /dev/{}", holder.to_string_lossy())),
    );
    users.extend(openers(device));
    users
}

/// The processes that have a device or file open, other than this one.
pub(crate) fn openers(path: &Path) -> Vec<String> {
    let this = std::process::id();
    processes()
        .filter(|pid| *pid != this)
        .filter(|pid| {
            let folder = PathBuf::from(format!("/proc/{pid}/fd"));
            names(&folder).any(|fd| fs::read_link(folder.join(fd)).is_ok_and(|open| open == path))
        })
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("is open in process {pid} ({})", name.trim_end())
        })
        .collect()
}

/// Where it is mounted, in whichever namespace.
fn mounts(device: &Path, number: u64) -> BTreeSet<PathBuf> {
    let mut namespaces = BTreeSet::new();
    processes()
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|space| namespaces.insert(space))
        })
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|pid| fs::read(format!("/proc/{pid}/mountinfo")).ok())
        .flat_map(|table| mounted_in(&table, device, number))
        .collect()
}

/// Where this process sees a file system mounted.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|byte| *byte == b'\n').any(|line| field(line, 4).is_some_and(|place| place == path))
}

/// Where a table of mounts has the device: by its number, or, as file systems over several have a number of their
/// own, by its name.
fn mounted_in(table: &[u8], device: &Path, number: u64) -> Vec<PathBuf> {
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let lines = table.split(|byte| *byte == b'\n');
    lines
        .filter(|line| {
            let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            // Behind a lone dash, which ends the optional fields, stand the kind and the source.
            let source = words.iter().position(|word| *word == b"-").map(|dash| dash + 2);
            words.get(2).is_some_and(|word| *word == number.as_bytes())
                || source.and_then(|at| field(line, at)).is_some_and(|source| source == device)
        })
        .filter_map(|line| field(line, 4))
        .collect()
}

/// A field of such a line, in which a blank, a tab, a line's end and a backslash are octal numbers.
fn field(line: &[u8], at: usize) -> Option<PathBuf> {
    let mut word = line.split(|byte| *byte == b' ').nth(at)?;
    let mut path = Vec::with_capacity(word.len());
    while let Some((first, rest)) = word.split_first() {
        let digits = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                path.push(byte);
                word = &rest[3..];
            }
            _ => {
                path.push(*first);
                word = rest;
            }
        }
    }
    Some(OsString::from_vec(path).into())
}

fn processes() -> impl Iterator<Item = u32> {
    names(Path::new("/proc")).filter_map(|name| name.to_str()?.parse().ok())
}

/// What is in a folder; nothing where there is none.
pub(crate) fn names(folder: &Path) -> impl Iterator<Item = OsString> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn mounts_are_found_by_number_and_by_name() {
        let table = b"36 35 98:0 /a /mnt/one\\040two rw - ext4 /dev/root rw\n\
            37 35 7:3 / /mnt/x rw,noatime master:1 shared:2 - xfs /dev/loop3 rw\n\
            38 35 0:52 / /mnt/b rw - btrfs /dev/loop3 rw\n\
            39 35 7:30 / /mnt/y rw - xfs /dev/loop30 rw\n\
            40 35 0:53 / /dev/loop3 rw - tmpfs none rw\n\n";
        let found = |device: &str, number| mounted_in(table, Path::new(device), number);
        let place = |text: &str| PathBuf::from(text);
        assert_eq!(found("/dev/loop3", rustix::fs::makedev(7, 3)), [place("/mnt/x"), place("/mnt/b")]);
        assert_eq!(found("/dev/sda", rustix::fs::makedev(98, 0)), [place("/mnt/one two")]);
        assert!(found("/dev/loop4", rustix::fs::makedev(7, 4)).is_empty());
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(Path::new("/proc/self")));
    }

    #[test]
    fn whoever_has_a_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(openers(file.path()).is_empty(), "this process does not count");
        let input = std::fs::File::open(file.path()).expect("there");
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::from(input)).spawn().expect("started");
        let found = openers(file.path());
        child.kill().expect("alive");
        child.wait().expect("ended");
        assert_eq!(found, [format!("is open in process {} (sleep)", child.id())]);
        assert!(openers(file.path()).is_empty());
    }
}
