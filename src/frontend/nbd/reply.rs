//! Replies, as the mode has them. A reply to a read is what is made here, and the bytes behind it.

use super::request::Header;
use super::wire::{ALLOCATION_ID, CHUNK, CHUNK_EXTENDED, Errno, HOLE_ZERO, Mode, SIMPLE_REPLY, chunk};

/// A run of bytes, and whether nothing is stored there.
pub type Run = (u64, bool);

fn simple(out: &mut Vec<u8>, error: u32, request: &Header) {
    out.extend(SIMPLE_REPLY.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend(request.cookie.to_be_bytes());
}

/// The only chunk of a reply, before its payload of `length` bytes.
fn chunk(out: &mut Vec<u8>, mode: Mode, kind: u16, request: &Header, length: usize) {
    let extended = mode == Mode::Extended;
    out.extend(if extended { CHUNK_EXTENDED } else { CHUNK }.to_be_bytes());
    out.extend(chunk::DONE.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(request.cookie.to_be_bytes());
    if extended {
        out.extend(request.offset.to_be_bytes());
        out.extend((length as u64).to_be_bytes());
    } else {
        out.extend(u32::try_from(length).expect("payloads are bounded").to_be_bytes());
    }
}

/// It is done, and there is nothing else to say.
pub fn done(out: &mut Vec<u8>, mode: Mode, request: &Header) {
    match mode {
        Mode::Simple => simple(out, 0, request),
        _ => chunk(out, mode, chunk::NONE, request, 0),
    }
}

/// What comes before the `length` bytes that were read, which are not none.
pub fn data(out: &mut Vec<u8>, mode: Mode, request: &Header, length: usize) {
    debug_assert!(length > 0, "no bytes are no data");
    match mode {
        Mode::Simple => simple(out, 0, request),
        _ => {
            chunk(out, mode, chunk::OFFSET_DATA, request, 8 + length);
            out.extend(request.offset.to_be_bytes());
        }
    }
}

/// It was not done; `at` is where it failed, if that is known.
pub fn error(out: &mut Vec<u8>, mode: Mode, request: &Header, error: Errno, text: &str, at: Option<u64>) {
    if mode == Mode::Simple {
        return simple(out, error.number(), request);
    }
    // Cut so that it stays a string.
    let text = &text[..text.floor_char_boundary(1024)];
    let kind = if at.is_some() { chunk::ERROR_OFFSET } else { chunk::ERROR };
    chunk(out, mode, kind, request, 6 + text.len() + if at.is_some() { 8 } else { 0 });
    out.extend(error.number().to_be_bytes());
    out.extend(u16::try_from(text.len()).expect("it was cut").to_be_bytes());
    out.extend(text.as_bytes());
    if let Some(at) = at {
        out.extend(at.to_be_bytes());
    }
}

/// What is allocated: at least one run.
pub fn status(out: &mut Vec<u8>, mode: Mode, request: &Header, runs: &[Run]) {
    debug_assert!(!runs.is_empty() && mode >= Mode::Structured, "at least one extent, in a structured reply");
    let flags = |is_hole: bool| if is_hole { HOLE_ZERO } else { 0 };
    if mode == Mode::Extended {
        chunk(out, mode, chunk::BLOCK_STATUS_EXT, request, 8 + 16 * runs.len());
        out.extend(ALLOCATION_ID.to_be_bytes());
        out.extend(u32::try_from(runs.len()).expect("extents are bounded").to_be_bytes());
        for (bytes, is_hole) in runs {
            out.extend(bytes.to_be_bytes());
            out.extend(u64::from(flags(*is_hole)).to_be_bytes());
        }
    } else {
        chunk(out, mode, chunk::BLOCK_STATUS, request, 4 + 8 * runs.len());
        out.extend(ALLOCATION_ID.to_be_bytes());
        for (bytes, is_hole) in runs {
            let bytes = u32::try_from(*bytes).expect("a run ends with the request, whose length has 32 bits");
            out.extend(bytes.to_be_bytes());
            out.extend(flags(*is_hole).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
