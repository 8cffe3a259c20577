//! Header and description of a record from a hostile member are refused or decoded, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::checksum::crc64_around;
use paritas::format::record::HeaderPart;
use paritas::types::BLOCK;

const NO_BLOCKS: &[Vec<u8>] = &[];

fuzz_target!(|bytes: &[u8]| {
    let _ = HeaderPart::decode(bytes, None);
    // Behind the checksum begins what is worth fuzzing.
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    block[..8].copy_from_slice(b"PARITASr");
    let crc = crc64_around(&block, 8);
    block[8..16].copy_from_slice(&crc.to_le_bytes());
    if let Ok(part) = HeaderPart::decode(&block, None) {
        let _ = part.finish(NO_BLOCKS);
    }
});
