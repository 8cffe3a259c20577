//! Failures on purpose, for programs and for people who rehearse them.
//!
//! Two ways lead to the same layer below every member ([`crate::device::inject`] says what each kind does):
//!
//! - [`Array::inject`] strikes an open array, from the next operation on. It ends with [`Array::clear_injected`], or
//!   when the array is closed; nothing of it is kept. While nothing is injected, it costs the look at one flag for
//!   each operation on a member.
//! - [`keep`] writes a fault into a text file beside the member. It strikes every opening from then on, until
//!   [`forget`] removes it. A fault's count begins anew with each opening. An array that is open already is not struck.
//!
//! [`rot`] damages a member at once and for good, whoever has it open.
//!
//! Faults are for the array: what makes, salvages or replaces a member refuses one for which faults are kept, and who
//! only looks ([`Status::of`](super::Status::of)) is not struck, and sees them all ([`super::Status::injected`]).
//!
//! ```
//! use paritas::volume::inject::{Fault, FaultKind};
//! use paritas::volume::{Array, CreateOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let members: Vec<_> = (0..6).map(|i| folder.path().join(format!("disk{i}"))).collect();
//! # let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
//! let array = Array::create(&members, &options)?; // 4+2
//! let volume = array.create_volume("mail", 16 << 20, None)?;
//! volume.write(0, vec![7; 1 << 20])?;
//! volume.flush()?;
//!
//! array.inject(array.member("disk1")?, Fault::new(FaultKind::ReadError))?;
//! array.inject(array.member("disk4")?, Fault::new(FaultKind::BitFlip).per_million(500_000))?;
//! assert_eq!(volume.read(0, 1 << 20)?, vec![7; 1 << 20]); // exact all the same
//! assert!(array.injected()?.iter().any(|fault| fault.struck > 0));
//! array.clear_injected(None)?;
//! # array.close()?;
//! # Ok(())
//! # }
//! ```

use super::Shard;
use super::array::Array;
use super::discover::{Discovery, Patience, discover};
use super::engine::{settle, start};
use super::members::find;
use super::status::{InjectedFault, Present};
use crate::device::inject::{Rot, sidecar};
use crate::error::{Error, Kind, Result};
use crate::format::superblock::EventKind;
use crate::limits::RING_BYTES;
use crate::types::Slot;
use std::io;
use std::path::{Path, PathBuf};

pub use crate::device::inject::{Fault, FaultKind, MILLION, Span, parse_chance, parse_delay};

impl Array {
    /// Lets a fault strike a member of this open array, from the next operation on.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a member that is not here, [`Kind::Invalid`] for a fault that [`Fault::check`] refuses,
    /// [`Kind::Refused`] when the members are simulated, [`Kind::Closed`].
    pub fn inject(&self, slot: u8, fault: Fault) -> Result<()> {
        self.engine.check_real()?;
        let present = self.engine.present.clone();
        let injected = self.engine.start(async move |shard: Shard| {
            present.with(|present| {
                let there = present.at(Slot(slot)).zip(present.injector(Slot(slot)));
                let ((_, size), injector) = there.ok_or_else(|| not_here(&format!("member {slot}")))?;
                fault.check(*size).map_err(Error::invalid)?;
                injector.inject(fault);
                note(&shard, EventKind::FaultInjected, Slot(slot), &fault.to_string());
                Ok(())
            })
        });
        settle(self.engine.wait(injected))
    }

    /// The faults that strike this array, the kept ones too, and how often each has struck. Also of one that is closed.
    ///
    /// # Errors
    /// [`Kind::Closed`] when the engine has stopped.
    pub fn injected(&self) -> Result<Vec<InjectedFault>> {
        let present = self.engine.present.clone();
        let listed = self.engine.spawn(async move { Ok(present.with(|present| present.injected())) });
        settle(self.engine.wait(listed))
    }

