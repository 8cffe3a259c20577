//! Whole small arrays whose superblocks, records and pages somebody changed, checksums made right: the engine opens
//! and repairs them or refuses, and never panics, hangs, or asks a member for what it cannot do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::sim::exhaust::Forgery;
use std::sync::LazyLock;

static FORGERY: LazyLock<Forgery> = LazyLock::new(|| Forgery::new().expect("sound without a forgery"));

fuzz_target!(|bytes: &[u8]| {
    FORGERY.try_on(bytes).expect("an answer or an error");
});
