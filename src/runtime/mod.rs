//! The executor, tickets and worker threads: the only room, with `device`, that names threads, locks,
//! atomics and clocks.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`executor`] | runs the tasks of one shard, one at a time, in an order that is FIFO or chosen by a seed |
//! | [`driver`] | a thread that owns an executor and sleeps while it has nothing to do |
//! | [`reactor`] | what it sleeps in where it carries out I/O itself |
//! | [`host`] | who runs an executor that has no thread of its own |
//! | [`ticket`](mod@ticket) | one value handed from whoever makes it to whoever waits for it, task or thread |
//! | [`signal`] | "look again": wakes everyone who listens |
//! | [`cell`] | state with one owner, which no borrow outlives an await |
//! | [`env`](mod@env) | the ports of time and chance |

pub mod cell;
pub mod driver;
pub mod env;
pub mod executor;
pub mod host;
mod join;
pub mod reactor;
pub mod signal;
pub mod ticket;
mod timer;

pub use cell::Owned;
pub use driver::Driver;
pub use env::{Clock, Entropy, Env, OsEntropy, Sleep, SystemClock};
pub use executor::{Executor, Order, Spawner};
pub use host::{Host, is_unwinding};
pub use join::{JoinAll, join_all};
pub use reactor::Reactor;
pub use signal::{Listen, Signal};
pub use ticket::{Completer, Dropped, Ticket, ticket};
