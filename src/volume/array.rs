//! Arrays and volumes for programs: handles that every thread may use, blocking or as futures.
//!
//! An array owns one thread, on which its engine runs; every call is a task on it. The futures of the
//! `_async` methods only wait for their task: they run under any executor, and dropping one does not undo
//! what it asked for. The blocking methods must not be called where blocking is forbidden, such as in
//! another executor's tasks.
//!
//! **Ordering and durability.** A write, trim or resize is numbered when it is accepted, and is seen by
//! every read that begins after it returned. It is durable when a [`Volume::flush`] that began later has
//! succeeded, and a [`Volume::write_durable`] when it returns; [`Array::close`] makes everything durable.
//! After a crash, also of the process, a volume is a prefix of its history that contains everything that
//! was durable. One call of up to 1 MiB is one step of that history; a longer one is a sequence of such
//! steps in order of address. Dropping the last handle without [`Array::close`] is such a crash.
//!
//! **Addresses.** Offsets and lengths are multiples of 512 bytes; multiples of 4096 are faster. A block that a
//! write, or a trim, covers in part is read first, and keeps its other bytes as the newest call before this one
//! in the history left them: of calls that overlap in time one comes after the other, and two that write
//! different parts of a block both last. If such a block is lost, the call fails with [`Kind::DataLoss`], and
//! nothing of that step is done. Sizes of volumes are multiples of 4096.
//!
//! **Losses.** When more is damaged than the scheme tolerates, exactly the blocks that are gone fail to be read,
//! with [`Kind::DataLoss`], until they are written anew. When durable writes are gone before any map had them,
//! so that nobody knows what they covered, every flush of the volume fails with [`Kind::LostWrites`] until
//! [`Array::clear`] acknowledges it; also when they may be, because after a crash more members are away than the volume
//! tolerates. When what was accepted cannot be made durable because too few members are
//! left, flushes fail until the array is opened anew; the volume then goes on from what was durable.
//!
//! ```
//! use paritas::volume::{Array, CreateOptions, OpenOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let members: Vec<_> = (0..6).map(|i| folder.path().join(format!("disk{i}"))).collect();
//! let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
//! let array = Array::create(&members, &options)?; // 4+2: any two members may be lost
//!
//! let volume = array.create_volume("mail", 16 << 20, None)?;
//! volume.write(8192, vec![7; 4096])?;
//! volume.flush()?;
//! array.close()?;
//!
//! std::fs::remove_file(&members[1])?;
//! std::fs::remove_file(&members[4])?;
//! let array = Array::open(folder.path(), &OpenOptions::default())?;
//! let volume = array.volume("mail")?;
//! let reading = async {
//!     volume.write_async(0, vec![1; 4096]).await?;
//!     volume.flush_async().await?;
//!     volume.read_async(8192, 4096).await
//! };
//! # use std::task::{Context, Poll, Wake};
//! # struct Unpark(std::thread::Thread);
//! # impl Wake for Unpark { fn wake(self: std::sync::Arc<Self>) { self.0.unpark() } }
//! # fn block_on<T>(future: impl Future<Output = T>) -> T {
//! #     let mut future = std::pin::pin!(future);
//! #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
//! #     loop {
//! #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
//! #             Poll::Ready(value) => return value,
//! #             Poll::Pending => std::thread::park(),
//! #         }
//! #     }
//! # }
//! assert_eq!(block_on(reading)?, [7; 4096][..]); // any executor will do
//! # array.close()?;
//! # Ok(())
//! # }
//! ```

