//! What the kernel asks for, as far as it concerns a volume.

use bytes::Bytes;
use fuser::Errno;
use rustix::fs::FallocateFlags;

/// What is done to a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// How many bytes it has.
    Size,
    /// Bytes of it; fewer where it ends.
    Read {
        /// The first one.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// These bytes go there.
    Write {
        /// Where the first one goes.
        offset: u64,
        /// They lie in memory as they will in their blocks.
        data: Bytes,
    },
    /// All that was written becomes durable.
    Flush,
    /// The range is zeros, and takes no space.
    Trim {
        /// Its first byte.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// The range is zeros.
    WriteZeroes {
        /// Its first byte.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// Where the next bytes are that are stored, or that are not.
    Seek {
        /// From where on.
        offset: u64,
        /// Whether what is not stored is looked for.
        hole: bool,
    },
}

/// The bits that `fallocate` takes: linux/falloc.h.
const KEEP_SIZE: FallocateFlags = FallocateFlags::KEEP_SIZE;
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(KEEP_SIZE);
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE;

/// The numbers that `lseek` takes: linux/fs.h.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

impl Request {
    /// What `fallocate` asks for.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for what a volume cannot do: set space aside, collapse, insert.
    pub fn allocate(mode: i32, offset: u64, length: u64) -> Result<Request, Errno> {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        if mode == PUNCH {
            Ok(Request::Trim { offset, length })
        } else if mode.difference(KEEP_SIZE) == ZERO {
            Ok(Request::WriteZeroes { offset, length })
        } else {
            Err(Errno::EOPNOTSUPP)
        }
    }

    /// What `lseek` asks for; what the kernel can answer itself does not come here.
    ///
    /// # Errors
    /// `ENXIO` before the volume, `EINVAL` for any other way to seek.
    pub fn seek(offset: i64, whence: i32) -> Result<Request, Errno> {
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        match whence {
            SEEK_DATA => Ok(Request::Seek { offset, hole: false }),
            SEEK_HOLE => Ok(Request::Seek { offset, hole: true }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether it changes the volume.
    pub fn writes(&self) -> bool {
        matches!(self, Request::Write { .. } | Request::Trim { .. } | Request::WriteZeroes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_punched_ranges_are_zeroed_and_nothing_else_is_allocated() {
        let asked = |mode| Request::allocate(mode, 4096, 8192);
        assert_eq!(asked(3), Ok(Request::Trim { offset: 4096, length: 8192 }));
        for mode in [0x10, 0x11] {
            assert_eq!(asked(mode), Ok(Request::WriteZeroes { offset: 4096, length: 8192 }));
        }
        // Set aside; a hole that moves the end; collapsed; inserted; unshared; two at a time; unknown.
        for mode in [0, 1, 2, 8, 0x20, 0x40, 0x13, 0x1000, -1] {
            assert_eq!(asked(mode), Err(Errno::EOPNOTSUPP), "{mode}");
        }
    }

    #[test]
    fn only_data_and_holes_are_sought() {
        assert_eq!(Request::seek(5, 3), Ok(Request::Seek { offset: 5, hole: false }));
        assert_eq!(Request::seek(0, 4), Ok(Request::Seek { offset: 0, hole: true }));
        assert_eq!(Request::seek(-1, 3), Err(Errno::ENXIO));
        for whence in [0, 1, 2, 5, -1] {
            assert_eq!(Request::seek(0, whence), Err(Errno::EINVAL), "{whence}");
        }
    }
}
