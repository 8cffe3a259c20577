//! Header and description of a record from a hostile member are refused, or read as a record that is written as it was
//! read. The input is the header, then the description blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::checksum::{crc64_around, witness};
use paritas::format::record::{HeaderPart, Record};
use paritas::types::BLOCK;

/// Description blocks that an input may have; the others are zeros.
const BLOCKS_MAX: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let _ = HeaderPart::decode(bytes, None);
    // Behind the checksum begins what is worth fuzzing.
    let (header, description) = bytes.split_at(bytes.len().min(BLOCK));
    let mut header = header.to_vec();
    header.resize(BLOCK, 0);
    header[..8].copy_from_slice(b"PARITASr");
    let crc = crc64_around(&header, 8);
    header[8..16].copy_from_slice(&crc.to_le_bytes());
    let Ok(mut part) = HeaderPart::decode(&header, None) else { return };

    let mut blocks: Vec<Vec<u8>> = description.chunks(BLOCK).take(BLOCKS_MAX).map(<[u8]>::to_vec).collect();
    blocks.resize(part.needs(), Vec::new());
    blocks.iter_mut().for_each(|block| block.resize(BLOCK, 0));
    let damaged = part.finish(&blocks);
    let (k, width) = (usize::from(part.record.scheme.k()), usize::from(part.record.scheme.width()));
    for (index, block) in blocks.iter().enumerate() {
        part.record.witnesses[index / k * width + index % k] = witness(block);
    }
    assert!(damaged.is_err() || damaged == part.finish(&blocks), "a block that is believed has its witness");

    let own: Vec<_> = part.own_description().map(|(index, _)| (index, &blocks[index])).collect();
    let glimpse = part.glimpse(&own);
    let Ok(record) = part.finish(&blocks) else { return };
    let glimpse = glimpse.expect("a part of what is sound is sound");
    let preamble = (record.intervals.clone(), record.changes.clone());
    assert!(glimpse.preamble.is_none_or(|glimpsed| glimpsed == preamble));
    assert!(glimpse.entries.iter().all(|(index, entry)| record.entries[*index] == *entry));
    write_again(&part, &record, &blocks);
});

fn write_again(part: &HeaderPart, record: &Record, blocks: &[Vec<u8>]) {
    let draft = record.draft().expect("what was accepted can be written");
    assert!(draft.blocks().eq(blocks), "the description is written as it was read");
    let headers = draft.seal(&part.record.witnesses).expect("as many as there are blocks");
    let header = headers.column(part.column).expect("it was read from there");
    let again = HeaderPart::decode(&header, None).expect("what was written is accepted");
    assert_eq!(again, *part);
}