use super::discover::{Patience, discover};
use super::engine::{Engine, Home, closed, settle, start};
use super::handle::{Volume, whole_blocks};
use super::inject::note;
use super::make::{CreateOptions, Prepared, prepare};
use super::status::{Damage, InjectedFault, Present, Status, acknowledged, status};
use super::{Shard, VolumeInfo};
use crate::commit::{self, Config, Upkeep};
use crate::device::Ring;
use crate::device::meter::Meters;
#[cfg(doc)]
use crate::error::Kind;
use crate::error::Result;
use crate::format::superblock::EventKind;
use crate::runtime::{Driver, Dropped, Env, Host, Owned, Spawner, Ticket};
use crate::types::{Scheme, Slot};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How an array is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// Claim nothing and write nothing: what is found is read, and not healed.
    pub read_only: bool,
    /// What is done for the array besides serving it; everything, by default.
    pub upkeep: Upkeep,
    /// The array's name, where a directory holds several.
    pub name: Option<String>,
    /// Bytes of accepted writes that may wait in memory.
    pub write_buffer: u64,
    /// Bytes of the map that are kept in memory.
    pub map_cache: u64,
    /// How long a member may take for one operation before it counts as failed.
    pub deadline: Duration,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        let Config { write_buffer, map_cache, deadline, .. } = Config::default();
        let upkeep = Upkeep::Background;
        OpenOptions { read_only: false, upkeep, name: None, write_buffer, map_cache, deadline }
    }
}

/// An open array.
#[derive(Clone)]
pub struct Array {
    pub(super) engine: Arc<Engine>,
}

impl Array {
    /// Makes an array of these files and block devices and opens it. Files that do not exist are created when
    /// [`CreateOptions::size`] says how large. Durable on return.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for impossible options; [`Kind::Refused`] for members that hold something else
    /// (unless forced), are too small or named twice, and for fewer of them than the scheme has columns;
    /// [`Kind::Busy`] when one is in use; [`Kind::Io`]. What is refused has changed and created nothing.
    pub fn create<P: AsRef<Path>>(members: &[P], options: &CreateOptions) -> Result<Array> {
        let paths: Vec<PathBuf> = members.iter().map(|path| path.as_ref().to_owned()).collect();
        let options = options.clone();
        let (driver, ring, env) = start()?;
        let (on, clock) = (ring.clone(), env.clock.clone());
        let made = driver.spawn_ticket(async move {
            let Prepared { members, scheme, name, chunk_blocks, undo } =
                prepare(&paths, &options, on.as_ref()).await?;
            let sizes = members.iter().map(|member| member.device.len());
            let present = Present::all(paths.into_iter().zip(sizes), &env);
            let members = present.exposed((0..=u8::MAX).map(Slot).zip(members).collect());
            let options = commit::CreateOptions { name, scheme, chunk_blocks, labels: Vec::new() };
            Shard::create(&env, members.clone(), options).await?;
            undo.keep();
            let upkeep = Upkeep::Background;
            let options = commit::OpenOptions { upkeep, ..commit::OpenOptions::default() };
            let (shard, _) = Shard::open(env, members, options).await?;
            Ok((Arc::new(Owned::new(Some(shard))), Arc::new(Owned::new(present))))
        });
        let (shard, present) = settle(made.wait())?;
        Ok(Array {
            engine: Arc::new(Engine {
                shard,
                present,
                notes: Vec::new(),
                ring,
                clock,
                home: Home::Thread(driver),
                meters: Meters::default(),
            }),
        })
    }

    /// Opens the array that `place` names: the directory that holds its members, or any one of them. Recovers
    /// it first if it was not closed. Faults that are kept for its members ([`super::inject`]) strike from here on;
    /// [`Array::notes`] and [`Array::status`] name them.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Refused`] where several are and no name chooses, and for
    /// kept faults that cannot be read,
    /// [`Kind::Busy`] when another process has it open for writing, [`Kind::ReadOnly`] when too few
    /// members are there to write it, [`Kind::Corrupt`] when its metadata is damaged beyond redundancy.
    pub fn open(place: impl AsRef<Path>, options: &OpenOptions) -> Result<Array> {
        let (driver, ring, env) = start()?;
        let clock = env.clock.clone();
        let opened = open(&driver, env, ring.clone(), place.as_ref(), options);
        let (shard, present, notes) = settle(opened.wait())?;
        Ok(Array {
            engine: Arc::new(Engine {
                shard,
                present,
                notes,
                ring,
                clock,
                home: Home::Thread(driver),
                meters: Meters::default(),
            }),
        })
    }

