//! The thread of a member whose operations go through the page cache, by calls that block: the portable kind.
//!
//! Invariant: operations run one after the other in the order of their submission, so a flush covers at least
//! what the port promises.

use super::file::Operation;
use super::{Aligned, DeviceError};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Receiver;

/// Carries out all operations until nobody can submit any more.
pub(super) fn run(file: &File, operations: &Receiver<Operation>) {
    for operation in operations {
        match operation {
            Operation::Read { offset, len, answer } => answer.complete(read(file, offset, len)),
            Operation::Write { offset, pieces, answer } => {
                let written = write(file, offset, &pieces);
                // The buffers go back before the writer goes on.
                drop(pieces);
                answer.complete(written);
            }
            Operation::Flush { answer } => {
                answer.complete(file.sync_data().map_err(|error| DeviceError::of(&error)));
            }
        }
    }
}

fn read(file: &File, offset: u64, len: usize) -> Result<Bytes, DeviceError> {
    let mut buffer = Aligned::zeroed(len);
    let read = uninterrupted(|| file.read_at(buffer.as_mut(), offset))?;
    let mut bytes = buffer.freeze();
    bytes.truncate(read);
    Ok(bytes)
}

fn write(file: &File, offset: u64, pieces: &[Bytes]) -> Result<usize, DeviceError> {
    // Of more pieces than the kernel takes at once, rustix passes on the first.
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    uninterrupted(|| Ok(rustix::io::pwritev(file, &slices, offset)?))
}

/// Once more if a signal came.
fn uninterrupted(mut operation: impl FnMut() -> io::Result<usize>) -> Result<usize, DeviceError> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| DeviceError::of(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut results = vec![Ok(5), Err(io::ErrorKind::Interrupted.into()), Err(Errno::INTR.into())];
        assert_eq!(uninterrupted(|| results.pop().expect("not called again")), Ok(5));
    }
}
