//! Requests: headers, and what they ask for, if it can be done at all.

use super::negotiate::Agreed;
use super::wire::{
    ALLOCATION_ID, BLOCK_MIN, Errno, Fields, Mode, PAYLOAD_MAX, REQUEST, REQUEST_EXTENDED, Violation,
    command, modifier,
};

/// Bytes of an extended header, the longer one.
pub const HEADER_MAX: usize = 32;

/// A request as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// How it is to be done.
    pub flags: u16,
    /// What is to be done.
    pub kind: u16,
    /// By which the client knows the reply.
    pub cookie: u64,
    /// The first byte.
    pub offset: u64,
    /// How many bytes, of the export or of the payload.
    pub length: u64,
    /// Bytes that follow the header.
    pub payload: usize,
}

/// What is to be done. Ranges lie in the export and are aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Send bytes.
    Read {
        /// The first byte.
        offset: u64,
        /// How many.
        length: usize,
    },
    /// Store the payload.
    Write {
        /// Where its first byte goes.
        offset: u64,
        /// It is durable when it is answered.
        durable: bool,
    },
    /// Make durable what was answered.
    Flush,
    /// Forget a range.
    Trim {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// It is durable when it is answered.
        durable: bool,
    },
    /// A range is about to be read.
    Cache {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Make a range read as zeros.
    WriteZeroes {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// It is durable when it is answered.
        durable: bool,
        /// The zeros must take space.
        stored: bool,
    },
    /// Tell what is allocated in a range that is not empty.
    BlockStatus {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// The first extent alone.
        one: bool,
    },
    /// End the connection when all else is answered.
    Disconnect,
}

/// Why a request is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For the program.
    pub error: Errno,
    /// For the person.
    pub text: &'static str,
}

fn refuse<T>(error: Errno, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal { error, text })
}

/// Reads the header at the front of `input`; also how long it is. `None` while bytes of it are missing.
///
/// # Errors
/// [`Violation`] for what is no header, and for one that announces more than [`PAYLOAD_MAX`].
pub fn parse(mode: Mode, input: &[u8]) -> Result<Option<(usize, Header)>, Violation> {
    let mut fields = Fields(input);
    let Some(magic) = fields.u32() else { return Ok(None) };
    let is_extended = mode == Mode::Extended;
    if magic != if is_extended { REQUEST_EXTENDED } else { REQUEST } {
        return Err(Violation("what should be a request is none"));
    }
    let mut read = || {
        let (flags, kind) = (fields.u16()?, fields.u16()?);
        let (cookie, offset) = (fields.u64()?, fields.u64()?);
        let length = if is_extended { fields.u64()? } else { u64::from(fields.u32()?) };
        Some(Header { flags, kind, cookie, offset, length, payload: 0 })
    };
    let Some(mut header) = read() else { return Ok(None) };
    let has_payload =
        header.kind == command::WRITE || is_extended && header.flags & modifier::PAYLOAD_LEN != 0;
    if has_payload {
        if header.length > u64::from(PAYLOAD_MAX) {
            return Err(Violation("a request is longer than the largest payload"));
        }
        header.payload = usize::try_from(header.length).expect("checked to be small");
    }
    Ok(Some((input.len() - fields.0.len(), header)))
}

impl Header {
    /// What the request asks for; `payload` is what followed it, but for a write, whose payload nobody looks at here.
    ///
    /// # Errors
    /// What the client is told.
    pub fn command(&self, agreed: &Agreed, payload: &[u8]) -> Result<Command, Refusal> {
        let Header { offset, length, .. } = *self;
        let writes = matches!(self.kind, command::WRITE | command::TRIM | command::WRITE_ZEROES);
        if writes && agreed.export.read_only {
            return refuse(Errno::Perm, "the export is read-only");
        }
        self.check_flags(agreed)?;
        let durable = self.flags & modifier::FUA != 0;
        Ok(match self.kind {
            command::READ => {
                if length > u64::from(PAYLOAD_MAX) {
                    return refuse(Errno::Inval, "more is read than a reply may have");
                }
                check_range(agreed, offset, length, Errno::Inval)?;
                Command::Read { offset, length: usize::try_from(length).expect("checked to be small") }
            }
            command::WRITE => {
                check_range(agreed, offset, length, Errno::NoSpc)?;
                Command::Write { offset, durable }
            }
            command::DISC => Command::Disconnect,
            command::FLUSH => Command::Flush,
            command::TRIM => {
                check_range(agreed, offset, length, Errno::Inval)?;
                Command::Trim { offset, length, durable }
            }
            command::CACHE => {
                check_range(agreed, offset, length, Errno::Inval)?;
                Command::Cache { offset, length }
            }
            command::WRITE_ZEROES => {
                check_range(agreed, offset, length, Errno::NoSpc)?;
                let stored = self.flags & modifier::NO_HOLE != 0;
                if stored && self.flags & modifier::FAST_ZERO != 0 {
                    return refuse(Errno::NotSup, "zeros that are stored are as slow as a write");
                }
                Command::WriteZeroes { offset, length, durable, stored }
            }
            command::BLOCK_STATUS => {
                if !agreed.allocation {
                    return refuse(Errno::Inval, "no metadata context was selected");
                }
                let has_payload = self.flags & modifier::PAYLOAD_LEN != 0;
                let length = if has_payload { selected(payload)? } else { length };
                if length == 0 {
                    return refuse(Errno::Inval, "nothing can be told of no bytes");
                }
                check_range(agreed, offset, length, Errno::Inval)?;
                let one = self.flags & modifier::REQ_ONE != 0;
                Command::BlockStatus { offset, length, one }
            }
            _ => return refuse(Errno::Inval, "the command is unknown"),
        })
    }

    fn check_flags(&self, agreed: &Agreed) -> Result<(), Refusal> {
        let fua = if agreed.export.read_only { 0 } else { modifier::FUA };
        let of_extended = if agreed.mode == Mode::Extended { modifier::PAYLOAD_LEN } else { 0 };
        let own = match self.kind {
            command::READ if agreed.mode >= Mode::Structured => modifier::DF,
            command::WRITE => of_extended,
            command::WRITE_ZEROES => modifier::NO_HOLE | modifier::FAST_ZERO,
            command::BLOCK_STATUS => modifier::REQ_ONE | of_extended,
            _ => 0,
        };
        if self.flags & !(fua | own) != 0 {
            return refuse(Errno::Inval, "the command's flags are not for it");
        }
        Ok(())
    }
}

/// The length in the payload of a block status request, whose contexts must be the one that was selected.
fn selected(payload: &[u8]) -> Result<u64, Refusal> {
    let mut fields = Fields(payload);
    match (fields.u64(), fields.u32(), fields.0) {
        (Some(length), Some(ALLOCATION_ID), []) => Ok(length),
        _ => refuse(Errno::Inval, "the payload does not name the context that was selected"),
    }
}

fn check_range(agreed: &Agreed, offset: u64, length: u64, outside: Errno) -> Result<(), Refusal> {
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > agreed.export.size) {
        return refuse(outside, "the range reaches past the end of the export");
    }
    let unit = u64::from(BLOCK_MIN);
    if !offset.is_multiple_of(unit) || !length.is_multiple_of(unit) {
        return refuse(Errno::Inval, "offset and length must be multiples of 512");
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
