//! What the array is asked for before the power fails.
//!
//! Every workload begins with the same array: two volumes, a few blocks written, flushed and in no checkpoint yet.

use super::history::{Blocks, Expected, History, patched, tagged};
use super::image::{Image, Moment};
use super::life::Life;
use super::members::Members;
use crate::sim::media::SECTOR;
use crate::types::{BLOCK, Lba, Number, Scheme, VolumeId};
use crate::volume::Shard;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// The volume that most is done to, and its blocks at first.
const FIRST: (&str, usize) = ("a", 24);
/// Blocks of a long write: its header has several sectors, and with k = 1 it takes two segments.
const WIDE: usize = 20;
/// The other one.
const SECOND: (&str, usize) = ("b", 2);

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Act {
    /// Writes a block that was never written.
    Write,
    /// Writes a block again.
    Overwrite,
    /// Writes twenty blocks.
    WriteWide,
    /// Writes two sectors, one in each of two blocks.
    WriteBytes,
    /// Writes a block of the other volume.
    WriteOther,
    /// Trims two blocks (writing zeros is the same call).
    Trim,
    /// Makes the volume larger.
    Grow,
    /// Makes the volume smaller.
    Shrink,
    /// Flushes the volume.
    Flush,
    /// Writes a checkpoint.
    Checkpoint,
    /// Makes a volume of the array's scheme.
    Create,
    /// Makes a volume that is stronger than the array's metadata, which is raised for it.
    CreateStronger,
    /// Deletes the other volume.
    Delete,
    /// Closes the array and opens it again.
    Reopen,
}

impl Act {
    /// All of them.
    pub const ALL: [Act; 14] = [
        Act::Write,
        Act::Overwrite,
        Act::WriteWide,
        Act::WriteBytes,
        Act::WriteOther,
        Act::Trim,
        Act::Grow,
        Act::Shrink,
        Act::Flush,
        Act::Checkpoint,
        Act::Create,
        Act::CreateStronger,
        Act::Delete,
        Act::Reopen,
    ];

    fn name(self) -> &'static str {
        match self {
            Act::Write => "write",
            Act::Overwrite => "overwrite",
            Act::WriteWide => "write-wide",
            Act::WriteBytes => "write-bytes",
            Act::WriteOther => "write-other",
            Act::Trim => "trim",
            Act::Grow => "grow",
            Act::Shrink => "shrink",
            Act::Flush => "flush",
            Act::Checkpoint => "checkpoint",
            Act::Create => "create",
            Act::CreateStronger => "create-stronger",
            Act::Delete => "delete",
            Act::Reopen => "reopen",
        }
    }
}

/// What is done, and on what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Story {
    /// Makes the array that all others begin with: mkfs, open, two volumes, writes, flushes.
    Make,
    /// Makes an array over another one.
    Remake,
    /// Opens that array and asks for these.
    Acts(Vec<Act>),
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Story::Make => f.write_str("make"),
            Story::Remake => f.write_str("remake"),
            Story::Acts(acts) => {
                f.write_str("open")?;
                acts.iter().try_for_each(|act| write!(f, "+{}", act.name()))
            }
        }
    }
}

impl Story {
    /// Reads what its `Display` wrote.
    pub fn parse(text: &str) -> Option<Story> {
        let find = |name: &str| Act::ALL.into_iter().find(|act| act.name() == name);
        match text {
            "make" => Some(Story::Make),
            "remake" => Some(Story::Remake),
            _ => {
                let mut words = text.split('+');
                words.next().filter(|word| *word == "open")?;
                words.map(find).collect::<Option<Vec<Act>>>().map(Story::Acts)
            }
        }
    }
}

/// The schemes that are enumerated.
///
/// # Panics
/// Never: they are valid.
pub fn schemes() -> [Scheme; 5] {
    [(1, 1), (1, 2), (2, 1), (3, 2), (4, 2)].map(|(k, m)| Scheme::new(k, m).expect("valid"))
}

/// Every story of up to so many calls, shorter ones first.
pub fn stories(acts: usize) -> Vec<Story> {
    let mut found = vec![Story::Make, Story::Remake];
    let mut longest = vec![Vec::new()];
    for length in 0..=acts {
        found.extend(longest.iter().cloned().map(Story::Acts));
        if length < acts {
            let longer = |acts: &Vec<Act>| Act::ALL.map(|act| acts.iter().copied().chain([act]).collect());
            longest = longest.iter().flat_map(longer).collect();
        }
    }
    found
}

/// What a story leads to.
pub(super) struct Told {
    /// What the members held before it.
    pub(super) image: Arc<Image>,
    /// When the power may fail, and has not in a shorter story.
    pub(super) moments: Vec<Moment>,
}

/// Everything that stories are told with.
#[derive(Clone, Copy)]
pub(super) struct Teller {
    pub(super) scheme: Scheme,
    pub(super) bytes: u64,
}

/// The array that stories begin with.
#[derive(Clone)]
pub(super) struct Begin {
    image: Arc<Image>,
    expected: Expected,
}

