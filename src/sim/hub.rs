//! The handle of a simulated run.

use super::cast::Cast;
use super::disk::SimDisk;
use super::fault::Fault;
use super::rng::{Choices, Rng};
use super::script::{CallId, FaultId, Script};
use super::world::{Crash, Event, World};
use crate::runtime::{Clock, Entropy, Env, Owned, Sleep, Spawner, ticket};
use crate::types::BLOCK_U64;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Seconds since 1970 when every simulated run begins.
const DAWN: u64 = 1_750_000_000;

/// A simulated run: its disks, its clock, its chance. Clones are the same run. For one thread at a time.
#[derive(Clone)]
pub struct SimHub {
    run: Arc<Run>,
}

struct Run {
    world: Owned<World>,
    /// What the engine draws: apart from the world's choices, so that neither disturbs the other.
    entropy: Owned<Rng>,
    /// What scenarios draw.
    scenario: Owned<Rng>,
}

impl SimHub {
    /// A run without disks, at time zero.
    pub fn new(seed: u64) -> SimHub {
        SimHub::led_by(seed, &[])
    }

    /// Likewise, but while there are bytes left, these choose: what scenarios do from the front, what the world does
    /// from the back. The engine's entropy is the seed's: nobody chooses a nonce twice.
    pub(super) fn led_by(seed: u64, choices: &[u8]) -> SimHub {
        let mut rng = Rng::new(seed);
        let [front, back] = Choices::both_ends(choices);
        let entropy = Owned::new(rng.fork("entropy"));
        let scenario = Owned::new(rng.fork("scenario").led_by(front));
        let world = Owned::new(World::new(rng.fork("world").led_by(back)));
        SimHub { run: Arc::new(Run { world, entropy, scenario }) }
    }

    /// A new disk of `bytes` bytes, all zeros.
    ///
    /// # Panics
    /// If `bytes` are no whole blocks.
    pub fn disk(&self, bytes: u64) -> SimDisk {
        assert!(bytes.is_multiple_of(BLOCK_U64), "a disk has whole blocks");
        let index = self.with(|world| world.add_disk(bytes / BLOCK_U64));
        SimDisk::new(self.clone(), index, bytes)
    }

    /// A disk by its place in the order of creation.
    ///
    /// # Panics
    /// If there is none.
    pub fn existing(&self, index: usize) -> SimDisk {
        let blocks = self.with(|world| world.disks[index].blocks);
        SimDisk::new(self.clone(), index, blocks * BLOCK_U64)
    }

    /// Disks so far.
    pub fn disks(&self) -> usize {
        self.with(|world| world.disks.len())
    }

    /// Time, chance and tasks of an engine in this run.
    pub fn env(&self, spawner: Spawner) -> Env {
        Env { clock: Arc::new(self.clone()), entropy: Arc::new(self.clone()), spawner }
    }

    /// A generator of its own for a scenario, named so that it does not depend on the others.
    pub fn rng(&self, label: &str) -> Rng {
        self.run.scenario.with(|rng| rng.fork(label))
    }

    /// Completes one pending operation that the seed chooses, or fires the next timer, which moves the clock:
    /// when nothing else is pending, when it is due, or by chance. `false` if nothing is left that can happen
    /// (operations that hang do not count).
    pub fn step(&self) -> bool {
        let event = self.with(World::step);
        event.map(Event::tell).is_some()
    }

    /// How often in a million steps a timer fires early though operations are pending. At first 20,000.
    pub fn set_early_timers(&self, per_million: u64) {
        self.with(|world| world.early_timers = per_million);
    }

    /// Operations that were submitted and have not completed.
    pub fn pending(&self) -> usize {
        self.with(|world| world.pending())
    }

    /// A hash of everything that happened: equal seeds and calls give equal traces.
    pub fn trace(&self) -> u64 {
        self.with(|world| world.trace())
    }

    /// How often `fault` struck.
    pub fn count(&self, fault: Fault) -> u64 {
        self.with(|world| world.counts.get(&fault).copied().unwrap_or(0))
    }

