//! One run of the simulator in which the input chooses: what is asked for from its front, what befalls members from its
//! back, and the seed when it is used up. The oracle is the simulator's own: no promise is broken, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::sim::{Scenario, Script, perform_led};

/// Lives of the engine under faults: one that may end in a crash, and one that finds what it left.
const LIVES: u64 = 2;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[seed, scenario], choices)) = bytes.split_first_chunk() else { return };
    let scenario = Scenario::ALL[usize::from(scenario) % Scenario::ALL.len()];
    let script = Script { scenario, lives: Some(LIVES), ..Script::of(seed.into()) };
    if let Some(failure) = perform_led(&script, choices, false).outcome.failure {
        let told = perform_led(&script, choices, true);
        panic!("{failure}\n{}", told.story.join("\n"));
    }
});
