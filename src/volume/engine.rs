//! What runs an open array, and the tasks that are its calls.

use super::Shard;
use super::status::Present;
use crate::device::Ring;
use crate::device::meter::Meters;
use crate::error::{Error, Kind, Result};
use crate::runtime::{Clock, Driver, Dropped, Env, Host, Owned, Spawner, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// How long the array, when it is closed, waits for operations that nobody waits for any more: those of members that
/// were given up. Their claims outlast the array.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// What the thread is called.
const NAME: &str = "paritas";

/// Where an engine's tasks run.
pub(super) enum Home {
    /// On a thread that is its own.
    Thread(Driver),
    /// Where its host runs them.
    Hosted(Spawner, Arc<dyn Host>),
}

/// An open array and what runs it.
pub(super) struct Engine {
    /// Empty once the array is closed. Only the engine's tasks touch it.
    pub(super) shard: Arc<Owned<Option<Shard>>>,
    pub(super) present: Arc<Owned<Present>>,
    pub(super) notes: Vec<String>,
    /// On which members are opened that join.
    pub(super) ring: Option<Ring>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) home: Home,
    /// What is asked of volumes, by their numbers.
    pub(super) meters: Meters,
}

/// A thread for an engine, with the ring that it drives where the kernel has one to give, and what it is to live on.
pub(super) fn start() -> Result<(Driver, Option<Ring>, Env)> {
    let started = match Ring::new() {
        Ok((ring, turner)) => Driver::start_with(NAME, turner).map(|driver| (driver, Some(ring))),
        Err(_refused) => Driver::start(NAME).map(|driver| (driver, None)),
    };
    let none = |error| Error::io(format!("no thread for the engine: {error}"));
    let (driver, ring) = started.map_err(none)?;
    let env = Env::system(driver.spawner()).map_err(none)?;
    Ok((driver, ring, env))
}

/// What a task answered.
pub(super) fn settle<T>(answer: std::result::Result<Result<T>, Dropped>) -> Result<T> {
    answer.unwrap_or_else(|Dropped| {
        Err(Error::new(Kind::Closed, "the engine has stopped; open the array again"))
    })
}

/// The array was closed.
pub(super) fn closed() -> Error {
    Error::new(Kind::Closed, "the array is closed")
}

impl Engine {
    /// Starts a task that ends when all members that are driven by the ring have been given back.
    pub(super) fn leave(&self) -> Ticket<()> {
        let (ring, clock) = (self.ring.clone(), self.clock.clone());
        self.spawn(async move {
            if let Some(ring) = ring {
                let _given_up = ring.vacant(clock.sleep(LEAVE_WAIT)).await.is_err();
            }
        })
    }

    /// Starts a task.
    pub(super) fn spawn<T, F>(&self, task: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match &self.home {
            Home::Thread(driver) => driver.spawn_ticket(task),
            Home::Hosted(spawner, _) => spawner.spawn_ticket(task),
        }
    }

    /// Blocks the caller until a task has answered.
    pub(super) fn wait<T>(&self, ticket: Ticket<T>) -> std::result::Result<T, Dropped> {
        if let Home::Hosted(_, host) = &self.home {
            while !ticket.is_settled() {
                if !host.turn() {
                    return Err(Dropped);
                }
            }
        }
        ticket.wait()
    }

    /// Refuses what needs members that are files or devices.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the engine is hosted.
    pub(super) fn check_real(&self) -> Result<()> {
        match &self.home {
            Home::Thread(_) => Ok(()),
            Home::Hosted(..) => Err(Error::new(
                Kind::Refused,
                "the members of this array are simulated: their world does that",
            )),
        }
    }

    /// Starts a task over the shard.
    pub(super) fn start<T, F>(&self, task: impl FnOnce(Shard) -> F + Send + 'static) -> Ticket<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shard = self.shard.clone();
        self.spawn(async move {
            let shard = shard.with(|shard| shard.clone()).ok_or_else(closed)?;
            task(shard).await
        })
    }
}
