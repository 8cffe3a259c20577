//! The values of the golden images. Whoever changes one changes the format's contract.

use paritas::format::page::{Key, Page, TreeId};
use paritas::format::record::{Change, Entry, Interval, Owner, Record};
use paritas::format::superblock::{
    Checkpoint, ChunkAddress, Event, EventKind, EventLog, Features, Job, JobKind, MemberRecord, MemberState,
    PastEpoch, Root, Superblock,
};
use paritas::format::tables::{
    ColumnState, DamageCause, DamageRecord, SegmentRecord, Tombstone, VolumeRecord,
};
use paritas::types::{
    Chunk, Column, Epoch, Lba, Nonce, Number, Place, Pointer, Row, Scheme, SegmentId, Sequence, Slot, Uuid,
    VolumeId,
};

const ARRAY: Uuid = Uuid(*b"array of samples");

pub(crate) fn scheme(k: u8, m: u8) -> Scheme {
    Scheme::new(k, m).expect("the scheme of a sample")
}

fn at(slot: u8, chunk: u32) -> ChunkAddress {
    ChunkAddress { slot: Slot(slot), chunk: Chunk(chunk) }
}

fn place(segment: u64, row: u16, column: u8) -> Place {
    Place { segment: SegmentId(segment), row: Row(row), column: Column(column) }
}

fn pointer(segment: u64, row: u16, column: u8) -> Pointer {
    Pointer { place: place(segment, row, column), back: 3, crc: 0xC0FF_EE00 + u32::from(row) }
}

pub(crate) fn superblock() -> Superblock {
    let member = |uuid: &[u8; 16], state, since, path: &str, label: &str| MemberRecord {
        uuid: Uuid(*uuid),
        state,
        since: Epoch(since),
        chunks: 98_304,
        errors: [1, 2, 3, 0x0400_0000],
        path: path.to_owned(),
        label: label.to_owned(),
    };
    Superblock {
        features: Features { incompat: 0, ro_compat: 0x10, compat: 0x8000_0000_0000_0001 },
        array: ARRAY,
        name: "gr\u{f6}\u{df}er".to_owned(),
        slot: Slot(2),
        chunk_blocks: 256,
        default_scheme: scheme(8, 2),
        meta_scheme: scheme(1, 3),
        epoch: Epoch(0x0102_0304_0506_0708),
        nonce: Nonce(0x1112_1314_1516_1718),
        commit: 0x2122_2324_2526_2728,
        history: vec![
            PastEpoch { epoch: Epoch(7), nonce: Nonce(0x3132_3334_3536_3738) },
            PastEpoch { epoch: Epoch(6), nonce: Nonce(0x4142_4344_4546_4748) },
        ],
        members: vec![
            member(b"the first member", MemberState::Active, 1, "/dev/disk/by-id/one", "rack 1"),
            member(b"another member!!", MemberState::Out, 2, "/dev/disk/by-id/two", "rack 2"),
            member(b"the third member", MemberState::Failed, 3, "", ""),
            member(b"the 4th member!!", MemberState::Removed, 4, "", "rack 1"),
            member(b"the fifth member", MemberState::Spare, 5, "five.img", ""),
            member(b"the sixth member", MemberState::Leaving, 6, "six.img", ""),
        ],
        jobs: vec![
            Job { kind: JobKind::Rebuild, done: 0x81, total: 0x82, next: SegmentId(0x83) },
            Job { kind: JobKind::Scrub, done: 0x84, total: 0x85, next: SegmentId(0x86) },
        ],
        scrubbed: 0x0201,
        events: EventLog::of(
            0x91,
            [
                Event {
                    count: 0x92,
                    lasted: 0x93,
                    ..Event::new(EventKind::MemberErred, 0x9495_9697_9899_9A9B)
                        .at(Slot(1), "/dev/disk/by-id/two")
                        .amounting_to(3)
                },
                Event::new(EventKind::VolumeCreated, 0x9C).of(VolumeId(0x9D), "gr\u{fc}n").amounting_to(0x9E),
                Event::new(EventKind::Later(0xF0), 0x9F),
            ],
        ),
        checkpoint: Checkpoint {
            generation: 0x51,
            nonce: Nonce(0x52),
            next_segment: SegmentId(0x53),
            next_sequence: Sequence(0x54),
            next_volume: 0x55,
            segments: Some(Root { pointer: pointer(0x57, 0x58, 1), level: 2 }),
            volumes: Some(Root { pointer: pointer(0x59, 0x5A, 0), level: 0 }),
            damage: None,
            boot: vec![
                SegmentRecord {
                    id: SegmentId(0x60),
                    scheme: scheme(1, 3),
                    sealed: true,
                    rows: Row(0x100),
                    live: 0x61,
                    columns: vec![
                        ColumnState::Complete(at(0, 0x62)),
                        ColumnState::Partial(at(4, 0x0001_0063)),
                        ColumnState::Absent,
                        ColumnState::Complete(at(2, 0x64)),
                    ],
                },
                SegmentRecord {
                    id: SegmentId(0x65),
                    scheme: scheme(1, 0),
                    sealed: false,
                    rows: Row(0x66),
                    live: 0,
                    columns: vec![ColumnState::Complete(at(1, 0x67))],
                },
            ],
            runway: vec![at(0, 0x70), at(1, 0x0001_7FFF), at(4, 0x72)],
        },
    }
}

