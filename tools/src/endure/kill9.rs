//! The hidden `__endure kill9`: rounds of SIGKILL. In each a writer of five volumes of five schemes is killed at a
//! random moment, now and then also whoever opens the array next. Then each volume must hold a prefix of its history
//! that contains every step that was acknowledged as flushed. The array is so full that the cleaner has to run.

use super::history::{History, Model, SECTOR, mix};
use super::victim::write_and_kill;
use super::{Kill9Args, file_error};
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report, say};
use paritas::error::{Error, Kind};
use paritas::volume::{Array, CreateOptions, OpenOptions, State, Volume};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Members, and bytes of each.
const MEMBERS: usize = 6;
const MEMBER: u64 = 64 << 20;
/// Names, schemes and bytes of the volumes.
const VOLUMES: [(&str, &str, u64); 5] = [
    ("raid", "4+2", 88 << 20),
    ("mirror", "mirror", 16 << 20),
    ("parity", "2+1", 40 << 20),
    ("stripe", "stripe", 20 << 20),
    ("triple", "mirror3", 8 << 20),
];
/// Numbers of steps that belong to one round.
const STEPS: u64 = 1 << 32;
/// How long the last owner's I/O may keep the array busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rounds between two looks at every block of every member.
const SCRUB_EVERY: u64 = 10;

/// What came of all rounds.
#[derive(Debug, Default, Serialize)]
struct Tally {
    rounds: u64,
    seconds: f64,
    /// Writers killed before they had opened the array.
    killed_opening: u64,
    /// Processes killed that opened the array behind a killed writer, and those of them that had not opened it yet.
    killed_behind: u64,
    killed_recovering: u64,
    flushes: u64,
    /// Steps that the volumes were found to hold, and how many of them were not flushed.
    steps: u64,
    unflushed: u64,
    bytes_verified: u64,
    bytes_moved: u64,
    /// Rounds in which the cleaner moved blocks.
    rounds_cleaned: u64,
    scrubs: u64,
    recovery_ms_max: u128,
}

pub(super) fn run(args: &Kill9Args) -> Result<Report, Failure> {
    let folder = tempfile::Builder::new().prefix("paritas-kill9.").tempdir().map_err(|e| file_error(&e))?;
    let mut rounds = Rounds::start(folder.path(), args.seed)?;
    let begun = Instant::now();
    for round in 1..=args.rounds {
        let place = |failure: Failure| failure.context(&format!("round {round} of seed {}", args.seed));
        if let Err(failure) = rounds.round(round).map_err(place) {
            say(&format!("the members are left in {}", folder.keep().display()));
            return Err(failure);
        }
        if round.is_multiple_of(25) {
            say(&format!("{round} rounds, {:?}", begun.elapsed()));
        }
    }
    let mut tally = rounds.tally;
    tally.seconds = begun.elapsed().as_secs_f64();
    let text = format!(
        "{} rounds of kill -9 in {:.0} s: {} writers while they opened the array, {} more processes behind them, {} \
         of these in the middle of recovery. {} flushes were acknowledged, nothing of them is missing; {} \
         volumes were {} times a prefix ({} steps, {} of them not flushed, {} compared). The cleaner moved {} \
         in {} rounds. {} scrubs found nothing lost. The longest recovery took {} ms.",
        tally.rounds,
        tally.seconds,
        tally.killed_opening,
        tally.killed_behind,
        tally.killed_recovering,
        tally.flushes,
        VOLUMES.len(),
        tally.rounds,
        tally.steps,
        tally.unflushed,
        show_size(tally.bytes_verified),
        show_size(tally.bytes_moved),
        tally.rounds_cleaned,
        tally.scrubs,
        tally.recovery_ms_max,
    );
    Ok(Report::done(json!(tally), text))
}

/// The array, and what must be on it.
struct Rounds {
    place: PathBuf,
    volumes: Vec<Known>,
    chance: u64,
    tally: Tally,
}

/// A volume as it must be.
struct Known {
    name: &'static str,
    history: History,
    model: Model,
    flushed: u64,
}

