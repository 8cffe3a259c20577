//! The other world: members, time and chance that obey a seed. Nothing in the engine uses it.
//!
//! A world is one thread: an executor with [`crate::runtime::Order::Seeded`], a [`SimHub`] and its
//! [`SimDisk`]s. Its loop is
//! `loop { executor.run_until_stalled(); if !hub.step() { break } }`.
//! A crash is: drop the executor, call [`SimHub::power_loss`] or [`SimHub::kill`], open anew with a fresh executor.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`rng`] | the generator behind every choice |
//! | [`fault`] | what can go wrong, how often |
//! | `media` | what a disk holds: durable content under a volatile cache |
//! | `world` | pending operations, timers, faults: the events of a run, one at a time |
//! | [`enumerate`] | every crash image of small workloads |
//! | [`exhaust`] | every damaged block, every set of members, every failing operation of small arrays |
//! | [`hub`] | the handle of a run: steps, clock, crashes, counters |
//! | [`disk`] | the handle of one member: the device port, and hands on its faults |
//! | [`trial`] | somebody's own program on a volume, through all that |

mod audit;
mod beyond;
mod cast;
mod chronicle;
pub mod client;
pub mod disk;
pub mod enumerate;
pub mod exhaust;
pub mod fault;
pub mod hub;
mod media;
pub mod model;
pub mod rng;
mod run;
mod scars;
pub mod scenario;
pub mod script;
pub mod shrink;
pub mod steady;
mod strike;
mod timers;
pub mod trial;
mod upkeep;
mod world;

pub use disk::{Rot, SimDisk};
pub use fault::{Fault, FaultPlan, Nth, Op};
pub use hub::SimHub;
pub use media::Image;
#[cfg(test)]
mod tests;

pub use rng::Rng;
pub use run::{EVENTS, Outcome, Told, perform, perform_led, run};
pub use scenario::Scenario;
pub use script::Script;
