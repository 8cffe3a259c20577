//! The members of an open array: naming one, taking one out, replacing one, rebuilding.

use super::Shard;
use super::array::Array;
use super::discover::{FileId, absolute};
use super::engine::settle;
use super::make::prepare_one;
use super::status::Present;
use crate::device::Ring;
use crate::device::inject::Injector;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{JobKind, MemberRecord, MemberState};
use crate::layout::Geometry;
use crate::limits::RING_BYTES;
use crate::maintain::{Pace, Rebuilt, Scrub};
use crate::pool::Candidate;
use crate::runtime::{Owned, Ticket};
use crate::types::Slot;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Array {
    /// The slot of the member that a person means by `name`: its path, as it is now or as it was, its file name,
    /// its UUID or its slot number. What it names may be gone.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Refused`] when two members are meant, [`Kind::Closed`].
    pub fn member(&self, name: impl AsRef<Path>) -> Result<u8> {
        settle(self.engine.wait(self.start_member(name.as_ref())))
    }

    /// [`Array::member`] as a future.
    ///
    /// # Errors
    /// As [`Array::member`].
    pub async fn member_async(&self, name: impl AsRef<Path>) -> Result<u8> {
        settle(self.start_member(name.as_ref()).await)
    }

    fn start_member(&self, name: &Path) -> Ticket<Result<u8>> {
        let (name, present) = (name.to_owned(), self.engine.present.clone());
        self.engine.start(async move |shard: Shard| {
            let members = shard.core().stripes().pool.superblock().members;
            present.with(|present| find(&members, present, &name)).map(|slot| slot.0)
        })
    }

    /// Takes a member out, as if it broke. It stays out until it is replaced. Durable on return.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when it is out already, or data or the array cannot spare it.
    pub fn fail_member(&self, slot: u8) -> Result<()> {
        settle(self.engine.wait(self.start_fail(slot)))
    }

    /// [`Array::fail_member`] as a future.
    ///
    /// # Errors
    /// As [`Array::fail_member`].
    pub async fn fail_member_async(&self, slot: u8) -> Result<()> {
        settle(self.start_fail(slot).await)
    }

    fn start_fail(&self, slot: u8) -> Ticket<Result<()>> {
        self.engine.start(async move |shard: Shard| shard.fail_member(Slot(slot)).await)
    }

    /// Puts a file or device in the place of a member, whether that one still reads or is gone. An absent or empty
    /// file is made as large as the old member. Returns its slot. What the old one held is rebuilt in the
    /// background or by [`Array::rebuild`]; only then does the old one leave, and until then it is read where it
    /// can be. The exchange is durable on return.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Refused`] when the new one holds something (unless forced), is a member
    /// already or too small, or the old one is being replaced already, or all are simulated ([`crate::sim::trial`]);
    /// [`Kind::Busy`]; [`Kind::Io`].
    pub fn replace_member(&self, old: u8, new: impl AsRef<Path>, force: bool) -> Result<u8> {
        settle(self.engine.wait(self.start_replace(old, new.as_ref(), force)))
    }

    /// [`Array::replace_member`] as a future.
    ///
    /// # Errors
    /// As [`Array::replace_member`].
    pub async fn replace_member_async(&self, old: u8, new: impl AsRef<Path>, force: bool) -> Result<u8> {
        settle(self.start_replace(old, new.as_ref(), force).await)
    }

    fn start_replace(&self, old: u8, new: &Path, force: bool) -> Ticket<Result<u8>> {
        let (new, present) = (new.to_owned(), self.engine.present.clone());
        let ring = self.engine.ring.clone();
        let is_real = self.engine.check_real();
        self.engine.start(async move |shard: Shard| {
            is_real?;
            let new = absolute(&new)?;
            replace(&shard, Slot(old), new, force, &present, ring.as_ref()).await.map(|slot| slot.0)
        })
    }

    /// Gives all data its full redundancy back, as far as there is room, and lets replaced members go. Returns when
    /// it is done; [`Array::status`] says how far it is. If it is interrupted, by a crash too, the next one goes
    /// on where it was.
    ///
    /// # Errors
    /// When the array takes no more writes, or its metadata is damaged.
    pub fn rebuild(&self, pace: Pace) -> Result<Rebuilt> {
        settle(self.engine.wait(self.start_rebuild(pace)))
    }

    /// [`Array::rebuild`] as a future.
    ///
    /// # Errors
    /// As [`Array::rebuild`].
    pub async fn rebuild_async(&self, pace: Pace) -> Result<Rebuilt> {
        settle(self.start_rebuild(pace).await)
    }

    /// Rebuilds what is missing, then verifies every block of every member, parity, headers and superblocks too, and
    /// heals what is wrong. Returns when it is done; [`Array::status`] says how far it is. If it is interrupted,
    /// the next one goes on where it was.
    ///
    /// # Errors
    /// When the array takes no more writes, or its metadata is damaged.
    pub fn scrub(&self) -> Result<Scrub> {
        self.scrub_paced(Pace::default())
    }

    /// [`Array::scrub`] as a future.
    ///
    /// # Errors
    /// As [`Array::scrub`].
    pub async fn scrub_async(&self) -> Result<Scrub> {
        settle(self.start_scrub(Pace::default()).await)
    }

    /// [`Array::scrub`] at a pace.
    ///
    /// # Errors
    /// As [`Array::scrub`].
    pub fn scrub_paced(&self, pace: Pace) -> Result<Scrub> {
        settle(self.engine.wait(self.start_scrub(pace)))
    }

    /// Holds jobs of a kind back: one that is under way ends where it is, within moments, and none begins in the
    /// background, until [`Array::rebuild`] or [`Array::scrub`] asks for it again or the array is opened anew.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn pause(&self, kind: JobKind) -> Result<()> {
        settle(self.engine.wait(self.engine.start(async move |shard: Shard| {
            shard.core().hold(kind, |reins| reins.paused = true);
            Ok(())
        })))
    }

    /// Whether jobs of a kind are held back.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn is_paused(&self, kind: JobKind) -> Result<bool> {
        settle(
            self.engine
                .wait(self.engine.start(async move |shard: Shard| Ok(shard.core().reins(kind).paused))),
        )
    }

    /// Limits jobs of a kind to so many bytes per second, one that is under way too; `None` lets them go as fast as
    /// they can. A rebuild counts what it writes, a scrub what it reads. Until the array is closed.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn limit(&self, kind: JobKind, bytes_per_second: Option<u64>) -> Result<()> {
        settle(self.engine.wait(self.engine.start(async move |shard: Shard| {
            shard.core().hold(kind, |reins| reins.limit = bytes_per_second);
            Ok(())
        })))
    }

    /// Ends a scrub for good, whether it is under way or was interrupted: the next one begins anew. Durable on return.
    /// One that is under way ends within moments; a rebuild that it began goes on, and is not waited for here.
    ///
    /// # Errors
    /// [`Kind::Closed`], [`Kind::ReadOnly`], [`Kind::Io`].
    pub fn stop_scrub(&self) -> Result<()> {
        settle(self.engine.wait(self.engine.start(async move |shard: Shard| shard.stop_scrub().await)))
    }

    fn start_scrub(&self, pace: Pace) -> Ticket<Result<Scrub>> {
        self.engine.start(async move |shard: Shard| shard.scrub_paced(pace).await)
    }

    fn start_rebuild(&self, pace: Pace) -> Ticket<Result<Rebuilt>> {
        self.engine.start(async move |shard: Shard| shard.rebuild(pace).await)
    }
}

