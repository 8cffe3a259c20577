//! A superblock slot from a hostile member is refused, or read as something that is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::checksum::crc64_around;
use paritas::format::superblock::Superblock;
use paritas::limits::SLOT_BYTES;
use paritas::types::BLOCK;

fuzz_target!(|bytes: &[u8]| {
    let _ = Superblock::encoded_len(bytes);
    let _ = Superblock::decode(bytes);
    // Behind length and checksum begins what is worth fuzzing.
    let mut slot = bytes.to_vec();
    slot.resize(slot.len().next_multiple_of(BLOCK).clamp(BLOCK, SLOT_BYTES), 0);
    slot[..8].copy_from_slice(b"PARITASs");
    let length = u32::try_from(slot.len()).expect("a slot is short");
    slot[20..24].copy_from_slice(&length.to_le_bytes());
    let crc = crc64_around(&slot, 8);
    slot[8..16].copy_from_slice(&crc.to_le_bytes());
    if let Ok(superblock) = Superblock::decode(&slot) {
        let again = superblock.encode().expect("what was accepted can be written");
        assert!(again.len() <= slot.len());
        assert_eq!(Superblock::decode(&again).expect("what was written is accepted"), superblock);
        assert_eq!(superblock.encode().expect("as before"), again);
    }
});