    /// [`Array::open`] as a future.
    ///
    /// # Errors
    /// As [`Array::open`].
    pub async fn open_async(place: impl AsRef<Path>, options: &OpenOptions) -> Result<Array> {
        let (driver, ring, env) = start()?;
        let clock = env.clock.clone();
        let opened = open(&driver, env, ring.clone(), place.as_ref(), options);
        let (shard, present, notes) = settle(opened.await)?;
        Ok(Array {
            engine: Arc::new(Engine {
                shard,
                present,
                notes,
                ring,
                clock,
                home: Home::Thread(driver),
                meters: Meters::default(),
            }),
        })
    }

    /// An array whose engine a host runs, on members that are neither files nor devices: the host's, by path, with
    /// their bytes.
    pub(crate) fn hosted(
        shard: Shard,
        members: &BTreeMap<String, u64>,
        spawner: Spawner,
        host: Arc<dyn Host>,
    ) -> Array {
        let env = shard.core().env().clone();
        let present = Present::known(&shard.core().stripes().pool.superblock().members, members, &env);
        let engine = Engine {
            shard: Arc::new(Owned::new(Some(shard))),
            present: Arc::new(Owned::new(present)),
            notes: Vec::new(),
            ring: None,
            clock: env.clock,
            home: Home::Hosted(spawner, host),
            meters: Meters::default(),
        };
        Array { engine: Arc::new(engine) }
    }

    /// What was left alone when the array was opened, and why; which members were missing; which faults are
    /// injected on purpose.
    pub fn notes(&self) -> &[String] {
        &self.engine.notes
    }