async fn replace(
    shard: &Shard,
    old: Slot,
    new: PathBuf,
    force: bool,
    present: &Arc<Owned<Present>>,
    ring: Option<&Ring>,
) -> Result<Slot> {
    let superblock = shard.core().stripes().pool.superblock();
    let record =
        superblock.members.get(usize::from(old.0)).ok_or_else(|| nobody(Path::new(&old.to_string())))?;
    // A member that failed for good was let go: its own device may take its place anew.
    let in_use = |(slot, record): (Slot, &MemberRecord)| {
        let path = present.with(|present| present.at(slot).map(|(path, _)| path.clone()))?;
        let claimed = !matches!(record.state, MemberState::Removed | MemberState::Failed);
        (claimed && is_same(&path, &new)).then_some(slot)
    };
    if let Some(slot) = (0..=u8::MAX).map(Slot).zip(&superblock.members).find_map(in_use) {
        let text = format!("{} is member {slot} of this array", new.display());
        return Err(Error::new(Kind::Refused, text));
    }
    let chunk = Geometry { chunk_blocks: superblock.chunk_blocks }.chunk_bytes();
    let recorded = u64::from(record.chunks) * chunk + 2 * RING_BYTES;
    let size = present.with(|present| present.at(old).map_or(recorded, |(_, size)| *size));
    let (candidate, undo) = prepare_one(new.clone(), size, force, ring).await?;
    let size = candidate.device.len();
    let injector = Injector::new(shard.core().env());
    let candidate = Candidate { device: Arc::new(injector.over(candidate.device)), path: candidate.path };
    let slot = shard.replace_member(old, candidate).await?;
    undo.keep();
    present.with(|present| present.join(slot, new, size, injector));
    Ok(slot)
}

