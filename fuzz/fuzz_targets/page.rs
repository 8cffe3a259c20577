//! A page of a tree from a hostile member is refused or decoded, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::format::page::Page;
use paritas::types::BLOCK;

fuzz_target!(|bytes: &[u8]| {
    let _ = Page::decode(bytes);
    // Behind length and magic begins what is worth fuzzing.
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    block[..4].copy_from_slice(b"PTpg");
    if let Ok(page) = Page::decode(&block) {
        assert_eq!(page.encode(), block, "what was accepted is what would be written");
    }
});
