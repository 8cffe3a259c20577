//! Events in words.

use super::events::{Event, EventKind};
use std::fmt;

/// One sentence without an end, for people; the time is not in it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { kind, amount, ref text, count, .. } = *self;
        let slot = self.slot.map_or(String::new(), |slot| format!("member {slot} ({text})"));
        let volume = self.volume.map_or(String::new(), |_| format!("volume '{text}'"));
        match kind {
            EventKind::Created => write!(f, "the array was made, for {text}"),
            EventKind::Recovered => {
                write!(f, "opened, though it had not been closed: what was on its way is complete or undone")
            }
            EventKind::MemberLost => write!(f, "{slot} is out of use: {}", cause(amount)),
            EventKind::MemberAbsent => write!(f, "{slot} is out of use: it was not there"),
            EventKind::MemberRecognised => {
                write!(f, "{slot} has lost its superblocks, and is known by what else it holds")
            }
            EventKind::MemberBack => write!(f, "{slot} is in use again"),
            EventKind::MemberFailed => write!(f, "{slot} was taken out for good"),
            EventKind::MemberReplaced => write!(f, "{slot} leaves: another takes its place"),
            EventKind::MemberJoined => write!(f, "{slot} is new"),
            EventKind::MemberRemoved => write!(f, "{slot} is not needed any more"),
            EventKind::MemberErred => write!(f, "{slot}: {}", cause(amount)),
            EventKind::Rebuilt => write!(f, "rebuilt: full redundancy again, {amount} bytes written"),
            EventKind::Scrubbed => write!(f, "scrubbed to the end, {amount} blocks healed"),
            EventKind::VolumeCreated => write!(f, "{volume} was made, {amount} bytes"),
            EventKind::VolumeResized => write!(f, "{volume} has another size, {amount} bytes"),
            EventKind::VolumeDeleted => write!(f, "{volume} was deleted"),
            EventKind::DataLost => write!(f, "{volume}: data is lost; see status"),
            EventKind::DamageCleared => write!(f, "damage was acknowledged, {amount} entries of it"),
            EventKind::Salvaged => write!(f, "the metadata was made anew of what members hold"),
            EventKind::FaultInjected => write!(f, "a fault strikes on purpose: {text}"),
            EventKind::FaultsEnded => write!(f, "faults on purpose were ended: {text}"),
            EventKind::Later(number) => write!(f, "something of kind {number}, which a later version knows"),
        }?;
        match count {
            1 => Ok(()),
            _ => write!(f, " ({count} times in {} s)", self.lasted),
        }
    }
}

/// What failed, by its number in an event's amount.
fn cause(number: u64) -> &'static str {
    match number {
        0 => "a read failed",
        1 => "a write failed",
        2 => "a flush failed",
        3 => "what it returned did not match its checksum",
        _ => "it did not answer in time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_sentence() {
        let mut sentences: Vec<String> =
            EventKind::all().map(|kind| Event::new(kind, 0).named("x").to_string()).collect();
        assert!(sentences.iter().all(|sentence| sentence.len() > 3), "{sentences:?}");
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), EventKind::all().count());
        let often = Event { count: 3, lasted: 60, ..Event::new(EventKind::Recovered, 0) };
        assert!(often.to_string().ends_with(" (3 times in 60 s)"), "{often}");
    }
}
