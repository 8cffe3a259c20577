//! Serves a volume as a file to the kernel.
//!
//! Two threads do that: one reads requests and begins them, the other one answers those that are done, in whatever
//! order. Neither waits for the engine, so as many are under way as the kernel has. What is written is copied once,
//! from where the kernel put it to where the engine keeps it; what is read goes to the kernel as it came from the
//! engine.

mod filesystem;
mod tasks;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::frontend::complaints::Complaints;
use crate::volume::Volume;
use filesystem::OneFile;
use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tasks::Tasks;

/// A volume that is mounted on a file. Dropping it takes the file's name away; who has it open goes on.
pub struct Mount {
    path: PathBuf,
    served: Option<Served>,
}

/// The threads of a mount.
struct Served {
    session: BackgroundSession,
    answers: JoinHandle<()>,
    tasks: Arc<Tasks>,
}

impl Mount {
    /// Mounts a volume on the file `path`, whose owner alone may use it. Nobody may write when it is `read_only`.
    /// `complain` gets a line about a request that failed, not more than a few in a time.
    ///
    /// The caller must be root. The array must not be closed before the mount is gone.
    ///
    /// # Errors
    /// [`Kind::Io`] when there is no such file or no FUSE, or the kernel refuses it.
    pub fn new(
        volume: &Volume,
        path: &Path,
        read_only: bool,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Mount> {
        let failed =
            |error: io::Error| Error::io(format!("mounting a volume on {}: {error}", path.display()));
        let found = std::fs::metadata(path).map_err(failed)?;
        let tasks = Arc::new(Tasks::default());
        let file = OneFile {
            volume: volume.clone(),
            read_only,
            owner: (found.uid(), found.gid()),
            tasks: tasks.clone(),
            complaints: Arc::new(Complaints::new(complain)),
        };
        let mut config = Config::default();
        let access = if read_only { MountOption::RO } else { MountOption::RW };
        config.mount_options = vec![MountOption::FSName("paritas".into()), MountOption::NoExec, access];
        let session = Session::new(file, path, &config).map_err(failed)?;
        let served = Served::start(session, tasks).map_err(failed)?;
        Ok(Mount { path: path.into(), served: Some(served) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the mount away, when everything that was asked for is answered. What was written is not flushed by that.
    ///
    /// # Errors
    /// [`Kind::Busy`] when somebody has the file open: nothing has changed then. [`Kind::Io`].
    pub fn unmount(&mut self) -> Result<()> {
        if self.served.is_none() {
            return Ok(());
        }
        match unmount(&self.path, UnmountFlags::empty()) {
            // Somebody else has unmounted it.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => {
                let kind = if error == Errno::BUSY { Kind::Busy } else { Kind::Io };
                return Err(Error::new(kind, format!("unmounting {}: {error}", self.path.display())));
            }
        }
        self.served.take().map_or(Ok(()), Served::end)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.served.is_some() {
            // Nobody is left to be told; the threads end with the last one who has the file open.
            let _gone = unmount(&self.path, UnmountFlags::DETACH).is_err();
        }
    }
}

impl Served {
    fn start(session: Session<OneFile>, tasks: Arc<Tasks>) -> io::Result<Served> {
        let running = tasks.clone();
        let answers = std::thread::Builder::new().name("fuse answers".into());
        let answers = answers.spawn(move || running.run())?;
        match session.spawn() {
            Ok(session) => Ok(Served { session, answers, tasks }),
            Err(error) => {
                tasks.close();
                Err(error)
            }
        }
    }

    /// Waits until all is answered: nobody asks any more.
    fn end(self) -> Result<()> {
        let read = self.session.join();
        self.tasks.close();
        let answered = self.answers.join();
        read.map_err(|error| Error::io(format!("reading what the kernel asks for: {error}")))?;
        answered.map_err(|_| Error::io("a thread that answers the kernel has ended too early"))
    }
}
