//! What encoding and decoding refuse, field by field.

use super::*;
use crate::checksum::crc64_around;
use crate::error::Kind;
use crate::format::tables::ColumnState;
use crate::limits::{CHUNKS_MAX, EVENTS_BYTES_MIN, MEMBERS_MAX, SLOT_BYTES};
use crate::types::{BLOCK, Column, Place, Row, VolumeId};

const VERSION_AT: usize = 16;
const LENGTH_AT: usize = 20;
const INCOMPAT_AT: usize = 24;
/// The first member of [`sample`]: behind the fixed part, a name of 6 bytes and a past epoch.
const MEMBER_AT: usize = 216 + 6 + 16;
/// Its boot segment: behind two members, one with a path and a label, one with a path.
const BOOT_AT: usize = MEMBER_AT + 2 * 48 + 8 + 6 + 8;
/// Its runway: behind a boot segment of three columns.
const RUNWAY_AT: usize = BOOT_AT + 8 + 4 * 16;
/// Its job: behind a runway of one chunk.
const JOB_AT: usize = RUNWAY_AT + 8;
/// Its only event, behind the job, and what is said of all events.
const EVENT_AT: usize = JOB_AT + 32 + 16;

fn member(label: &str) -> MemberRecord {
    MemberRecord {
        uuid: Uuid([7; 16]),
        state: MemberState::Active,
        since: Epoch(3),
        chunks: 1000,
        errors: [1, 2, 3, 4],
        path: "/dev/sda".to_owned(),
        label: label.to_owned(),
    }
}

fn at(slot: u8, chunk: u32) -> ChunkAddress {
    ChunkAddress { slot: Slot(slot), chunk: Chunk(chunk) }
}

/// A segment of the segment table: two columns are there, one is absent.
fn boot(id: u64) -> SegmentRecord {
    SegmentRecord {
        id: SegmentId(id),
        scheme: Scheme::new(1, 2).expect("sound"),
        sealed: true,
        rows: Row(256),
        live: 77,
        columns: vec![ColumnState::Complete(at(0, 3)), ColumnState::Absent, ColumnState::Partial(at(1, 4))],
    }
}

fn event() -> Event {
    Event::new(EventKind::MemberLost, 18).at(Slot(1), "/dev/sdb").amounting_to(2)
}

