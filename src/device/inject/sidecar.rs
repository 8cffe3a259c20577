//! Faults that outlast a process: a text file beside the member, one fault a line.
//!
//! The file of `disk0` is `disk0.inject`, that of a block device `/dev/sdb` is `/dev/sdb.inject`, which is gone at the
//! next boot. Symbolic links are followed first: a member has one such file, whichever of them leads to it. Lines are
//! as [`Fault`] is written; those that begin with `#`, and empty ones, are for people. Read strictly: whoever asked for
//! a fault must not wait for it in vain, nor get another. Who moves or renames a member takes the file along.

use super::Fault;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How the names of these files end. No member has such a name.
pub const SUFFIX: &str = ".inject";

/// What a new file begins with.
const HEAD: &str = "# Faults that strike this member on purpose; `paritas inject` lists and removes them.\n";

/// Whether this is the name of such a file.
pub fn is_sidecar(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
}

/// Where the faults of a member are kept.
pub fn path_of(member: &Path) -> PathBuf {
    let mut path = OsString::from(std::fs::canonicalize(member).unwrap_or_else(|_| member.to_owned()));
    path.push(SUFFIX);
    path.into()
}

/// The faults kept for a member of `len` bytes; none without a file.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with file and line for what is no fault, those of the system with the file.
pub fn load(member: &Path, len: u64) -> io::Result<Vec<Fault>> {
    let path = path_of(member);
    parse(&path, &read(&path)?, len)
}

/// What the file holds; nothing if there is none.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| named(path, &error)),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The faults in such a file, whose path is for errors alone, for a member of `len` bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with file and line for what is no fault.
pub fn parse(path: &Path, bytes: &[u8], len: u64) -> io::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (line, at) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let broken = |what: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}:{at}: {what}", path.display()))
        };
        let text = std::str::from_utf8(line).map_err(|_| broken("no UTF-8".into()))?.trim();
        if !text.is_empty() && !text.starts_with('#') {
            let fault: Fault = text.parse().map_err(broken)?;
            fault.check(len).map_err(broken)?;
            faults.push(fault);
        }
    }
    Ok(faults)
}

/// Adds a fault to those kept for a member of `len` bytes; durable on return.
///
/// # Errors
/// Those of [`load`]; [`io::ErrorKind::InvalidInput`] for a fault that [`Fault::check`] refuses; those of the system.
pub fn add(member: &Path, len: u64, fault: &Fault) -> io::Result<()> {
    fault.check(len).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
    let path = path_of(member);
    let before = read(&path)?;
    parse(&path, &before, len)?;
    let head = match before.last() {
        None => HEAD,
        Some(b'\n') => "",
        // A line that a person left without an end stays a line of its own.
        Some(_) => "\n",
    };
    let failed = |error: io::Error| named(&path, &error);
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
    file.write_all(format!("{head}{fault}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Removes all faults kept for a member, whatever the file holds. Returns whether there was one.
///
/// # Errors
/// Those of the system.
pub fn remove(member: &Path) -> io::Result<bool> {
    let path = path_of(member);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(|error| named(&path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::inject::FaultKind;

    #[test]
    fn faults_are_kept_in_order_and_removed_with_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let member = folder.path().join("m");
        let file = folder.path().join("m.inject");
        let faults = [Fault::new(FaultKind::Hang), Fault::new(FaultKind::BitFlip).within(4096, 512).times(3)];
        assert_eq!(load(&member, 1 << 20).expect("none"), []);
        assert!(!remove(&member).expect("none"));
        faults.iter().for_each(|fault| add(&member, 1 << 20, fault).expect("kept"));
        assert_eq!(load(&member, 1 << 20).expect("read"), faults);
        assert!(is_sidecar(&file) && file.exists() && !is_sidecar(&member));
        // A person may write it, and leave the last line without an end.
        std::fs::write(&file, "# mine\n\n  hang  \nbit-flip range=4K+512 count=3").expect("written");
        assert_eq!(load(&member, 1 << 20).expect("read"), faults);
        add(&member, 1 << 20, &faults[0]).expect("kept");
        assert_eq!(load(&member, 1 << 20).expect("read"), [faults[0], faults[1], faults[0]]);
        assert!(remove(&member).expect("removed") && !file.exists());
    }

    #[test]
    fn a_link_leads_to_the_faults_of_the_member() {
        let folder = tempfile::tempdir().expect("a folder");
        let (member, link) = (folder.path().join("m"), folder.path().join("link"));
        std::fs::write(&member, "").expect("made");
        std::os::unix::fs::symlink(&member, &link).expect("linked");
        let fault = Fault::new(FaultKind::Vanish);
        add(&link, 1, &fault).expect("kept");
        assert_eq!(load(&member, 1).expect("read"), [fault]);
        assert!(!folder.path().join("link.inject").exists());
    }

    #[test]
    fn what_is_broken_is_named_by_file_and_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let member = folder.path().join("m");
        let file = folder.path().join("m.inject");
        let cases: [(&[u8], usize); 5] = [
            (b"hang\nfall\n", 2),
            (b"# fine\n\nhang range=1M+1\n", 3),
            (b"hang count=", 1),
            (b"\xff", 1),
            (b"flush-error range=0+1", 1),
        ];
        for (bytes, line) in cases {
            std::fs::write(&file, bytes).expect("written");
            for result in
                [load(&member, 1 << 20).map(|_| ()), add(&member, 1 << 20, &Fault::new(FaultKind::Hang))]
            {
                let error = result.expect_err("refused");
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert!(error.to_string().contains(&format!("m.inject:{line}: ")), "{error}");
            }
            assert_eq!(std::fs::read(&file).expect("there"), bytes);
        }
        std::fs::remove_file(&file).expect("removed");
        std::fs::create_dir(&file).expect("made");
        assert!(load(&member, 1).is_err(), "what cannot be read is no absence of faults");
    }
}
