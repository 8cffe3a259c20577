//! A life under way: what moves it on, event by event, and what strikes when.
//!
//! The engine's tasks and the program's run on executors of their own, in one thread. A program that blocks is in the
//! middle of one of its tasks, which no executor can run twice; so its call runs the engine's, and the world.
//!
//! Invariants:
//! - The run is borrowed only between tasks.
//! - Once the process has died, the engine's executor is closed: nothing the program still does reaches a member.

use super::super::hub::SimHub;
use super::super::run::{self, Run, STEPS_MAX};
use crate::runtime::{Executor, Host, Owned, is_unwinding};
use std::panic::resume_unwind;
use std::sync::{Arc, Weak};

/// Polls of the program's tasks between two events: one that only ever yields does not stop the world.
const POLLS_MAX: usize = 256;
/// Calls that block and are answered without an event, between two events: likewise.
const CALLS_MAX: u64 = 64;

/// What a program is unwound with whose process dies in a call that blocks.
pub(super) struct Died;

/// When what happens.
#[derive(Clone, Copy, Default)]
pub(super) struct Schedule {
    /// Events so far.
    pub(super) events: u64,
    /// A weak member is struck at this one.
    pub(super) strike: Option<u64>,
    /// Sound members are damaged too then.
    pub(super) scars: bool,
    /// The process dies behind this one.
    pub(super) crash: Option<u64>,
    /// It did.
    pub(super) is_dead: bool,
    /// Turns of calls that block, so far.
    pub(super) turns: u64,
}

/// See the module.
pub(super) struct Stage {
    pub(super) run: Arc<Owned<Run>>,
    pub(super) hub: SimHub,
    /// The engine's.
    pub(super) life: run::Life,
    pub(super) schedule: Owned<Schedule>,
}

enum Step {
    Happened,
    Died,
    Stuck,
}

impl Stage {
    /// Lets the next thing happen.
    fn step(&self) -> Step {
        let Schedule { events, strike, scars, crash, is_dead, .. } = self.schedule.with(|schedule| {
            schedule.events += 1;
            schedule.is_dead |= schedule.crash.is_some_and(|crash| schedule.events > crash);
            *schedule
        });
        if is_dead {
            debug_assert!(crash.is_some(), "nobody dies without a crash");
            self.life.executor.spawner().close();
            return Step::Died;
        }
        if strike == Some(events) {
            self.run.with(|run| {
                run.strike(false);
                if scars {
                    run.scar(&self.life);
                }
            });
        }
        assert!(events < STEPS_MAX, "the program does not come to an end: {events} events");
        if self.hub.step() { Step::Happened } else { Step::Stuck }
    }

    /// Runs the program's tasks and the engine's until `is_over`, or until the process dies: then `false`.
    pub(super) fn play(&self, program: &Executor, is_over: impl Fn() -> bool) -> bool {
        loop {
            let mut polls = 0;
            loop {
                self.life.executor.run_until_stalled();
                let more = program.run(POLLS_MAX);
                polls += more;
                if more == 0 || polls >= POLLS_MAX {
                    break;
                }
            }
            if is_over() {
                // Who caught the panic of its own death has not escaped it.
                return !self.schedule.with(|schedule| schedule.is_dead);
            }
            match self.step() {
                Step::Happened => {}
                Step::Died => return false,
                Step::Stuck => assert!(!program.is_idle(), "the program waits for nothing that can happen"),
            }
        }
    }
}

/// What blocks a caller until its call is answered. It outlives the life in handles that the program has kept.
pub(super) struct Blocking(pub(super) Weak<Stage>);

impl Host for Blocking {
    fn turn(&self) -> bool {
        let Some(stage) = self.0.upgrade() else { return false };
        let turns = stage.schedule.with(|schedule| {
            schedule.turns += 1;
            schedule.turns
        });
        let has_moved = stage.life.executor.run_until_stalled() > 0;
        if has_moved && !turns.is_multiple_of(CALLS_MAX) {
            return true;
        }
        match stage.step() {
            Step::Happened => true,
            Step::Stuck if has_moved => true,
            Step::Died | Step::Stuck if is_unwinding() => false,
            Step::Died => {
                drop(stage);
                resume_unwind(Box::new(Died))
            }
            Step::Stuck => panic!("the engine waits for nothing that can happen"),
        }
    }
}
