//! What happened to the array: the newest events, in every superblock. So each is durable with what it tells of, needs
//! nothing else to be read, and costs no write of its own.
//!
//! INVARIANT: events have consecutive numbers, from 1 on; what is dropped is the oldest. All of them take at most the
//! [`room`] that the array has for them: with few members some four hundred.

use crate::error::Result;
use crate::format::superblock::{MemberRecord, Superblock};
use crate::format::wire::{Check, Reader, Writer, count, ensure};
use crate::limits::{EVENT_TEXT_BYTES_MAX, EVENTS_BYTES_MIN, EVENTS_BYTES_PER_MEMBER, MEMBERS_MAX};
use crate::types::{Slot, VolumeId};
use std::collections::VecDeque;

/// Bytes of an event, its text apart.
pub(super) const EVENT_BYTES: usize = 32;
/// Bytes before the first event: where numbers go on, and how many follow.
pub(super) const EVENTS_HEAD_BYTES: usize = 16;
/// Bytes of all events of an array with so many rows in its member table, which share a superblock's slot with them.
pub(super) const fn room(members: usize) -> usize {
    EVENTS_BYTES_MIN + EVENTS_BYTES_PER_MEMBER * MEMBERS_MAX.saturating_sub(members)
}

/// Slot 255 is no member.
const NO_SLOT: u8 = u8::MAX;
/// Volumes are numbered from 1 on.
const NO_VOLUME: u32 = 0;
/// What happens again within a day is the same event once more.
const DAY: u64 = 86_400;

/// What happened. `amount` is 0 where nothing is said of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// The array was made; text: its scheme.
    Created,
    /// The array was opened, and had not been closed: what was on its way was made complete or cut off.
    Recovered,
    /// A member failed or fell silent, and is out of use; amount: what failed, as [`EventKind::MemberErred`] has it.
    MemberLost,
    /// A member was not there when the array was opened, and is out of use.
    MemberAbsent,
    /// A member had no superblock left, was known by its chunks, and is out of use until what it holds is doubted.
    MemberRecognised,
    /// A member is in use again.
    MemberBack,
    /// A member was taken out for good by somebody.
    MemberFailed,
    /// A member leaves, because somebody put another in its place.
    MemberReplaced,
    /// A member is new.
    MemberJoined,
    /// Nothing needs a member any more that was replaced.
    MemberRemoved,
    /// Operations of a member failed, or what it returned was wrong; amount: 0 reads, 1 writes, 2 flushes, 3 checksums,
    /// 4 it did not answer.
    MemberErred,
    /// A rebuild found work and left none; amount: bytes written.
    Rebuilt,
    /// A scrub came to its end; amount: blocks that it healed.
    Scrubbed,
    /// A volume was made; amount: its bytes.
    VolumeCreated,
    /// A volume has another size; amount: its bytes.
    VolumeResized,
    /// A volume was deleted.
    VolumeDeleted,
    /// Blocks of a volume were found lost, or records of its history were.
    DataLost,
    /// Somebody acknowledged the damage; amount: entries of the damage list.
    DamageCleared,
    /// The metadata was made anew of what members hold.
    Salvaged,
    /// Somebody lets a fault strike a member on purpose; text: the fault.
    FaultInjected,
    /// Somebody ended faults that struck a member on purpose.
    FaultsEnded,
    /// Of a later version.
    Later(u8),
}

/// All kinds, by their numbers from 1 on, with their names for programs.
const KINDS: [(EventKind, &str); 21] = [
    (EventKind::Created, "created"),
    (EventKind::Recovered, "recovered"),
    (EventKind::MemberLost, "member-lost"),
    (EventKind::MemberAbsent, "member-absent"),
    (EventKind::MemberRecognised, "member-recognised"),
    (EventKind::MemberBack, "member-back"),
    (EventKind::MemberFailed, "member-failed"),
    (EventKind::MemberReplaced, "member-replaced"),
    (EventKind::MemberJoined, "member-joined"),
    (EventKind::MemberRemoved, "member-removed"),
    (EventKind::MemberErred, "member-erred"),
    (EventKind::Rebuilt, "rebuilt"),
    (EventKind::Scrubbed, "scrubbed"),
    (EventKind::VolumeCreated, "volume-created"),
    (EventKind::VolumeResized, "volume-resized"),
    (EventKind::VolumeDeleted, "volume-deleted"),
    (EventKind::DataLost, "data-lost"),
    (EventKind::DamageCleared, "damage-cleared"),
    (EventKind::Salvaged, "salvaged"),
    (EventKind::FaultInjected, "fault-injected"),
    (EventKind::FaultsEnded, "faults-ended"),
];

impl EventKind {
    /// All that this version knows.
    pub fn all() -> impl Iterator<Item = EventKind> {
        KINDS.iter().map(|(kind, _)| *kind)
    }