    /// Ends the faults of a member, or of all, for this opening; those that are kept stay kept. What hung goes on. A
    /// member that was evicted meanwhile stays out, as any other. Returns what was removed.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn clear_injected(&self, slot: Option<u8>) -> Result<Vec<InjectedFault>> {
        let present = self.engine.present.clone();
        let cleared = self.engine.start(async move |shard: Shard| {
            present.with(|present| {
                let mut removed = present.injected();
                removed.retain(|fault| slot.is_none_or(|slot| slot == fault.slot));
                for InjectedFault { slot, fault, .. } in &removed {
                    present.injector(Slot(*slot)).map(|injector| injector.clear());
                    note(&shard, EventKind::FaultsEnded, Slot(*slot), &fault.to_string());
                }
                Ok(removed)
            })
        });
        settle(self.engine.wait(cleared))
    }
}

/// What is done on purpose is told as such, with the fault's words behind the member's path.
pub(super) fn note(shard: &Shard, kind: EventKind, slot: Slot, fault: &str) {
    let pool = &shard.core().stripes().pool;
    let path =
        pool.superblock().members.get(usize::from(slot.0)).map_or_else(String::new, |row| row.path.clone());
    pool.note(kind, |event| event.at(slot, &format!("member {slot} ({path}): {fault}")));
}

/// Keeps a fault for a member (see [`Array::member`] for how it is named) of the array that `place` names: it strikes
/// every opening from now on. Durable on return.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Invalid`] for a fault that [`Fault::check`] refuses, [`Kind::Refused`] when those that
/// are kept for the member already cannot be read, [`Kind::Io`].
pub fn keep(place: &Path, name: Option<&str>, member: &Path, fault: Fault) -> Result<InjectedFault> {
    let Place { found, present } = look(place, name)?;
    let (slot, path, size) = here(&found, &present, member)?;
    sidecar::add(&path, size, &fault).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid(error.to_string()),
        io::ErrorKind::InvalidData => Error::new(Kind::Refused, error.to_string()),
        _ => Error::io(error.to_string()),
    })?;
    Ok(InjectedFault { slot: slot.0, path, fault, struck: 0 })
}

/// Forgets all faults that are kept for a member, or for all members, also those that cannot be read. An array that is
/// open already goes on with them. Returns the slots and places of the members that had some.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Io`].
pub fn forget(place: &Path, name: Option<&str>, member: Option<&Path>) -> Result<Vec<(u8, PathBuf)>> {
    let Place { found, present } = look(place, name)?;
    let records = &found.newest.members;
    let meant = member.map(|member| find(records, &present, member)).transpose()?;
    let mut forgotten = Vec::new();
    for (slot, record) in (0..=u8::MAX).map(Slot).zip(records) {
        if meant.is_some_and(|meant| meant != slot) {
            continue;
        }
        // Of a member that is not here, what lies where it was.
        let path = present.found(slot).map_or_else(|| PathBuf::from(&record.path), |(path, _)| path.clone());
        if sidecar::remove(&path).map_err(|error| Error::io(error.to_string()))? {
            forgotten.push((slot.0, path));
        }
    }
    Ok(forgotten)
}

/// What rotted on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotten {
    /// The member's place in the member table.
    pub slot: u8,
    /// Where the member is.
    pub path: PathBuf,
    /// Where the blocks begin in which a bit is wrong now.
    pub blocks: Vec<u64>,
}

