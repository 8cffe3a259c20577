//! One seed: an array, a workload, faults within the tolerance, crashes anywhere, then more loss than that.
//!
//! The faults of members (rot, lost and misdirected writes, errors, lies, vanishing) strike at most as many
//! members as the weakest volume tolerates: whatever these do, the promise holds. Power loss, reordering,
//! tearing and short I/O strike all.

use super::audit::check_room;
use super::chronicle;
use super::client::{Client, Shared, any_scheme};
use super::disk::SimDisk;
use super::fault::{Fault, FaultPlan};
use super::hub::SimHub;
use super::model::VolumeModel;
use super::rng::Rng;
use super::scars::Scars;
use super::scenario::Mix;
use super::script::{CallId, Caller, FaultId, Script};
use super::upkeep::is_whole;
use super::world::World;
use crate::commit::{Config, CreateOptions, OpenOptions, Upkeep};
use crate::device::Device;
use crate::error::{self, Kind};
use crate::limits::RING_BYTES;
use crate::pool::Candidate;
use crate::runtime::{Executor, Order, Owned};
use crate::types::{BLOCK_U64, Lba, Number, Scheme, VolumeId};
use crate::volume::{Shard, VolumeInfo};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Steps after which a run that does not end counts as hung.
pub(super) const STEPS_MAX: u64 = 2_000_000;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What went wrong, if anything.
    pub failure: Option<String>,
    /// A hash of everything that happened on the members.
    pub trace: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
}

/// Everything that must have happened in a run of many seeds.
pub const EVENTS: [&str; 55] = [
    "audited row",
    "short read",
    "short write",
    "read error",
    "latent error",
    "unstable read",
    "stale read",
    "misdirected read",
    "write error",
    "lost write",
    "misdirected write",
    "flush error",
    "lying flush",
    "slow",
    "sound member damaged",
    "hang",
    "late",
    "vanish",
    "flap",
    "rot",
    "superblocks destroyed",
    "power loss",
    "freeze",
    "kill",
    "clock jump",
    "torn",
    "unflushed",
    "crash",
    "crash in recovery",
    "member evicted",
    "member returned",
    "member returned while open",
    "member failed by hand",
    "replacement",
    "member replaced",
    "rebuild finished",
    "rebuild by hand",
    "job paused",
    "job limited",
    "scrub by hand",
    "healed by scrub",
    "checkpoint",
    "reconstructed",
    "hedged",
    "healed",
    "array full",
    "overwrite when full",
    "moved block",
    "segment cleaned",
    "crash while cleaning",
    "volume made",
    "volume deleted",
    "metadata raised",
    "crash while metadata is raised",
    "loss beyond m",
];

/// A run and everything about it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What it did.
    pub outcome: Outcome,
    /// The faults that took place, of those that a script may leave out.
    pub faults: BTreeSet<FaultId>,
    /// The calls that were made.
    pub calls: BTreeSet<CallId>,
    /// Lives of the engine under faults that were drawn.
    pub lives: u64,
    /// Members that the array was made of.
    pub members: usize,
    /// What happened, line by line.
    pub story: Vec<String>,
}

/// Runs one seed. What panics has failed.
pub fn run(seed: u64) -> Outcome {
    perform(&Script::of(seed), false).outcome
}

/// Runs a script, and remembers its story if it is to be `told`. What panics has failed.
pub fn perform(script: &Script, told: bool) -> Told {
    perform_led(script, &[], told)
}