fn sample() -> Superblock {
    let place = Place { segment: SegmentId(5), row: Row(9), column: Column(1) };
    let root = Some(Root { pointer: Pointer { place, back: 9, crc: 1 }, level: 2 });
    Superblock {
        features: Features { compat: 1 << 63, ro_compat: 2, ..Features::default() },
        array: Uuid([1; 16]),
        name: "sample".to_owned(),
        slot: Slot(1),
        chunk_blocks: 256,
        default_scheme: Scheme::MIRROR,
        meta_scheme: Scheme::MIRROR,
        epoch: Epoch(4),
        nonce: Nonce(11),
        commit: 12,
        history: vec![PastEpoch { epoch: Epoch(3), nonce: Nonce(10) }],
        members: vec![member("rack 1"), member("")],
        jobs: vec![Job { kind: JobKind::Scrub, done: 15, total: 16, next: SegmentId(4) }],
        scrubbed: 20_779,
        events: EventLog::of(7, [event()]),
        checkpoint: Checkpoint {
            generation: 13,
            nonce: Nonce(10),
            next_segment: SegmentId(6),
            next_sequence: Sequence(14),
            next_volume: 2,
            segments: root,
            volumes: None,
            damage: root,
            boot: vec![boot(5)],
            runway: vec![at(1, 999)],
        },
    }
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc64_around(&bytes, 8);
    bytes[8..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The kind of error of a superblock in which one byte was changed by someone who mends the checksum.
fn forged(at: usize, value: u8) -> Option<Kind> {
    let mut bytes = sample().encode().expect("sound");
    assert_ne!(bytes[at], value, "byte {at}");
    bytes[at] = value;
    Superblock::decode(&sealed(bytes)).err().map(|error| error.kind())
}

#[test]
fn a_superblock_comes_back_as_it_was_whatever_follows_it_in_its_slot() {
    let mut slot = sample().encode().expect("sound");
    assert_eq!(slot.len(), BLOCK);
    assert_eq!(Superblock::decode(&slot).expect("sound"), sample());
    slot.resize(SLOT_BYTES, 0xEE);
    assert_eq!(Superblock::decode(&slot).expect("sound"), sample());
}

/// A boot segment of so many columns.
fn wide(id: u64, width: u8) -> SegmentRecord {
    SegmentRecord {
        scheme: Scheme::new(1, width - 1).expect("sound"),
        columns: (0..width).map(|slot| ColumnState::Complete(at(slot, 1))).collect(),
        ..boot(id)
    }
}

#[test]
fn the_longest_superblock_fits_its_slot() {
    let longest = MemberRecord { path: "p".repeat(255), label: "l".repeat(32), chunks: 4000, ..member("") };
    let mut superblock = sample();
    superblock.name = "n".repeat(240);
    superblock.members = vec![longest; MEMBERS_MAX];
    superblock.epoch = Epoch(100);
    superblock.history = (0..32).rev().map(|i| PastEpoch { epoch: Epoch(i), nonce: Nonce(i) }).collect();
    superblock.checkpoint.boot = (0..64).map(|id| wide(id, 16)).collect();
    superblock.checkpoint.runway = vec![at(254, 1); 2048];
    let jobs = [JobKind::Rebuild, JobKind::Scrub];
    superblock.jobs = jobs.map(|kind| Job { kind, ..superblock.jobs[0] }).to_vec();
    superblock.events = EventLog::of(600, vec![Event::new(EventKind::Recovered, 1); EVENTS_BYTES_MIN / 32]);
    let bytes = superblock.encode().expect("fits");
    assert!(bytes.len() > 125_000 && bytes.len() <= SLOT_BYTES && bytes.len().is_multiple_of(BLOCK));
    assert_eq!(Superblock::decode(&bytes).expect("sound"), superblock);
}

#[test]
fn a_new_row_of_the_member_table_takes_the_room_of_the_oldest_events() {
    let mut superblock = sample();
    (0..1000).for_each(|_| assert_eq!(superblock.note(event()), 1));
    let before = superblock.events.iter().count();
    superblock.encode().expect("fits");
    (0..9).for_each(|_| superblock.add_member(member("")));
    superblock.encode().expect("fits");
    let numbers: Vec<u64> = superblock.events.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), (8192 + 64 * (255 - 11)) / 40);
    assert!(before > numbers.len() && numbers.last() == Some(&1006));
}

#[test]
fn the_first_block_tells_how_long_the_superblock_is() {
    let mut superblock = sample();
    superblock.members = vec![member(""); 200];
    let bytes = superblock.encode().expect("fits");
    assert!(bytes.len() > 2 * BLOCK);
    assert_eq!(Superblock::encoded_len(&bytes[..BLOCK]).expect("sound"), bytes.len());
    let kind = |bytes: &[u8]| Superblock::encoded_len(bytes).err().map(|error| error.kind());
    assert_eq!(kind(&[0; BLOCK]), Some(Kind::NotFound));
    assert_eq!(kind(&bytes[..LENGTH_AT + 3]), Some(Kind::Corrupt));
    for length in [0, 1, BLOCK - 1, BLOCK + 1, SLOT_BYTES + BLOCK, 1 << 31] {
        let mut other = bytes[..BLOCK].to_vec();
        other[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&u32::try_from(length).expect("fits").to_le_bytes());
        assert_eq!(kind(&other), Some(Kind::Corrupt), "{length}");
    }
}

#[test]
fn nothing_damage_and_a_foreign_format_are_told_apart() {
    let kind = |bytes: &[u8]| Superblock::decode(bytes).err().map(|error| error.kind());
    let sound = sample().encode().expect("sound");
    assert_eq!(kind(&[]), Some(Kind::NotFound));
    assert_eq!(kind(&[0; BLOCK]), Some(Kind::NotFound));
    assert_eq!(kind(&sound[..8]), Some(Kind::Corrupt));
    assert_eq!(kind(&sound[..BLOCK - 1]), Some(Kind::Corrupt));
    let mut rotten = sound;
    rotten[BLOCK - 1] ^= 1;
    assert_eq!(kind(&rotten), Some(Kind::Corrupt));
    assert_eq!(forged(VERSION_AT, 2), Some(Kind::Refused));
    assert_eq!(forged(INCOMPAT_AT + 1, 4), Some(Kind::Refused));
}

