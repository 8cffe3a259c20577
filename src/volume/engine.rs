//! The thread that an open array owns, and the tasks that are its calls.

use super::Shard;
use super::status::Present;
use crate::error::{Error, Kind, Result};
use crate::runtime::{Driver, Dropped, Owned, Ticket};
use std::sync::Arc;

/// The thread and what runs on it.
pub(super) struct Engine {
    /// Empty once the array is closed. Only tasks of the driver touch it.
    pub(super) shard: Arc<Owned<Option<Shard>>>,
    pub(super) present: Arc<Owned<Present>>,
    pub(super) notes: Vec<String>,
    pub(super) driver: Driver,
}

/// A thread for an engine.
pub(super) fn start() -> Result<Driver> {
    Driver::start("paritas").map_err(|error| Error::io(format!("no thread for the engine: {error}")))
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
    /// Starts a task over the shard.
    pub(super) fn start<T, F>(&self, task: impl FnOnce(Shard) -> F + Send + 'static) -> Ticket<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shard = self.shard.clone();
        self.driver.spawn_ticket(async move {
            let shard = shard.with(|shard| shard.clone()).ok_or_else(closed)?;
            task(shard).await
        })
    }
}
