//! Replies, byte by byte.

use super::*;

fn request() -> Header {
    Header { flags: 0, kind: 0, cookie: 0x0102_0304_0506_0708, offset: 0x1000, length: 512, payload: 0 }
}

/// The bytes that something makes, as digits.
fn hex(make: impl Fn(&mut Vec<u8>)) -> String {
    let mut bytes = Vec::new();
    make(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const COOKIE: &str = "0102030405060708";
const OFFSET: &str = "0000000000001000";

#[test]
fn what_is_done_is_said_in_the_way_that_was_agreed_on() {
    let done = |mode| hex(|out| done(out, mode, &request()));
    assert_eq!(done(Mode::Simple), format!("6744669800000000{COOKIE}"));
    assert_eq!(done(Mode::Structured), format!("668e33ef00010000{COOKIE}00000000"));
    assert_eq!(done(Mode::Extended), format!("6e8a278c00010000{COOKIE}{OFFSET}0000000000000000"));
}

#[test]
fn data_follows_its_length_and_offset() {
    let data = |mode| hex(|out| data(out, mode, &request(), 512));
    assert_eq!(data(Mode::Simple), format!("6744669800000000{COOKIE}"));
    assert_eq!(data(Mode::Structured), format!("668e33ef00010001{COOKIE}00000208{OFFSET}"));
    assert_eq!(data(Mode::Extended), format!("6e8a278c00010001{COOKIE}{OFFSET}0000000000000208{OFFSET}"));
}

#[test]
fn errors_have_words_and_a_place_where_replies_are_structured() {
    let error = |mode, at| hex(|out| error(out, mode, &request(), Errno::Io, "no", at));
    assert_eq!(error(Mode::Simple, Some(7)), format!("6744669800000005{COOKIE}"));
    assert_eq!(error(Mode::Structured, None), format!("668e33ef00018001{COOKIE}000000080000000500026e6f"));
    let placed = format!("668e33ef00018002{COOKIE}000000100000000500026e6f{OFFSET}");
    assert_eq!(error(Mode::Structured, Some(0x1000)), placed);
    let extended = format!("6e8a278c00018001{COOKIE}{OFFSET}00000000000000080000000500026e6f");
    assert_eq!(error(Mode::Extended, None), extended);
    let long = "\u{e9}".repeat(3000);
    let mut out = Vec::new();
    super::error(&mut out, Mode::Structured, &request(), Errno::Inval, &long, None);
    assert_eq!(out.len(), 20 + 6 + 1024);
    assert!(std::str::from_utf8(&out[26..]).is_ok());
}

#[test]
fn extents_have_the_width_of_the_headers() {
    let runs = [(0x1000, true), (0x200, false)];
    let status = |mode| hex(|out| status(out, mode, &request(), &runs));
    let compact = format!("668e33ef00010005{COOKIE}000000140000000100001000000000030000020000000000");
    assert_eq!(status(Mode::Structured), compact);
    let extended = format!(
        "6e8a278c00010006{COOKIE}{OFFSET}00000000000000280000000100000002\
         0000000000001000000000000000000300000000000002000000000000000000"
    );
    assert_eq!(status(Mode::Extended), extended);
}

#[test]
fn errors_have_the_numbers_of_the_document() {
    use Errno::{Inval, Io, NoMem, NoSpc, NotSup, Overflow, Perm, Shutdown};
    let numbers = [Perm, Io, NoMem, Inval, NoSpc, Overflow, NotSup, Shutdown].map(Errno::number);
    assert_eq!(numbers, [1, 5, 12, 22, 28, 75, 95, 108]);
}