/// Whether a member is the one that is meant.
type Test<'a> = &'a dyn Fn(Slot, &MemberRecord) -> bool;

/// Which member a person means.
pub(super) fn find(members: &[MemberRecord], present: &Present, name: &Path) -> Result<Slot> {
    let there: Vec<(Slot, &MemberRecord)> = (0..=u8::MAX)
        .map(Slot)
        .zip(members)
        .filter(|(_, record)| record.state != MemberState::Removed)
        .collect();
    let path = absolute(name)?;
    let text = name.to_str().unwrap_or("");
    let now = |slot: Slot| present.found(slot).map(|(path, _)| path.as_path());
    let tests: [Test<'_>; 5] = [
        &|slot, _| now(slot).is_some_and(|now| is_same(now, &path)),
        &|_, record| Path::new(&record.path) == path,
        &|_, record| record.uuid.to_string() == text.to_ascii_lowercase(),
        &|slot, _| slot.to_string() == text,
        &|slot, record| {
            let now = now(slot).and_then(Path::file_name);
            let then = Path::new(&record.path).file_name();
            name.components().count() == 1 && [now, then].contains(&Some(name.as_os_str()))
        },
    ];
    for test in tests {
        let mut meant = there.iter().filter(|(slot, record)| test(*slot, record));
        match (meant.next(), meant.next()) {
            (Some((slot, _)), None) => return Ok(*slot),
            // A member that was replaced at its own path leaves: who names the path means the new one.
            (Some(first), Some(second)) => {
                let both = [first, second];
                let mut staying = both.iter().filter(|(_, record)| record.state != MemberState::Leaving);
                return match (staying.next(), staying.next(), meant.next()) {
                    (Some((slot, _)), None, None) => Ok(*slot),
                    _ => Err(Error::new(
                        Kind::Refused,
                        format!("'{}' names more than one member; use a slot number", name.display()),
                    )),
                };
            }
            (None, _) => {}
        }
    }
    Err(nobody(name))
}

fn nobody(name: &Path) -> Error {
    Error::new(Kind::NotFound, format!("'{}' is no member of the array", name.display()))
}

/// Whether two paths name one file or device.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().as_ref().and_then(FileId::of);
    one == other || id(one).is_some_and(|one| id(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Env, Executor, Order};
    use crate::types::{Epoch, Uuid};

    fn record(uuid: u8, state: MemberState, path: &str) -> MemberRecord {
        let (since, label) = (Epoch(0), String::new());
        MemberRecord {
            uuid: Uuid([uuid; 16]),
            state,
            since,
            chunks: 9,
            errors: [0; 4],
            path: path.into(),
            label,
        }
    }

    #[test]
    fn a_member_is_named_by_path_file_name_slot_or_uuid() {
        use MemberState::{Active, Leaving, Out, Removed};
        let members = [
            record(1, Active, "/then/a"),
            record(2, Out, "/then/b"),
            record(3, Removed, "/then/c"),
            record(4, Leaving, "/then/1"),
            record(5, Active, "/then/1"),
            record(6, Active, "/other/a"),
        ];
        let env = Env::system(Executor::new(Order::Fifo).spawner()).expect("a thread");
        let mut present = Present::all([(PathBuf::from("/now/x"), 1)].into_iter(), &env);
        present.join(Slot(5), "/other/a".into(), 1, Injector::new(&env));
        let find = |name: &str| find(&members, &present, Path::new(name)).map_err(|error| error.kind());
        assert_eq!(find("/now/x"), Ok(Slot(0)));
        assert_eq!(find("/then/a"), Ok(Slot(0)));
        assert_eq!(find("x"), Ok(Slot(0)));
        assert_eq!(find("b"), Ok(Slot(1)));
        assert_eq!(find("1"), Ok(Slot(1)), "a slot before a file name");
        assert_eq!(find("/then/1"), Ok(Slot(4)), "who stays before who leaves");
        assert_eq!(find("06060606-0606-0606-0606-060606060606"), Ok(Slot(5)));
        assert_eq!(find("a"), Err(Kind::Refused));
        for gone in ["/then/c", "2", "c", "/then", "9"] {
            assert_eq!(find(gone), Err(Kind::NotFound), "{gone}");
        }
        assert_eq!(find(""), Err(Kind::Invalid));
    }
}
