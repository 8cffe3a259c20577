//! The format's contract: golden images that never change, and what holds for every value and for every
//! sequence of bytes.

mod golden;

use golden::random::Random;
use golden::{compare, flatten, samples, seal, write};
use paritas::checksum::witness;
use paritas::format::page::{Key, Page, Value};
use paritas::format::record::{HeaderPart, Record};
use paritas::format::superblock::Superblock;
use paritas::format::tables::{DamageRecord, SegmentRecord, VolumeRecord};
use paritas::types::{BLOCK, Column, Pointer};

const NO_BLOCKS: &[Vec<u8>] = &[];

#[test]
fn the_superblock_is_as_it_always_was() {
    let bytes = samples::superblock().encode().expect("sound");
    compare("superblock.bin", &bytes);
    assert_eq!(Superblock::decode(&bytes).expect("sound"), samples::superblock());
}

#[test]
fn records_are_as_they_always_were() {
    for (name, mut record, column) in [
        ("record-small.bin", samples::small_record(), Column(4)),
        ("record-large.bin", samples::large_record(), Column(0)),
    ] {
        let (blocks, headers) = write(&mut record).expect("sound");
        let header = headers.column(column).expect("present");
        compare(name, &[&header[..], &blocks.concat()].concat());
        let part = HeaderPart::decode(&header, None).expect("sound");
        assert_eq!((part.column, part.needs()), (column, blocks.len()));
        assert_eq!(part.finish(&blocks).expect("sound"), record);
    }
}

#[test]
fn pages_are_as_they_always_were() {
    for (name, page) in [("page-leaf.bin", samples::leaf()), ("page-inner.bin", samples::inner())] {
        compare(name, &page.encode());
        assert_eq!(Page::decode(&page.encode()).expect("sound"), page);
    }
}

#[test]
fn tables_are_as_they_always_were() {
    let segment = samples::segment().entries();
    compare("segment.bin", &flatten(&segment));
    assert_eq!(SegmentRecord::from_entries(&segment).expect("sound"), samples::segment());
    let volume = samples::volume().entries();
    compare("volume.bin", &flatten(&volume));
    assert_eq!(VolumeRecord::from_entries(&volume).expect("sound"), samples::volume());
    let damage = samples::damage().map(|record| record.entry());
    compare("damage.bin", &flatten(&damage));
    assert_eq!(damage.map(|entry| DamageRecord::from_entry(&entry).expect("sound")), samples::damage());
}

#[test]
fn random_values_come_back_as_they_were() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let superblock = random.superblock();
        let bytes = superblock.encode().expect("sound");
        assert_eq!(Superblock::decode(&bytes).expect("sound"), superblock, "{seed}");
        let page = random.page();
        assert_eq!(Page::decode(&page.encode()).expect("sound"), page, "{seed}");
        let pointer = random.pointer();
        assert_eq!(Pointer::from_value(&pointer.to_value()).expect("sound"), pointer, "{seed}");
        let segment = random.segment();
        assert_eq!(SegmentRecord::from_entries(&segment.entries()).expect("sound"), segment, "{seed}");
        let volume = random.volume();
        assert_eq!(VolumeRecord::from_entries(&volume.entries()).expect("sound"), volume, "{seed}");
        let damage = random.damage();
        assert_eq!(DamageRecord::from_entry(&damage.entry()).expect("sound"), damage, "{seed}");
    }
}

#[test]
fn random_records_come_back_from_the_header_of_every_column() {
    for seed in 0..300 {
        let mut record = Random::new(seed).record();
        let (blocks, headers) = write(&mut record).expect("sound");
        for column in record.scheme.columns().filter(|column| record.columns[usize::from(column.0)].is_some())
        {
            let part = HeaderPart::decode(&headers.column(column).expect("present"), None).expect("sound");
            assert_eq!(part.column, column);
        }
        let present = record.columns.iter().position(Option::is_some).expect("at least k");
        let column = Column(u8::try_from(present).expect("below 255"));
        let part = HeaderPart::decode(&headers.column(column).expect("present"), None).expect("sound");
        assert_eq!(part.finish(&blocks).expect("sound"), record, "{seed}");
    }
}

