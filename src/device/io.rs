//! Whole reads and writes over devices that may move fewer bytes than asked.

use super::{Aligned, Device, DeviceError};
use crate::types::BLOCK;
use crate::zoo::{Bug, planted};
use bytes::{Buf, Bytes};

/// Operations in a row that complete no further block before a device counts as broken.
const STALLS_MAX: u32 = 4;

/// How far a transfer of `len` bytes has come, in whole blocks: where the next operation begins.
struct Progress {
    offset: u64,
    len: usize,
    done: usize,
    stalls: u32,
}

impl Progress {
    fn new(offset: u64, len: usize) -> Progress {
        Progress { offset, len, done: 0, stalls: 0 }
    }

    /// Where on the device the next operation begins.
    fn position(&self) -> Result<u64, DeviceError> {
        u64::try_from(self.done)
            .ok()
            .and_then(|done| self.offset.checked_add(done))
            .ok_or_else(|| DeviceError::Invalid(format!("{} bytes at {}", self.len, self.offset)))
    }

    /// Counts `moved` more bytes. Returns how many of them count, a partial block not among them: whole blocks
    /// are all that can be asked for.
    fn advance(&mut self, moved: usize) -> Result<usize, DeviceError> {
        let left = self.len - self.done;
        if moved > left {
            return Err(DeviceError::Io(format!("{moved} bytes moved where {left} were asked")));
        }
        let blocks = if moved == left { moved } else { moved - moved % BLOCK };
        self.done += blocks;
        self.stalls = if blocks == 0 { self.stalls + 1 } else { 0 };
        if self.stalls == STALLS_MAX {
            let Progress { offset, len, done, .. } = self;
            return Err(DeviceError::Io(format!("stuck after {done} of {len} bytes at {offset}")));
        }
        Ok(blocks)
    }

    fn is_done(&self) -> bool {
        self.done == self.len
    }
}

/// Reads `len` bytes at `offset`. The bytes are aligned to a block in memory. The usual case, all at once,
/// copies nothing.
///
/// # Errors
/// The device's own, and [`DeviceError::Io`] if it stops making progress.
pub async fn read_full(device: &dyn Device, offset: u64, len: usize) -> Result<Bytes, DeviceError> {
    let mut progress = Progress::new(offset, len);
    let first = device.read(offset, len).await?;
    let counted = progress.advance(first.len())?;
    if progress.is_done() {
        return Ok(first);
    }
    let mut whole = Aligned::zeroed(len);
    whole.as_mut()[..counted].copy_from_slice(&first[..counted]);
    while !progress.is_done() {
        let begin = progress.done;
        let next = device.read(progress.position()?, len - begin).await?;
        let counted = progress.advance(next.len())?;
        whole.as_mut()[begin..progress.done].copy_from_slice(&next[..counted]);
    }
    Ok(whole.freeze())
}

/// Writes the pieces, whole blocks each, one after the other at `offset`.
///
/// # Errors
/// The device's own, and [`DeviceError::Io`] if it stops making progress. Any part may have been written.
pub async fn write_full(device: &dyn Device, offset: u64, mut pieces: Vec<Bytes>) -> Result<(), DeviceError> {
    let mut progress = Progress::new(offset, pieces.iter().map(Bytes::len).sum());
    while !progress.is_done() {
        let written = device.write(progress.position()?, pieces.clone()).await?;
        let counted = progress.advance(written)?;
        if planted(Bug::ShortWriteTaken) {
            break;
        }
        skip(&mut pieces, counted);
    }
    Ok(())
}

/// Takes the first `bytes` off the pieces.
fn skip(pieces: &mut Vec<Bytes>, mut bytes: usize) {
    if planted(Bug::ShortWriteRestarts) {
        let all: usize = pieces.iter().map(Bytes::len).sum();
        return cut(pieces, all - bytes);
    }
    pieces.retain_mut(|piece| {
        let taken = bytes.min(piece.len());
        piece.advance(taken);
        bytes -= taken;
        !piece.is_empty()
    });
    debug_assert_eq!(bytes, 0, "more was written than there is");
}

