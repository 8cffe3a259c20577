//! What happened to an array, as its superblock remembers it: members that were lost and came back, errors, rebuilds,
//! volumes, damage; what somebody did and what befell it.
//!
//! An event is durable with the next commit; that of a change of the members with the change. The newest few hundred
//! are kept. The same events go to `tracing` when they happen, under the names that [`EventKind::name`] has.

use super::Shard;
use super::array::Array;
use super::discover::{Patience, discover};
use super::engine::{settle, start};
#[cfg(doc)]
use crate::error::Kind;
use crate::error::Result;
use std::path::Path;

pub use crate::format::superblock::{Event, EventKind, EventLog};

impl Array {
    /// What happened, oldest first.
    ///
    /// # Errors
    /// [`Kind::Closed`].
    pub fn events(&self) -> Result<EventLog> {
        let read = self.engine.start(async move |shard: Shard| Ok(shard.core().stripes().pool.events()));
        settle(self.engine.wait(read))
    }
}

/// What happened to the array that `place` names (see [`Array::open`]), as its newest superblock has it. Claims and
/// writes nothing; of one that somebody has open, what is not committed yet is not known.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Refused`] where several are and no name chooses.
pub fn events(place: impl AsRef<Path>, name: Option<&str>) -> Result<EventLog> {
    let (driver, _ring, env) = start()?;
    let (place, name) = (place.as_ref().to_owned(), name.map(str::to_owned));
    let looked = driver.spawn_ticket(async move {
        let found = discover(&place, name.as_deref(), Patience::usual(&env)).await?;
        Ok(found.newest.events)
    });
    settle(looked.wait())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Scheme;
    use crate::volume::inject::{Fault, FaultKind};
    use crate::volume::{CreateOptions, OpenOptions};
    use std::path::PathBuf;

    fn told(log: &EventLog) -> Vec<&'static str> {
        log.iter().map(|(_, event)| event.kind.name()).collect()
    }

    #[test]
    fn what_happens_is_remembered_also_by_who_only_looks() {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options =
            CreateOptions { size: Some(64 << 20), scheme: Scheme::new(2, 1), ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        let volume = array.create_volume("v", 1 << 20, None).expect("made");
        volume.write(0, vec![7; 1 << 20]).expect("written");
        volume.flush().expect("durable");
        array.inject(1, Fault::new(FaultKind::WriteError)).expect("injected");
        volume.write(0, vec![8; 1 << 20]).expect("written");
        volume.flush().expect("durable on the others");
        volume.resize(2 << 20).expect("resized");
        let expected =
            ["created", "volume-created", "fault-injected", "member-erred", "member-lost", "volume-resized"];
        let events = array.events().expect("open");
        assert_eq!(told(&events), expected);
        let lost = events.iter().find(|(_, event)| event.kind == EventKind::MemberLost);
        let text = lost.map(|(number, event)| (number, event.to_string()));
        let path = members[1].display();
        assert_eq!(text, Some((5, format!("member 1 ({path}) is out of use: a write failed"))));
        // The eviction is durable, and so is what was said of it.
        assert_eq!(told(&super::events(folder.path(), None).expect("there"))[..5], expected[..5]);
        array.close().expect("closed");
        assert_eq!(told(&super::events(&members[0], None).expect("there")), expected);
        let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
        assert_eq!(told(&array.events().expect("open"))[6..], ["member-back"]);
        array.close().expect("closed");
    }
}
