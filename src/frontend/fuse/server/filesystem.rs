//! What the kernel calls, in the thread that reads its requests. Nothing here waits: what asks the volume is a task.

use super::tasks::Tasks;
use crate::device::{Aligned, Frame};
use crate::frontend::complaints::Complaints;
use crate::frontend::fuse::perform::{Answer, errno, perform};
use crate::frontend::fuse::request::Request;
use crate::types::{BLOCK, BLOCK_U64, SECTOR_U64};
use crate::volume::Volume;
use bytes::Bytes;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, TimeOrNow, WriteFlags,
};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a request at most: of what the engine takes as one step, and of what the kernel sends.
const REQUEST_BYTES: u32 = 1 << 20;
/// Requests that the kernel sends before it waits for answers. A loop device has as many.
const REQUESTS: u16 = 128;

/// A file system that is one file.
pub(super) struct OneFile {
    pub(super) volume: Volume,
    pub(super) read_only: bool,
    /// User and group that the file belongs to.
    pub(super) owner: (u32, u32),
    pub(super) tasks: Arc<Tasks>,
    pub(super) complaints: Arc<Complaints>,
}

impl OneFile {
    /// Does it, and answers whenever it is done.
    fn begin(&self, request: Request, answer: impl FnOnce(Result<Answer, Errno>) + Send + 'static) {
        if self.read_only && request.writes() {
            return answer(Err(Errno::EROFS));
        }
        if self.read_only && request == Request::Flush {
            return answer(Ok(Answer::Done));
        }
        let (volume, complaints) = (self.volume.clone(), self.complaints.clone());
        self.tasks.begin(async move {
            let outcome = perform(&volume, request).await;
            answer(outcome.map_err(|error| {
                complaints.tell(&format!("volume {}: {error}", volume.name()));
                errno(&error)
            }));
        });
    }

    /// What is answered with nothing but success.
    fn begin_plain(&self, request: Result<Request, Errno>, reply: ReplyEmpty) {
        match request {
            Err(errno) => reply.error(errno),
            Ok(request) => self.begin(request, move |outcome| match outcome {
                Ok(_) => reply.ok(),
                Err(errno) => reply.error(errno),
            }),
        }
    }

    fn begin_attributes(&self, reply: ReplyAttr) {
        let (owner, perm) = (self.owner, if self.read_only { 0o400 } else { 0o600 });
        self.begin(Request::Size, move |outcome| match outcome {
            // Nobody remembers them: the size may change.
            Ok(Answer::Number(size)) => reply.attr(&Duration::ZERO, &attributes(size, owner, perm)),
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(errno),
        });
    }
}

fn attributes(size: u64, owner: (u32, u32), perm: u16) -> FileAttr {
    FileAttr {
        ino: INodeNo::ROOT,
        size,
        blocks: size / SECTOR_U64,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm,
        nlink: 1,
        uid: owner.0,
        gid: owner.1,
        rdev: 0,
        blksize: u32::try_from(BLOCK).expect("4096"),
        flags: 0,
    }
}

/// A copy that lies in memory as it will in its blocks: the engine takes it over.
fn placed(offset: u64, bytes: &[u8]) -> Bytes {
    let skip = usize::try_from(offset % BLOCK_U64).expect("less than a block");
    if skip == 0 && bytes.len() == BLOCK {
        return Frame::copy_of(bytes).freeze();
    }
    let mut placed = Aligned::with_capacity(skip + bytes.len());
    placed.push(&[0; BLOCK][..skip]);
    placed.push(bytes);
    placed.freeze().slice(skip..)
}

impl Filesystem for OneFile {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        config
            .add_capabilities(InitFlags::FUSE_ASYNC_DIO)
            .map_err(|_| io::Error::other("the kernel's FUSE has no asynchronous direct I/O"))?;
        // What the kernel does not let us have, it names; less than that is no failure.
        let _least = config.set_max_write(REQUEST_BYTES).is_err();
        if let Err(most) = config.set_max_readahead(REQUEST_BYTES) {
            let _refused = config.set_max_readahead(most).is_err();
        }
        let _least = config.set_max_background(REQUESTS).is_err();
        Ok(())
    }

    fn getattr(&self, _: &fuser::Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.begin_attributes(reply);
    }

    fn setattr(
        &self,
        _: &fuser::Request,
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
        match size {
            // A volume is not cut off by a shell that writes a file anew.
            Some(_) => reply.error(Errno::EPERM),
            None => self.begin_attributes(reply),
        }
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let direct = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), direct | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.begin(Request::Read { offset, length: size.into() }, move |outcome| match outcome {
            Ok(Answer::Data(bytes)) => reply.data(&bytes),
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = u32::try_from(data.len()).expect("a request has less");
        self.begin(Request::Write { offset, data: placed(offset, data) }, move |outcome| match outcome {
            Ok(_) => reply.written(length),
            Err(errno) => reply.error(errno),
        });
    }

    fn fsync(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.begin_plain(Ok(Request::Flush), reply);
    }

    /// A descriptor is closed; nothing is kept by that.
    fn flush(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.begin_plain(Request::allocate(mode, offset, length), reply);
    }

    fn lseek(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match Request::seek(offset, whence) {
            Err(errno) => reply.error(errno),
            Ok(request) => self.begin(request, move |outcome| match outcome {
                Ok(Answer::Number(at)) => match i64::try_from(at) {
                    Ok(at) => reply.offset(at),
                    Err(_) => reply.error(Errno::EOVERFLOW),
                },
                Ok(_) => reply.error(Errno::ENXIO),
                Err(errno) => reply.error(errno),
            }),
        }
    }

    /// A loop device learns here how large the pieces are that may be given back.
    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: ReplyStatfs) {
        let block = u32::try_from(BLOCK).expect("4096");
        self.begin(Request::Size, move |outcome| match outcome {
            Ok(Answer::Number(size)) => reply.statfs(size / BLOCK_U64, 0, 0, 1, 0, block, 255, block),
            Ok(_) => reply.error(Errno::EIO),
            Err(errno) => reply.error(errno),
        });
    }
}
