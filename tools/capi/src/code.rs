//! What a program acts on.

use engine::error::{Error, Kind};

/// What came of a call.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// It was done.
    Ok = 0,
    /// The call was wrong: a null pointer, a range outside the volume, an offset or length that is no multiple of
    /// 512, an unknown flag. Nothing was done.
    Invalid = 1,
    /// There is no such array or volume.
    NotFound = 2,
    /// A name or place is already taken.
    Exists = 3,
    /// Another process has the array open for writing. Try later.
    Busy = 4,
    /// What is there is not what it should be, or cannot be done.
    Refused = 5,
    /// More is damaged than the volume's redundancy mends. The message names the first lost blocks; they can be read
    /// again when they have been written anew. Everything else is served.
    DataLoss = 6,
    /// Durable writes of the volume are lost, or may be, and it is not known which blocks they changed. Flushes fail
    /// until `paritas clear` acknowledges it.
    LostWrites = 7,
    /// The array's metadata is damaged beyond redundancy.
    Corrupt = 8,
    /// There is no room for new data. Trim, delete, or add members.
    NoSpace = 9,
    /// The array serves reads only: too few of its members are there, or it was opened so.
    ReadOnly = 10,
    /// A member failed, and redundancy could not hide it.
    Io = 11,
    /// The array was closed.
    Closed = 12,
    /// The queue holds as many requests as it has room for. Wait for completions, then submit again.
    Full = 13,
    /// A defect of this library. What was under way may have been done or not; other calls may go on.
    Defect = 14,
}

impl Code {
    pub(crate) fn of(error: &Error) -> Code {
        match error.kind() {
            Kind::Invalid => Code::Invalid,
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::Exists,
            Kind::Busy => Code::Busy,
            Kind::Refused => Code::Refused,
            Kind::DataLoss { .. } => Code::DataLoss,
            Kind::LostWrites { .. } => Code::LostWrites,
            Kind::Corrupt => Code::Corrupt,
            Kind::NoSpace => Code::NoSpace,
            Kind::ReadOnly => Code::ReadOnly,
            Kind::Closed => Code::Closed,
            // Kinds that later engines may have are failures of which nothing else is known.
            _ => Code::Io,
        }
    }
}
