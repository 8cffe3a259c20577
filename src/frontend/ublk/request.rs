//! What the kernel asks for.

use super::wire::{DESCRIPTOR_BYTES, SECTOR_BITS, field, operation};
use rustix::io::Errno;

/// What is done to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Bytes of it.
    Read {
        /// The first one.
        offset: u64,
        /// How many.
        length: usize,
    },
    /// Bytes go there.
    Write {
        /// Where the first one goes.
        offset: u64,
        /// How many.
        length: usize,
        /// They are durable when it is answered.
        durable: bool,
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
        /// They take space.
        stored: bool,
    },
}

impl Request {
    /// What a descriptor says. Bytes that are read or written are `most` at most.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for what a volume cannot do, `EINVAL` for more than that.
    pub fn parse(descriptor: &[u8; DESCRIPTOR_BYTES], most: usize) -> Result<Request, Errno> {
        let word = u32::from_ne_bytes(field(descriptor, 0));
        let length = u64::from(u32::from_ne_bytes(field(descriptor, 4))) << SECTOR_BITS;
        let sector = u64::from_ne_bytes(field(descriptor, 8));
        if word & operation::MASK == operation::FLUSH {
            // Which is for no place: the kernel's is past every other.
            return Ok(Request::Flush);
        }
        let offset = sector.checked_mul(1 << SECTOR_BITS).ok_or(Errno::INVAL)?;
        let moved = || usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Errno::INVAL);
        Ok(match word & operation::MASK {
            operation::READ => Request::Read { offset, length: moved()? },
            operation::WRITE => {
                Request::Write { offset, length: moved()?, durable: word & operation::DURABLE != 0 }
            }
            operation::DISCARD => Request::Trim { offset, length },
            operation::WRITE_ZEROES => {
                Request::WriteZeroes { offset, length, stored: word & operation::STORED != 0 }
            }
            _ => return Err(Errno::OPNOTSUPP),
        })
    }

    /// Whether it changes the volume.
    pub fn writes(&self) -> bool {
        matches!(self, Request::Write { .. } | Request::Trim { .. } | Request::WriteZeroes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn parse(word: u32, sectors: u32, sector: u64) -> Result<Request, Errno> {
        let mut bytes = [0xff; DESCRIPTOR_BYTES];
        bytes[..4].copy_from_slice(&word.to_le_bytes());
        bytes[4..8].copy_from_slice(&sectors.to_le_bytes());
        bytes[8..16].copy_from_slice(&sector.to_le_bytes());
        Request::parse(&bytes, MOST)
    }

    #[test]
    fn descriptors_are_understood_with_their_flags() {
        let (offset, length) = (0x0102_0304_0506 * 512, 3 * 512);
        let at = 0x0102_0304_0506;
        assert_eq!(parse(0, 3, at), Ok(Request::Read { offset, length: 1536 }));
        for (word, durable) in [(1, false), (1 | 1 << 13, true), (1 | 1 << 11 | 1 << 8, false)] {
            assert_eq!(parse(word, 3, at), Ok(Request::Write { offset, length: 1536, durable }));
        }
        assert_eq!(parse(2, 0, u64::MAX), Ok(Request::Flush));
        assert_eq!(parse(3, 3, at), Ok(Request::Trim { offset, length }));
        for (word, stored) in [(5, false), (5 | 1 << 15, true)] {
            assert_eq!(parse(word, 3, at), Ok(Request::WriteZeroes { offset, length, stored }));
        }
    }

    #[test]
    fn what_is_unknown_or_too_much_is_refused() {
        for word in [4, 6, 10, 18, 0xff] {
            assert_eq!(parse(word, 1, 0), Err(Errno::OPNOTSUPP), "{word}");
        }
        for word in [0, 1] {
            assert!(parse(word, 2048, 0).is_ok());
            assert_eq!(parse(word, 2049, 0), Err(Errno::INVAL));
        }
        assert_eq!(parse(3, u32::MAX, 8), Ok(Request::Trim { offset: 4096, length: 0xffff_ffff << 9 }));
        assert_eq!(parse(3, 8, 1 << 55), Err(Errno::INVAL));
    }

    #[test]
    fn what_changes_a_volume_is_known() {
        let writes = |word| parse(word, 8, 0).expect("one").writes();
        assert_eq!([0, 1, 2, 3, 5].map(writes), [false, true, false, true, true]);
    }
}
