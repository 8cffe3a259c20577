//! The course of one seed: an array, and lives of a program on it.

use super::super::fault::FaultPlan;
use super::super::hub::SimHub;
use super::super::rng::Rng;
use super::super::run::{self, Made, Run, STEPS_MAX};
use super::super::script::Script;
use super::stage::{Blocking, Died, Schedule, Stage};
use super::{Life, Setup, Summary};
use crate::commit::{Config, Upkeep};
use crate::device::Device;
use crate::error::{Kind, Result};
use crate::runtime::{Executor, Order, Owned};
use crate::volume::Array;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The smallest member.
const MEMBER_BYTES_MIN: u64 = 8 << 20;
/// Blocks of a chunk: small ones, so that a short workload fills many.
const CHUNK_BLOCKS: u32 = 32;

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending<T> {
    /// The program returned this. What it had not made durable may be lost as if its process had been killed.
    Returned(T),
    /// The power failed, or the process was killed.
    Crashed,
}

/// What strikes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Faults within the tolerance, and crashes.
    Storm,
    /// Nothing.
    Calm,
    /// Nothing, but members are away, more than the array may tolerate.
    Beyond,
}

/// One seed: an array on simulated members, and everything that befalls it.
pub struct Trial {
    seed: u64,
    hub: SimHub,
    run: Arc<Owned<Run>>,
    events: u64,
    phase: Phase,
    lives: u64,
    crashes: u64,
}

impl Trial {
    /// Makes the array, and draws which of its members are weak.
    pub(super) fn new(hub: SimHub, setup: &Setup, seed: u64) -> Trial {
        let Setup { scheme, members, member_bytes, scenario, events } = *setup;
        let width = usize::from(scheme.width());
        assert!(members >= width, "{scheme} needs {width} members, not {members}");
        assert!(member_bytes >= MEMBER_BYTES_MIN, "a member has 8 MiB at least, not {member_bytes} bytes");
        let disks = (0..members).map(|_| hub.disk(member_bytes)).collect();
        let config = Config {
            write_buffer: 1 << 20,
            map_cache: 1 << 20,
            overlay: 1 << 12,
            deadline: Duration::from_secs(30),
        };
        let mut rng = hub.rng("trial");
        let is_honest = rng.chance(scenario.mix().honest, 12);
        let made = Made { scheme, disks, chunk_blocks: CHUNK_BLOCKS, config };
        let mut run = Run::of(hub.clone(), &Script { scenario, ..Script::of(seed) }, rng, made);
        run.tolerance = scheme.m();
        run.is_honest = is_honest;
        run.shared.with(|shared| shared.tolerance = scheme.m());
        kept(run.make());
        run.weaken();
        let run = Arc::new(Owned::new(run));
        Trial { seed, hub, run, events: events.max(1), phase: Phase::Storm, lives: 0, crashes: 0 }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Chance for the test itself: the size of its workload, how many lives there are. Every call gives another stream.
    pub fn rng(&self, label: &str) -> Rng {
        self.hub.rng(label)
    }

    /// A hash of everything that has happened on the members, and of the end of every sleep.
    pub fn trace(&self) -> u64 {
        self.hub.trace()
    }

    /// Adds a line to the story that [`super::Failure`] tells.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.hub.tell(line);
    }

