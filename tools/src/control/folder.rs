//! The folder of a user's servers: sockets, and what else must not outlive a restart of the machine.

use crate::outcome::Failure;
use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Overrides where the folder is.
const VARIABLE: &str = "PARITAS_RUN";

/// How the names of sockets for commands end.
const ENDING: &str = "control";

/// The folder, which may not exist: `PARITAS_RUN`, else `/run/paritas` for root, else `paritas` in the session's
/// folder, else one of the user's own among temporary files.
pub(crate) fn run_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    match (set(VARIABLE), set("XDG_RUNTIME_DIR")) {
        (Some(folder), _) => folder,
        (None, _) if user.is_root() => PathBuf::from("/run/paritas"),
        (None, Some(session)) => session.join("paritas"),
        (None, None) => std::env::temp_dir().join(format!("paritas-{}", user.as_raw())),
    }
}

/// Makes the folder where there is none.
///
/// # Errors
/// When it cannot be made, or somebody else could put something into it.
pub(crate) fn make_run_folder() -> Result<PathBuf, Failure> {
    let folder = run_folder();
    let failed = |error| Failure::io(format!("{}: {error}", folder.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let metadata = std::fs::metadata(&folder).map_err(failed)?;
    if !is_ours(&metadata) {
        let text = format!(
            "{} can be written by others: remove it, or say with {VARIABLE} where sockets are to be",
            folder.display()
        );
        return Err(Failure::refused(text));
    }
    folder.canonicalize().map_err(failed)
}

/// Whether nobody but this user, or root, decides what is in a folder.
fn is_ours(metadata: &Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    [user, 0].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
}

/// The start of the names of sockets for commands on an array. Short, as the names of sockets have to be.
fn prefix(array: &str) -> &str {
    array.get(..8).unwrap_or(array)
}

/// The socket for commands of this process's server of an array.
pub(super) fn socket_of(folder: &Path, array: &str) -> PathBuf {
    folder.join(format!("{}-{}.{ENDING}", prefix(array), std::process::id()))
}

/// Removes what servers of an array left behind that were killed.
pub(crate) fn sweep(folder: &Path, array: &str) {
    let is_of_array = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix(array)))
    };
    for socket in sockets_in(folder).iter().filter(|path| is_of_array(path)) {
        let refused =
            UnixStream::connect(socket).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        // Another server may sweep as well.
        let _gone = refused && std::fs::remove_file(socket).is_err();
    }
}

/// All sockets for commands.
pub(super) fn sockets() -> Vec<PathBuf> {
    let folder = run_folder();
    match std::fs::metadata(&folder) {
        Ok(metadata) if is_ours(&metadata) => sockets_in(&folder),
        _ => Vec::new(),
    }
}

fn sockets_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut sockets: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect();
    sockets.sort();
    sockets
}
