//! What an array is asked for while its members' operations fail: together, everything that it can be asked for.

use super::super::enumerate::Expected;
use super::super::media::Image;
use super::base::{Base, End};
use super::player::Player;
use super::stage::{Checked, Open, Stage};
use crate::commit::{OpenOptions, Upkeep};
use crate::error::Error;
use crate::maintain::Pace;
use crate::types::{Scheme, Slot};

/// A part of the workload, and what it begins with.
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) scheme: Scheme,
    /// Disks at the beginning; the last ones may not be members yet.
    pub(super) images: Vec<Image>,
    /// How many of them are members.
    pub(super) members: usize,
    pub(super) expected: Expected,
    play: fn(&Phase, &Stage, &mut Played) -> Checked<()>,
}

/// What came of it.
pub(super) struct Played {
    pub(super) expected: Expected,
    /// Calls that failed, and how.
    pub(super) errors: Vec<(String, Error)>,
    /// Segments that the cleaner emptied, and bytes that a rebuild wrote.
    pub(super) cleaned: u64,
    pub(super) rebuilt: u64,
}

impl Phase {
    /// All phases of a scheme.
    pub(super) fn all(scheme: Scheme) -> Checked<Vec<Phase>> {
        let members = usize::from(scheme.width());
        let blank = Stage::blank(members + 1).images();
        let base = Base::new(scheme, members, End::Killed)?;
        let mut mending = base.images.clone();
        mending.push(blank[members].clone());
        let (full, filled) = full(scheme, members)?;
        let phase = |name, images, expected: &Expected, play| Phase {
            name,
            scheme,
            images,
            members,
            expected: expected.clone(),
            play,
        };
        Ok(vec![
            phase("make", blank[..members].to_vec(), &Expected::default(), make),
            phase("work", base.images, &base.expected, work),
            phase("mend", mending, &base.expected, mend),
            phase("clean", full, &filled, clean),
        ])
    }

    /// Plays it on these disks.
    pub(super) fn play(&self, stage: &Stage) -> Checked<Played> {
        let mut played =
            Played { expected: self.expected.clone(), errors: Vec::new(), cleaned: 0, rebuilt: 0 };
        (self.play)(self, stage, &mut played)?;
        Ok(played)
    }
}

impl Played {
    fn open(&mut self, stage: &Stage, upkeep: Upkeep) -> Checked<Option<Open>> {
        let options = OpenOptions { upkeep, ..OpenOptions::default() };
        let opened = stage.open_as(stage.candidates(), options)?;
        Ok(opened.map_err(|error| self.errors.push(("open".into(), error))).ok())
    }

    /// Asks for things one after the other, whatever becomes of each.
    fn ask(&mut self, open: &Open, tag: u64, asks: impl FnOnce(&mut Player) -> Checked<()>) -> Checked<()> {
        let expected = std::mem::take(&mut self.expected);
        let mut player = Player { open, expected, tag, errors: Vec::new() };
        let asked = asks(&mut player);
        self.expected = player.expected;
        self.errors.append(&mut player.errors);
        self.cleaned += open.shard.core().progress().cleaned_segments;
        asked
    }

    /// A job may have to be asked for twice: what stops it changes the members.
    fn job<T>(
        &mut self,
        what: &str,
        mut ask: impl FnMut() -> Checked<Result<T, Error>>,
    ) -> Checked<Option<T>> {
        if let Ok(done) = ask()? {
            return Ok(Some(done));
        }
        Ok(ask()?.map_err(|error| self.errors.push((what.into(), error))).ok())
    }
}

fn make(phase: &Phase, stage: &Stage, played: &mut Played) -> Checked<()> {
    if let Err(error) = stage.create(phase.scheme)? {
        played.errors.push(("mkfs".into(), error));
        return Ok(());
    }
    played.expected.is_made = true;
    let Some(open) = played.open(stage, Upkeep::OnDemand)? else { return Ok(()) };
    played.ask(&open, 0, |player| {
        player.create("a", phase.scheme, 12)?;
        if player.has("a") {
            player.write("a", 0, 9)?;
            player.flush("a")?;
            player.read("a")?;
        }
        player.close()
    })
}