/// Flips a bit in blocks of a member, at once and for good, whoever has it open: in `count` blocks of the range, by
/// chance that `seed` decides, or in all of them. Without a range, in so many blocks, or one, of those that hold
/// something, and never in superblocks.
///
/// # Errors
/// [`Kind::NotFound`] also when nothing is there to rot, [`Kind::Invalid`], [`Kind::Io`].
pub fn rot(
    place: &Path,
    name: Option<&str>,
    member: &Path,
    range: Option<Span>,
    count: Option<u64>,
    seed: u64,
) -> Result<Rotten> {
    if count == Some(0) || range.is_some_and(|range| range.len == 0) {
        return Err(Error::invalid("nothing to rot was asked for"));
    }
    let Place { found, present } = look(place, name)?;
    let (slot, path, size) = here(&found, &present, member)?;
    let what = match range {
        Some(area) => Rot { area, count, only_full: false, seed },
        None => {
            let area = Span { offset: RING_BYTES, len: size.saturating_sub(2 * RING_BYTES) };
            Rot { area, count: count.or(Some(1)), only_full: true, seed }
        }
    };
    let blocks = crate::device::inject::rot(&path, what)
        .map_err(|error| Error::io(format!("{}: {error}", path.display())))?;
    if blocks.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("{} holds nothing there that could rot", path.display()),
        ));
    }
    Ok(Rotten { slot: slot.0, path, blocks })
}

/// An array that is only looked at.
struct Place {
    found: Discovery,
    present: Present,
}

fn look(place: &Path, name: Option<&str>) -> Result<Place> {
    let (driver, _ring, env) = start()?;
    let (place, name) = (place.to_owned(), name.map(str::to_owned));
    let looked = driver.spawn_ticket(async move {
        let found = discover(&place, name.as_deref(), Patience::usual(&env)).await?;
        let present = Present::of(&found, &env);
        Ok(Place { found, present })
    });
    settle(looked.wait())
}

/// The member that is meant, where it is, and its bytes.
fn here(found: &Discovery, present: &Present, member: &Path) -> Result<(Slot, PathBuf, u64)> {
    let slot = find(&found.newest.members, present, member)?;
    let (path, size) = present
        .found(slot)
        .cloned()
        .ok_or_else(|| not_here(&format!("member {slot} ({})", member.display())))?;
    Ok((slot, path, size))
}

