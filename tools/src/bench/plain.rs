//! Plain I/O: one thread, one ring, the files as they are.
//!
//! Invariant: the kernel uses the memory of an operation from its push to its completion. All such memory belongs
//! to [`Plain`], which waits for every completion before it lets go.

// The kernel writes into memory behind the compiler's back; nothing safe can say so.
#![allow(unsafe_code)]

use super::load::{Job, Measured, Meter, Pace, Verb, noise_at};
use crate::outcome::Failure;
use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue, types};
use paritas::device::Aligned;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Operations at a time, at most.
const DEPTH_MAX: usize = 64;
/// Bytes of an operation that fills a file.
const FILL: usize = 1 << 20;

/// The files, and what the kernel works with.
pub(super) struct Plain {
    ring: IoUring,
    files: Vec<File>,
    is_direct: bool,
    noise: Bytes,
    buffers: Vec<Aligned>,
    in_flight: usize,
}

/// An operation on its way.
#[derive(Clone, Copy)]
struct Lane {
    begun: Instant,
    file: usize,
    /// Whether it flushes what it wrote.
    flushing: bool,
}

impl Plain {
    /// Opens the files past the page cache, or through it where one does not take that.
    pub(super) fn open(paths: &[PathBuf], noise: Bytes) -> Result<Plain, Failure> {
        let ring = IoUring::new(128).map_err(|error| Failure::io(format!("no io_uring: {error}")))?;
        let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a low bit");
        let open = |flags: i32| -> io::Result<Vec<File>> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags);
            paths.iter().map(|path| options.open(path)).collect()
        };
        let (files, is_direct) = match open(direct) {
            Ok(files) => (files, true),
            Err(_) => (open(0).map_err(|error| Failure::io(format!("opening the members: {error}")))?, false),
        };
        Ok(Plain { ring, files, is_direct, noise, buffers: Vec::new(), in_flight: 0 })
    }

    /// Whether the page cache is bypassed.
    pub(super) fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Writes every file from front to end, so that no job pays for room that the file system has yet to find.
    pub(super) fn fill(&mut self, sizes: &[u64]) -> Result<(), Failure> {
        let least = sizes.iter().min().copied().unwrap_or(0);
        let span = least * sizes.len() as u64;
        let job = Job {
            verb: Verb::Write,
            random: false,
            size: FILL,
            depth: 8,
            span,
            time: Duration::MAX,
            bytes: span,
        };
        self.run(job).map(|_| ())
    }

    /// Runs a job over all files together: operation by operation, they take turns.
    pub(super) fn run(&mut self, job: Job) -> Result<Measured, Failure> {
        self.run_mixed(job, |_| job.verb)
    }

    /// Runs a job that writes, but reads instead where this says so of the operation's turn.
    pub(super) fn run_mixed(&mut self, job: Job, verb: impl Fn(u64) -> Verb) -> Result<Measured, Failure> {
        assert_eq!(self.in_flight, 0, "a job that failed is the last one");
        let depth = job.depth.min(DEPTH_MAX);
        if job.verb != Verb::FlushedWrite {
            self.buffers = (0..depth).map(|_| Aligned::zeroed(job.size)).collect();
        }
        let now = Instant::now();
        let mut lanes = vec![Lane { begun: now, file: 0, flushing: false }; depth];
        let (mut pace, mut meter) = (Pace::start(job), Meter::start());
        for lane in 0..depth {
            self.begin(job, &verb, &mut pace, &mut lanes, lane)?;
        }
        while self.in_flight > 0 {
            for (lane, result) in self.completed()? {
                let moved = self.check(result, lanes[lane].flushing, job)?;
                if job.verb == Verb::FlushedWrite && moved {
                    lanes[lane].flushing = true;
                    self.push(flush(&self.files[lanes[lane].file]), lane);
                    continue;
                }
                meter.done(lanes[lane].begun, job.size);
                self.begin(job, &verb, &mut pace, &mut lanes, lane)?;
            }
        }
        if job.verb == Verb::Write {
            for file in 0..self.files.len() {
                self.push(flush(&self.files[file]), 0);
            }
            while self.in_flight > 0 {
                for (_, result) in self.completed()? {
                    self.check(result, true, job)?;
                }
            }
        }
        Ok(meter.finish())
    }

    /// Starts the job's next operation, if there is one.
    fn begin(
        &mut self,
        job: Job,
        verb: &impl Fn(u64) -> Verb,
        pace: &mut Pace,
        lanes: &mut [Lane],
        lane: usize,
    ) -> Result<(), Failure> {
        let Some(offset) = pace.next()? else { return Ok(()) };
        let (size, files) = (job.size as u64, self.files.len() as u64);
        let file = usize::try_from(offset / size % files).expect("less than the number of files");
        let at = offset / size / files * size;
        let fd = types::Fd(self.files[file].as_raw_fd());
        let len = u32::try_from(job.size).expect("a small size");
        lanes[lane] = Lane { begun: Instant::now(), file, flushing: false };
        let entry = match verb(offset / size) {
            Verb::Read => {
                opcode::Read::new(fd, self.buffers[lane].as_mut().as_mut_ptr(), len).offset(at).build()
            }
            Verb::Write | Verb::FlushedWrite => {
                let from = noise_at(self.noise.len(), offset, job.size);
                let bytes = &self.noise[from..from + job.size];
                opcode::Write::new(fd, bytes.as_ptr(), len).offset(at).build()
            }
        };
        self.push(entry, lane);
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry, lane: usize) {
        let entry = entry.user_data(lane as u64);
        // SAFETY: the entry points to the noise, which nobody changes, or to the buffer of `lane`, which nobody touches
        // until this entry has completed. Both, and the file, stay until `in_flight` is zero, or for ever.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("fewer operations than entries");
        self.in_flight += 1;
    }

    /// Submits what was pushed and waits for something to complete.
    fn completed(&mut self) -> Result<Vec<(usize, i32)>, Failure> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::io(format!("io_uring: {error}")));
            }
            _ => {}
        }
        let lane = |entry: u64| usize::try_from(entry).expect("a lane");
        let all: Vec<_> = self.ring.completion().map(|e| (lane(e.user_data()), e.result())).collect();
        self.in_flight -= all.len();
        Ok(all)
    }

    /// Whether bytes were moved; a flush moves none.
    fn check(&self, result: i32, flushing: bool, job: Job) -> Result<bool, Failure> {
        match usize::try_from(result) {
            Ok(_) if flushing => Ok(false),
            Ok(moved) if moved == job.size => Ok(true),
            Ok(moved) => Err(Failure::io(format!("a member moved {moved} of {} bytes", job.size))),
            Err(_) => Err(Failure::io(format!("a member: {}", io::Error::from_raw_os_error(-result)))),
        }
    }
}

fn flush(file: &File) -> squeue::Entry {
    opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
}

impl Drop for Plain {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.completed().is_err() {
                // The kernel may still write to them.
                forget(std::mem::take(&mut self.buffers));
                forget(self.noise.clone());
                return;
            }
        }
    }
}
