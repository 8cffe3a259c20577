//! A disk that fails as a test wants: a file that this process serves to the kernel (FUSE), one connection each, so
//! that a disk that hangs keeps no other waiting. What it holds lies in a file beside it.
//!
//! Invariants:
//! - Before a true flush `undo` has what every write since the last one overwrote: [`Disk::lose_power`] puts it back.
//! - Whoever must wait is held back, or answered by a thread of its own: the disk goes on answering others.

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyOpen, ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the engine drives a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Past the page cache, by io_uring.
    Ring,
    /// By calls that block: the disk refuses direct I/O.
    Blocking,
}

/// What a disk does wrong.
#[derive(Clone, Default, Debug)]
pub(crate) struct Faults {
    /// What cannot be read until it is written.
    pub(crate) unreadable: Vec<Range<u64>>,
    /// Every write fails so.
    pub(crate) write_error: Option<Errno>,
    /// So many flushes fail, and what they were to keep is gone, as with the kernel's page cache.
    pub(crate) flush_errors: u32,
    /// Flushes are answered and do nothing.
    pub(crate) lying_flush: bool,
    /// Every so-many-th write is answered and not done.
    pub(crate) lost_writes: Option<u64>,
    /// Every so-many-th write is done so many bytes further on.
    pub(crate) misdirected_writes: Option<(u64, u64)>,
    /// How long a read takes.
    pub(crate) slow: Duration,
    /// Nothing is answered until [`Disk::release`].
    pub(crate) hangs: bool,
    /// Everything fails so, also to look for the file.
    pub(crate) gone: Option<Errno>,
}

/// Does an operation that was held back.
type Held = Box<dyn FnOnce(&mut Platter) + Send>;

/// What the disk is.
struct Platter {
    file: File,
    faults: Faults,
    /// Where, and what lay there.
    undo: Vec<(u64, Vec<u8>)>,
    held: Vec<Held>,
    /// Operations that a fault has struck.
    struck: u64,
    writes: u64,
    /// Reads past the page cache, and others.
    direct: u64,
    indirect: u64,
}

/// A disk, mounted as a file. Dropping it releases what it holds back and unmounts it.
pub(crate) struct Disk {
    path: PathBuf,
    platter: Arc<Mutex<Platter>>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts a blank disk of so many bytes on the file `path`; what it holds lies in `backing`.
    pub(crate) fn new(path: &Path, backing: &Path, len: u64, way: Way) -> io::Result<Disk> {
        File::create(path)?;
        let file = File::options().read(true).write(true).create_new(true).open(backing)?;
        file.set_len(len)?;
        let platter = Platter {
            file,
            faults: Faults::default(),
            undo: Vec::new(),
            held: Vec::new(),
            struck: 0,
            writes: 0,
            direct: 0,
            indirect: 0,
        };
        let platter = Arc::new(Mutex::new(platter));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("paritas-test".into()), MountOption::RW];
        let session = Session::new(Server { platter: platter.clone(), way }, path, &config)?.spawn()?;
        Ok(Disk { path: path.into(), platter, session: Some(session) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("no panic")
    }

    /// From here on it fails so, and no more as before.
    pub(crate) fn set(&self, faults: Faults) {
        self.platter().faults = faults;
    }

    /// From here on it works, and answers what it held back.
    pub(crate) fn release(&self) {
        let mut platter = self.platter();
        platter.faults = Faults::default();
        for held in std::mem::take(&mut platter.held) {
            held(&mut platter);
        }
    }

    /// Operations that a fault has struck.
    pub(crate) fn struck(&self) -> u64 {
        self.platter().struck
    }

    /// Reads past the page cache, and others.
    pub(crate) fn reads(&self) -> (u64, u64) {
        let platter = self.platter();
        (platter.direct, platter.indirect)
    }

    /// What was not truly flushed is gone.
    pub(crate) fn lose_power(&self) {
        let mut platter = self.platter();
        platter.struck += platter.undo.len() as u64;
        platter.forget();
    }

    /// Flips a bit of each of so many bytes, evenly over a range of it.
    pub(crate) fn rot(&self, range: Range<u64>, bytes: u64) {
        let platter = self.platter();
        for at in range.clone().step_by(usize::try_from((range.end - range.start) / bytes).expect("small")) {
            let mut byte = [0];
            platter.file.read_exact_at(&mut byte, at).expect("inside");
            platter.file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            // A file that is open somewhere keeps its disk: the end of the process ends both.
            let _busy = session.umount_and_join().is_err();
        }
    }
}

impl Platter {
    fn is_struck(&mut self, struck: bool) -> bool {
        self.struck += u64::from(struck);
        struck
    }

