//! Numbers of the protocol, and fields in network byte order.

/// First word of the server's greeting.
pub const GREETING: u64 = 0x4e42_444d_4147_4943;
/// Second word of the greeting, and first word of every option.
pub const OPTION: u64 = 0x4948_4156_454f_5054;
/// First word of every reply to an option.
pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// First word of a request.
pub const REQUEST: u32 = 0x2560_9513;
/// First word of a request with an extended header.
pub const REQUEST_EXTENDED: u32 = 0x21e4_1c71;
/// First word of a simple reply.
pub const SIMPLE_REPLY: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub const CHUNK: u32 = 0x668e_33ef;
/// First word of a chunk with an extended header.
pub const CHUNK_EXTENDED: u32 = 0x6e8a_278c;

/// Handshake flags of the server: fixed newstyle, and the 124 zeros may be left out. The client's have the same bits.
pub const HANDSHAKE_FLAGS: u16 = FIXED_NEWSTYLE | NO_ZEROES;
/// Either side knows fixed newstyle.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// The zeros behind the answer to [`option::EXPORT_NAME`] are left out.
pub const NO_ZEROES: u16 = 1 << 1;

/// Smallest unit of offsets and lengths.
pub const BLOCK_MIN: u32 = 512;
/// Unit that costs least.
pub const BLOCK_PREFERRED: u32 = 4096;
/// Bytes of data in one request or reply at most.
pub const PAYLOAD_MAX: u32 = 32 << 20;
/// Bytes of a name at most.
pub const STRING_MAX: usize = 4096;

/// The one metadata context there is.
pub const ALLOCATION: &str = "base:allocation";
/// Its number on the wire.
pub const ALLOCATION_ID: u32 = 1;
/// Extent flags of [`ALLOCATION`]: nothing is stored, and it reads as zeros.
pub const HOLE_ZERO: u32 = 3;

/// Options of a client.
pub mod option {
    /// Serve this export, without an answer if there is none.
    pub const EXPORT_NAME: u32 = 1;
    /// The client goes.
    pub const ABORT: u32 = 2;
    /// Name all exports.
    pub const LIST: u32 = 3;
    /// Go on encrypted.
    pub const STARTTLS: u32 = 5;
    /// Tell about an export.
    pub const INFO: u32 = 6;
    /// Serve this export, and tell about it.
    pub const GO: u32 = 7;
    /// Replies may come in chunks.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Name metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Choose metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Lengths have 64 bits from here on.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Types of replies to options.
pub mod answer {
    /// It is done; nothing more comes.
    pub const ACK: u32 = 1;
    /// An export, as listed.
    pub const SERVER: u32 = 2;
    /// A piece of what is told about an export.
    pub const INFO: u32 = 3;
    /// A metadata context and its number.
    pub const META_CONTEXT: u32 = 4;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// The server does not want that.
    pub const ERR_POLICY: u32 = (1 << 31) + 2;
    /// The option is malformed.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// Only once the connection is encrypted.
    pub const ERR_TLS_REQD: u32 = (1 << 31) + 5;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// The option is too long.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
    /// Only with extended headers.
    pub const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;
}

/// What the answer to an info request may be about.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The name that it goes by.
    pub const NAME: u16 = 1;
    /// A text for people.
    pub const DESCRIPTION: u16 = 2;
    /// The least, the preferred and the largest length of a request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags.
pub mod flag {
    /// The other flags mean something.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Nobody may write.
    pub const READ_ONLY: u16 = 1 << 1;
    /// There is a flush.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// There is [`modifier::FUA`](super::modifier::FUA).
    pub const SEND_FUA: u16 = 1 << 3;
    /// There is a trim.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// There is a write of zeros.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// There is [`modifier::DF`](super::modifier::DF).
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush answers for all connections.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// There is a request to prepare reads.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// There is [`modifier::FAST_ZERO`](super::modifier::FAST_ZERO).
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
    /// A request for block status may name the contexts that it is for.
    pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// Types of requests.
pub mod command {
    /// Send bytes.
    pub const READ: u16 = 0;
    /// Store the payload.
    pub const WRITE: u16 = 1;
    /// The client goes.
    pub const DISC: u16 = 2;
    /// Make durable what was answered.
    pub const FLUSH: u16 = 3;
    /// Forget a range.
    pub const TRIM: u16 = 4;
    /// A range is about to be read.
    pub const CACHE: u16 = 5;
    /// Make a range read as zeros.
    pub const WRITE_ZEROES: u16 = 6;
    /// Tell what is allocated.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of requests.
pub mod modifier {
    /// Durable when it is answered.
    pub const FUA: u16 = 1 << 0;
    /// Zeros must take space.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One chunk of data, and no more.
    pub const DF: u16 = 1 << 2;
    /// One extent, and no more.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Only if that is faster than to write zeros.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length of an extended header is that of a payload.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Types of chunks, and their flag.
pub mod chunk {
    /// The flag of the last one.
    pub const DONE: u16 = 1 << 0;
    /// Nothing but the flag.
    pub const NONE: u16 = 0;
    /// Bytes that were read, behind their offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Extents whose lengths have 32 bits.
    pub const BLOCK_STATUS: u16 = 5;
    /// Extents whose lengths have 64 bits.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// It failed.
    pub const ERROR: u16 = (1 << 15) + 1;
    /// It failed at a certain byte.
    pub const ERROR_OFFSET: u16 = (1 << 15) + 2;
}

/// Errors of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errno {
    /// Not permitted.
    Perm = 1,
    /// Input or output failed.
    Io = 5,
    /// Too much is asked for at the moment.
    NoMem = 12,
    /// The request is wrong.
    Inval = 22,
    /// No room.
    NoSpc = 28,
    /// More than a reply can have.
    Overflow = 75,
    /// Not as fast as was demanded.
    NotSup = 95,
    /// The server is going away.
    Shutdown = 108,
}

impl Errno {
    /// As it goes over the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// How requests and replies look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// Simple replies only.
    Simple,
    /// Structured replies.
    Structured,
    /// Structured replies, and lengths of 64 bits.
    Extended,
}

/// The client did what cannot be answered: the connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub &'static str);

/// Fields, from the front of some bytes.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
    /// The next 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }
    /// The next 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
    /// The next 64 bits.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
    /// A string behind its length of 32 bits.
    pub fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok().filter(|length| *length <= STRING_MAX)?;
        name(self.bytes(length)?)
    }
}

/// A string as the document has them.
pub fn name(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= STRING_MAX && !text.contains('\0')).then_some(text)
}
