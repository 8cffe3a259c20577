//! What an open array is asked for, and what that asks of its members: counted since it was opened.

use super::engine::settle;
use super::{Array, Shard};
use crate::device::meter::{Figures, Meter, Operation};
use crate::error::Result;
use crate::types::Slot;
use std::path::PathBuf;

/// Operations of each kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Activity {
    /// Reads.
    pub read: Figures,
    /// Writes; of a volume also trims, which have no bytes.
    pub write: Figures,
    /// Flushes.
    pub flush: Figures,
}

impl Activity {
    fn of(meter: &Meter) -> Activity {
        let [read, write, flush] = Operation::ALL.map(|operation| meter.figures(operation));
        Activity { read, write, flush }
    }

    /// What came after an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Activity) -> Activity {
        Activity {
            read: self.read.since(&earlier.read),
            write: self.write.since(&earlier.write),
            flush: self.flush.since(&earlier.flush),
        }
    }

    /// The operations of one kind.
    pub fn kind(&self, operation: Operation) -> &Figures {
        match operation {
            Operation::Read => &self.read,
            Operation::Write => &self.write,
            Operation::Flush => &self.flush,
        }
    }
}

/// What a member had to do, and how fast it was. That of one that was replaced ends with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberActivity {
    /// Its place in the member table.
    pub slot: u8,
    /// Where it is.
    pub path: PathBuf,
    /// What it did. Its bytes are those on the member: data, parity, headers and metadata.
    pub activity: Activity,
}

/// What was asked of a volume, and how long its callers waited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeActivity {
    /// Its name.
    pub name: String,
    /// What it did.
    pub activity: Activity,
}

impl Array {
    /// What each member that is there did since the array was opened, and what was asked of each volume.
    ///
    /// # Errors
    /// [`crate::error::Kind::Closed`].
    pub fn activity(&self) -> Result<(Vec<MemberActivity>, Vec<VolumeActivity>)> {
        let (present, meters) = (self.engine.present.clone(), self.engine.meters.clone());
        settle(self.engine.wait(self.engine.start(async move |shard: Shard| {
            let pool = &shard.core().stripes().pool;
            let member = |slot: u8| {
                let device = pool.reader(Slot(slot))?;
                let activity = Activity::of(device.meter()?);
                let path = present.with(|present| present.at(Slot(slot)).map(|(path, _)| path.clone()))?;
                Some(MemberActivity { slot, path, activity })
            };
            let members = (0..=u8::MAX).filter_map(member).collect();
            let volume = |volume: super::VolumeInfo| {
                let activity = Activity::of(&meters.of(volume.id.0.into()));
                VolumeActivity { name: volume.name, activity }
            };
            Ok((members, shard.volumes().into_iter().map(volume).collect()))
        })))
    }
}

#[cfg(test)]
mod tests {
    use crate::volume::{Array, CreateOptions};

    #[test]
    fn what_is_asked_of_volumes_and_members_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<_> = (0..3).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        let volume = array.create_volume("v", 16 << 20, None).expect("made");
        array.create_volume("idle", 1 << 20, None).expect("made");
        let (members, before) = array.activity().expect("open");
        assert_eq!((members.len(), before.len()), (3, 2));
        volume.write(0, vec![7; 1 << 20]).expect("written");
        volume.flush().expect("durable");
        volume.read(0, 8192).expect("read");
        volume.read(1 << 40, 8192).expect_err("outside");
        volume.trim(0, 4096).expect("trimmed");
        let (after, volumes) = array.activity().expect("open");
        let busy = volumes.iter().position(|volume| volume.name == "v").expect("listed");
        let did = volumes[busy].activity.since(&before[busy].activity);
        assert_eq!((did.read.done, did.read.failed, did.read.bytes), (2, 1, 8192));
        assert_eq!((did.write.done, did.write.failed, did.write.bytes), (2, 0, 1 << 20));
        assert_eq!((did.flush.done, did.flush.failed, did.flush.in_flight), (1, 0, 0));
        assert!(did.flush.percentile(500).expect("one") <= did.flush.time * 2 + did.flush.time);
        assert_eq!(volumes[1 - busy].activity, before[1 - busy].activity, "nobody asked it for anything");
        let written = |members: &[super::MemberActivity]| -> u64 {
            members.iter().map(|member| member.activity.write.bytes).sum()
        };
        // A mirror: each byte twice, and a header.
        assert!(written(&after) - written(&members) > 2 << 20);
        assert!(after.iter().all(|member| member.activity.flush.done > 0));
        array.close().expect("closed");
    }
}