    /// Puts back what was overwritten since the last true flush.
    fn forget(&mut self) {
        for (at, bytes) in self.undo.drain(..).rev() {
            self.file.write_all_at(&bytes, at).expect("written");
        }
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let end = offset + len as u64;
        let mut bad = self.faults.unreadable.iter();
        let bad = bad.any(|range| range.start < end && offset < range.end);
        if self.is_struck(bad) {
            return Err(Errno::EIO);
        }
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match self.file.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if let Some(errno) = self.faults.write_error {
            self.struck += 1;
            return Err(errno);
        }
        self.writes += 1;
        let lost = self.faults.lost_writes.is_some_and(|nth| self.writes.is_multiple_of(nth));
        if self.is_struck(lost) {
            return Ok(());
        }
        let mut at = offset;
        if let Some((nth, further)) = self.faults.misdirected_writes
            && self.is_struck(self.writes.is_multiple_of(nth))
        {
            at += further;
        }
        let mut before = vec![0; bytes.len()];
        self.file.read_exact_at(&mut before, at)?;
        self.undo.push((at, before));
        self.file.write_all_at(bytes, at)?;
        // What is written is kept in another place from then on.
        let end = at + bytes.len() as u64;
        let left = std::mem::take(&mut self.faults.unreadable);
        let left = left.into_iter().flat_map(|bad| [bad.start..bad.end.min(at), bad.start.max(end)..bad.end]);
        self.faults.unreadable = left.filter(|bad| !bad.is_empty()).collect();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if self.faults.flush_errors > 0 {
            self.faults.flush_errors -= 1;
            self.struck += 1;
            self.forget();
            return Err(Errno::EIO);
        }
        if !self.is_struck(self.faults.lying_flush) {
            self.undo.clear();
        }
        Ok(())
    }

    /// Does it now, or when the disk no longer hangs.
    fn go(&mut self, operation: Held) {
        if self.is_struck(self.faults.hangs) {
            self.held.push(operation);
        } else {
            operation(self);
        }
    }
}

/// What the kernel asks.
struct Server {
    platter: Arc<Mutex<Platter>>,
    way: Way,
}

impl Server {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("no panic")
    }

    fn attributes(&self) -> Result<FileAttr, Errno> {
        let mut platter = self.platter();
        if let Some(errno) = platter.faults.gone {
            platter.struck += 1;
            return Err(errno);
        }
        let size = platter.file.metadata()?.len();
        Ok(FileAttr {
            ino: INodeNo::ROOT,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_DIO;
        config.add_capabilities(wanted).map_err(|_| io::Error::other("the kernel is too old"))
    }

    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes() {
            Ok(attributes) => reply.attr(&Duration::ZERO, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.platter().file.set_len(size));
        match resized.map_err(Errno::from).and_then(|()| self.attributes()) {
            Ok(attributes) => reply.attr(&Duration::ZERO, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.attributes() {
            Ok(_) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
                reply.opened(FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a low bit");
        let is_direct = flags.0 & direct != 0;
        if is_direct && self.way == Way::Blocking {
            return reply.error(Errno::EINVAL);
        }
        let mut platter = self.platter();
        platter.direct += u64::from(is_direct);
        platter.indirect += u64::from(!is_direct);
        if let Some(errno) = platter.faults.gone {
            platter.struck += 1;
            return reply.error(errno);
        }
        let slow = platter.faults.slow;
        let is_slow = !slow.is_zero();
        platter.is_struck(is_slow);
        platter.go(Box::new(move |platter| {
            let read = platter.read(offset, usize::try_from(size).expect("64 bits"));
            let answer = move || match read {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            };
            if is_slow {
                thread::spawn(move || {
                    thread::sleep(slow);
                    answer();
                });
            } else {
                answer();
            }
        }));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.to_vec();
        let mut platter = self.platter();
        if let Some(errno) = platter.faults.gone {
            platter.struck += 1;
            return reply.error(errno);
        }
        platter.go(Box::new(move |platter| match platter.write(offset, &bytes) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).expect("at most 16 MiB")),
            Err(errno) => reply.error(errno),
        }));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut platter = self.platter();
        if let Some(errno) = platter.faults.gone {
            platter.struck += 1;
            return reply.error(errno);
        }
        platter.go(Box::new(move |platter| match platter.flush() {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }));
    }

    /// A descriptor is closed; nothing is kept by that.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
