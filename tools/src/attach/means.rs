//! What the kernel offers to make a block device of a volume.

use crate::outcome::Failure;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where programs of the system lie that are not in everybody's path.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// What must be there, what it is for, and how it comes about.
const NEEDED: [(&str, &str); 2] = [("dev/fuse", "fuse"), ("dev/loop-control", "loop")];

/// Other means that a kernel may have, and where one sees them. They are not used.
const OTHERS: [(&str, &str); 2] =
    [("ublk", "dev/ublk-control"), ("the kernel's NBD client", "sys/module/nbd")];

/// A program of the system, in the path or where such programs lie.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Looks whether there is a FUSE and a loop device to be had.
///
/// # Errors
/// Names all that is missing, and what to do about it.
pub(crate) fn check() -> Result<(), Failure> {
    check_below(Path::new("/"), program("losetup").is_some())
}

/// As a system has it whose root is `root`.
fn check_below(root: &Path, has_losetup: bool) -> Result<(), Failure> {
    let mut missing: Vec<String> =
        NEEDED.iter().filter_map(|(device, module)| lack(root, device, module)).collect();
    if !has_losetup {
        missing.push("losetup: not found (install util-linux)".into());
    }
    if missing.is_empty() {
        return Ok(());
    }
    let others = OTHERS.map(|(name, place)| {
        let seen =
            if root.join(place).exists() { "there, but not used by this version" } else { "not there" };
        format!("{name}: {seen}")
    });
    Err(Failure::refused(format!(
        "no block device can be made here, which takes a FUSE and a loop device: {}. Other means: {}. \
         `paritas serve` needs none of them",
        missing.join("; "),
        others.join("; ")
    )))
}

/// What keeps a device from being used. To open it loads its module, where the system can do that.
fn lack(root: &Path, device: &str, module: &str) -> Option<String> {
    let opened = File::options().read(true).write(true).open(root.join(device));
    let error = opened.err()?;
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "must be run by root".into(),
        _ => format!("modprobe {module}, or a kernel that has it"),
    };
    Some(format!("/{device}: {} ({advice})", plain(&error)))
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "not there".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let root = tempfile::tempdir().expect("a folder");
        let text = |has_losetup| format!("{:?}", check_below(root.path(), has_losetup).expect_err("missing"));
        let nothing = text(false);
        for part in ["/dev/fuse: not there (modprobe fuse", "/dev/loop-control: not there (modprobe loop"] {
            assert!(nothing.contains(part), "{nothing}");
        }
        assert!(nothing.contains("install util-linux") && nothing.contains("ublk: not there"), "{nothing}");
        std::fs::create_dir_all(root.path().join("dev")).expect("made");
        std::fs::create_dir_all(root.path().join("sys/module/nbd")).expect("made");
        std::fs::write(root.path().join("dev/fuse"), "").expect("made");
        let some = text(true);
        assert!(!some.contains("/dev/fuse") && some.contains("/dev/loop-control"), "{some}");
        assert!(some.contains("NBD client: there") && !some.contains("losetup"), "{some}");
        std::fs::write(root.path().join("dev/loop-control"), "").expect("made");
        assert!(check_below(root.path(), true).is_ok());
        assert!(check_below(root.path(), false).is_err());
    }

    #[test]
    fn programs_are_found() {
        assert!(program("sh").is_some_and(|path| path.is_absolute()));
        assert!(program("no such program").is_none());
    }
}