/// Keeps the first `bytes` of the pieces.
fn cut(pieces: &mut Vec<Bytes>, mut bytes: usize) {
    pieces.retain_mut(|piece| {
        piece.truncate(bytes);
        bytes -= piece.len();
        !piece.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Pending, check_range, check_write};
    use crate::runtime::{Executor, Order, Owned};
    use crate::types::BLOCK_U64;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// A device in memory that moves, per operation, at most as many bytes as it was told.
    struct Short {
        content: Owned<Vec<u8>>,
        limits: Owned<VecDeque<usize>>,
    }

    impl Short {
        fn new(limits: &[usize]) -> Arc<Short> {
            let content = (0..16 * BLOCK).map(|i| u8::try_from(i / 512 % 251).expect("small")).collect();
            Arc::new(Short {
                content: Owned::new(content),
                limits: Owned::new(limits.iter().copied().collect()),
            })
        }

        fn limit(&self) -> usize {
            self.limits.with(|limits| limits.pop_front().unwrap_or(usize::MAX))
        }
    }

    impl Device for Short {
        fn len(&self) -> u64 {
            16 * BLOCK_U64
        }

        fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
            check_range(self.len(), offset, len).expect("a valid read");
            let begin = usize::try_from(offset).expect("small");
            let len = len.min(self.limit());
            let bytes = self.content.with(|content| Aligned::copy_of(&content[begin..begin + len]).freeze());
            Box::pin(async move { Ok(bytes) })
        }

        fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
            let len = check_write(self.len(), offset, &pieces).expect("a valid write").min(self.limit());
            let begin = usize::try_from(offset).expect("small");
            let bytes = pieces.concat();
            self.content.with(|content| content[begin..begin + len].copy_from_slice(&bytes[..len]));
            Box::pin(async move { Ok(len) })
        }

        fn flush(&self) -> Pending<()> {
            Box::pin(async { Ok(()) })
        }
    }

    fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
        let executor = Executor::new(Order::Fifo);
        let ticket = executor.spawner().spawn_ticket(future);
        executor.run_until_stalled();
        ticket.wait().expect("it finished")
    }

    fn pieces() -> (Vec<Bytes>, Vec<u8>) {
        let pieces: Vec<Bytes> = [(1_u8, 1), (2, 3), (3, 2)]
            .map(|(fill, blocks)| Aligned::copy_of(&vec![fill; blocks * BLOCK]).freeze())
            .into();
        let whole = pieces.concat();
        (pieces, whole)
    }

    #[test]
    fn short_reads_are_continued_at_whole_blocks() {
        for limits in [&[][..], &[512], &[0, 4096, 512, 9000 / 512 * 512, 512], &[4096; 5]] {
            let device = Short::new(limits);
            let expected = device.content.with(|content| content[BLOCK..7 * BLOCK].to_vec());
            let bytes = run(async move { read_full(&*device, BLOCK_U64, 6 * BLOCK).await });
            assert_eq!(bytes.expect("read"), expected, "{limits:?}");
        }
    }

    #[test]
    fn short_writes_are_continued_at_whole_blocks() {
        for limits in [&[][..], &[512], &[0, 4096, 512, 9216, 512], &[4096; 5]] {
            let device = Short::new(limits);
            let (pieces, expected) = pieces();
            let written = device.clone();
            run(async move { write_full(&*written, BLOCK_U64, pieces).await }).expect("written");
            device.content.with(|content| assert_eq!(content[BLOCK..7 * BLOCK], expected, "{limits:?}"));
        }
    }

    #[test]
    fn a_device_that_makes_no_progress_is_an_error() {
        let reader = Short::new(&[4096, 0, 512, 0, 512]);
        let read = run(async move { read_full(&*reader, 0, 6 * BLOCK).await });
        assert!(matches!(read, Err(DeviceError::Io(_))), "{read:?}");
        let writer = Short::new(&[4096, 0, 512, 0, 512]);
        let written = run(async move { write_full(&*writer, 0, pieces().0).await });
        assert!(matches!(written, Err(DeviceError::Io(_))), "{written:?}");
    }

    #[test]
    fn a_device_that_says_it_moved_more_than_it_was_asked_is_broken() {
        let moved = Progress::new(0, BLOCK).advance(2 * BLOCK);
        assert!(matches!(moved, Err(DeviceError::Io(_))), "{moved:?}");
    }

    #[test]
    fn nothing_is_read_and_written_without_an_operation() {
        let device = Short::new(&[]);
        run(async move { write_full(&*device, 0, Vec::new()).await }).expect("written");
    }
}