/// Calls `check` with every copy of `bytes` in which one bit is flipped.
fn for_each_flip(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(&flipped, bit);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_flipped_bit_of_superblock_header_and_description_is_noticed() {
    let superblock = samples::superblock().encode().expect("sound");
    for_each_flip(&superblock, |bytes, bit| assert!(Superblock::decode(bytes).is_err(), "bit {bit}"));
    let (blocks, headers) = write(&mut samples::large_record()).expect("sound");
    let header = headers.column(Column(1)).expect("present");
    for_each_flip(&header, |bytes, bit| assert!(HeaderPart::decode(bytes, None).is_err(), "bit {bit}"));
    let part = HeaderPart::decode(&header, None).expect("sound");
    for_each_flip(&blocks[2], |bytes, bit| {
        assert!(part.finish(&[&blocks[0], &blocks[1], bytes]).is_err(), "bit {bit}");
    });
}

/// A page has no checksum of its own, but what is accepted is a page: it encodes to the same bytes.
#[test]
fn every_flipped_bit_of_a_page_is_noticed_or_meant() {
    for page in [samples::leaf(), samples::inner()] {
        for_each_flip(&page.encode(), |bytes, bit| {
            if let Ok(other) = Page::decode(bytes) {
                assert_ne!(other, page);
                assert_eq!(other.encode(), bytes, "bit {bit}");
            }
        });
    }
}

/// Changes up to four bytes, preferring the front where the structure is dense.
fn forge(random: &mut Random, bytes: &mut [u8]) {
    for _ in 0..=random.index(4) {
        let end = if random.bool() { bytes.len() } else { bytes.len().min(300) };
        let at = random.index(end);
        bytes[at] = match random.index(3) {
            0 => 0,
            1 => 255,
            _ => random.bytes::<1>()[0],
        };
    }
}

/// Whoever forges also mends the checksums. Nothing panics, and what is accepted is what would be written.
#[test]
fn forged_superblocks_are_refused_or_sound() {
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let sound = if seed % 10 == 0 { random.superblock() } else { samples::superblock() };
        let mut bytes = sound.encode().expect("sound");
        forge(&mut random, &mut bytes);
        seal(&mut bytes);
        if let Ok(superblock) = Superblock::decode(&bytes) {
            accepted += 1;
            // The minor version is the writer's own.
            bytes[18..20].fill(0);
            seal(&mut bytes);
            assert_eq!(superblock.encode().expect("sound"), bytes, "{seed}");
        }
    }
    assert!((100..19_000).contains(&accepted), "{accepted} accepted: the test is worth nothing");
}

#[test]
fn forged_records_are_refused_or_sound() {
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let mut record = match seed % 20 {
            0 => random.record(),
            1..4 => samples::large_record(),
            _ => samples::small_record(),
        };
        let (mut blocks, headers) = write(&mut record).expect("sound");
        let Ok(mut header) = headers.column(Column(0)) else { continue };
        if blocks.is_empty() || random.bool() {
            forge(&mut random, &mut header);
        } else {
            let last = blocks.len() - 1;
            let (k, width) = (usize::from(record.scheme.k()), usize::from(record.scheme.width()));
            let i = random.index(last + 1);
            forge(&mut random, &mut blocks[i]);
            let at = 104 + 5 * width + 8 * (i / k * width + i % k);
            header[at..at + 8].copy_from_slice(&witness(&blocks[i]).to_le_bytes());
        }
        seal(&mut header);
        let Ok(part) = HeaderPart::decode(&header, None) else { continue };
        let needed = part.needs().min(blocks.len());
        if let Ok(mut record) = part.finish(&blocks[..needed]) {
            accepted += 1;
            let (again, headers) = write(&mut record).expect("sound");
            assert_eq!(headers.column(part.column).expect("present"), header, "{seed}");
            assert_eq!(again, blocks, "{seed}");
        }
    }
    assert!((100..19_000).contains(&accepted), "{accepted} accepted: the test is worth nothing");
}