fn work(phase: &Phase, stage: &Stage, played: &mut Played) -> Checked<()> {
    let Some(open) = played.open(stage, Upkeep::OnDemand)? else { return Ok(()) };
    played.ask(&open, 1000, |player| {
        player.read("a")?;
        player.write("a", 2, 7)?;
        player.flush("a")?;
        player.write("b", 1, 2)?;
        player.trim("a", 5, 3)?;
        player.resize("a", 44)?;
        player.flush("a")?;
        player.read("b")?;
        player.create("c", phase.scheme, 6)?;
        if player.has("c") {
            player.write("c", 0, 6)?;
        }
        player.checkpoint()?;
        player.resize("b", 4)?;
        player.flush("b")?;
        player.write("a", 30, 10)?;
        if player.has("c") {
            player.delete("c")?;
        }
        player.read("a")?;
        player.write("b", 0, 1)?;
        player.checkpoint()
    })?;
    played.job("scrub", || open.run(async move |shard| shard.scrub().await))?;
    played.ask(&open, 2000, |player| {
        player.write("a", 1, 1)?;
        player.read("a")?;
        player.flush("b")?;
        player.read("b")?;
        player.close()
    })
}

fn mend(phase: &Phase, stage: &Stage, played: &mut Played) -> Checked<()> {
    let Some(open) = played.open(stage, Upkeep::OnDemand)? else { return Ok(()) };
    let new = stage.candidate(phase.members);
    let replaced = open.run(async move |shard| shard.replace_member(Slot(0), new).await)?;
    if let Err(error) = replaced {
        played.errors.push(("replace".into(), error));
    }
    played.ask(&open, 1000, |player| {
        player.write("a", 2, 7)?;
        player.flush("a")
    })?;
    let rebuilt =
        played.job("rebuild", || open.run(async move |shard| shard.rebuild(Pace::default()).await))?;
    played.rebuilt = rebuilt.map_or(0, |rebuilt| rebuilt.written);
    played.ask(&open, 2000, |player| {
        player.write("b", 0, 2)?;
        player.read("a")?;
        player.close()
    })
}

/// The members of an array so full of dead blocks that a few more calls make the cleaner work.
fn full(scheme: Scheme, members: usize) -> Checked<(Vec<Image>, Expected)> {
    let stage = Stage::blank(members);
    stage.create(scheme)?.map_err(|error| format!("mkfs: {error}"))?;
    let open = stage.must_open()?;
    let mut player = Player { open: &open, expected: Expected::default(), tag: 0, errors: Vec::new() };
    player.expected.is_made = true;
    player.create("a", scheme, FULL)?;
    for call in 0..2000 {
        overwrite(&mut player, call)?;
        if open.shard.core().progress().cleaned_segments > 0 {
            break;
        }
    }
    player.flush("a")?;
    player.succeeded()?;
    if open.shard.core().progress().cleaned_segments == 0 {
        return Err("the cleaner has never worked".into());
    }
    let expected = player.expected;
    drop(open);
    stage.hub.kill();
    Ok((stage.images(), expected))
}

/// Blocks of the volume that is overwritten, blocks of a call, and calls while operations fail: until the cleaner has
/// emptied something.
const FULL: usize = 120;
const CALL: usize = 5;
const CALLS_MIN: usize = 12;
const CALLS_MAX: usize = 400;

/// One call after the other, in no order that leaves whole segments dead.
fn overwrite(player: &mut Player, call: usize) -> Checked<()> {
    player.write("a", call * 7 % (FULL / CALL) * CALL, CALL)?;
    if call % 4 == 3 {
        player.flush("a")?;
    }
    Ok(())
}

fn clean(_phase: &Phase, stage: &Stage, played: &mut Played) -> Checked<()> {
    let Some(open) = played.open(stage, Upkeep::Nothing)? else { return Ok(()) };
    played.ask(&open, 10_000, |player| {
        for call in 0..CALLS_MAX {
            overwrite(player, call)?;
            if call >= CALLS_MIN && player.open.shard.core().progress().cleaned_segments > 0 {
                break;
            }
        }
        player.flush("a")?;
        player.read("a")?;
        player.close()
    })
}