/// A record that fits its header: every owner, every change, an absent column.
pub(crate) fn small_record() -> Record {
    let (volume, number) = (VolumeId(3), Number(0x0908));
    let owners = [
        Owner::Data { volume, lba: Lba(0x0001_0203_0405), birth: Number(0x0907) },
        Owner::Moved { volume, lba: Lba(7), birth: Number(0x0101), from: place(0x44, 0x45, 0x46) },
        Owner::Page { tree: TreeId::Map(volume).number(), level: 1, low: 0x47, generation: 0x48 },
        Owner::Page { tree: TreeId::Segments.number(), level: 0, low: 0x49, generation: 0x4A },
        Owner::Data { volume: VolumeId(4), lba: Lba(0), birth: Number(1) },
    ];
    let mut entries: Vec<Entry> =
        owners.into_iter().zip(0xA0B0_C0D0..).map(|(owner, crc)| Entry { owner, crc }).collect();
    entries.push(Entry { owner: Owner::Fill, crc: 0 });
    Record {
        array: ARRAY,
        chunk_blocks: 256,
        segment: SegmentId(0x0102_0304_0506_0708),
        scheme: scheme(3, 2),
        columns: vec![
            Some(at(0, 0x10)),
            Some(at(2, 0x0001_0011)),
            None,
            Some(at(4, 0x12)),
            Some(at(6, 0x13)),
        ],
        row: Row(0x21),
        rows: 2,
        description_rows: 0,
        epoch: Epoch(0x22),
        nonce: Nonce(0x2324_2526_2728_292A),
        sequence: Sequence(0x32),
        group: (Sequence(0x31), Sequence(0x32)),
        intervals: vec![
            Interval { volume: VolumeId(2), after: Number(1), through: Number(3), durable: Number(1) },
            Interval { volume, after: Number(0x0900), through: Number(0x0908), durable: Number(0x08FF) },
        ],
        changes: vec![
            Change::Trim { volume, number, lba: Lba(0x51), blocks: 0x52 },
            Change::Resize { volume, number, blocks: 0x53 },
        ],
        entries,
        witnesses: (1..=10).map(|i| i * 0x0101_0101_0101_0101).collect(),
    }
}

/// A record with description in three data blocks of two rows.
pub(crate) fn large_record() -> Record {
    let (rows, described) = (120, 3);
    let mut entries = vec![Entry { owner: Owner::Description, crc: 0 }; described];
    entries.extend((0..240 - 3).map(|i: u32| Entry {
        owner: Owner::Data {
            volume: VolumeId(1),
            lba: Lba(u64::from(i) * 5),
            birth: Number(u64::from(i) + 1),
        },
        crc: i * 0x0100_0001,
    }));
    Record {
        scheme: scheme(2, 1),
        columns: vec![Some(at(7, 0x10)), Some(at(3, 0x11)), Some(at(254, 0x12))],
        rows,
        description_rows: 2,
        sequence: Sequence(0x40),
        group: (Sequence(0x40), Sequence(0x42)),
        intervals: Vec::new(),
        changes: Vec::new(),
        entries,
        witnesses: (1..=360).map(|i| i * 0x0001_0001_0001_0001).collect(),
        ..small_record()
    }
}

pub(crate) fn leaf() -> Page {
    let entry = |i: u16| (Key(u64::from(i) * 2, 0x10 + u64::from(i)), pointer(0x20, 0x30 + i, 1).to_value());
    Page {
        tree: TreeId::Map(VolumeId(3)),
        level: 0,
        generation: 0x0102_0304_0506_0708,
        low: Key(2, 0),
        high: Some(Key(0x1000, 0x11)),
        entries: (1..=126).map(entry).collect(),
    }
}

pub(crate) fn inner() -> Page {
    Page {
        tree: TreeId::Segments,
        level: 2,
        generation: 9,
        low: Key(5, 6),
        high: None,
        entries: vec![
            (Key(5, 6), pointer(1, 5, 0).to_value()),
            (Key(0xFFFF_FFFF_FFFF, 0), pointer(2, 6, 7).to_value()),
        ],
    }
}

pub(crate) fn segment() -> SegmentRecord {
    SegmentRecord {
        id: SegmentId(0x0102_0304_0506_0708),
        scheme: scheme(2, 1),
        sealed: true,
        rows: Row(0x1112),
        live: 0x0000_FEDC,
        columns: vec![
            ColumnState::Complete(at(1, 0x0002_2222)),
            ColumnState::Partial(at(2, 0x0003_3333)),
            ColumnState::Absent,
        ],
    }
}

pub(crate) fn volume() -> VolumeRecord {
    VolumeRecord {
        id: VolumeId(0x0102_0304),
        name: "a name longer than sixteen bytes".to_owned() + "!",
        scheme: scheme(8, 2),
        blocks: 0x0004_0000_0000_0000,
        number: Number(0x0022_2324_2526_2728),
        used: 0x31,
        root: Some(Root { pointer: pointer(0x32, 0x33, 0x34), level: 3 }),
        deleted: true,
        tombstones: vec![
            Tombstone { number: Number(0x35), lba: Lba(0x36), blocks: 0x37 },
            Tombstone { number: Number(0x38), lba: Lba(0x39), blocks: 0x3A },
        ],
    }
}

pub(crate) fn damage() -> [DamageRecord; 2] {
    let blocks = DamageRecord {
        volume: VolumeId(3),
        lba: Lba(0x41),
        blocks: 0x42,
        cause: DamageCause::BeyondTolerance,
        time: 0x6789_ABCD,
    };
    [blocks, DamageRecord { lba: Lba(0x43), blocks: 0x44, cause: DamageCause::LostRecords, ..blocks }]
}