    /// The volumes, as of now.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        settle(self.engine.wait(self.start_list())).map(|listed| self.handles(listed))
    }

    /// [`Array::volumes`] as a future.
    ///
    /// # Errors
    /// As [`Array::volumes`].
    pub async fn volumes_async(&self) -> Result<Vec<Volume>> {
        settle(self.start_list().await).map(|listed| self.handles(listed))
    }

    fn start_list(&self) -> Ticket<Result<Vec<VolumeInfo>>> {
        self.engine.start(async |shard: Shard| Ok(shard.volumes()))
    }

    fn handles(&self, listed: Vec<VolumeInfo>) -> Vec<Volume> {
        listed.into_iter().map(|info| Volume::new(self.engine.clone(), info)).collect()
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Closed`].
    pub fn volume(&self, name: &str) -> Result<Volume> {
        settle(self.engine.wait(self.start_find(name))).map(|info| Volume::new(self.engine.clone(), info))
    }

    /// [`Array::volume`] as a future.
    ///
    /// # Errors
    /// As [`Array::volume`].
    pub async fn volume_async(&self, name: &str) -> Result<Volume> {
        settle(self.start_find(name).await).map(|info| Volume::new(self.engine.clone(), info))
    }

    fn start_find(&self, name: &str) -> Ticket<Result<VolumeInfo>> {
        let name = name.to_owned();
        self.engine.start(async move |shard: Shard| shard.find(&name))
    }

    /// Makes a volume of `len` bytes, a multiple of 4096. Durable on return. Without a scheme it has the
    /// array's. For one that survives more losses than any before, all metadata is written anew, as strong, while
    /// other volumes go on being served; it stays so when the volume is deleted.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::Invalid`] for a bad name or size, [`Kind::Refused`] for a scheme that
    /// the array has too few members for, [`Kind::NoSpace`] when there is no room for stronger metadata, or why
    /// it could not be made durable.
    pub fn create_volume(&self, name: &str, len: u64, scheme: Option<Scheme>) -> Result<Volume> {
        settle(self.engine.wait(self.start_create(name, len, scheme)))
            .map(|info| Volume::new(self.engine.clone(), info))
    }

    /// [`Array::create_volume`] as a future.
    ///
    /// # Errors
    /// As [`Array::create_volume`].
    pub async fn create_volume_async(&self, name: &str, len: u64, scheme: Option<Scheme>) -> Result<Volume> {
        settle(self.start_create(name, len, scheme).await).map(|info| Volume::new(self.engine.clone(), info))
    }

    fn start_create(&self, name: &str, len: u64, scheme: Option<Scheme>) -> Ticket<Result<VolumeInfo>> {
        let name = name.to_owned();
        self.engine.start(async move |shard: Shard| {
            let scheme = scheme.unwrap_or(shard.core().stripes().pool.superblock().default_scheme);
            shard.create_volume(&name, scheme, whole_blocks(len)?).await?;
            shard.find(&name)
        })
    }

    /// Deletes a volume and everything in it. Durable on return.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or why it could not be made durable.
    pub fn delete_volume(&self, name: &str) -> Result<()> {
        settle(self.engine.wait(self.start_delete(name)))
    }

    /// [`Array::delete_volume`] as a future.
    ///
    /// # Errors
    /// As [`Array::delete_volume`].
    pub async fn delete_volume_async(&self, name: &str) -> Result<()> {
        settle(self.start_delete(name).await)
    }

    fn start_delete(&self, name: &str) -> Ticket<Result<()>> {
        let (name, meters) = (name.to_owned(), self.engine.meters.clone());
        self.engine.start(async move |shard: Shard| {
            let id = shard.find(&name)?.id;
            shard.delete_volume(id).await?;
            meters.forget(id.0.into());
            Ok(())
        })
    }

    /// How the array is.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn status(&self) -> Result<Status> {
        settle(self.engine.wait(self.start_status()))
    }

    /// [`Array::status`] as a future.
    ///
    /// # Errors
    /// As [`Array::status`].
    pub async fn status_async(&self) -> Result<Status> {
        settle(self.start_status().await)
    }

    fn start_status(&self) -> Ticket<Result<Status>> {
        let (present, notes) = (self.engine.present.clone(), self.engine.notes.clone());
        self.engine
            .start(async move |shard: Shard| Ok(present.with(|present| status(shard.core(), present, notes))))
    }

    /// Acknowledges the recorded damage and zeroes the members' error counts; durable on return. Flushes that
    /// failed for lost writes succeed again. Lost blocks stay unreadable until they are written anew, and are
    /// listed again when they are read. Returns what was acknowledged.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] and [`Kind::Closed`], or why it could not be made durable; then all is as before.
    pub fn clear(&self) -> Result<Vec<Damage>> {
        settle(self.engine.wait(self.start_clear()))
    }

    /// [`Array::clear`] as a future.
    ///
    /// # Errors
    /// As [`Array::clear`].
    pub async fn clear_async(&self) -> Result<Vec<Damage>> {
        settle(self.start_clear().await)
    }

    fn start_clear(&self) -> Ticket<Result<Vec<Damage>>> {
        self.engine.start(async move |shard: Shard| {
            let cleared = shard.clear().await?;
            Ok(acknowledged(shard.core(), &cleared))
        })
    }

    /// Makes everything durable and gives the members back. Every handle of the array and of its volumes
    /// answers [`Kind::Closed`] from here on.
    ///
    /// # Errors
    /// When something that was accepted could not be made durable; the array is closed all the same.
    pub fn close(&self) -> Result<()> {
        let closed = settle(self.engine.wait(self.start_close()));
        self.engine.wait(self.engine.leave()).map_err(|Dropped| self::closed())?;
        closed
    }

    /// [`Array::close`] as a future.
    ///
    /// # Errors
    /// As [`Array::close`].
    pub async fn close_async(&self) -> Result<()> {
        let closed = settle(self.start_close().await);
        self.engine.leave().await.map_err(|Dropped| self::closed())?;
        closed
    }

    /// The writer, woken by this task, lets go of the members before the next task ends.
    fn start_close(&self) -> Ticket<Result<()>> {
        let slot = self.engine.shard.clone();
        self.engine.spawn(async move {
            let shard = slot.with(Option::take).ok_or_else(closed)?;
            shard.close().await
        })
    }
}

type Opened = (Arc<Owned<Option<Shard>>>, Arc<Owned<Present>>, Vec<String>);