    /// What programs call it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("of-a-later-version", |(_, name)| name)
    }

    /// Whether it is counted instead of told again and again.
    fn recurs(self) -> bool {
        matches!(self, EventKind::MemberErred | EventKind::DataLost)
    }

    fn number(self) -> u8 {
        match self {
            EventKind::Later(number) => number,
            known => {
                let at = KINDS.iter().position(|(kind, _)| *kind == known).expect("every kind is listed");
                count(at + 1)
            }
        }
    }

    fn from_number(number: u8) -> EventKind {
        let known = usize::from(number).checked_sub(1).and_then(|at| KINDS.get(at));
        known.map_or(EventKind::Later(number), |(kind, _)| *kind)
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When, in seconds since 1970, by a clock that may be wrong.
    pub time: u64,
    /// How many seconds later it happened last, if it happened more than once.
    pub lasted: u32,
    /// How often.
    pub count: u32,
    /// How much, as its kind says.
    pub amount: u64,
    /// To which member.
    pub slot: Option<Slot>,
    /// To which volume.
    pub volume: Option<VolumeId>,
    /// What it was called then: the member by its path, the volume by its name; or what the kind says. At most
    /// [`EVENT_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

impl Event {
    /// Something that happened once.
    pub fn new(kind: EventKind, time: u64) -> Event {
        Event { kind, time, lasted: 0, count: 1, amount: 0, slot: None, volume: None, text: String::new() }
    }

    /// It happened to a member.
    #[must_use]
    pub fn at(self, slot: Slot, path: &str) -> Event {
        Event { slot: Some(slot), ..self.named(path) }
    }

    /// It happened to a volume.
    #[must_use]
    pub fn of(self, volume: VolumeId, name: &str) -> Event {
        Event { volume: Some(volume), ..self.named(name) }
    }

    /// What is to be said with it. Of what is too long, the end is left out.
    #[must_use]
    pub fn named(self, text: &str) -> Event {
        let end = text.floor_char_boundary(EVENT_TEXT_BYTES_MAX.min(text.len()));
        Event { text: text[..end].to_owned(), ..self }
    }

    /// How much.
    #[must_use]
    pub fn amounting_to(self, amount: u64) -> Event {
        Event { amount, ..self }
    }

    /// When it happened last.
    pub fn last(&self) -> u64 {
        self.time.saturating_add(self.lasted.into())
    }

    fn bytes(&self) -> usize {
        EVENT_BYTES + self.text.len()
    }

    /// Whether `other` is this once more.
    fn is_again(&self, other: &Event) -> bool {
        self.kind.recurs()
            && (self.kind, self.slot, self.volume, self.amount)
                == (other.kind, other.slot, other.volume, other.amount)
            && self.text == other.text
            && other.time.saturating_sub(self.time) < DAY
    }

    fn check(&self) -> Check {
        ensure(self.count > 0, "what happened, happened at least once")?;
        ensure(self.text.len() <= EVENT_TEXT_BYTES_MAX, "an event's text is at most 255 bytes long")?;
        ensure(self.slot != Some(Slot(NO_SLOT)), "an event's member is in one of 255 slots")?;
        ensure(self.volume != Some(VolumeId(NO_VOLUME)), "an event's volume has a number from 1 on")?;
        ensure(
            EventKind::from_number(self.kind.number()) == self.kind,
            "only what this version does not know is of a later one",
        )
    }

    fn put(&self, writer: &mut Writer) {
        writer.u64(self.time);
        writer.u64(self.amount);
        writer.u32(self.count);
        writer.u32(self.lasted);
        writer.u32(self.volume.map_or(NO_VOLUME, |volume| volume.0));
        writer.u8(self.kind.number());
        writer.u8(self.slot.map_or(NO_SLOT, |slot| slot.0));
        writer.u8(count(self.text.len()));
        writer.zeros(1);
        writer.bytes(self.text.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Event> {
        let time = reader.u64("event's time")?;
        let amount = reader.u64("event's amount")?;
        let count = reader.u32("event's count")?;
        let lasted = reader.u32("event's duration")?;
        let volume = Some(VolumeId(reader.u32("event's volume")?)).filter(|volume| volume.0 != NO_VOLUME);
        let kind = EventKind::from_number(reader.u8("event's kind")?);
        let slot = Some(Slot(reader.u8("event's member")?)).filter(|slot| slot.0 != NO_SLOT);
        let text_bytes = usize::from(reader.u8("event's text length")?);
        reader.zeros(1)?;
        let text = reader.text("event's text", text_bytes, EVENT_TEXT_BYTES_MAX)?;
        Ok(Event { kind, time, lasted, count, amount, slot, volume, text })
    }
}

/// The newest events of an array, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventLog {
    /// The number of the event that comes next.
    next: u64,
    events: VecDeque<Event>,
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog { next: 1, events: VecDeque::new() }
    }
}

impl EventLog {
    /// A log of which the events before `next` are known, the newest ones last.
    pub fn of(next: u64, events: impl IntoIterator<Item = Event>) -> EventLog {
        EventLog { next, events: events.into_iter().collect() }
    }

    /// Something happened. If that recurs, and did within a day, it is counted. Returns how often it happened.
    fn note(&mut self, event: Event) -> u32 {
        if let Some(before) = self.events.iter_mut().rev().find(|before| before.is_again(&event)) {
            before.count = before.count.saturating_add(event.count);
            let lasted = event.last().saturating_sub(before.time);
            before.lasted = before.lasted.max(u32::try_from(lasted).unwrap_or(u32::MAX));
            return before.count;
        }
        let count = event.count;
        self.events.push_back(event);
        self.next += 1;
        count
    }

    /// The oldest go until all take at most so many bytes.
    fn shorten(&mut self, room: usize) {
        while self.bytes() > room {
            self.events.pop_front();
        }
    }

    /// The events that are known, with their numbers, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Event)> {
        let first = self.next - self.events.len() as u64;
        self.events.iter().enumerate().map(move |(at, event)| (first + at as u64, event))
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(Event::bytes).sum()
    }

    pub(super) fn check(&self, members: usize) -> Check {
        ensure(self.bytes() <= room(members), "events take no more than 8 KiB and 64 bytes per free row")?;
        ensure(self.next > self.events.len() as u64, "events are numbered from 1 on")?;
        self.events.iter().try_for_each(Event::check)
    }

    pub(super) fn put(&self, writer: &mut Writer) {
        writer.u64(self.next);
        writer.u16(count(self.events.len()));
        writer.zeros(6);
        self.events.iter().for_each(|event| event.put(writer));
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<EventLog> {
        let next = reader.u64("number of the next event")?;
        let len = reader.u16("events")?;
        reader.zeros(6)?;
        if usize::from(len) * EVENT_BYTES > room(1) {
            return Err(reader.corrupt("events", format_args!("{len}, more than there is room for")));
        }
        let events = (0..len).map(|_| Event::take(reader)).collect::<Result<_>>()?;
        Ok(EventLog { next, events })
    }
}

impl Superblock {
    /// Something happened. If that recurs, and did within a day, it is counted; what is oldest goes where there is no
    /// room. Returns how often it happened.
    pub fn note(&mut self, event: Event) -> u32 {
        let count = self.events.note(event);
        self.events.shorten(room(self.members.len()));
        count
    }

    /// Adds a row to the member table.
    pub fn add_member(&mut self, record: MemberRecord) {
        self.members.push(record);
        self.events.shorten(room(self.members.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erred(slot: u8, fault: u64, time: u64) -> Event {
        Event::new(EventKind::MemberErred, time).at(Slot(slot), "/dev/sda").amounting_to(fault)
    }

    #[test]
    fn what_recurs_is_counted_for_a_day() {
        let mut log = EventLog::default();
        log.note(erred(1, 3, 1000));
        log.note(Event::new(EventKind::MemberLost, 1001).at(Slot(2), "/dev/sdb"));
        log.note(erred(1, 3, 1060));
        // A clock that went back.
        log.note(erred(1, 3, 10));
        log.note(erred(1, 0, 1061));
        log.note(erred(2, 3, 1062));
        log.note(Event::new(EventKind::MemberLost, 1063).at(Slot(2), "/dev/sdb"));
        log.note(erred(1, 3, 1000 + DAY));
        let told: Vec<(u64, u64, u32, u32)> =
            log.iter().map(|(number, event)| (number, event.time, event.count, event.lasted)).collect();
        let expected = [(1, 1000, 3, 60), (2, 1001, 1, 0), (3, 1061, 1, 0), (4, 1062, 1, 0), (5, 1063, 1, 0)];
        assert_eq!(told[..5], expected);
        assert_eq!(told[5..], [(6, 1000 + DAY, 1, 0)]);
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room_and_numbers_go_on() {
        let mut log = EventLog::default();
        for time in 0..2000 {
            log.note(Event::new(EventKind::VolumeCreated, time).of(VolumeId(7), &"v".repeat(240)));
            log.shorten(room(9));
            log.check(9).expect("sound");
        }
        log.check(255).expect_err("no room for so many");
        let numbers: Vec<u64> = log.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers.len(), (8192 + 64 * 246) / (EVENT_BYTES + 240));
        assert_eq!(numbers.last(), Some(&2000));
        assert!(log.iter().all(|(number, event)| event.time + 1 == number));
    }

    #[test]
    fn each_kind_has_a_number_and_a_name_of_its_own() {
        for kind in EventKind::all() {
            assert_eq!(EventKind::from_number(kind.number()), kind);
            assert_eq!(EventKind::all().filter(|other| other.name() == kind.name()).count(), 1, "{kind:?}");
        }
        assert_eq!(EventKind::from_number(0), EventKind::Later(0));
        assert_eq!(EventKind::from_number(200).number(), 200);
        Event::new(EventKind::Later(1), 0).check().expect_err("this version knows it");
    }

    #[test]
    fn texts_are_cut_where_a_character_ends() {
        let event = Event::new(EventKind::Created, 0).named(&"\u{df}".repeat(150));
        assert_eq!(event.text, "\u{df}".repeat(127));
    }
}