impl Teller {
    fn life(&self, image: &Arc<Image>, expected: &Expected, life: u64) -> Life {
        let members = Members::new(image, self.bytes, Arc::new(expected.clone()), Vec::new(), life);
        Life::new(&members)
    }

    /// Tells [`Story::Make`]: also what the members hold at its end.
    pub(super) fn make(&self) -> Result<(Told, Begin), String> {
        let image = Arc::new(Image::blank(usize::from(self.scheme.width())));
        let mut expected = Expected::default();
        let life = self.life(&image, &expected, 0);
        life.members.with(|world| world.keeps = true);
        life.create(self.scheme)?;
        expected.is_made = true;
        life.members.promise(expected.clone());
        let shard = life.open()?.map_err(|error| format!("open: {error}"))?;
        let mut actor = Actor { life: &life, shard, expected, scheme: self.scheme, tag: 0 };
        for ((name, blocks), written) in [(FIRST, 4), (SECOND, 1)] {
            actor.create(name, self.scheme, blocks)?;
            let data: Vec<u8> = (0..written).flat_map(|block| tagged(7, block).to_vec()).collect();
            actor.write(name, 0, &data)?;
            actor.flush(name)?;
        }
        life.rest()?;
        let expected = actor.expected;
        life.members.with(|world| world.moment());
        let held = life.members.with(|world| world.now_durable());
        Ok((Told { image, moments: end(&life)? }, Begin { image: Arc::new(held), expected }))
    }

    /// Tells a story that begins with an array. `None` when one of its calls makes no sense there.
    pub(super) fn tell(&self, begin: &Begin, story: &Story) -> Result<Option<Told>, String> {
        let image = begin.image.clone();
        let life = self.life(&image, &begin.expected, 1);
        let acts = match story {
            Story::Make => return self.make().map(|(told, _)| Some(told)),
            Story::Acts(acts) => acts.as_slice(),
            Story::Remake => {
                life.members.with(|world| world.keeps = true);
                let mut old = begin.expected.clone();
                old.is_made = false;
                for history in old.volumes.values_mut() {
                    history.settle(history.issued());
                    history.must_be = false;
                }
                life.members.promise(old);
                life.create(self.scheme)?;
                life.members.promise(Expected { is_made: true, ..Expected::default() });
                return Ok(Some(Told { image, moments: end(&life)? }));
            }
        };
        life.members.with(|world| world.keeps = acts.is_empty());
        let shard = life.open()?.map_err(|error| format!("open: {error}"))?;
        let mut actor =
            Actor { life: &life, shard, expected: begin.expected.clone(), scheme: self.scheme, tag: 10 };
        for (at, act) in acts.iter().enumerate() {
            life.rest()?;
            life.members.with(|world| {
                world.moment();
                world.keeps = at + 1 == acts.len();
            });
            if !actor.act(*act)? {
                return Ok(None);
            }
        }
        life.rest()?;
        Ok(Some(Told { image, moments: end(&life)? }))
    }
}

fn end(life: &Life) -> Result<Vec<Moment>, String> {
    let (remains, refused) = life.members.end();
    refused.map_or(Ok(remains.moments), Err)
}

/// Somebody who asks for things and writes down what may come of it.
struct Actor<'a> {
    life: &'a Life,
    shard: Shard,
    expected: Expected,
    scheme: Scheme,
    tag: u64,
}