fn open(
    driver: &Driver,
    env: Env,
    ring: Option<Ring>,
    place: &Path,
    options: &OpenOptions,
) -> Ticket<Result<Opened>> {
    let (place, options) = (place.to_owned(), options.clone());
    driver.spawn_ticket(async move {
        let OpenOptions { read_only, upkeep, name, write_buffer, map_cache, deadline } = options;
        let mut found = discover(&place, name.as_deref(), Patience::new(&env, deadline)).await?;
        found.check_faults()?;
        let in_use = found.in_use();
        let members = match read_only {
            true => found.readers(),
            // Too few to be written: found out before anybody is kept from them.
            false if in_use < found.quorum => found.readers(),
            false => found.claim(ring.as_ref())?,
        };
        let present = Present::of(&found, &env);
        let config = Config { write_buffer, map_cache, deadline, ..Config::default() };
        let options = commit::OpenOptions { read_only, array: Some(found.array), upkeep, config };
        let opened = Shard::open(env, present.exposed(members), options).await;
        let (shard, _) = opened.map_err(|error| match present.injected().is_empty() {
            true => error,
            false => error.context("while faults are injected on purpose"),
        })?;
        if !read_only {
            for InjectedFault { slot, fault, .. } in present.injected() {
                note(&shard, EventKind::FaultInjected, Slot(slot), &fault.to_string());
            }
        }
        Ok((Arc::new(Owned::new(Some(shard))), Arc::new(Owned::new(present)), found.notes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::types::{BLOCK, BLOCK_U64};
    use bytes::Bytes;

    fn array(folder: &Path) -> Array {
        let members: Vec<PathBuf> = (0..3).map(|i| folder.join(format!("m{i}"))).collect();
        let scheme = Scheme::new(2, 1);
        let options = CreateOptions { size: Some(64 << 20), scheme, ..CreateOptions::default() };
        Array::create(&members, &options).expect("made")
    }

    #[test]
    fn handles_may_go_to_any_thread() {
        fn check<T: Clone + Send + Sync>() {}
        check::<Array>();
        check::<Volume>();
    }

    #[test]
    fn many_threads_write_one_volume_and_all_is_there_after_a_close() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let volume = array.create_volume("v", 4 << 20, None).expect("created");
        let threads: Vec<_> = (0..4u8)
            .map(|t| {
                let volume = volume.clone();
                std::thread::spawn(move || {
                    for i in 0..32u64 {
                        let offset = (i * 4 + u64::from(t)) * BLOCK_U64;
                        volume.write(offset, vec![t + 1; BLOCK]).expect("written");
                    }
                    volume.flush().expect("flushed");
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        array.close().expect("closed");
        assert_eq!(volume.read(0, BLOCK).map_err(|error| error.kind()), Err(Kind::Closed));
        assert_eq!(array.close().map_err(|error| error.kind()), Err(Kind::Closed));

        let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
        let bytes = array.volume("v").expect("found").read(0, 128 * BLOCK).expect("read");
        for (i, block) in bytes.chunks(BLOCK).enumerate() {
            assert!(block.iter().all(|byte| usize::from(*byte) == i % 4 + 1), "block {i}");
        }
    }

    #[test]
    fn what_is_misaligned_is_refused_and_nothing_is_an_operation() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let volume = array.create_volume("v", 1 << 20, None).expect("created");
        let invalid =
            |result: Result<()>| assert_eq!(result.map_err(|error| error.kind()), Err(Kind::Invalid));
        invalid(volume.read(100, BLOCK).map(|_| ()));
        invalid(volume.read(0, 511).map(|_| ()));
        invalid(volume.write(0, vec![0; 100]));
        invalid(volume.write(256, vec![0; 512]));
        invalid(volume.write(1 << 20, vec![0; BLOCK]));
        invalid(volume.write((1 << 20) - 512, vec![0; 1024]));
        invalid(volume.read(u64::MAX - 511, 512).map(|_| ()));
        invalid(volume.trim((1 << 20) - 512, 1024));
        invalid(volume.trim(1, BLOCK_U64));
        invalid(volume.resize(1000));
        invalid(array.create_volume("w", 1000, None).map(|_| ()));
        volume.write(0, Vec::new()).expect("nothing");
        volume.trim(0, 0).expect("nothing");
        assert!(volume.read(0, 0).expect("nothing").is_empty());
    }

    #[test]
    fn extents_tell_what_is_stored_wherever_it_is_on_its_way_to_the_map() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let volume = array.create_volume("v", 1 << 40, None).expect("created");
        let told = |offset: u64, len: u64| -> Vec<(u64, bool)> {
            let extents = volume.extents(offset, len).expect("told");
            extents.into_iter().map(|extent| (extent.bytes / 512, extent.is_hole)).collect()
        };
        let hole = |from: u64| (((1 << 40) - from) / 512, true);
        assert_eq!(told(0, 1 << 40), [hole(0)]);
        volume.write(1 << 30, vec![7; 2 * BLOCK]).expect("written");
        volume.write(1 << 39, vec![7; 512]).expect("written");
        volume.write(4 << 20, vec![7; 3 * BLOCK]).expect("written");
        volume.trim((4 << 20) + BLOCK_U64, BLOCK_U64).expect("trimmed");
        let expected = [
            ((4 << 20) / 512, true),
            (8, false),
            (8, true),
            (8, false),
            (((1 << 30) - (4 << 20)) / 512 - 24, true),
            (16, false),
            (((1 << 39) - (1 << 30)) / 512 - 16, true),
            (8, false),
            hole((1 << 39) + BLOCK_U64),
        ];
        assert_eq!(told(0, 1 << 40), expected, "in the buffer");
        volume.flush().expect("flushed");
        assert_eq!(told(0, 1 << 40), expected, "in the overlay");
        array.close().expect("closed");

        let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
        let volume = array.volume("v").expect("found");
        let told = |offset: u64, len: u64| -> Vec<(u64, bool)> {
            let extents = volume.extents(offset, len).expect("told");
            extents.into_iter().map(|extent| (extent.bytes / 512, extent.is_hole)).collect()
        };
        assert_eq!(told(0, 1 << 40), expected, "in the tree");
        assert_eq!(told((4 << 20) + 512, 8 << 10), [(7, false), (8, true), (1, false)], "parts of blocks");
        assert_eq!(told((4 << 20) + 512, 512), [(1, false)]);
        assert_eq!(told(0, 0), []);
        volume.trim(0, 1 << 35).expect("trimmed");
        assert_eq!(told(0, (1 << 39) + 512), [((1 << 39) / 512, true), (1, false)], "under a trim");
        let invalid = |offset, len| volume.extents(offset, len).map_err(|error| error.kind()).err();
        for (offset, len) in [(100, 512), (512, 100), (1 << 40, 512), (u64::MAX - 511, 512)] {
            assert_eq!(invalid(offset, len), Some(Kind::Invalid), "{len} at {offset}");
        }
    }

    #[test]
    fn a_call_tells_of_as_many_extents_as_it_has_time_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let volume = array.create_volume("v", 1 << 40, None).expect("created");
        (0..40u64).for_each(|i| volume.write(i << 30, vec![1; BLOCK]).expect("written"));
        let (mut at, mut stored) = (0, 0);
        while at < 1 << 40 {
            let extents = volume.extents(at, (1 << 40) - at).expect("told");
            assert!(extents.len() <= 40 && extents[0].bytes > 0);
            stored += extents.iter().filter(|extent| !extent.is_hole).count();
            at += extents.iter().map(|extent| extent.bytes).sum::<u64>();
        }
        assert_eq!((at, stored), (1 << 40, 40));
    }

    #[test]
    fn trim_resize_and_delete_do_what_they_say() {
        let folder = tempfile::tempdir().expect("a folder");
        let array = array(folder.path());
        let volume = array.create_volume("v", 1 << 20, None).expect("created");
        // An address that is not aligned: the bytes are copied.
        let data = Bytes::from(vec![9; 3 * BLOCK + 1]).slice(1..);
        volume.write_durable(0, data).expect("written");
        volume.write_zeroes(BLOCK_U64, BLOCK_U64).expect("trimmed");
        let bytes = volume.read(0, 3 * BLOCK).expect("read");
        assert_eq!([bytes[0], bytes[BLOCK], bytes[2 * BLOCK]], [9, 0, 9]);
        volume.resize(2 << 20).expect("resized");
        assert_eq!(volume.size().expect("there"), 2 << 20);
        array.delete_volume("v").expect("deleted");
        assert_eq!(volume.read(0, BLOCK).map_err(|error| error.kind()), Err(Kind::NotFound));
        assert!(array.volumes().expect("listed").is_empty());
    }
}
