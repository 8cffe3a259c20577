//! What keeps an array in order behind its users' backs.
//!
//! | file | idea |
//! | --- | --- |
//! | `rebuild` | segments get the columns back that they lack: one job at a time works on the segments |
//! | `scrub` | everything is verified and healed |
//! | `gait` | how fast a job goes, and whether it goes on |
//! | `losses` | what is lost of rows that are beyond repair |
//! | `clean` | the cleaner: when it works, and what a round of it is |
//! | `choose` | which segments are worth emptying |
//! | `empty` | one segment, record by record: what is live is copied away |

mod choose;
mod clean;
mod empty;
mod gait;
mod losses;
mod rebuild;
mod scrub;

pub(crate) use clean::clean;
pub use rebuild::{Pace, Rebuilt, rebuild};
pub use scrub::{Scrub, forget_scrub, scrub};

use crate::commit::Core;
use crate::format::superblock::JobKind;
use std::sync::Arc;

/// The background task of an open array: rebuilds whenever the members in use have changed, until the array is
/// closed. It rests in between, and while rebuilds are paused.
pub async fn run(core: Arc<Core>) {
    loop {
        let listen = core.reformed();
        if core.is_ending() {
            return;
        }
        if !core.stripes().pool.has_suspects() && !core.reins(JobKind::Rebuild).paused {
            // What stops it either changes the members, and it is tried again, or the array.
            let _stopped = rebuild(&core, Pace::default()).await.is_err();
        }
        listen.await;
    }
}
