//! A record through its two steps of writing and reading, and what each of them refuses.

use super::*;
use crate::checksum::{crc64_around, witness};
use crate::error::{Error, Kind};
use crate::format::page::TreeId;
use crate::types::{BLOCK, Chunk, Slot};

/// A record of as many rows as `plan` says, full of user data.
fn record(scheme: Scheme, rows: u8, intervals: usize) -> Record {
    let interval =
        |i| Interval { volume: VolumeId(i), after: Number(1), through: Number(9), durable: Number(0) };
    let intervals: Vec<Interval> = (1..).take(intervals).map(interval).collect();
    let plan = Plan::of_rows(scheme, rows, Record::preamble_bytes(&intervals, &[])).expect("fits");
    let data = |i: u32| Owner::Data { volume: VolumeId(1), lba: Lba(i.into()), birth: Number(5) };
    let mut entries = vec![Entry { owner: Owner::Description, crc: 0 }; plan.description_blocks];
    entries.extend((0..).take(plan.blocks).map(|i| Entry { owner: data(i), crc: i }));
    let chunk = |slot| Some(ChunkAddress { slot: Slot(slot), chunk: Chunk(u32::from(slot) * 3) });
    Record {
        array: Uuid([1; 16]),
        chunk_blocks: 512,
        segment: SegmentId(2),
        scheme,
        columns: (0..scheme.width()).map(chunk).collect(),
        row: Row(3),
        rows,
        description_rows: plan.description_rows,
        epoch: Epoch(4),
        nonce: Nonce(5),
        sequence: Sequence(7),
        group: (Sequence(6), Sequence(7)),
        intervals,
        changes: Vec::new(),
        entries,
        witnesses: (0..u64::from(rows) * u64::from(scheme.width())).collect(),
    }
}

fn scheme(k: u8, m: u8) -> Scheme {
    Scheme::new(k, m).expect("sound")
}

fn trim(number: u64, blocks: u64) -> Change {
    Change::Trim { volume: VolumeId(2), number: Number(number), lba: Lba(9), blocks }
}

fn resize(number: u64, blocks: u64) -> Change {
    Change::Resize { volume: VolumeId(2), number: Number(number), blocks }
}

/// Writes as the log does: description first, then the witnesses of its rows, then the headers.
fn write(record: &mut Record) -> (Vec<Vec<u8>>, Headers) {
    let draft = record.draft().expect("sound");
    let blocks: Vec<Vec<u8>> = draft.blocks().map(<[u8]>::to_vec).collect();
    let (k, width) = (usize::from(record.scheme.k()), usize::from(record.scheme.width()));
    for (i, block) in blocks.iter().enumerate() {
        record.witnesses[i / k * width + i % k] = witness(block);
    }
    let described = usize::from(record.description_rows) * width;
    (blocks, draft.seal(&record.witnesses[..described]).expect("as many as needed"))
}

fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    let crc = crc64_around(&block, 8);
    block[8..16].copy_from_slice(&crc.to_le_bytes());
    block
}

fn read(block: &[u8]) -> std::result::Result<Record, Error> {
    HeaderPart::decode(block, None)?.finish(&[] as &[Vec<u8>])
}

/// The kind of error of a record without description blocks in which someone who mends the checksum changed
/// one byte.
fn forged(record: &Record, at: usize, value: u8) -> Option<Kind> {
    let mut block = write(&mut record.clone()).1.column(Column(0)).expect("present");
    assert_ne!(block[at], value, "byte {at}");
    block[at] = value;
    read(&sealed(block)).err().map(|error| error.kind())
}

