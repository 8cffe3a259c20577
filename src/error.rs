//! Errors: a small kind that says what the caller can do, a sentence that says what happened to what.

use crate::types::{Lba, VolumeId};
use std::{fmt, io};

/// What went wrong, as far as a caller acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// The call was wrong: misaligned, out of range, too long. Correct it.
    Invalid,
    /// No such volume or member.
    NotFound,
    /// A name, member or place that is already taken.
    Exists,
    /// Another process has the array open for writing. Try later.
    Busy,
    /// What is there is not what it should be: another array's member, a future format, two histories.
    Refused,
    /// More is damaged than the scheme tolerates; exactly the named blocks are lost. Write them anew.
    DataLoss {
        /// The volume that lost data.
        volume: VolumeId,
        /// The first lost block.
        lba: Lba,
    },
    /// Writes of a volume that were durable are lost with the records that held them, or may be, because members
    /// that could tell were away at the opening; which blocks they changed is not known. Flushes fail until the loss
    /// is acknowledged.
    LostWrites {
        /// The volume that lost writes.
        volume: VolumeId,
    },
    /// A structure on a member contradicts itself and redundancy could not mend it.
    Corrupt,
    /// No room for new data. Delete, trim, or add members.
    NoSpace,
    /// The array serves reads only: too few members, or opened so.
    ReadOnly,
    /// A member failed and redundancy could not hide it.
    Io,
    /// The array was closed.
    Closed,
}

/// An error: [`Kind`] for the program, the text for the person.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind; `text` says what happened, to what, and what to do.
    pub fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into() }
    }
    /// [`Kind::Invalid`].
    pub fn invalid(text: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, text)
    }
    /// [`Kind::Corrupt`].
    pub fn corrupt(text: impl Into<String>) -> Error {
        Error::new(Kind::Corrupt, text)
    }
    /// [`Kind::Io`].
    pub fn io(text: impl Into<String>) -> Error {
        Error::new(Kind::Io, text)
    }
    /// What a caller acts on.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// The same error with a sentence before it.
    #[must_use]
    pub fn context(mut self, what: &str) -> Error {
        self.text = format!("{what}: {}", self.text);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

impl std::error::Error for Error {}

/// For what reads and writes by the traits of the standard library. The error is inside:
/// [`std::io::Error::downcast`] gets it back.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind {
            Kind::Invalid => io::ErrorKind::InvalidInput,
            Kind::NotFound => io::ErrorKind::NotFound,
            Kind::Exists => io::ErrorKind::AlreadyExists,
            Kind::Busy => io::ErrorKind::ResourceBusy,
            Kind::DataLoss { .. } | Kind::LostWrites { .. } | Kind::Corrupt => io::ErrorKind::InvalidData,
            Kind::NoSpace => io::ErrorKind::StorageFull,
            Kind::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Kind::Refused | Kind::Io | Kind::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_the_sentence_and_programmers_the_kind_too() {
        let error = Error::io("a cable").context("opening");
        assert_eq!(error.to_string(), "opening: a cable");
        assert_eq!(format!("{error:?}"), "Io: opening: a cable");
    }

    #[test]
    fn inside_of_an_error_of_the_standard_library_nothing_is_lost() {
        let full = Error::new(Kind::NoSpace, "no room");
        let error = io::Error::from(full.clone());
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::StorageFull, "no room"));
        assert_eq!(error.downcast::<Error>().expect("inside"), full);
    }
}
