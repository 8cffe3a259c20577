//! What a program has of its world.

use super::super::hub::SimHub;
use super::super::rng::Rng;
use crate::runtime::{Clock, Entropy, Env, Spawner};
use crate::volume::Array;
use std::time::Duration;

/// One life of a program: from an opening of the array to the program's return, or to its death. Clones are the same
/// life.
#[derive(Clone)]
pub struct Life {
    pub(super) array: Array,
    pub(super) hub: SimHub,
    pub(super) spawner: Spawner,
    pub(super) number: u64,
    pub(super) read_only: bool,
}

impl Life {
    /// The array, open. Every method of it and of its volumes works, but those that name files: members are replaced,
    /// and faults injected, by the world. [`Array::status`] does not know where members are that joined in this life.
    pub fn array(&self) -> &Array {
        &self.array
    }

    /// Lives of the program before this one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the array is open to be read alone, because too few members are left to write it. Only after
    /// [`super::Trial::lose`].
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Where the program's own tasks go. They end with the life.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// The ports of time and chance: what [`Env::system`] is in production.
    pub fn env(&self) -> Env {
        self.hub.env(self.spawner())
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        self.hub.monotonic()
    }

    /// Sleeps. Takes no time: when nothing else happens, the clock goes to the next end of a sleep.
    pub async fn sleep(&self, duration: Duration) {
        self.hub.sleep(duration).await;
    }

    /// 64 bits of the world's chance.
    pub fn random(&self) -> u64 {
        self.hub.next_u64()
    }

    /// A generator of its own for a part of the program or of its workload. Every call gives another one.
    pub fn rng(&self, label: &str) -> Rng {
        self.hub.rng(label)
    }

    /// Adds a line to the story that [`super::Failure`] tells. Not called when nobody listens.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.hub.tell(line);
    }
}