    /// How often each fault struck that did.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.with(|world| world.counts.clone())
    }

    /// Operations that were misaligned or out of range: defects of the engine, so a run should end with none.
    pub fn refused(&self) -> u64 {
        self.with(|world| world.refused)
    }

    /// The power of all disks fails. Every write that no flush covered, completed or pending, is kept, lost or
    /// torn, each disk and block for itself; what survives is durable. Pending operations never complete. The
    /// executor is to be dropped, before or after.
    pub fn power_loss(&self) {
        let forgotten = self.with(|world| world.crash(Crash::Power));
        drop(forgotten);
    }

    /// The process dies, the disks live on: completed writes stay, pending ones are stored, torn or not
    /// stored. Pending operations never complete. The executor is to be dropped, before or after.
    pub fn kill(&self) {
        let forgotten = self.with(|world| world.crash(Crash::Process));
        drop(forgotten);
    }

    /// Follows `script`, and remembers the story if it is to be `told`.
    pub(super) fn cast(&self, script: Script, told: bool) {
        self.with(|world| world.cast = Cast::new(script, told));
    }

    /// Whether a call is made.
    pub(super) fn makes(&self, call: CallId) -> bool {
        self.with(|world| world.cast.makes(call))
    }

    /// Whether a fault that was drawn takes place.
    pub(super) fn lets(&self, disk: &SimDisk, fault: Fault) -> bool {
        self.with(|world| world.cast.lets(disk.index(), fault))
    }

    /// Adds a line to the story.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        self.with(|world| world.cast.tell(line));
    }

    /// The faults and calls that took place, and the story.
    pub(super) fn told(&self) -> (BTreeSet<FaultId>, BTreeSet<CallId>, Vec<String>) {
        self.with(|world| world.cast.take())
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        self.run.world.with(f)
    }
}

impl Clock for SimHub {
    fn monotonic(&self) -> Duration {
        self.with(|world| world.now)
    }

    fn wall_seconds(&self) -> u64 {
        DAWN + self.monotonic().as_secs() + self.with(|world| world.skew)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (completer, ticket) = ticket();
        self.with(|world| world.sleep(duration, completer));
        Box::pin(async move {
            if ticket.await.is_err() {
                std::future::pending().await
            }
        })
    }
}

impl Entropy for SimHub {
    fn next_u64(&self) -> u64 {
        self.run.entropy.with(Rng::next_u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Aligned, Device, read_full, write_full};
    use crate::runtime::{Executor, Order};
    use crate::sim::FaultPlan;
    use crate::types::BLOCK;
    use bytes::Bytes;

    const BLOCKS: u64 = 64;

    fn block(fill: u8) -> Bytes {
        Aligned::copy_of(&[fill; BLOCK]).freeze()
    }

    fn run(hub: &SimHub, executor: &Executor) {
        loop {
            executor.run_until_stalled();
            if !hub.step() {
                break;
            }
        }
    }

    /// Four tasks on three faulty disks, a crash in the middle; returns the trace.
    fn history(seed: u64) -> u64 {
        let hub = SimHub::new(seed);
        let executor = Executor::new(Order::Seeded(seed));
        let plan =
            Fault::OF_OPERATIONS.iter().fold(FaultPlan::none(), |plan, fault| plan.with(*fault, 20_000));
        for _ in 0..3 {
            hub.disk(BLOCKS * BLOCK_U64).set_plan(plan.clone());
        }
        for task in 0..4 {
            let (world, mut rng) = (hub.clone(), hub.rng("load"));
            executor.spawner().spawn(async move {
                for fill in 0..40 {
                    let disk = world.existing(rng.index(3));
                    let offset = rng.below(BLOCKS) * BLOCK_U64;
                    let _ = write_full(&disk, offset, vec![block(fill)]).await;
                    let _ = disk.flush().await;
                    let _ = read_full(&disk, rng.below(BLOCKS) * BLOCK_U64, BLOCK).await;
                    world.sleep(Duration::from_millis(task)).await;
                }
            });
        }
        for _ in 0..300 {
            executor.run_until_stalled();
            hub.step();
        }
        drop(executor);
        hub.power_loss();
        let contents = (0..3).flat_map(|disk| hub.existing(disk).peek(0, 64 * BLOCK));
        hub.trace() ^ u64::from(crc32fast::hash(&contents.collect::<Vec<u8>>()))
    }

    #[test]
    fn one_seed_gives_one_history_and_another_seed_another() {
        let histories: std::collections::BTreeSet<u64> = (0..50).map(history).collect();
        assert_eq!(histories.len(), 50);
        (0..50).for_each(|seed| assert!(histories.contains(&history(seed)), "seed {seed}"));
    }

    #[test]
    fn what_was_flushed_survives_every_power_loss_and_the_rest_is_sometimes_lost_and_sometimes_torn() {
        let (mut kept, mut lost, mut torn, mut pending_kept, mut pending_torn) = (0, 0, 0, 0, 0);
        for seed in 0..1000 {
            let hub = SimHub::new(seed);
            let disk = hub.disk(BLOCKS * BLOCK_U64);
            let executor = Executor::new(Order::Seeded(seed));
            let member = disk.clone();
            executor.spawner().spawn(async move {
                write_full(&member, 0, vec![block(1); 8]).await.expect("written");
                member.flush().await.expect("flushed");
                write_full(&member, 4 * BLOCK_U64, vec![block(2); 8]).await.expect("written");
                drop(member.write(20 * BLOCK_U64, vec![block(3)]));
            });
            while disk.unflushed_blocks() != 8 || !disk.used_blocks().any(|block| block == 11) {
                executor.run_until_stalled();
                assert!(hub.step());
            }
            executor.run_until_stalled();
            assert_eq!(hub.pending(), 1);
            drop(executor);
            hub.power_loss();
            assert_eq!(disk.peek(0, 4 * BLOCK), [1; 4 * BLOCK], "seed {seed}");
            for place in 4..12 {
                let old = u8::from(place < 8);
                let content = disk.peek(place * BLOCK_U64, BLOCK);
                match content {
                    content if content == [2; BLOCK] => kept += 1,
                    content if content == [old; BLOCK] => lost += 1,
                    _ => torn += 1,
                }
            }
            let pending = disk.peek(20 * BLOCK_U64, BLOCK);
            pending_kept += u32::from(pending == [3; BLOCK]);
            pending_torn += u32::from(pending != [3; BLOCK] && pending != [0; BLOCK]);
            assert_eq!((disk.unflushed_blocks(), hub.pending()), (0, 0));
            assert!(disk.used_blocks().all(|block| block < 12 || block == 20));
        }
        assert!(kept > 1000 && lost > 1000 && torn > 500, "{kept} {lost} {torn}");
        assert!(pending_kept > 100 && pending_torn > 100, "{pending_kept} {pending_torn}");
    }

    #[test]
    fn a_killed_process_leaves_what_was_written_and_any_part_of_what_was_pending() {
        let mut pending_seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let hub = SimHub::new(seed);
            let disk = hub.disk(BLOCKS * BLOCK_U64);
            drop(disk.write(0, vec![block(1)]));
            assert!(hub.step());
            drop(disk.write(BLOCK_U64, vec![block(2)]));
            hub.kill();
            assert_eq!(disk.peek(0, BLOCK), [1; BLOCK]);
            assert_eq!((disk.unflushed_blocks() >= 1, hub.pending(), hub.step()), (true, 0, false));
            let pending = disk.peek(BLOCK_U64, BLOCK);
            let sum: usize = pending.iter().map(|byte| usize::from(*byte)).sum();
            pending_seen.insert(if sum == 0 {
                "none"
            } else if sum == 2 * BLOCK {
                "whole"
            } else {
                "torn"
            });
        }
        assert_eq!(pending_seen.len(), 3);
    }

