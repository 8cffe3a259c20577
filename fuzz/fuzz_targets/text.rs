//! What people write: faults beside a member, scripts of the simulator, stories of the enumeration. It is refused with
//! a sentence, or read as something that is printed and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::device::inject::sidecar;
use paritas::device::inject::{Fault, FaultKind, Span, parse_chance, parse_delay};
use paritas::sim::Script;
use paritas::sim::enumerate::Story;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

/// Bytes of the member that has the sidecar.
const MEMBER_BYTES: u64 = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let kept = sidecar::parse(Path::new("m.inject"), bytes, MEMBER_BYTES);
    for fault in kept.iter().flatten() {
        fault.check(MEMBER_BYTES).expect("what is kept can strike");
        repeats(fault);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(faults) = &kept {
        let printed: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        let again = sidecar::parse(Path::new("m.inject"), printed.as_bytes(), MEMBER_BYTES);
        assert_eq!(again.expect("printed"), *faults);
    }
    is_same::<Fault>(text);
    is_same::<Span>(text);
    is_same::<Script>(text);
    if let Some(story) = Story::parse(text) {
        assert_eq!(Story::parse(&story.to_string()).map(|story| story.to_string()), Some(story.to_string()));
    }
    if let Ok(chance) = parse_chance(text) {
        repeats(&Fault::new(FaultKind::Hang).per_million(chance));
    }
    if let Ok(delay) = parse_delay(text) {
        repeats(&Fault::new(FaultKind::Slow(delay)));
    }
});

/// What is refused, is refused with words.
fn is_same<T: FromStr<Err = String> + Display + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => repeats(&value),
        Err(sentence) => assert!(!sentence.is_empty()),
    }
}

fn repeats<T: FromStr<Err = String> + Display + PartialEq>(value: &T) {
    let printed = value.to_string();
    assert!(printed.parse().as_ref() == Ok(value), "'{printed}' is not read as it was printed");
}
