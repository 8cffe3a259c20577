//! What the kernel offers to make a block device of a volume.

use super::{nbd, ublk};
use clap::ValueEnum;
use paritas::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where programs of the system lie that are not in everybody's path.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// By what a device is made. The best comes first.
///
/// By what `tests/vm --measure` found on Linux 6.12 in a virtual machine without KVM, where only the relation counts:
/// with 8 or 32 requests in flight ublk did 1.1 to 2.0 times as many operations a second as the NBD client, and 1.1 to
/// 1.6 times as many as FUSE; with one in flight the NBD client did 1.1 to 1.3 times as many as ublk, and 1.7 to 1.9
/// times as many as FUSE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Means {
    /// A device that the kernel asks this program for
    Ublk,
    /// The kernel's NBD client
    Nbd,
    /// A file of a FUSE mount, and a loop device on it
    Fuse,
}

impl Means {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Means::Ublk => "ublk",
            Means::Nbd => "nbd",
            Means::Fuse => "fuse",
        }
    }

    /// What keeps it from being used here.
    fn lacks(self, system: &System) -> Vec<String> {
        match self {
            Means::Ublk => system.lacks_ublk(),
            Means::Nbd => system.lacks_client(),
            Means::Fuse => system.lacks_fuse(),
        }
    }
}

/// A program of the system, in the path or where such programs lie.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The means that can be used here, of those that are wished for, the best first. At least one.
///
/// # Errors
/// [`Kind::Refused`] when there are none; it names all that is missing, and what to do about it.
pub(crate) fn usable(wish: Option<Means>) -> Result<Vec<Means>> {
    let system = System {
        root: "/".into(),
        has_losetup: program("losetup").is_some(),
        ublk: ublk::may_resize(),
        client: nbd::family().map(|_| ()),
        is_root: rustix::process::geteuid().is_root(),
    };
    usable_on(wish, &system)
}

/// What there is.
struct System {
    /// Where its devices are.
    root: PathBuf,
    has_losetup: bool,
    /// What the kernel says of its ublk: whether a device may get another size.
    ublk: io::Result<bool>,
    /// What the kernel says of its NBD client.
    client: io::Result<()>,
    is_root: bool,
}

fn usable_on(wish: Option<Means>, system: &System) -> Result<Vec<Means>> {
    let all = wish.map_or_else(|| system.best_first(), |only| vec![only]);
    let looked: Vec<(Means, Vec<String>)> = all.iter().map(|means| (*means, means.lacks(system))).collect();
    let usable: Vec<Means> =
        looked.iter().filter(|(_, lacks)| lacks.is_empty()).map(|(means, _)| *means).collect();
    if !usable.is_empty() {
        return Ok(usable);
    }
    let tried: Vec<String> =
        looked.iter().map(|(means, lacks)| format!("{}: {}", means.name(), lacks.join("; "))).collect();
    let text =
        format!("no block device can be made here. {}. `paritas serve` needs none of this", tried.join(". "));
    Err(Error::new(Kind::Refused, text))
}

impl System {
    /// All means. A device that could not get another size comes after those that can.
    fn best_first(&self) -> Vec<Means> {
        let mut all = Means::value_variants().to_vec();
        if matches!(self.ublk, Ok(false)) {
            all.sort_by_key(|means| *means == Means::Ublk);
        }
        all
    }

    fn lacks_ublk(&self) -> Vec<String> {
        let missing = match &self.ublk {
            Ok(_) => return Vec::new(),
            Err(error) => advice(error, "ublk_drv"),
        };
        vec![format!("the kernel's ublk: {missing}")]
    }

    fn lacks_client(&self) -> Vec<String> {
        let missing = match &self.client {
            Ok(()) if self.is_root => return Vec::new(),
            Ok(()) => "must be run by root".into(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "not there (modprobe nbd, or a kernel that has it)".into()
            }
            Err(error) => error.to_string(),
        };
        vec![format!("the kernel's NBD client: {missing}")]
    }