#[test]
fn records_of_every_shape_come_back_from_the_header_of_any_column() {
    for (k, m) in [(1, 0), (1, 1), (8, 2), (3, 0), (1, 254), (255, 0), (128, 127), (254, 1)] {
        let widest = Plan::for_room(scheme(k, m), 300, 32).expect("some").rows;
        for rows in [0, 1, 2, 7, widest / 2, widest] {
            if Plan::of_rows(scheme(k, m), rows, 32).is_none() {
                continue;
            }
            let mut record = record(scheme(k, m), rows, 1);
            let (blocks, headers) = write(&mut record);
            for column in [0, k - 1, k + m - 1].map(Column) {
                let header = headers.column(column).expect("present");
                assert_eq!(header.len(), BLOCK);
                let part = HeaderPart::decode(&header, None).expect("sound");
                assert_eq!((part.column, part.needs()), (column, blocks.len()));
                assert_eq!(part.record.witnesses, record.witnesses[..part.record.witnesses.len()]);
                assert_eq!(part.finish(&blocks).expect("sound"), record);
            }
        }
    }
}

#[test]
fn every_owner_and_every_change_comes_back() {
    let mut record = record(scheme(5, 1), 1, 2);
    let (volume, lba, birth, number) = (VolumeId(3), Lba((1 << 51) - 1), Number((1 << 56) - 2), Number(1));
    let from = Place { segment: SegmentId(u64::MAX), row: Row(u16::MAX), column: Column(254) };
    let page = |tree: TreeId, level, low| Owner::Page { tree: tree.number(), level, low, generation: 8 };
    let owners = [
        Owner::Moved { volume, lba, birth, from },
        Owner::Data { volume, lba, birth },
        page(TreeId::Map(VolumeId(1)), 0, 7),
        page(TreeId::Segments, 15, u64::MAX),
    ];
    record.entries = owners.map(|owner| Entry { owner, crc: u32::MAX }).to_vec();
    record.entries.push(Entry { owner: Owner::Fill, crc: 0 });
    record.changes = vec![
        Change::Trim { volume, number, lba: Lba(1), blocks: (1 << 51) - 1 },
        Change::Resize { volume, number, blocks: 1 << 51 },
    ];
    record.columns[2] = None;
    let header = write(&mut record).1.column(Column(0)).expect("present");
    assert_eq!(read(&header).expect("sound"), record);
}

#[test]
fn description_may_start_in_the_middle_of_a_row_of_data() {
    let mut record = record(scheme(8, 2), 40, 3);
    assert!(record.description_rows == 1 && record.entries[7].owner != Owner::Description);
    let (blocks, headers) = write(&mut record);
    let part = HeaderPart::decode(&headers.column(Column(9)).expect("present"), None).expect("sound");
    assert_eq!(part.finish(&blocks).expect("sound"), record);
}

#[test]
fn an_absent_column_has_no_header() {
    let mut record = record(scheme(2, 1), 1, 1);
    record.columns[1] = None;
    let headers = write(&mut record).1;
    assert_eq!(headers.column(Column(1)).expect_err("absent").kind(), Kind::Invalid);
    assert_eq!(headers.column(Column(3)).expect_err("no such column").kind(), Kind::Invalid);
    let mut forged = headers.column(Column(0)).expect("present");
    forged[86] = 1;
    assert_eq!(read(&sealed(forged)).expect_err("absent").kind(), Kind::Corrupt);
}

#[test]
fn no_header_damage_another_header_and_a_foreign_format_are_told_apart() {
    let mut record = record(scheme(2, 1), 1, 1);
    let header = write(&mut record).1.column(Column(1)).expect("present");
    let expected = Expected { array: record.array, segment: SegmentId(2), column: Column(1), row: Row(3) };
    let kind = |block: &[u8], expected| HeaderPart::decode(block, expected).err().map(|error| error.kind());
    assert_eq!(kind(&header, Some(expected)), None);
    assert_eq!(kind(&[0; BLOCK], None), Some(Kind::NotFound));
    assert_eq!(kind(&header[..BLOCK - 1], None), Some(Kind::Corrupt));
    let mut rotten = header.clone();
    rotten[BLOCK - 1] ^= 0x80;
    assert_eq!(kind(&rotten, None), Some(Kind::Corrupt));
    for other in [
        Expected { array: Uuid([2; 16]), ..expected },
        Expected { segment: SegmentId(3), ..expected },
        Expected { column: Column(0), ..expected },
        Expected { row: Row(4), ..expected },
    ] {
        assert_eq!(kind(&header, Some(other)), Some(Kind::Refused));
    }
    let mut longer = header.clone();
    longer.resize(2 * BLOCK, 0);
    assert_eq!(kind(&sealed(longer), None), Some(Kind::Corrupt));
    let mut foreign = header;
    foreign[87] = 2;
    assert_eq!(kind(&sealed(foreign), None), Some(Kind::Refused));
}