#[test]
fn forged_pages_are_refused_or_sound() {
    let mut accepted = 0;
    for seed in 0..50_000 {
        let mut random = Random::new(seed);
        let mut bytes = random.page().encode();
        forge(&mut random, &mut bytes);
        if let Ok(page) = Page::decode(&bytes) {
            accepted += 1;
            assert_eq!(page.encode(), bytes, "{seed}");
        }
    }
    assert!((100..49_000).contains(&accepted), "{accepted} accepted: the test is worth nothing");
}

#[test]
fn forged_tables_are_refused_or_sound() {
    fn forged(random: &mut Random, mut entries: Vec<(Key, Value)>) -> Vec<(Key, Value)> {
        let i = random.index(entries.len());
        match random.index(4) {
            0 => drop(entries.remove(i)),
            1 => entries[i].0.1 = random.below(300u64),
            2 => entries.truncate(i),
            _ => forge(random, &mut entries[i].1),
        }
        entries
    }
    let mut accepted = [0; 3];
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let entries = random.segment().entries();
        let entries = forged(&mut random, entries);
        if let Ok(segment) = SegmentRecord::from_entries(&entries) {
            accepted[0] += 1;
            assert_eq!(segment.entries(), entries, "{seed}");
        }
        let entries = random.volume().entries();
        let entries = forged(&mut random, entries);
        if let Ok(volume) = VolumeRecord::from_entries(&entries) {
            accepted[1] += 1;
            assert_eq!(volume.entries(), entries, "{seed}");
        }
        let mut entry = random.damage().entry();
        forge(&mut random, &mut entry.1);
        if let Ok(damage) = DamageRecord::from_entry(&entry) {
            accepted[2] += 1;
            assert_eq!(damage.entry(), entry, "{seed}");
        }
    }
    assert!(accepted.iter().all(|n| (100..19_000).contains(n)), "{accepted:?}: the test is worth nothing");
}

#[test]
fn garbage_and_truncations_are_refused() {
    let superblock = samples::superblock().encode().expect("sound");
    let (blocks, headers) = write(&mut samples::large_record()).expect("sound");
    let header = headers.column(Column(0)).expect("present");
    let page = samples::leaf().encode();
    for len in 0..BLOCK {
        assert!(Superblock::decode(&superblock[..len]).is_err());
        assert!(HeaderPart::decode(&header[..len], None).is_err());
        assert!(Page::decode(&page[..len]).is_err());
    }
    let part = HeaderPart::decode(&header, None).expect("sound");
    for len in 0..blocks.len() {
        assert!(part.finish(&blocks[..len]).is_err());
    }
    let mut random = Random::new(1);
    let mut garbage = vec![0; 2 * BLOCK];
    for _ in 0..2_000 {
        random.fill(&mut garbage);
        garbage[..8].copy_from_slice(&superblock[..8]);
        garbage[20..24].copy_from_slice(&superblock[20..24]);
        seal(&mut garbage[..BLOCK]);
        assert!(Superblock::decode(&garbage).is_err());
        garbage[..8].copy_from_slice(&header[..8]);
        seal(&mut garbage[..BLOCK]);
        assert!(HeaderPart::decode(&garbage[..BLOCK], None).and_then(|part| part.finish(NO_BLOCKS)).is_err());
        garbage[..4].copy_from_slice(&page[..4]);
        assert!(Page::decode(&garbage[..BLOCK]).is_err());
        let value: Value = random.bytes();
        if let Ok(pointer) = Pointer::from_value(&value) {
            assert_eq!(pointer.to_value(), value);
        }
    }
}

#[test]
fn a_record_says_where_its_blocks_are() {
    let record: Record = samples::large_record();
    assert_eq!(record.entry(1, Column(1)), &record.entries[3]);
    assert_eq!(record.witness(1, Column(2)), record.witnesses[5]);
}