    #[test]
    fn operations_that_a_crash_forgot_never_complete() {
        let hub = SimHub::new(0);
        let disk = hub.disk(BLOCKS * BLOCK_U64);
        let executor = Executor::new(Order::Fifo);
        executor.spawner().spawn(async move {
            let _ = disk.flush().await;
        });
        executor.run_until_stalled();
        hub.power_loss();
        run(&hub, &executor);
        assert_eq!(executor.tasks(), 1);
    }

    #[test]
    fn the_clock_goes_to_the_next_deadline_when_nothing_else_can_happen() {
        let hub = SimHub::new(5);
        let executor = Executor::new(Order::Seeded(5));
        let order = Arc::new(Owned::new(Vec::new()));
        for seconds in [3600, 1, 60] {
            let (clock, order) = (hub.clone(), order.clone());
            executor.spawner().spawn(async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                order.with(|order| order.push((seconds, clock.monotonic().as_secs())));
            });
        }
        drop(hub.sleep(Duration::from_secs(9999)));
        run(&hub, &executor);
        order.with(|order| assert_eq!(*order, [(1, 1), (60, 60), (3600, 3600)]));
        assert_eq!(hub.wall_seconds(), DAWN + 3600, "a sleep that nobody waits for moves the clock");
    }

    #[test]
    fn timers_fire_early_as_often_as_they_are_told_to() {
        let early = |per_million| {
            let fires_first = |seed: &u64| {
                let hub = SimHub::new(*seed);
                hub.set_early_timers(per_million);
                let disk = hub.disk(BLOCK_U64);
                let sleep = hub.sleep(Duration::from_secs(1));
                let pending = disk.flush();
                hub.step();
                let fired = hub.monotonic() >= Duration::from_secs(1);
                drop((sleep, pending));
                fired
            };
            (0..1000).filter(fires_first).count()
        };
        assert_eq!(early(0), 0);
        assert!((200..300).contains(&early(250_000)), "{}", early(250_000));
        assert_eq!(early(1_000_000), 1000);
    }

    #[test]
    fn the_engine_and_the_scenario_draw_apart_from_the_world() {
        let first = |draw: bool| {
            let hub = SimHub::new(8);
            if draw {
                hub.next_u64();
                hub.rng("load").next_u64();
            }
            hub.with(|world| world.rng.next_u64())
        };
        assert_eq!(first(false), first(true));
        assert_ne!(SimHub::new(8).next_u64(), SimHub::new(9).next_u64());
    }
}