#[test]
fn a_description_block_that_does_not_match_its_witness_is_refused() {
    let mut record = record(scheme(1, 1), 255, 3);
    let (blocks, headers) = write(&mut record);
    assert!(blocks.len() > 1);
    let part = HeaderPart::decode(&headers.column(Column(0)).expect("present"), None).expect("sound");
    for i in 0..blocks.len() {
        let mut rotten = blocks.clone();
        rotten[i][77] ^= 1;
        let error = part.finish(&rotten).expect_err("rotten");
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(&format!("row {i}, column 0")), "{error}");
    }
    assert_eq!(part.finish(&blocks[1..]).expect_err("too few").kind(), Kind::Invalid);
    let mut short = blocks;
    short[0].pop();
    assert_eq!(part.finish(&short).expect_err("not whole").kind(), Kind::Invalid);
}

#[test]
fn lengths_and_counts_that_do_not_match_are_corrupt() {
    let record = record(scheme(2, 1), 1, 1);
    // Rows, description rows, scheme, column, chunk size, length, intervals, changes; then the column table.
    for (at, value) in [
        (81, 2),
        (82, 0),
        (82, 2),
        (82, 255),
        (83, 1),
        (83, 255),
        (84, 0),
        (84, 1),
        (84, 3),
        (84, 255),
        (85, 0),
        (85, 255),
        (86, 3),
        (89, 0),
        (90, 1),
        (91, 1),
        (92, 0),
        (93, 0xFF),
        (95, 0xFF),
        (96, 0),
        (96, 2),
        (99, 0xFF),
        (100, 1),
        (103, 0xFF),
        (104, 255),
        (104, 1),
        (107, 0x10),
    ] {
        assert_eq!(forged(&record, at, value), Some(Kind::Corrupt), "byte {at} = {value}");
    }
}

#[test]
fn the_group_holds_the_record_and_only_its_last_one_completes_anything() {
    assert_eq!(forged(&record(scheme(2, 1), 1, 1), 64, 8), Some(Kind::Corrupt), "begins too late");
    assert_eq!(forged(&record(scheme(2, 1), 1, 1), 72, 6), Some(Kind::Corrupt), "ends too early");
    assert_eq!(forged(&record(scheme(2, 1), 1, 1), 72, 8), Some(Kind::Corrupt), "not the last");
    assert_eq!(forged(&record(scheme(2, 1), 1, 0), 72, 8), None, "not the last, completing nothing");
}

#[test]
fn the_stream_is_verified() {
    let mut record = record(scheme(2, 1), 1, 2);
    let number = Number(2);
    record.changes = vec![trim(2, 3), resize(2, 4)];
    let from = Place { segment: SegmentId(1), row: Row(1), column: Column(1) };
    record.entries[1].owner = Owner::Moved { volume: VolumeId(1), lba: Lba(1), birth: number, from };
    let intervals = 104 + 15;
    let trim = intervals + 64;
    let resize = trim + 32;
    let entry = resize + 24;
    let moved = entry + 40;
    let end = moved + 40 + 24;
    for (at, value) in [
        (intervals, 0),
        (intervals, 2),
        (intervals + 3, 0x80),
        (intervals + 4, 1),
        (intervals + 8, 10),
        (intervals + 23, 1),
        (intervals + 32, 1),
        (intervals + 35, 0x80),
        (trim, 0),
        (trim, 2),
        (trim, 3),
        (trim + 1, 1),
        (trim + 3, 1),
        (trim + 4, 0),
        (trim + 7, 0x80),
        (trim + 8, 0),
        (trim + 15, 1),
        (trim + 23, 1),
        (trim + 31, 1),
        (resize, 1),
        (resize, 4),
        (resize + 2, 1),
        (resize + 8, 0),
        (resize + 23, 1),
        (entry, 0),
        (entry, 1),
        (entry, 5),
        (entry + 1, 1),
        (entry + 2, 1),
        (entry + 8, 0),
        (entry + 11, 0x80),
        (entry + 12, 1),
        (entry + 23, 1),
        (entry + 24, 0),
        (entry + 32, 1),
        (moved, 2),
        (moved, 4),
        (moved + 1, 255),
        (end, 1),
        (4095, 1),
    ] {
        assert_eq!(forged(&record, at, value), Some(Kind::Corrupt), "byte {at} = {value}");
    }
    assert_eq!(forged(&record, entry + 4, 9), None, "a checksum may be anything");
    assert_eq!(forged(&record, end - 1, 9), None, "a witness may be anything");
}

