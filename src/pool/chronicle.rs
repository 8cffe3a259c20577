//! What happens is told twice: in the superblock, durable with the next commit, and to whoever subscribed to
//! `tracing` in this process.

use super::members::{Pool, State};
use crate::format::superblock::{Event, EventKind, EventLog};
use crate::types::{Slot, VolumeId};
use crate::zoo::{Bug, planted};

/// [`EventKind::MemberLost`] of a member that did not answer.
pub(super) const SILENT: u64 = 4;

impl Pool {
    /// Something happened now.
    pub fn note(&self, kind: EventKind, more: impl FnOnce(Event) -> Event) {
        let event = more(Event::new(kind, self.now()));
        self.state.with(|state| state.note(event));
    }

    /// What happened, as far as it is remembered.
    pub fn events(&self) -> EventLog {
        self.state.with(|state| state.superblock.events.clone())
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.clock.wall_seconds()
    }
}

impl State {
    pub(super) fn note(&mut self, event: Event) {
        if planted(Bug::EventForgotten) && event.kind == EventKind::MemberLost {
            return;
        }
        let count = self.superblock.note(event.clone());
        // What recurs is told at the first, second, fourth time and so on.
        if count.is_power_of_two() {
            trace(&event, count);
        }
    }

    /// Something happened to a member.
    pub(super) fn note_member(&mut self, kind: EventKind, now: u64, slot: Slot, amount: u64) {
        let path = self.superblock.members.get(usize::from(slot.0)).map_or("", |record| &record.path);
        self.note(Event::new(kind, now).at(slot, path).amounting_to(amount));
    }
}

/// Tells subscribers of an event that happened for the `count`-th time.
fn trace(event: &Event, count: u32) {
    let kind = event.kind.name();
    let (amount, count) =
        (Some(event.amount).filter(|amount| *amount > 0), Some(count).filter(|count| *count > 1));
    let (member, volume) = (event.slot.map(|Slot(slot)| slot), event.volume.map(|VolumeId(volume)| volume));
    match event.kind {
        EventKind::DataLost => tracing::error!(kind, member, volume, amount, count, "{event}"),
        EventKind::Recovered
        | EventKind::MemberLost
        | EventKind::MemberAbsent
        | EventKind::MemberRecognised
        | EventKind::MemberErred
        | EventKind::Salvaged
        | EventKind::FaultInjected => tracing::warn!(kind, member, volume, amount, count, "{event}"),
        _ => tracing::info!(kind, member, volume, amount, count, "{event}"),
    }
}