#[test]
fn a_refusal_names_the_unknown_feature_bit() {
    let mut bytes = sample().encode().expect("sound");
    bytes[INCOMPAT_AT + 1] = 4;
    let error = Superblock::decode(&sealed(bytes)).expect_err("unknown");
    assert!(error.to_string().contains("feature bit 10,"), "{error}");
}

#[test]
fn unknown_features_that_do_not_matter_to_readers_are_kept() {
    assert!(!sample().features.writable());
    assert!(Features { compat: u64::MAX, ..Features::default() }.writable());
    assert_eq!(
        Superblock::decode(&sample().encode().expect("sound")).expect("sound").features,
        sample().features
    );
    assert_eq!(forged(VERSION_AT + 2, 1), None, "a newer minor version");
}

#[test]
fn lengths_and_counts_out_of_bounds_are_corrupt() {
    let length = [(LENGTH_AT, 1), (LENGTH_AT + 1, 0), (LENGTH_AT + 1, 0x20), (LENGTH_AT + 3, 1)];
    let fixed = [(92, 0), (94, 0), (96, 2), (97, 3), (98, 2), (98, 33), (99, 241)];
    let lists = [(100, 0), (100, 2), (100, 65), (101, 1), (104, 0), (105, 9)];
    for (at, value) in length.into_iter().chain(fixed).chain(lists) {
        assert_eq!(forged(at, value), Some(Kind::Corrupt), "byte {at}");
    }
}

#[test]
fn reserved_bytes_are_verified() {
    let fixed = [107, 161, 167, 185, 209];
    let boot = [8 + 3, 8 + 6, 8 + 15, 24 + 2, 24 + 15, 40, 55].map(|byte| BOOT_AT + byte);
    for at in fixed.into_iter().chain([MEMBER_AT + 19]).chain(boot).chain([
        RUNWAY_AT + 7,
        JOB_AT + 1,
        JOB_AT + 7,
        EVENT_AT - 1,
        EVENT_AT - 6,
        EVENT_AT + 31,
        4095,
    ]) {
        assert_eq!(forged(at, 1), Some(Kind::Corrupt), "byte {at}");
    }
}

#[test]
fn members_and_roots_are_verified() {
    for (at, value) in [
        (106, 3),
        (JOB_AT, 0),
        (JOB_AT, 3),
        (MEMBER_AT + 16, 0),
        (MEMBER_AT + 16, 7),
        (MEMBER_AT + 17, 9),
        (MEMBER_AT + 18, 33),
        (MEMBER_AT + 23, 1),
        (MEMBER_AT + 24, 5),
        (MEMBER_AT + 48, 0xFF),
        (155, 0),
        (155, 10),
        (160, 16),
        (176, 1),
    ] {
        assert_eq!(forged(at, value), Some(Kind::Corrupt), "byte {at}");
    }
}

#[test]
fn events_are_verified() {
    // The number of the next one, how many there are, a count, the length of a text, and the text.
    for (at, value) in [(-16, 1), (-8, 2), (-7, 3), (16, 0), (30, 7), (32, 0xFF)] {
        let at = EVENT_AT.checked_add_signed(at).expect("inside");
        assert_eq!(forged(at, value), Some(Kind::Corrupt), "byte {at}");
    }
    assert_eq!(forged(EVENT_AT + 28, 99), None, "a later version may know more kinds");
    assert_eq!(forged(EVENT_AT + 29, 255), None, "an event may be of no member");
}

