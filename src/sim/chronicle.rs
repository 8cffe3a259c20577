//! What the array says of its members and what it says has happened to them agree, and no event that a clean close made
//! durable is forgotten.

use crate::format::superblock::{Event, EventKind, EventLog, MemberState, Superblock};
use crate::types::Slot;

/// Whether the newest event that changed a member's state, if it is remembered, led to the state that the member has.
pub(super) fn check(superblock: &Superblock) -> Result<(), String> {
    let knows_all = superblock.events.iter().next().is_none_or(|(number, _)| number == 1);
    for (slot, record) in (0..=u8::MAX).map(Slot).zip(&superblock.members) {
        let changed = superblock.events.iter().rev().find_map(|(_, event)| change(event, slot));
        let fits = match changed {
            None => record.state == MemberState::Active || !knows_all,
            Some(state) => state == record.state,
        };
        if !fits {
            let told: Vec<String> =
                superblock.events.iter().map(|(number, event)| format!("{number} {event}")).collect();
            let state = record.state;
            return Err(format!("member {slot} is {state:?}, and the events are: {}", told.join("; ")));
        }
    }
    Ok(())
}

/// The state that a member is in since an event, if that changed it.
fn change(event: &Event, slot: Slot) -> Option<MemberState> {
    if event.slot != Some(slot) {
        return None;
    }
    match event.kind {
        EventKind::MemberLost | EventKind::MemberAbsent | EventKind::MemberRecognised => {
            Some(MemberState::Out)
        }
        EventKind::MemberBack | EventKind::MemberJoined => Some(MemberState::Active),
        EventKind::MemberFailed => Some(MemberState::Failed),
        EventKind::MemberReplaced => Some(MemberState::Leaving),
        EventKind::MemberRemoved => Some(MemberState::Removed),
        _ => None,
    }
}

/// The newest event's number; 0 before there is one.
pub(super) fn newest(log: &EventLog) -> u64 {
    log.iter().next_back().map_or(0, |(number, _)| number)
}