fn not_here(member: &str) -> Error {
    Error::new(Kind::NotFound, format!("{member} is not here"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BLOCK, Scheme};
    use crate::volume::{CreateOptions, MemberHealth, OpenOptions, Volume};
    use std::time::{Duration, Instant};

    const LEN: usize = 4 << 20;
    const DEADLINE: Duration = Duration::from_millis(400);

    fn make(folder: &Path) -> Vec<u8> {
        let members: Vec<PathBuf> = (0..4).map(|i| folder.join(format!("m{i}"))).collect();
        let scheme = Scheme::new(2, 2);
        let options = CreateOptions { size: Some(64 << 20), scheme, ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        let volume = array.create_volume("v", LEN as u64, None).expect("created");
        let data: Vec<u8> = (0..LEN).map(|at| u8::try_from(at / 977 % 251).expect("small")).collect();
        volume.write(0, data.clone()).expect("written");
        array.close().expect("closed");
        data
    }

    /// Opened with a deadline that is short.
    fn open(folder: &Path) -> (Array, Volume) {
        let array = Array::open(folder, &OpenOptions { deadline: DEADLINE, ..OpenOptions::default() });
        let array = array.expect("opened");
        let volume = array.volume("v").expect("found");
        (array, volume)
    }

    fn health(array: &Array, slot: usize) -> MemberHealth {
        array.status().expect("told").members[slot].health
    }

    #[test]
    fn a_running_array_is_struck_until_the_faults_are_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = make(folder.path());
        let (array, volume) = open(folder.path());
        assert!(array.injected().expect("told").is_empty());
        array.inject(1, Fault::new(FaultKind::ReadError).times(5)).expect("injected");
        array.inject(2, Fault::new(FaultKind::Slow(Duration::from_millis(1)))).expect("injected");
        assert!(volume.read(0, LEN).expect("read") == data);
        let injected = array.status().expect("told").injected;
        assert_eq!(injected, array.injected().expect("told"));
        assert_eq!((injected.len(), injected[0].slot, injected[0].struck), (2, 1, 5));
        assert!(array.status().expect("told").members[1].errors[0] > 0);
        assert_eq!(array.clear_injected(Some(1)).expect("cleared").len(), 1);
        assert_eq!(array.injected().expect("told").len(), 1);
        assert_eq!(array.clear_injected(None).expect("cleared")[0].slot, 2);
        assert!(array.injected().expect("told").is_empty());
        assert!(volume.read(0, LEN).expect("read") == data);
        array.inject(3, Fault::new(FaultKind::WriteError)).expect("injected");
        volume.write_durable(0, vec![9; BLOCK]).expect("written");
        assert_eq!(health(&array, 3), MemberHealth::Out);
        array.close().expect("closed");
        // What struck can still be told, and strikes nobody any more.
        assert!(array.injected().expect("told")[0].struck > 0);
        let (array, volume) = open(folder.path());
        assert!(array.injected().expect("told").is_empty());
        assert!(volume.read(0, BLOCK).expect("read") == vec![9; BLOCK]);
    }

    #[test]
    fn what_is_no_fault_and_who_is_no_member_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path());
        let (array, _) = open(folder.path());
        let kind = |slot, fault| array.inject(slot, fault).map_err(|error| error.kind());
        let hang = Fault::new(FaultKind::Hang);
        assert_eq!(kind(4, hang), Err(Kind::NotFound));
        assert_eq!(kind(0, hang.times(0)), Err(Kind::Invalid));
        assert_eq!(kind(0, hang.within(64 << 20, 1)), Err(Kind::Invalid));
        array.close().expect("closed");
        assert_eq!(kind(0, hang), Err(Kind::Closed));
    }

    #[test]
    fn what_is_kept_and_cannot_be_read_is_refused_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path());
        let add = |fault| keep(folder.path(), None, Path::new("m1"), fault).map_err(|error| error.kind());
        let hang = Fault::new(FaultKind::Hang);
        assert_eq!(add(hang.times(0)), Err(Kind::Invalid));
        std::fs::write(folder.path().join("m1.inject"), "a line of another program\n").expect("written");
        assert_eq!(add(hang), Err(Kind::Refused));
        let opened = Array::open(folder.path(), &OpenOptions::default());
        assert_eq!(opened.map(drop).map_err(|error| error.kind()), Err(Kind::Refused));
        assert_eq!(forget(folder.path(), None, None).expect("forgotten").len(), 1);
        open(folder.path());
    }

    #[test]
    fn a_member_that_hangs_is_read_around_given_up_and_keeps_nobody_from_leaving() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = make(folder.path());
        let (array, volume) = open(folder.path());
        let began = Instant::now();
        array.inject(2, Fault::new(FaultKind::Hang)).expect("injected");
        assert!(volume.read(0, LEN).expect("read") == data);
        volume.write_durable(0, vec![9; BLOCK]).expect("written");
        assert_eq!(health(&array, 2), MemberHealth::Out);
        array.inject(1, Fault::new(FaultKind::Hang)).expect("injected");
        assert!(volume.read(BLOCK as u64, BLOCK).expect("read") == data[BLOCK..2 * BLOCK]);
        drop((array, volume));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn a_member_that_hangs_from_the_start_costs_an_opening_little_more_than_the_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = make(folder.path());
        keep(folder.path(), None, Path::new("m2"), Fault::new(FaultKind::Hang)).expect("kept");
        let began = Instant::now();
        let (array, volume) = open(folder.path());
        let took = began.elapsed();
        assert!((DEADLINE..10 * DEADLINE).contains(&took), "{took:?}");
        assert!(array.notes().iter().any(|note| note.contains("on purpose: hang")), "{:?}", array.notes());
        assert_eq!(health(&array, 2), MemberHealth::Out);
        assert!(volume.read(0, LEN).expect("read") == data);
        array.close().expect("closed");
        assert_eq!(forget(folder.path(), None, None).expect("forgotten"), [(2, folder.path().join("m2"))]);
        let (array, _) = open(folder.path());
        assert_eq!(health(&array, 2), MemberHealth::Active);
    }
}