    /// Opens the array and runs the program, until it returns or its process dies; what it has spawned ends with it.
    /// Every handle that is left answers [`Kind::Closed`] afterwards.
    ///
    /// # Errors
    /// Why the array does not open. Only after [`Trial::lose`].
    ///
    /// # Panics
    /// With the program's panic. When the program, or a task of it, waits for something that can never happen.
    /// When the array does not keep its promise.
    pub fn run<T, F>(&mut self, program: impl FnOnce(Life) -> F) -> Result<Ending<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (engine, read_only) = self.open()?;
        let executor = Executor::new(Order::Seeded(self.run.with(|run| run.rng.next_u64())));
        let schedule = Owned::new(self.schedule(&engine));
        let (run, hub) = (self.run.clone(), self.hub.clone());
        let stage = Arc::new(Stage { run, hub: hub.clone(), life: engine, schedule });
        let life = Life {
            array: self.array(&stage),
            hub,
            spawner: executor.spawner(),
            number: self.lives,
            read_only,
        };
        self.lives += 1;
        let output = Arc::new(Owned::new(None));
        let played = catch_unwind(AssertUnwindSafe(|| {
            let (future, answer) = (program(life), output.clone());
            executor.spawner().spawn(async move {
                let returned = future.await;
                answer.with(|output| *output = Some(returned));
            });
            stage.play(&executor, || output.with(|output| output.is_some()))
        }));
        // First, so that what destructors ask is not heard.
        stage.life.executor.spawner().close();
        let survived = match played {
            Ok(survived) => survived,
            Err(panic) if panic.is::<Died>() => false,
            Err(panic) => resume_unwind(panic),
        };
        drop(executor);
        let Stage { life, .. } = Arc::into_inner(stage).expect("only a call that blocks shares a stage");
        self.end(life, survived);
        let returned = output.with(Option::take).filter(|_| survived);
        Ok(returned.map_or(Ending::Crashed, Ending::Returned))
    }

    /// No more faults and crashes from here on: lives end by themselves. Members that were away come back, or do
    /// not.
    pub fn calm(&mut self) {
        self.phase = Phase::Calm;
        self.hub.tell(|| "no more faults".into());
        self.run.with(|run| {
            run.disks.iter().for_each(|disk| disk.set_plan(FaultPlan::none()));
            run.bring_back(6);
        });
    }

    /// [`Trial::calm`], and so many more members vanish, until [`Trial::restore`]. If that is more than the scheme
    /// tolerates, calls fail: reads with [`Kind::DataLoss`] for exactly what is lost, never with wrong bytes; all that
    /// writes with [`Kind::ReadOnly`] when too few members are left, and the array may be open to be read alone
    /// ([`Life::is_read_only`]) or not open at all ([`Trial::run`]).
    pub fn lose(&mut self, members: usize) {
        self.calm();
        self.phase = Phase::Beyond;
        self.run.with(|run| {
            for _ in 0..members {
                let here = |index: &usize| !run.disks[*index].is_gone();
                let here: Vec<usize> = run.members.iter().copied().filter(here).collect();
                if !here.is_empty() {
                    let index = here[run.rng.index(here.len())];
                    run.disks[index].vanish();
                }
            }
        });
    }

    /// All members that are away come back with what they held.
    pub fn restore(&mut self) {
        self.phase = Phase::Calm;
        self.run.with(|run| run.bring_back(12));
    }

    pub(super) fn summary(&self) -> Summary {
        let counts = self.run.with(|run| run.counts());
        Summary { lives: self.lives, crashes: self.crashes, counts, ..Summary::default() }
    }

    /// An open array, and whether it can only be read.
    fn open(&mut self) -> Result<(run::Life, bool)> {
        self.run.with(|run| {
            run.life = self.lives;
            if self.phase == Phase::Storm {
                return Ok((kept(run.recover()), false));
            }
            let opened = match attempt(run, false) {
                Err(error) if error.kind() == Kind::ReadOnly => attempt(run, true).map(|life| (life, true)),
                opened => opened.map(|life| (life, false)),
            };
            match &opened {
                Err(error) if self.phase == Phase::Calm => broken(&format!("open: {error}")),
                _ => opened,
            }
        })
    }

    /// What happens in a life, and when.
    fn schedule(&self, engine: &run::Life) -> Schedule {
        if self.phase != Phase::Storm {
            return Schedule::default();
        }
        self.run.with(|run| {
            if run.rng.chance(run.mix.operated, 12) {
                run.operate(engine);
            }
            // Short lives are as likely as long ones.
            let most = 1 + run.rng.below(self.events);
            let events = 1 + run.rng.below(most);
            Schedule {
                strike: Some(1 + run.rng.below(events)),
                scars: !run.is_honest && run.rng.chance(run.mix.scars, 12),
                crash: run.rng.chance(run.mix.crashes, 12).then_some(events),
                ..Schedule::default()
            }
        })
    }

    fn array(&self, stage: &Arc<Stage>) -> Array {
        let members = self.run.with(|run| {
            let here = run.disks.iter().filter(|disk| !disk.is_gone());
            here.map(|disk| (format!("disk{}", disk.index()), disk.len())).collect()
        });
        let shard = stage.life.shard.clone().expect("opened");
        let spawner = stage.life.executor.spawner();
        Array::hosted(shard, &members, spawner, Arc::new(Blocking(Arc::downgrade(stage))))
    }

    /// The process is gone.
    fn end(&mut self, life: run::Life, survived: bool) {
        self.run
            .with(|run| {
                if survived {
                    self.hub.tell(|| "the program returns".into());
                    run.note(&life);
                    drop(life);
                    self.hub.kill();
                } else {
                    self.crashes += 1;
                    if run.rng.chance(1, 2) {
                        run.strike(true);
                    }
                    run.crash(life);
                }
                let failure = run.shared.with(|shared| shared.failure.take());
                failure.map_or(Ok(()), Err)
            })
            .unwrap_or_else(|failure: String| broken(&failure));
    }
}

/// Opens the array, without a crash on the way.
fn attempt(run: &mut Run, read_only: bool) -> Result<run::Life> {
    let mut life = run.life();
    let opened = kept(run.try_open(&mut life, STEPS_MAX, read_only, Upkeep::Background));
    if let Err(error) = opened.expect("opened to the end") {
        drop(life);
        run.hub.kill();
        return Err(error);
    }
    Ok(life)
}

/// What the engine promises.
fn kept<T>(checked: run::Checked<T>) -> T {
    checked.unwrap_or_else(|failure| broken(&failure))
}

/// The engine broke its promise: no fault of the program.
fn broken(failure: &str) -> ! {
    panic!("paritas itself failed: {failure}")
}