/// Runs a script in which these bytes choose before the seed does, as long as there are any: what is asked for from the
/// front, what befalls members from the back. For those who look for runs that no seed draws.
pub fn perform_led(script: &Script, choices: &[u8], told: bool) -> Told {
    let hub = SimHub::led_by(script.seed, choices);
    hub.cast(script.clone(), told);
    let mut run = Run::new(hub.clone(), script);
    let panicked = |panic: Box<dyn Any + Send>| Err(format!("the engine panicked: {}", words(&*panic)));
    let failure = catch_unwind(AssertUnwindSafe(|| run.go())).unwrap_or_else(panicked).err();
    let failure = failure.or_else(|| refused(&hub));
    if let Some(failure) = &failure {
        hub.tell(|| failure.clone());
    }
    let outcome = Outcome { failure, trace: hub.trace(), counts: run.counts() };
    let Run { lives, made_of: members, .. } = run;
    let (faults, calls, story) = hub.told();
    Told { outcome, faults, calls, lives, members, story }
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

/// Requests that no engine may make.
pub(super) fn refused(hub: &SimHub) -> Option<String> {
    (hub.refused() > 0).then(|| format!("{} misaligned or out-of-range requests", hub.refused()))
}

/// What an array is made of.
pub(super) struct Made {
    pub(super) scheme: Scheme,
    pub(super) disks: Vec<SimDisk>,
    pub(super) chunk_blocks: u32,
    pub(super) config: Config,
}

pub(super) struct Run {
    pub(super) hub: SimHub,
    script: Script,
    pub(super) mix: Mix,
    /// Lives under faults that were drawn, and those that passed.
    lives: u64,
    pub(super) life: u64,
    /// Members that the array was made of.
    made_of: usize,
    pub(super) rng: Rng,
    /// Every disk there ever was.
    pub(super) disks: Vec<SimDisk>,
    /// Those that are members, as of the last look.
    pub(super) members: Vec<usize>,
    /// Members that faults may strike; fewer than or as many as the weakest volume tolerates.
    pub(super) weak: Vec<usize>,
    scheme: Scheme,
    /// Damage on all other members, since it was last healed.
    pub(super) scars: Scars,
    /// Faults are loud: members fail, hang or vanish, and never lie.
    pub(super) is_honest: bool,
    /// The m of the weakest volume.
    pub(super) tolerance: u8,
    pub(super) chunk_blocks: u32,
    /// The array is filled, and kept so.
    pub(super) full: bool,
    config: Config,
    /// Losses that the metadata survives, and whether nothing lacks redundancy, as of the last close.
    pub(super) left: (u8, bool),
    /// The newest event that a clean close has made durable.
    told: u64,
    pub(super) shared: Arc<Owned<Shared>>,
    counts: BTreeMap<String, u64>,
}

pub(super) type Checked<T> = Result<T, String>;

/// One life of the engine's process.
pub(super) struct Life {
    pub(super) executor: Executor,
    pub(super) shard: Option<Shard>,
}

impl Run {
    fn new(hub: SimHub, script: &Script) -> Run {
        let mix = script.scenario.mix();
        let mut rng = hub.rng("run");
        let shapes = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 1), (3, 2), (4, 2)];
        let (k, m) = shapes[rng.index(shapes.len())];
        let scheme = Scheme::new(k, m).expect("a valid scheme");
        let members = usize::from(scheme.width()) + rng.index(3);
        let full = rng.chance(mix.full, 12);
        let is_honest = rng.chance(mix.honest, 12);
        let chunk_blocks = if full { 16 } else { [8, 16, 32][rng.index(3)] };
        // The reserves count chunks: of small ones it takes more until there is room beside them.
        // Full arrays take long to fill, and longer to overwrite: they are no larger than they must be.
        let chunks = if chunk_blocks == 8 { 90 } else { 40 } + rng.below(if full { 20 } else { 60 });
        let uneven = 1 + if full { 1 } else { 3 } * rng.below(2);
        let made_of = members.min(script.members.unwrap_or(members)).max(scheme.width().into());
        let disks: Vec<SimDisk> = (0..made_of)
            .map(|_| {
                let chunks = chunks * (1 + rng.below(uneven)) + rng.below(8);
                let blocks = chunks * u64::from(chunk_blocks);
                hub.disk(2 * RING_BYTES + blocks * BLOCK_U64)
            })
            .collect();
        let config = Config {
            write_buffer: [256 << 10, 1 << 20][rng.index(2)],
            map_cache: [64 << 10, 1 << 20][rng.index(2)],
            overlay: 1 << 12,
            deadline: Duration::from_secs(30),
        };
        Run { full, is_honest, ..Run::of(hub, script, rng, Made { scheme, disks, chunk_blocks, config }) }
    }

    /// A run of an array that is still to be made, and of no volumes.
    pub(super) fn of(hub: SimHub, script: &Script, rng: Rng, made: Made) -> Run {
        let Made { scheme, disks, chunk_blocks, config } = made;
        // Time passes when nothing else can happen: a member that is only slow is in time.
        hub.set_early_timers(0);
        Run {
            hub,
            mix: script.scenario.mix(),
            script: script.clone(),
            lives: 0,
            life: 0,
            made_of: disks.len(),
            rng,
            members: (0..disks.len()).collect(),
            disks,
            weak: Vec::new(),
            scars: Scars::new(),
            is_honest: false,
            scheme,
            tolerance: u8::MAX,
            chunk_blocks,
            full: false,
            config,
            told: 0,
            left: (0, false),
            shared: Arc::new(Owned::new(Shared::default())),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.into()).or_default() += times;
    }

    /// How often each thing happened.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = self.counts.clone();
        for (fault, count) in self.hub.counts() {
            *counts.entry(fault.name().into()).or_default() += count;
        }
        counts
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(index, disk): (usize, &SimDisk)| Candidate {
            device: Arc::new(disk.clone()),
            path: format!("disk{index}"),
        };
        self.disks.iter().enumerate().filter(|(_, disk)| !disk.is_gone()).map(candidate).collect()
    }

    pub(super) fn life(&mut self) -> Life {
        Life { executor: Executor::new(Order::Seeded(self.rng.next_u64())), shard: None }
    }

    /// Runs a future to its end, or until `steps` events happened: then `None`.
    fn drive<T: Send + 'static>(
        &self,
        life: &Life,
        steps: u64,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Checked<Option<T>> {
        let slot = Arc::new(Owned::new(None));
        let answer = slot.clone();
        life.executor.spawner().spawn(async move {
            let output = future.await;
            answer.with(|slot| *slot = Some(output));
        });
        for _ in 0..steps {
            life.executor.run_until_stalled();
            if let Some(output) = slot.with(Option::take) {
                return Ok(Some(output));
            }
            if !self.hub.step() {
                return Err("the engine waits for nothing that can happen".into());
            }
        }
        if steps == STEPS_MAX { Err("the engine does not come to an end".into()) } else { Ok(None) }
    }

    pub(super) fn finish<T: Send + 'static>(
        &self,
        life: &Life,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Checked<T> {
        Ok(self.drive(life, STEPS_MAX, future)?.expect("drive to the end"))
    }

    fn go(&mut self) -> Checked<()> {
        self.create()?;
        self.weaken();
        self.lives = (1 + self.rng.below(4)).min(self.script.lives.unwrap_or(u64::MAX));
        for life_number in 0..self.lives {
            self.life = life_number;
            let mut life = self.recover()?;
            self.storm(&mut life)?;
            let last = life_number + 1 == self.lives;
            if last || !self.rng.chance(self.mix.crashes, 12) {
                self.end(life)?;
            } else {
                self.crash(life);
            }
        }
        self.calm()?;
        self.beyond()
    }

    /// Makes the array.
    pub(super) fn make(&mut self) -> Checked<()> {
        let life = self.life();
        let env = self.hub.env(life.executor.spawner());
        let options = CreateOptions {
            name: "sim".into(),
            scheme: self.scheme,
            chunk_blocks: Some(self.chunk_blocks),
            labels: Vec::new(),
        };
        self.hub.tell(|| {
            let sizes: Vec<u64> = self.disks.iter().map(|disk| disk.len() / BLOCK_U64).collect();
            format!(
                "an array of {} on disks of {sizes:?} blocks, chunks of {}",
                self.scheme, self.chunk_blocks
            )
        });
        let candidates = self.candidates();
        let made = self.finish(&life, async move { Shard::create(&env, candidates, options).await })?;
        made.map(|_| ()).map_err(|error| format!("create: {error}"))
    }

    fn create(&mut self) -> Checked<()> {
        self.make()?;
        let mut life = self.life();
        self.open(&mut life, STEPS_MAX, false)?.expect("opened to the end");
        let shard = life.shard.clone().expect("opened");
        let least = if self.rng.chance(1, 2) { self.scheme.m() } else { 0 };
        let ordinary = if self.rng.chance(1, 2) { 0 } else { 2 };
        for index in 0..=self.rng.below(3) {
            let any = any_scheme(&mut self.rng, least, self.disks.len());
            let scheme = if index == ordinary { self.scheme } else { any };
            let more = if self.rng.chance(1, 3) { 2000 } else { 300 };
            let blocks = if self.full { 4000 } else { 64 + self.rng.below(more) };
            let (handle, name) = (shard.clone(), format!("v{index}"));
            let made =
                self.finish(&life, async move { handle.create_volume(&name, scheme, blocks).await })?;
            match made {
                Ok(id) => {
                    self.hub.tell(|| format!("volume {id} of {blocks} blocks at {scheme}"));
                    self.tolerance = self.tolerance.min(scheme.m());
                    let model = VolumeModel::new(id, scheme, blocks);
                    self.shared.with(|shared| shared.volumes.insert(id, model));
                }
                // Few small chunks may be too few for stronger metadata.
                Err(error) if error.kind() == Kind::NoSpace && scheme.m() > self.scheme.m() => {}
                Err(error) => return Err(format!("create volume: {error}")),
            }
        }
        if self.tolerance == u8::MAX {
            let (handle, scheme) = (shard.clone(), self.scheme);
            let id = self
                .finish(&life, async move { handle.create_volume("plain", scheme, 200).await })?
                .map_err(|error| format!("create volume: {error}"))?;
            self.tolerance = scheme.m();
            self.shared.with(|shared| shared.volumes.insert(id, VolumeModel::new(id, scheme, 200)));
        }
        self.shared.with(|shared| shared.tolerance = self.tolerance);
        if self.full {
            self.fill(&life, &shard)?;
        }
        self.end(life)
    }

    /// A client of this life.
    fn client(&mut self, shard: &Shard, client: Caller, label: &str) -> Client {
        Client {
            hub: self.hub.clone(),
            next: CallId { life: self.life, client, nth: 0 },
            shard: shard.clone(),
            shared: self.shared.clone(),
            rng: self.rng.fork(label),
        }
    }

    /// Writes new blocks until the array takes no more.
    fn fill(&mut self, life: &Life, shard: &Shard) -> Checked<()> {
        let mut client = self.client(shard, Caller::Client(0), "fill");
        self.finish(life, async move { client.fill().await })?;
        self.shared.with(|shared| shared.failure.take()).map_or(Ok(()), Err)
    }

    /// Draws the members that faults may strike, and how often.
    pub(super) fn weaken(&mut self) {
        let mut members: Vec<usize> = (0..self.disks.len()).collect();
        for _ in 0..self.rng.below(u64::from(self.tolerance) + 1) {
            let at = self.rng.index(members.len());
            self.weak.push(members.swap_remove(at));
        }
        for disk in &self.disks {
            disk.set_plan(self.benign());
        }
        for index in self.weak.clone() {
            let plan = self.draw_faults();
            self.disks[index].set_plan(plan);
        }
    }

    /// What may happen to every member: nothing that costs data.
    pub(super) fn benign(&self) -> FaultPlan {
        let short = FaultPlan::none().with(Fault::ShortRead, 2_000).with(Fault::ShortWrite, 2_000);
        short.with(Fault::Slow, self.mix.slow)
    }

    /// Faults of a weak member.
    pub(super) fn draw_faults(&mut self) -> FaultPlan {
        if self.is_honest {
            return self.draw_loud_faults();
        }
        let mut plan = self.benign();
        let Mix { faults, per_million, fatal, .. } = self.mix;
        for fault in faults {
            if self.rng.chance(1, 2) {
                plan = plan.with(*fault, per_million);
            }
        }
        if !fatal.is_empty() && self.rng.chance(1, 3) {
            plan = plan.with(fatal[self.rng.index(fatal.len())], 5_000);
        }
        plan
    }

    /// Faults of a weak member that fails and hangs, and never lies.
    fn draw_loud_faults(&mut self) -> FaultPlan {
        let loud = [
            (Fault::ReadError, 20_000),
            (Fault::WriteError, 5_000),
            (Fault::FlushError, 20_000),
            (Fault::Hang, 1_000),
        ];
        let mut plan = self.benign();
        for (fault, per_million) in loud {
            if self.rng.chance(1, 2) {
                plan = plan.with(fault, per_million);
            }
        }
        plan
    }

    pub(super) fn open(&mut self, life: &mut Life, steps: u64, read_only: bool) -> Checked<Option<()>> {
        let upkeep = match self.rng.below(8) {
            0 => Upkeep::Nothing,
            1 => Upkeep::OnDemand,
            _ => Upkeep::Background,
        };
        self.open_with(life, steps, read_only, upkeep)
    }

    pub(super) fn open_with(
        &mut self,
        life: &mut Life,
        steps: u64,
        read_only: bool,
        upkeep: Upkeep,
    ) -> Checked<Option<()>> {
        let opened = self.try_open(life, steps, read_only, upkeep)?;
        opened.transpose().map_err(|error| format!("open: {error}"))
    }

    pub(super) fn try_open(
        &mut self,
        life: &mut Life,
        steps: u64,
        read_only: bool,
        upkeep: Upkeep,
    ) -> Checked<Option<error::Result<()>>> {
        let env = self.hub.env(life.executor.spawner());
        let options = OpenOptions { read_only, array: None, upkeep, config: self.config };
        let candidates = self.candidates();
        let opened = self.drive(life, steps, async move { Shard::open(env, candidates, options).await })?;
        match opened {
            None => Ok(None),
            Some(Ok((shard, _))) => {
                self.hub.tell(|| if read_only { "opened to read" } else { "opened" }.into());
                life.shard = Some(shard);
                Ok(Some(Ok(())))
            }
            Some(Err(error)) => Ok(Some(Err(error))),
        }
    }

    /// Opens the array, with crashes on the way, and checks every volume.
    pub(super) fn recover(&mut self) -> Checked<Life> {
        loop {
            self.bring_back(self.mix.returns);
            let mut life = self.life();
            let steps = if self.rng.chance(self.mix.crashes_in_recovery, 12) {
                1 + self.rng.below(400)
            } else {
                STEPS_MAX
            };
            if self.open(&mut life, steps, false)?.is_some() {
                self.settle(&life)?;
                self.forget_replaced(&life);
                self.weaken_another(&life);
                return Ok(life);
            }
            self.count("crash in recovery", 1);
            self.hub.tell(|| format!("opening is cut short after {steps} events"));
            self.crash(life);
        }
    }

    /// Reads every volume whole and holds it against its history.
    pub(super) fn settle(&mut self, life: &Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        let superblock = shard.core().stripes().pool.superblock();
        chronicle::check(&superblock)?;
        let newest = chronicle::newest(&superblock.events);
        if newest < self.told {
            return Err(format!(
                "of {} events that a clean close made durable, {newest} are known",
                self.told
            ));
        }
        self.settle_volumes(&shard)?;
        self.shared.with(|shared| shared.shrunk.clear());
        for (id, _) in self.shared.with(|shared| shared.sizes()) {
            let handle = shard.clone();
            let size = shard.core().catalog().with(|catalog| catalog.get(id).map(|volume| volume.blocks));
            let blocks = size.map_err(|error| format!("volume {id} after opening: {error}"))?;
            let data = self
                .finish(life, async move { handle.read_blocks(id, Lba(0), blocks).await })?
                .map_err(|error| format!("reading volume {id} after opening: {error}"))?;
            let number = shard
                .core()
                .catalog()
                .with(|catalog| catalog.get(id).map(|volume| volume.durable))
                .map_err(|error| error.to_string())?;
            self.shared.with(|shared| {
                let model = shared.volumes.get_mut(&id).expect("listed");
                model.settle(&data)?;
                model.resume(number)
            })?;
        }
        Ok(())
    }

    /// Which volumes there are: those whose making was answered, and not those whose deletion was.
    fn settle_volumes(&mut self, shard: &Shard) -> Checked<()> {
        self.shared.with(|shared| {
            for (id, answered) in std::mem::take(&mut shared.dying) {
                let is_there = shard.core().scheme(id).is_ok();
                if is_there && answered {
                    return Err(format!("volume {id} came back, although its deletion was answered"));
                }
                if !is_there {
                    shared.volumes.remove(&id);
                }
            }
            for (name, (scheme, blocks)) in std::mem::take(&mut shared.births) {
                if let Ok(VolumeInfo { id, .. }) = shard.find(&name) {
                    shared.volumes.insert(id, VolumeModel::new(id, scheme, blocks));
                }
            }
            let strongest = shared.volumes.values().map(|volume| volume.scheme.m()).max();
            let metadata = shard.core().stripes().pool.meta_scheme().m();
            match strongest.is_some_and(|m| m > metadata) {
                true => {
                    Err(format!("a volume is stronger than the metadata, which survives {metadata} losses"))
                }
                false => Ok(()),
            }
        })
    }

    /// Clients work while faults strike.
    fn storm(&mut self, life: &mut Life) -> Checked<()> {
        self.hub.tell(|| format!("life {}; faults strike disks {:?}", self.life, self.weak));
        let shard = life.shard.clone().expect("opened");
        let clients = 1 + self.rng.below(3);
        for index in 0..clients {
            let operations = if self.full { 60 + self.rng.below(200) } else { 10 + self.rng.below(60) };
            let client = self.client(&shard, Caller::Client(index), &format!("client {index}"));
            life.executor.spawner().spawn(client.run(operations));
        }
        if self.rng.chance(self.mix.operated, 12) {
            self.operate(life);
        }
        let events = (200 + self.rng.below(3000)) * if self.full { 3 } else { 1 };
        let strike = self.rng.below(events);
        let mut flaps = self.flaps(events);
        let late = self.rng.below(events);
        let held = self.rng.chance(1, 4).then(|| self.rng.below(events));
        let returned = self.rng.chance(1, 2).then(|| self.rng.below(events));
        for at in 0..events {
            life.executor.run_until_stalled();
            flaps.at(at);
            if at == late {
                self.complete_late();
                self.hub.with(World::jump_clock);
            }
            if held == Some(at) {
                self.hold(&shard);
            }
            if returned == Some(at) {
                self.return_members(life);
            }
            if at == strike {
                self.strike(false);
                if !self.is_honest && self.rng.chance(self.mix.scars, 12) {
                    self.scar(life);
                }
            }
            if !self.hub.step() {
                break;
            }
        }
        life.executor.run_until_stalled();
        if self.full && self.rng.chance(1, 2) {
            // What comes next is likely a crash: best while blocks are between two places.
            for _ in 0..2000 {
                if shard.core().is_cleaning() || !self.hub.step() {
                    break;
                }
                life.executor.run_until_stalled();
            }
            for _ in 0..self.rng.below(200) {
                if !shard.core().is_cleaning() || !self.hub.step() {
                    break;
                }
                life.executor.run_until_stalled();
            }
        }
        if self.rng.chance(1, 4) {
            // Likewise while metadata grows stronger.
            let client = self.client(&shard, Caller::Outgrower, "outgrow");
            life.executor.spawner().spawn(client.outgrow());
            for _ in 0..self.rng.below(400) {
                life.executor.run_until_stalled();
                if !self.hub.step() {
                    break;
                }
            }
            life.executor.run_until_stalled();
        }
        if self.rng.chance(1, 2) {
            self.strike(true);
        }
        self.shared.with(|shared| shared.failure.take()).map_or(Ok(()), Err)
    }

    pub(super) fn note(&mut self, life: &Life) {
        if let Some(shard) = &life.shard {
            let progress = shard.core().progress();
            let counters = shard.core().stripes().counters();
            self.count("checkpoint", progress.checkpoints);
            self.count("member evicted", progress.evictions);
            self.count("rebuild finished", progress.rebuilds);
            self.count("reconstructed", counters.reconstructed);
            self.count("hedged", counters.hedged);
            self.count("healed", counters.healed);
            self.count("moved block", progress.moved_blocks);
            self.count("segment cleaned", progress.cleaned_segments);
            self.count("metadata raised", progress.raises);
        }
        let (born, died) =
            self.shared.with(|shared| (std::mem::take(&mut shared.born), std::mem::take(&mut shared.died)));
        self.count("volume made", born);
        self.count("volume deleted", died);
        let full = self.shared.with(|shared| std::mem::take(&mut shared.full));
        self.count("array full", full);
        let overwritten = self.shared.with(|shared| std::mem::take(&mut shared.overwritten));
        self.count("overwrite when full", overwritten);
    }

    pub(super) fn crash(&mut self, life: Life) {
        self.note(&life);
        self.count("crash", 1);
        if life.shard.as_ref().is_some_and(|shard| shard.core().is_cleaning()) {
            self.count("crash while cleaning", 1);
        }
        if life.shard.as_ref().is_some_and(|shard| shard.core().is_raising()) {
            self.count("crash while metadata is raised", 1);
        }
        let loses_power = self.rng.chance(2, 3);
        if loses_power && self.rng.chance(self.mix.freezes, 12) {
            self.freeze_some(&life);
        }
        drop(life);
        if loses_power {
            self.hub.power_loss();
        } else {
            self.hub.kill();
        }
    }

    /// Closes the array as it should be, or, when it takes no more writes, not at all.
    fn end(&mut self, life: Life) -> Checked<()> {
        let shard = life.shard.clone().expect("opened");
        let handle = shard.clone();
        let checked = self.finish(&life, async move { handle.core().check().await })?;
        checked.map_err(|error| format!("invariants: {error}"))?;
        // Clients may still be at it: only what was accepted before is sure to be durable.
        let accepted: Vec<(VolumeId, Number)> = self.shared.with(|shared| {
            let sizes = shared.sizes();
            sizes.into_iter().map(|(id, _)| (id, shared.volumes[&id].issued)).collect()
        });
        self.left = (shard.core().stripes().pool.meta_scheme().m(), is_whole(&shard));
        let told = chronicle::newest(&shard.core().stripes().pool.events());
        let closed = self.finish(&life, async move { shard.close().await })?;
        if closed.is_ok() {
            self.told = told;
        }
        self.note(&life);
        // What hangs keeps the lock until it has come to an end.
        drop(life);
        self.hub.kill();
        match closed {
            Ok(()) => {
                self.hub.tell(|| "closed".into());
                self.shared.with(|shared| {
                    for (id, number) in accepted {
                        let volume = shared.volumes.get_mut(&id).expect("volumes stay");
                        volume.flushed = volume.flushed.max(number);
                    }
                });
                Ok(())
            }
            Err(error) if error.kind() == Kind::NoSpace => Ok(()),
            Err(error) => Err(format!("close: {error}")),
        }
    }

    /// No more faults: everything must be there.
    fn calm(&mut self) -> Checked<()> {
        self.hub.tell(|| "no more faults: everything must be there".into());
        for disk in &self.disks {
            disk.set_plan(FaultPlan::none());
        }
        self.bring_back(6);
        let mut life = self.life();
        self.open(&mut life, STEPS_MAX, false)?.expect("opened to the end");
        self.settle(&life)?;
        self.converge(&life)?;
        self.forget_replaced(&life);
        let shard = life.shard.clone().expect("opened");
        self.end(life)?;
        check_room(&shard)?;
        self.check_rings()
    }
}