impl Actor<'_> {
    /// Returns whether that makes sense in the state that the array is in.
    fn act(&mut self, act: Act) -> Result<bool, String> {
        self.tag += 1;
        let data =
            |blocks: usize| -> Vec<u8> { (0..blocks).flat_map(|at| tagged(self.tag, at).to_vec()).collect() };
        let size = self.expected.volumes.get(FIRST.0).map_or(0, |history| history.newest().len());
        let has_other = self.expected.volumes.contains_key(SECOND.0);
        match act {
            Act::Write if size > 4 => self.write(FIRST.0, 4 * BLOCK, &data(1))?,
            Act::Overwrite => self.write(FIRST.0, BLOCK, &data(1))?,
            Act::WriteWide if size >= WIDE => self.write(FIRST.0, 0, &data(WIDE))?,
            Act::WriteBytes => self.write(FIRST.0, BLOCK - SECTOR, &data(1)[..2 * SECTOR])?,
            Act::WriteOther if has_other => self.write(SECOND.0, 0, &data(1))?,
            Act::Trim => self.trim(FIRST.0, 1, 1)?,
            Act::Grow => self.resize(FIRST.0, size + 2)?,
            Act::Shrink if size > 4 => self.resize(FIRST.0, size.div_ceil(2).min(size - 2))?,
            Act::Flush => self.flush(FIRST.0)?,
            Act::Checkpoint => self.checkpoint()?,
            Act::Create => self.create(&format!("c{}", self.tag), self.scheme, 2)?,
            Act::CreateStronger => {
                let m = self.scheme.m() + 1;
                if self.scheme.k() == 1 || self.expected.volumes.keys().any(|name| name.starts_with('s')) {
                    return Ok(false);
                }
                let scheme = Scheme::new(1, m).ok_or("no such scheme")?;
                self.create(&format!("s{}", self.tag), scheme, 2)?;
            }
            Act::Delete if has_other => self.delete(SECOND.0)?,
            Act::Reopen => self.reopen()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn history(&mut self, name: &str) -> &mut History {
        self.expected.volumes.get_mut(name).expect("a volume of the story")
    }

    fn id(&self, name: &str) -> Result<VolumeId, String> {
        self.shard.find(name).map(|volume| volume.id).map_err(|error| error.to_string())
    }

    fn promise(&self) {
        self.life.members.promise(self.expected.clone());
    }

    /// Something is asked for that makes `next` of a volume.
    fn change<F>(
        &mut self,
        name: &str,
        next: Blocks,
        call: impl FnOnce(Shard, VolumeId) -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = crate::error::Result<Number>> + Send + 'static,
    {
        self.history(name).push(next);
        self.promise();
        let number =
            self.life.run(call(self.shard.clone(), self.id(name)?))?.map_err(|error| error.to_string())?;
        let issued = self.history(name).issued();
        if number == issued { Ok(()) } else { Err(format!("number {number} instead of {issued}")) }
    }

    fn write(&mut self, name: &str, offset: usize, data: &[u8]) -> Result<(), String> {
        let next = patched(self.history(name).newest(), offset, data);
        let data = Bytes::copy_from_slice(data);
        self.change(name, next, async move |shard: Shard, id| shard.write_at(id, offset as u64, data).await)
    }

    fn trim(&mut self, name: &str, lba: usize, blocks: usize) -> Result<(), String> {
        let mut next = self.history(name).newest().clone();
        next[lba..lba + blocks].fill(None);
        self.change(name, next, async move |shard: Shard, id| {
            shard.trim(id, Lba(lba as u64), blocks as u64).await
        })
    }

    fn resize(&mut self, name: &str, blocks: usize) -> Result<(), String> {
        let mut next = self.history(name).newest().clone();
        next.resize(blocks, None);
        self.change(name, next, async move |shard: Shard, id| shard.resize(id, blocks as u64).await)
    }

    fn flush(&mut self, name: &str) -> Result<(), String> {
        let (shard, id) = (self.shard.clone(), self.id(name)?);
        let number = self
            .life
            .run(async move { shard.flush(id).await })?
            .map_err(|error| format!("flush: {error}"))?;
        let history = self.history(name);
        if number != history.issued() {
            return Err(format!("flush: answered {number}, but {} was accepted", history.issued()));
        }
        history.flushed = number;
        self.promise();
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        let shard = self.shard.clone();
        self.life
            .run(async move { shard.checkpoint().await })?
            .map_err(|error| format!("checkpoint: {error}"))
    }

    fn create(&mut self, name: &str, scheme: Scheme, blocks: usize) -> Result<(), String> {
        self.expected.volumes.insert(name.into(), History::new(scheme, blocks));
        self.promise();
        let (shard, name_owned) = (self.shard.clone(), name.to_owned());
        let made =
            self.life.run(async move { shard.create_volume(&name_owned, scheme, blocks as u64).await })?;
        made.map_err(|error| format!("create: {error}"))?;
        self.history(name).must_be = true;
        self.promise();
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), String> {
        self.history(name).must_be = false;
        self.promise();
        let (shard, id) = (self.shard.clone(), self.id(name)?);
        self.life
            .run(async move { shard.delete_volume(id).await })?
            .map_err(|error| format!("delete: {error}"))?;
        self.expected.volumes.remove(name);
        self.promise();
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        let shard = self.shard.clone();
        self.life.run(async move { shard.close().await })?.map_err(|error| format!("close: {error}"))?;
        for history in self.expected.volumes.values_mut() {
            history.flushed = history.issued();
        }
        self.promise();
        self.shard = self.life.open()?.map_err(|error| format!("open again: {error}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_told_once_and_has_a_name_of_its_own() {
        let stories = stories(2);
        assert_eq!(stories.len(), 3 + 14 + 14 * 14);
        let mut names: Vec<String> = stories.iter().map(Story::to_string).collect();
        for (name, story) in names.iter().zip(&stories) {
            assert_eq!(Story::parse(name).as_ref(), Some(story), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), stories.len());
        assert!(["", "open+", "open+dance", "make+write"].iter().all(|name| Story::parse(name).is_none()));
    }

    #[test]
    fn calls_that_make_no_sense_make_no_story() {
        let scheme = Scheme::MIRROR;
        let teller = Teller { scheme, bytes: 8 << 20 };
        let (made, begin) = teller.make().expect("made");
        assert!(made.moments.len() > 5, "{}", made.moments.len());
        let tell = |acts: &[Act]| teller.tell(&begin, &Story::Acts(acts.to_vec())).expect("told");
        assert!(tell(&[Act::Delete, Act::WriteOther]).is_none());
        assert!(tell(&[Act::Shrink, Act::WriteWide]).is_none());
        assert!(tell(&[Act::Shrink, Act::Grow, Act::Shrink]).is_some());
        assert!(tell(&[Act::CreateStronger]).is_none(), "a mirror on two members is as strong as can be");
    }
}
