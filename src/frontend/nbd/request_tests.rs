//! Requests, as the document has them.

use super::*;
use crate::frontend::nbd::negotiate::Export;

const SIZE: u64 = 1 << 40;

fn agreed(mode: Mode, read_only: bool) -> Agreed {
    let export = Export { name: "v".into(), description: String::new(), size: SIZE, read_only };
    Agreed { export, mode, allocation: mode >= Mode::Structured }
}

fn header(kind: u16, flags: u16, offset: u64, length: u64) -> Header {
    Header { flags, kind, cookie: 7, offset, length, payload: 0 }
}

fn error(header: &Header, agreed: &Agreed) -> Option<Errno> {
    header.command(agreed, &[]).err().map(|refusal| refusal.error)
}

fn compact(flags: u16, kind: u16, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(0x0102_0304_0506_0708u64.to_be_bytes());
    bytes.extend(4096u64.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

#[test]
fn headers_are_read_field_by_field_and_not_before_they_are_whole() {
    let bytes = compact(1, command::WRITE, 512);
    for short in 0..bytes.len() {
        assert_eq!(parse(Mode::Structured, &bytes[..short]), Ok(None));
    }
    let cookie = 0x0102_0304_0506_0708;
    let expected = Header { flags: 1, kind: 1, cookie, offset: 4096, length: 512, payload: 512 };
    let more = [&bytes[..], b"more"].concat();
    assert_eq!(parse(Mode::Simple, &more), Ok(Some((28, expected))));

    let mut extended = REQUEST_EXTENDED.to_be_bytes().to_vec();
    extended.extend(&bytes[4..24]);
    extended.extend((1u64 << 35).to_be_bytes());
    extended[7] = 4;
    let expected = Header { kind: command::TRIM, length: 1 << 35, payload: 0, ..expected };
    assert_eq!(parse(Mode::Extended, &extended), Ok(Some((HEADER_MAX, expected))));
    assert!(parse(Mode::Extended, &bytes).is_err(), "the other kind of header");
    assert!(parse(Mode::Structured, &extended).is_err(), "the other kind of header");
    assert!(parse(Mode::Simple, b"GET / HTTP/1.1").is_err());
}

#[test]
fn payloads_are_those_of_writes_and_of_what_says_so_and_they_are_bounded() {
    let payload = |mode, bytes: &[u8]| parse(mode, bytes).map(|it| it.expect("whole").1.payload);
    assert_eq!(payload(Mode::Simple, &compact(0, command::WRITE, PAYLOAD_MAX)), Ok(32 << 20));
    assert!(payload(Mode::Simple, &compact(0, command::WRITE, PAYLOAD_MAX + 1)).is_err());
    assert_eq!(payload(Mode::Simple, &compact(0, command::TRIM, u32::MAX)), Ok(0));
    assert_eq!(payload(Mode::Structured, &compact(modifier::PAYLOAD_LEN, command::READ, 512)), Ok(0));
    let extended = |flags: u16, kind: u16, length: u64| {
        let mut bytes = compact(flags, kind, 0);
        bytes[..4].copy_from_slice(&REQUEST_EXTENDED.to_be_bytes());
        bytes.truncate(24);
        bytes.extend(length.to_be_bytes());
        payload(Mode::Extended, &bytes)
    };
    assert_eq!(extended(modifier::PAYLOAD_LEN, command::BLOCK_STATUS, 12), Ok(12));
    assert_eq!(extended(modifier::PAYLOAD_LEN, command::READ, 4096), Ok(4096));
    assert_eq!(extended(0, command::WRITE, 4096), Ok(4096));
    assert_eq!(extended(0, command::READ, 1 << 60), Ok(0));
    assert!(extended(modifier::PAYLOAD_LEN, command::TRIM, 1 << 60).is_err());
}

#[test]
fn ranges_lie_in_the_export_and_are_aligned() {
    let agreed = agreed(Mode::Extended, false);
    use command::{CACHE, READ, TRIM, WRITE, WRITE_ZEROES};
    for (kind, outside) in [
        (READ, Errno::Inval),
        (CACHE, Errno::Inval),
        (TRIM, Errno::Inval),
        (WRITE, Errno::NoSpc),
        (WRITE_ZEROES, Errno::NoSpc),
        (command::BLOCK_STATUS, Errno::Inval),
    ] {
        let error = |offset, length| error(&header(kind, 0, offset, length), &agreed);
        assert_eq!(error(SIZE - 512, 512), None);
        assert_eq!(error(SIZE, 512), Some(outside));
        assert_eq!(error(SIZE - 512, 1024), Some(outside));
        assert_eq!(error(u64::MAX - 511, 512), Some(outside));
        assert_eq!(error(1, 512), Some(Errno::Inval));
        assert_eq!(error(0, 511), Some(Errno::Inval));
        let of_nothing = if kind == command::BLOCK_STATUS { Some(Errno::Inval) } else { None };
        assert_eq!(error(0, 0), of_nothing);
    }
    let error = |kind, length| error(&header(kind, 0, 0, length), &agreed);
    assert_eq!(error(READ, u64::from(PAYLOAD_MAX)), None);
    assert_eq!(error(READ, u64::from(PAYLOAD_MAX) + 512), Some(Errno::Inval));
    assert_eq!(error(TRIM, SIZE), None);
}

#[test]
fn each_command_has_its_own_flags() {
    use command::{BLOCK_STATUS, CACHE, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES};
    use modifier::{DF, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE};
    let allowed = [
        (READ, FUA | DF),
        (WRITE, FUA | PAYLOAD_LEN),
        (FLUSH, FUA),
        (TRIM, FUA),
        (CACHE, FUA),
        (WRITE_ZEROES, FUA | NO_HOLE),
        (WRITE_ZEROES, FUA | FAST_ZERO),
        (BLOCK_STATUS, FUA | REQ_ONE),
    ];
    let extended = agreed(Mode::Extended, false);
    for (kind, flags) in allowed {
        assert_eq!(error(&header(kind, flags, 0, 512), &extended), None, "{kind}");
        let others = (0..16).map(|bit| 1 << bit).filter(|flag| flags & flag == 0);
        for flag in others.filter(|flag| kind != WRITE_ZEROES || *flag > FAST_ZERO) {
            assert!(error(&header(kind, flag, 0, 512), &extended).is_some(), "{kind} with {flag:#x}");
        }
    }
    let stored_fast = header(WRITE_ZEROES, NO_HOLE | FAST_ZERO, 0, 512);
    assert_eq!(error(&stored_fast, &extended), Some(Errno::NotSup));
    assert_eq!(error(&header(READ, DF, 0, 512), &agreed(Mode::Simple, false)), Some(Errno::Inval));
    assert_eq!(
        error(&header(WRITE, PAYLOAD_LEN, 0, 512), &agreed(Mode::Structured, false)),
        Some(Errno::Inval)
    );
    for kind in [8, 9, 255, u16::MAX] {
        assert_eq!(error(&header(kind, 0, 0, 512), &extended), Some(Errno::Inval), "{kind}");
    }
}

#[test]
fn what_is_read_only_is_not_written() {
    let agreed = agreed(Mode::Structured, true);
    for kind in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
        assert_eq!(error(&header(kind, 0, 0, 512), &agreed), Some(Errno::Perm));
    }
    for kind in [command::READ, command::FLUSH, command::CACHE, command::BLOCK_STATUS, command::DISC] {
        assert_eq!(error(&header(kind, 0, 0, 512), &agreed), None);
    }
}

#[test]
fn allocation_is_told_to_those_who_selected_it() {
    let ask = header(command::BLOCK_STATUS, modifier::REQ_ONE, 512, 1024);
    let expected = Command::BlockStatus { offset: 512, length: 1024, one: true };
    assert_eq!(ask.command(&agreed(Mode::Structured, false), &[]), Ok(expected));
    let unselected = Agreed { allocation: false, ..agreed(Mode::Structured, false) };
    assert_eq!(error(&ask, &unselected), Some(Errno::Inval));

    let ask = header(command::BLOCK_STATUS, modifier::PAYLOAD_LEN, 0, 12);
    let payload = |length: u64, ids: &[u32]| {
        let mut bytes = length.to_be_bytes().to_vec();
        ids.iter().for_each(|id| bytes.extend(id.to_be_bytes()));
        ask.command(&agreed(Mode::Extended, false), &bytes).map_err(|refusal| refusal.error)
    };
    assert_eq!(payload(1 << 35, &[1]), Ok(Command::BlockStatus { offset: 0, length: 1 << 35, one: false }));
    for (length, ids) in [(512, &[2][..]), (512, &[]), (512, &[1, 1]), (0, &[1]), (SIZE + 512, &[1])] {
        assert_eq!(payload(length, ids), Err(Errno::Inval), "{length} {ids:?}");
    }
}