#[test]
fn boot_segments_are_verified() {
    let scheme = [(8, 0), (8, 2), (8, 255), (9, 1), (9, 3), (9, 255), (10, 2)];
    let rows_and_live = [(8 + 4, 1), (8 + 5, 2), (8 + 10, 1)];
    let columns = [(24, 0), (24, 3), (25, 1), (25, 2), (24 + 6, 0x10), (40, 1), (56, 0)];
    for (at, value) in scheme.into_iter().chain(rows_and_live).chain(columns) {
        assert_eq!(forged(BOOT_AT + at, value), Some(Kind::Corrupt), "byte {at} = {value}");
    }
    assert_eq!(forged(BOOT_AT, 9), None, "a segment may have any number");
    assert_eq!(forged(BOOT_AT + 10, 0), None, "a boot segment may be open");
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    type Break = fn(&mut Superblock);
    let breaks: [(&str, Break); 31] = [
        ("name", |s| s.name = "x".repeat(241)),
        ("chunk has", |s| s.chunk_blocks = 7),
        ("chunk has", |s| s.chunk_blocks = (1 << 15) + 1),
        ("255 members", |s| s.members = vec![s.members[0].clone(); 256]),
        ("own slot", |s| s.slot = Slot(2)),
        ("32 earlier", |s| s.history = vec![s.history[0]; 33]),
        ("newest first", |s| s.history = vec![s.history[0]; 2]),
        ("are earlier", |s| s.history[0].epoch = s.epoch),
        ("path", |s| s.members[0].path = "x".repeat(256)),
        ("label", |s| s.members[0].label = "x".repeat(33)),
        ("younger", |s| s.members[1].since = Epoch(5)),
        ("2^20 chunks", |s| s.members[1].chunks = u32::try_from(CHUNKS_MAX).expect("fits")),
        ("volume numbers", |s| s.checkpoint.next_volume = 1 << 31),
        ("volume numbers", |s| s.checkpoint.next_volume = 0),
        ("16 levels", |s| s.checkpoint.damage.iter_mut().for_each(|root| root.level = 16)),
        ("64 segments", |s| s.checkpoint.boot = (0..65).map(boot).collect()),
        ("order of their numbers", |s| s.checkpoint.boot = vec![boot(6), boot(5)]),
        ("order of their numbers", |s| s.checkpoint.boot = vec![boot(5), boot(5)]),
        ("different members", |s| s.checkpoint.boot[0].columns[1] = ColumnState::Complete(at(0, 5))),
        ("1024 columns", |s| {
            s.members = vec![member(""); 205];
            s.checkpoint.boot = (0..5).map(|id| wide(id, 205)).collect();
        }),
        ("more rows", |s| s.checkpoint.boot[0].rows = Row(257)),
        ("segment table is on members", |s| {
            s.checkpoint.boot[0].columns[1] = ColumnState::Complete(at(2, 5))
        }),
        ("2048", |s| s.checkpoint.runway = vec![s.checkpoint.runway[0]; 2049]),
        ("possible chunks", |s| s.checkpoint.runway[0].chunk = Chunk(1 << 20)),
        ("runway is on members", |s| s.checkpoint.runway[0].slot = Slot(2)),
        ("8 KiB", |s| s.events = EventLog::of(900, vec![event(); 700])),
        ("numbered from 1", |s| s.events = EventLog::of(2, [event(), event()])),
        ("happened at least once", |s| s.events = EventLog::of(9, [Event { count: 0, ..event() }])),
        ("text is at most", |s| s.events = EventLog::of(9, [Event { text: "x".repeat(256), ..event() }])),
        ("one of 255 slots", |s| s.events = EventLog::of(9, [event().at(Slot(255), "")])),
        ("from 1 on", |s| s.events = EventLog::of(9, [event().of(VolumeId(0), "")])),
    ];
    for (rule, broken) in breaks {
        let mut superblock = sample();
        broken(&mut superblock);
        let error = superblock.encode().expect_err(rule);
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(rule), "{rule}: {error}");
    }
    let unknown = Superblock { features: Features { incompat: 1, ..Features::default() }, ..sample() };
    assert_eq!(unknown.encode().expect_err("unknown").kind(), Kind::Invalid);
}

#[test]
fn chunks_of_removed_members_do_not_count() {
    let mut superblock = sample();
    superblock.members[1].chunks = u32::MAX;
    superblock.members[1].state = MemberState::Removed;
    superblock.encode().expect("sound");
}