    fn lacks_fuse(&self) -> Vec<String> {
        let devices = [("dev/fuse", "fuse"), ("dev/loop-control", "loop")];
        let mut missing: Vec<String> =
            devices.iter().filter_map(|(device, module)| lack(&self.root, device, module)).collect();
        if !self.has_losetup {
            missing.push("losetup: not found (install util-linux)".into());
        }
        missing
    }
}

/// What keeps a device from being used. To open it loads its module, where the system can do that.
fn lack(root: &Path, device: &str, module: &str) -> Option<String> {
    let opened = File::options().read(true).write(true).open(root.join(device));
    let error = opened.err()?;
    Some(format!("/{device}: {}", advice(&error, module)))
}

/// What an error means, and what to do.
fn advice(error: &io::Error, module: &str) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!("{error} (must be run by root)"),
        ErrorKind::NotFound => format!("not there (modprobe {module}, or a kernel that has it)"),
        ErrorKind::Unsupported => error.to_string(),
        _ => format!("{error} (modprobe {module}, or a kernel that has it)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(root: &Path) -> System {
        System {
            root: root.into(),
            has_losetup: false,
            ublk: Err(ErrorKind::NotFound.into()),
            client: Err(ErrorKind::NotFound.into()),
            is_root: true,
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let root = tempfile::tempdir().expect("a folder");
        let mut system = system(root.path());
        let text = |system: &System, wish| usable_on(wish, system).expect_err("missing").to_string();
        let nothing = text(&system, None);
        for part in [
            "/dev/fuse: not there (modprobe fuse",
            "/dev/loop-control: not there (modprobe loop",
            "install util-linux",
            "client: not there (modprobe nbd",
            "the kernel's ublk: not there (modprobe ublk_drv",
        ] {
            assert!(nothing.contains(part), "{nothing}");
        }
        system.has_losetup = true;
        std::fs::create_dir_all(root.path().join("dev")).expect("made");
        std::fs::write(root.path().join("dev/fuse"), "").expect("made");
        let some = text(&system, None);
        assert!(!some.contains("/dev/fuse") && some.contains("/dev/loop-control"), "{some}");
        assert!(!some.contains("losetup"), "{some}");
        system.ublk = Err(ErrorKind::PermissionDenied.into());
        assert!(text(&system, Some(Means::Ublk)).contains("must be run by root"));
        system.ublk = Err(io::Error::new(ErrorKind::Unsupported, "it is too old"));
        assert!(text(&system, None).contains("the kernel's ublk: it is too old."));
        let only = text(&system, Some(Means::Fuse));
        assert!(!only.contains("NBD"), "what was not wished for is not missed: {only}");
        system.client = Err(io::Error::other("it is too old"));
        assert!(text(&system, Some(Means::Nbd)).contains("client: it is too old"));
        (system.client, system.is_root) = (Ok(()), false);
        assert!(text(&system, Some(Means::Nbd)).contains("client: must be run by root"));
    }

    #[test]
    fn the_best_comes_first_and_what_was_wished_for_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let mut system = system(root.path());
        std::fs::create_dir_all(root.path().join("dev")).expect("made");
        std::fs::write(root.path().join("dev/fuse"), "").expect("made");
        std::fs::write(root.path().join("dev/loop-control"), "").expect("made");
        system.has_losetup = true;
        let usable = |system: &System, wish| usable_on(wish, system).expect("some");
        assert_eq!(usable(&system, None), [Means::Fuse]);
        system.client = Ok(());
        assert_eq!(usable(&system, None), [Means::Nbd, Means::Fuse]);
        assert_eq!(usable(&system, Some(Means::Fuse)), [Means::Fuse]);
        system.ublk = Ok(true);
        assert_eq!(usable(&system, None), [Means::Ublk, Means::Nbd, Means::Fuse]);
        system.ublk = Ok(false);
        assert_eq!(usable(&system, None), [Means::Nbd, Means::Fuse, Means::Ublk], "no other size");
        assert_eq!(usable(&system, Some(Means::Ublk)), [Means::Ublk]);
        system.has_losetup = false;
        assert_eq!(usable(&system, None), [Means::Nbd, Means::Ublk]);
    }

    #[test]
    fn programs_are_found() {
        assert!(program("sh").is_some_and(|path| path.is_absolute()));
        assert!(program("no such program").is_none());
    }
}