#[test]
fn pages_and_fill_are_verified() {
    let mut record = record(scheme(2, 1), 1, 0);
    record.entries[0].owner = Owner::Page { tree: TreeId::Volumes.number(), level: 1, low: 2, generation: 3 };
    record.entries[1] = Entry { owner: Owner::Fill, crc: 0 };
    let page = 104 + 15;
    let fill = page + 40;
    for (at, value) in [(page + 1, 16), (page + 2, 1), (page + 8, 0xFF), (page + 12, 1), (page + 32, 1)] {
        assert_eq!(forged(&record, at, value), Some(Kind::Corrupt), "byte {at}");
    }
    for at in (1..40).map(|i| fill + i) {
        assert_eq!(forged(&record, at, 1), Some(Kind::Corrupt), "byte {at}");
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    type Break = fn(&mut Record);
    let breaks: [(&str, Break); 26] = [
        ("chunk has", |r| r.chunk_blocks = (1 << 15) + 1),
        ("ends inside", |r| r.row = Row(511)),
        ("in its group", |r| r.group.1 = Sequence(6)),
        ("line per column", |r| r.columns.truncate(2)),
        ("slot 255", |r| r.columns[0] = Some(ChunkAddress { slot: Slot(255), chunk: Chunk(0) })),
        ("2^20 chunks", |r| r.columns[0] = Some(ChunkAddress { slot: Slot(0), chunk: Chunk(1 << 20) })),
        ("different members", |r| r.columns[0] = r.columns[1]),
        ("m columns", |r| r.columns[..2].fill(None)),
        ("as planned", |r| r.description_rows = 1),
        ("as planned", |r| r.intervals = vec![r.intervals[0]; 1_000]),
        ("only the last", |r| r.group.1 = Sequence(8)),
        ("order of their volumes", |r| r.intervals.reverse()),
        ("interval ends", |r| r.intervals[0].after = Number(10)),
        ("end before", |r| r.intervals[0].through = Number((1 << 56) - 1)),
        ("between 1", |r| r.intervals[0].volume = VolumeId(0)),
        ("between 1", |r| {
            r.changes = vec![Change::Resize { volume: VolumeId(0), number: Number(1), blocks: 1 }];
        }),
        ("begin with number 1", |r| r.changes = vec![resize(0, 1)]),
        ("end before", |r| r.changes = vec![trim((1 << 56) - 1, 1)]),
        ("trim ends", |r| r.changes = vec![trim(1, u64::MAX)]),
        ("trim ends", |r| r.changes = vec![trim(1, (1 << 51) - 8)]),
        ("a volume has", |r| r.changes = vec![resize(1, (1 << 51) + 1)]),
        ("entry per", |r| r.entries.truncate(1)),
        ("description comes", |r| r.entries[1] = Entry { owner: Owner::Description, crc: 0 }),
        ("fill has", |r| r.entries[1] = Entry { owner: Owner::Fill, crc: 1 }),
        ("belongs to a tree", |r| {
            r.entries[1].owner = Owner::Page { tree: 1, level: 0, low: 0, generation: 0 }
        }),
        ("witness per", |r| r.witnesses.truncate(2)),
    ];
    for (rule, broken) in breaks {
        let mut record = record(scheme(2, 1), 1, 2);
        broken(&mut record);
        let error = record.draft().expect_err(rule);
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(rule), "{rule}: {error}");
    }
    let mut described = record(scheme(8, 2), 40, 3);
    described.entries[0] = described.entries[9];
    assert!(
        described
            .draft()
            .expect_err("data in place of description")
            .to_string()
            .contains("description comes")
    );
    let draft = record(scheme(2, 1), 1, 2).draft().expect("sound");
    assert_eq!(draft.seal(&[0]).expect_err("too many").kind(), Kind::Invalid);
}