impl Rounds {
    fn start(folder: &Path, seed: u64) -> Result<Rounds, Failure> {
        let members: Vec<PathBuf> = (0..MEMBERS).map(|i| folder.join(format!("m{i}"))).collect();
        let scheme =
            |name: &str| name.parse().map(|name: SchemeName| name.on(MEMBERS)).map_err(Failure::usage);
        let options =
            CreateOptions { scheme: Some(scheme("4+2")?), size: Some(MEMBER), ..Default::default() };
        let array = Array::create(&members, &options)?;
        let mut volumes = Vec::new();
        for (name, spelled, bytes) in VOLUMES {
            array.create_volume(name, bytes, Some(scheme(spelled)?))?;
            let history = History::new(name, bytes);
            volumes.push(Known { name, history, model: Model::new(history), flushed: 0 });
        }
        array.close()?;
        Ok(Rounds { place: folder.to_owned(), volumes, chance: seed, tally: Tally::default() })
    }

    fn chance(&mut self, of: u64) -> u64 {
        self.chance = mix(self.chance);
        self.chance % of
    }

    fn round(&mut self, round: u64) -> Result<(), Failure> {
        let base = round * STEPS;
        let names: Vec<&str> = self.volumes.iter().map(|volume| volume.name).collect();
        let longest = if self.chance(4) == 0 { 60 } else { 1200 };
        let time = Duration::from_millis(self.chance(longest));
        let told = write_and_kill(&self.place, &names, base, time)?;
        self.tally.rounds += 1;
        self.tally.killed_opening += u64::from(!told.opened);
        self.tally.flushes += told.flushes;
        self.tally.bytes_moved += told.moved;
        self.tally.rounds_cleaned += u64::from(told.moved > 0);
        for volume in &mut self.volumes {
            volume.flushed = told.flushed.get(volume.name).copied().unwrap_or(base);
        }
        while self.chance(3) == 0 {
            let time = Duration::from_millis(self.chance(200));
            let told = write_and_kill(&self.place, &[], base, time)?;
            self.tally.killed_behind += 1;
            self.tally.killed_recovering += u64::from(!told.opened);
        }
        let array = self.open()?;
        self.verify(&array, base)?;
        if round.is_multiple_of(SCRUB_EVERY) {
            let scrubbed = array.scrub()?;
            if scrubbed.lost > 0 || scrubbed.reduced > 0 {
                return Err(Failure::lost(format!("a scrub found damage: {scrubbed:?}")));
            }
            self.tally.scrubs += 1;
        }
        let status = array.status()?;
        if status.state != State::Healthy || !status.damage.is_empty() {
            return Err(Failure::lost(format!("the array is not healthy: {status:?}")));
        }
        if self.chance(2) == 0 {
            array.close()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Array, Error> {
        let begun = Instant::now();
        let array = loop {
            match Array::open(&self.place, &OpenOptions::default()) {
                Err(error) if error.kind() == Kind::Busy && begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(1));
                }
                opened => break opened?,
            }
        };
        self.tally.recovery_ms_max = self.tally.recovery_ms_max.max(begun.elapsed().as_millis());
        Ok(array)
    }

    /// Every volume is a prefix, and nothing flushed is missing.
    fn verify(&mut self, array: &Array, base: u64) -> Result<(), Failure> {
        let found: Vec<_> = thread::scope(|scope| {
            let verify = |known: &mut Known| -> Result<(u64, u64, u64), Failure> {
                let volume = array.volume(known.name)?;
                let seen = known.recognise(&volume)?;
                let found = known.model.advance(&seen, base, known.flushed);
                let found = found.map_err(|error| Failure::lost(format!("{}: {error}", known.name)))?;
                Ok((found - base, found - known.flushed, volume.size()?))
            };
            let all: Vec<_> =
                self.volumes.iter_mut().map(|known| scope.spawn(move || verify(known))).collect();
            all.into_iter().map(|one| one.join().map_err(|_| Failure::io("a verifier ended"))?).collect()
        });
        for found in found {
            let (steps, unflushed, bytes) = found?;
            self.tally.steps += steps;
            self.tally.unflushed += unflushed;
            self.tally.bytes_verified += bytes;
        }
        Ok(())
    }
}

impl Known {
    /// Which step wrote each sector.
    fn recognise(&self, volume: &Volume) -> Result<Vec<u64>, Failure> {
        let size = volume.size()?;
        let mut seen = Vec::with_capacity(usize::try_from(size).expect("it fits into memory") / SECTOR);
        for offset in (0..size).step_by(1 << 20) {
            let len = usize::try_from((size - offset).min(1 << 20)).expect("at most 1 MiB");
            let known = self.history.recognise(&volume.read(offset, len)?, &mut seen);
            known.map_err(|error| Failure::lost(format!("{}: {error}", self.name)))?;
        }
        Ok(seen)
    }
}