#[test]
fn identities_are_those_of_the_map_and_of_the_tree() {
    let (volume, lba, birth) = (VolumeId(3), Lba(4), Number(5));
    let from = Place { segment: SegmentId(1), row: Row(1), column: Column(1) };
    let data = Some(Identity { owner: 3, lba, birth });
    assert_eq!(Owner::Data { volume, lba, birth }.identity(), data);
    assert_eq!(Owner::Moved { volume, lba, birth, from }.identity(), data);
    let page = Owner::Page { tree: 6, level: 7, low: 8, generation: 9 };
    assert_eq!(page.identity(), Some(Identity { owner: 6, lba: Lba(7), birth: Number(0) }));
    assert_eq!(Owner::Fill.identity(), None);
}

/// What a member sees that has one column: the description blocks that lie in it.
fn own(part: &HeaderPart, blocks: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    part.own_description().map(|(index, _)| (index, blocks[index].clone())).collect()
}

#[test]
fn the_columns_tell_together_what_the_record_tells_and_each_a_part_of_it() {
    for (k, m, rows, intervals) in
        [(4, 2, 60, 3), (4, 2, 2, 1), (1, 2, 200, 2), (3, 0, 80, 200), (2, 1, 0, 1)]
    {
        let mut record = record(scheme(k, m), rows, intervals);
        let (blocks, headers) = write(&mut record);
        let mut seen = vec![None; record.entries.len()];
        let mut preambles = 0;
        for column in record.scheme.columns() {
            let part = HeaderPart::decode(&headers.column(column).expect("present"), None).expect("sound");
            let own = own(&part, &blocks);
            let glimpse = part.glimpse(&own).expect("sound");
            if let Some((intervals, changes)) = glimpse.preamble {
                assert_eq!((&intervals, &changes), (&record.intervals, &record.changes));
                preambles += 1;
            }
            if column.0 >= k && k > 1 {
                assert!(own.is_empty());
            }
            glimpse.entries.into_iter().for_each(|(index, entry)| seen[index] = Some(entry));
            let all: Vec<_> = blocks.iter().cloned().enumerate().collect();
            let whole = part.glimpse(&all).expect("sound").entries;
            let expected = record.entries.iter().copied().enumerate().skip(part.needs());
            assert!(whole.into_iter().eq(expected), "{k}+{m}");
        }
        assert!(preambles > 0, "{k}+{m}");
        for (entry, seen) in record.entries.iter().zip(seen).filter(|(entry, _)| entry.crc > 0) {
            // Those that cross from one column's block into another's are told by nobody alone.
            assert!(seen.is_none_or(|seen| seen == *entry));
        }
    }
}

#[test]
fn a_description_block_that_is_damaged_counts_as_not_at_hand() {
    let mut record = record(scheme(1, 1), 200, 2);
    let (blocks, headers) = write(&mut record);
    let part = HeaderPart::decode(&headers.column(Column(1)).expect("present"), None).expect("sound");
    let mut own = own(&part, &blocks);
    assert!(own.len() > 1 && own.len() == part.needs(), "a copy holds all of it");
    let whole = part.glimpse(&own).expect("sound").entries.len();
    own[0].1[9] ^= 1;
    own.push((usize::MAX, blocks[0].clone()));
    own.push((1, vec![0; 7]));
    let less = part.glimpse(&own).expect("sound");
    assert!(less.entries.len() < whole && !less.entries.is_empty());
    assert!(less.preamble.is_some(), "it lies in the header");
}
