//! `paritas demo`: the whole story on disk files in a temporary directory, every step verified.

use crate::caller::Caller;
use crate::cli::Demo;
use crate::endure::history::{History, Model};
use crate::endure::victim::write_and_kill;
use crate::jobs::watched;
use crate::names::show_size;
use crate::outcome::{Exit, Failure, Report, say};
use crate::pieces::{self, PIECE, fill};
use crate::progress;
use crate::rot::rot;
use paritas::error::Error;
use paritas::types::{BLOCK, BLOCK_U64, Scheme};
use paritas::volume::{Array, CreateOptions, MEMBER_BYTES_MIN, OpenOptions, Pace, State, Upkeep, Volume};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of real data at most: the story is to be told in less than a minute.
const DATA_MAX: u64 = 256 << 20;
/// Bytes written while degraded at most.
const MORE_MAX: u64 = 32 << 20;
/// The members that suffer.
const VICTIMS: [usize; 2] = [1, 4];
/// How often a writer is killed.
const KILLS: u64 = 3;
/// Blocks of the volume that it writes.
const LEDGER_BYTES: u64 = 4 << 20;

/// What was told, and whether anybody listens.
struct Story {
    aloud: bool,
    steps: Vec<String>,
}

impl Story {
    fn tell(&mut self, text: String) {
        if self.aloud {
            let number = self.steps.len() + 1;
            // If nobody listens any more, the story still ends and cleans up.
            let _unheard = writeln!(io::stdout(), "{number:>2}. {text}").is_err();
        }
        self.steps.push(text);
    }
}

pub(crate) fn run(args: &Demo, json: bool) -> Result<Report, Failure> {
    let start = Instant::now();
    let mut story = Story { aloud: !json, steps: Vec::new() };
    let folder = tempfile::Builder::new().prefix("paritas-demo.").tempdir();
    let folder = folder.map_err(|error| Failure::io(format!("no temporary directory: {error}")))?;
    let told = tell(args, folder.path(), &mut story);
    let removed = folder.close();
    told?;
    removed.map_err(|error| Failure::io(format!("the temporary directory stays behind: {error}")))?;
    let seconds = start.elapsed().as_secs_f64();
    story.tell(format!("Everything was verified and is removed again, after {seconds:.1} seconds."));
    let document = json!({ "steps": story.steps, "seconds": seconds });
    Ok(Report { exit: Exit::Done, json: document, text: String::new() })
}

fn tell(args: &Demo, folder: &Path, story: &mut Story) -> Result<(), Failure> {
    let data = folder.join("data");
    let (files, bytes) = gather(args.input.as_deref(), &data).map_err(file_error)?;
    story.tell(format!("Took {} of real data: the contents of {files} files.", show_size(bytes)));

    let place = folder.join("array");
    std::fs::create_dir(&place).map_err(file_error)?;
    let members: Vec<PathBuf> = (0..6).map(|i| place.join(format!("disk{i}"))).collect();
    let size = (bytes / 4 * 2 + (128 << 20)).next_multiple_of(1 << 20).max(MEMBER_BYTES_MIN);
    let options = CreateOptions { size: Some(size), scheme: Scheme::new(4, 2), ..CreateOptions::default() };
    let array = Array::create(&members, &options)?;
    story.tell(format!(
        "Made an array of six disk files of {} each, with scheme 4+2: any two of them may be lost.",
        show_size(size)
    ));

    let began = Instant::now();
    let volume = array.create_volume("data", bytes, None)?;
    copy(&data, &volume, bytes)?;
    array.close()?;
    story.tell(format!("Wrote the data onto a volume, durably, at {}.", rate(bytes, began)));

    heal(&place, &members, &data, story)?;
    lose(&place, &members, &data, bytes, story)?;
    let members = replace(&place, members, story)?;
    scrub(&place, &members, story)?;
    kill(&place, story)?;

    let array = open(&place)?;
    compare(&array.volume("data")?, &data)?;
    compare(&array.volume("more")?, &data)?;
    let state = array.status()?.state;
    array.close()?;
    if state != State::Healthy {
        return Err(Failure::lost(format!("the array is {state:?} and not healthy")));
    }
    story.tell(
        "Compared every byte of both volumes once more: all are exact. The array is healthy, as it says."
            .into(),
    );
    Ok(())
}

/// New files in the place of the two that are gone. Returns the members as they are then.
fn replace(place: &Path, mut members: Vec<PathBuf>, story: &mut Story) -> Result<Vec<PathBuf>, Failure> {
    let began = Instant::now();
    let array = open_for_upkeep(place)?;
    let mut written = 0;
    for victim in VICTIMS {
        let old = array.member(&members[victim])?;
        members[victim] = place.join(format!("new{victim}"));
        array.replace_member(old, &members[victim], false)?;
        written += watched(&array, &Caller::Here, Pace::default())?.rebuilt.written;
    }
    let state = array.status()?.state;
    array.close()?;
    if state != State::Healthy {
        return Err(Failure::lost(format!("after the rebuild the array is {state:?}")));
    }
    story.tell(format!(
        "Put new disk files in their places and rebuilt {} onto them at {}: any two may be lost again.",
        show_size(written),
        rate(written, began)
    ));
    Ok(members)
}

/// Rot on a third member, in data, parity and headers alike, found and healed by a scrub.
fn scrub(place: &Path, members: &[PathBuf], story: &mut Story) -> Result<(), Failure> {
    let third = (0..members.len()).find(|i| !VICTIMS.contains(i)).expect("there are more than two");
    let rotten = rot(&members[third], 5).map_err(file_error)?;
    let array = open_for_upkeep(place)?;
    let began = Instant::now();
    let found = array.scrub()?;
    let again = array.scrub()?;
    array.close()?;
    if found.healed == 0 || found.lost > 0 || again.healed > 0 {
        return Err(Failure::lost(format!("the scrub found {found:?}, and then {again:?}")));
    }
    story.tell(format!(
        "Overwrote {rotten} blocks on a third member with garbage and scrubbed: {} verified at {}, parity and \
         headers too, {} of the blocks held something and were healed. A second scrub found nothing.",
        show_size(found.read + again.read),
        rate(found.read + again.read, began),
        found.healed
    ));
    Ok(())
}

/// Opens the array for work on its members that the story asks for.
fn open_for_upkeep(place: &Path) -> Result<Array, Error> {
    Array::open(place, &OpenOptions { upkeep: Upkeep::OnDemand, ..OpenOptions::default() })
}

/// Rot on two members, found and healed by reading.
fn heal(place: &Path, members: &[PathBuf], data: &Path, story: &mut Story) -> Result<(), Failure> {
    let mut rotten = 0;
    for victim in VICTIMS {
        rotten += rot(&members[victim], 7).map_err(file_error)?;
    }
    let array = open(place)?;
    let began = Instant::now();
    let bytes = compare(&array.volume("data")?, data)?;
    let work = array.status()?.work;
    array.close()?;
    if work.healed == 0 {
        return Err(Failure::lost("no rot was healed"));
    }
    story.tell(format!(
        "Overwrote {rotten} blocks on two members with garbage, then read everything at {}: exact. \
         {} blocks of data were among them; they were reconstructed and written back.",
        rate(bytes, began),
        work.healed
    ));
    let array = open(place)?;
    compare(&array.volume("data")?, data)?;
    let again = array.status()?.work.reconstructed;
    array.close()?;
    if again > 0 {
        return Err(Failure::lost(format!("{again} blocks were still rotten after they had been healed")));
    }
    story.tell("Read everything again: no block needs to be reconstructed any more.".into());
    Ok(())
}

/// Two members gone: everything is read, and written.
fn lose(
    place: &Path,
    members: &[PathBuf],
    data: &Path,
    bytes: u64,
    story: &mut Story,
) -> Result<(), Failure> {
    for victim in VICTIMS {
        std::fs::remove_file(&members[victim]).map_err(file_error)?;
    }
    let array = open(place)?;
    let began = Instant::now();
    compare(&array.volume("data")?, data)?;
    let rate = rate(bytes, began);
    story.tell(format!("Deleted the same two members for good and read everything at {rate}: exact."));
    let more = bytes.min(MORE_MAX);
    let volume = array.create_volume("more", more, None)?;
    copy(data, &volume, more)?;
    array.close()?;
    let array = open(place)?;
    compare(&array.volume("more")?, data)?;
    array.close()?;
    story.tell(format!(
        "Wrote {} onto a new volume with these two missing, opened the array anew and read it back: exact.",
        show_size(more)
    ));
    Ok(())
}

/// A writing process is killed, again and again.
fn kill(place: &Path, story: &mut Story) -> Result<(), Failure> {
    let array = open(place)?;
    array.create_volume("ledger", LEDGER_BYTES, None)?;
    array.close()?;
    let history = History::new("ledger", LEDGER_BYTES);
    let mut model = Model::new(history);
    let mut last = 0;
    for round in 0..KILLS {
        let time = Duration::from_millis(600 + 250 * round);
        let flushed = write_and_kill(place, &["ledger"], last, time)?.flushed;
        let flushed = flushed.get("ledger").copied().unwrap_or(last);
        let array = open(place)?;
        let size = usize::try_from(LEDGER_BYTES).expect("small");
        let bytes = array.volume("ledger")?.read(0, size)?;
        array.close()?;
        let mut seen = Vec::new();
        history.recognise(&bytes, &mut seen).map_err(Failure::lost)?;
        let found = model.advance(&seen, last, flushed).map_err(Failure::lost)?;
        story.tell(format!(
            "Killed a process (SIGKILL) in the middle of writing. It had said that its steps up to {flushed} \
             are durable; after reopening, the volume holds exactly its steps up to {found}.",
        ));
        last = found;
    }
    Ok(())
}

fn open(place: &Path) -> Result<Array, Error> {
    Array::open(place, &OpenOptions { upkeep: Upkeep::Nothing, ..OpenOptions::default() })
}

#[allow(clippy::cast_precision_loss)] // A rate for people.
fn rate(bytes: u64, since: Instant) -> String {
    format!("{:.0} MB/s", bytes as f64 / 1e6 / since.elapsed().as_secs_f64().max(1e-9))
}

fn file_error(error: io::Error) -> Failure {
    Failure::io(format!("the demonstration's files: {error}"))
}

/// Copies the first bytes of a file onto a volume, durably.
fn copy(data: &Path, volume: &Volume, bytes: u64) -> Result<(), Failure> {
    let bar = progress::bar("writing", Some(bytes));
    let mut file = File::open(data).map_err(file_error)?.take(bytes);
    let mut offset = 0;
    while offset < bytes {
        let (piece, filled) = pieces::next(&mut file, PIECE).map_err(file_error)?;
        volume.write(offset, piece.freeze().slice(..filled))?;
        offset += filled as u64;
        bar.inc(filled as u64);
    }
    volume.flush()?;
    bar.finish_and_clear();
    Ok(())
}

/// Compares a volume with the file that it was written from. Returns its bytes.
fn compare(volume: &Volume, data: &Path) -> Result<u64, Failure> {
    let size = volume.size()?;
    let bar = progress::bar("verifying", Some(size));
    let mut file = File::open(data).map_err(file_error)?;
    let mut expected = vec![0; PIECE];
    let mut offset = 0;
    while offset < size {
        let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(PIECE);
        let filled = fill(&mut file, &mut expected[..len]).map_err(file_error)?;
        let bytes = volume.read(offset, len)?;
        if filled != len || bytes != expected[..len] {
            return Err(Failure::lost(format!("the bytes read at {offset} are not those written")));
        }
        offset += len as u64;
        bar.inc(len as u64);
    }
    bar.finish_and_clear();
    Ok(size)
}

/// Puts the contents of real files into one, each from a block on. Returns how many files and bytes.
fn gather(input: Option<&Path>, data: &Path) -> io::Result<(u64, u64)> {
    let sources = match input {
        Some(input) => {
            std::fs::metadata(input)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", input.display())))?;
            vec![input.to_owned()]
        }
        None => machine_sources(),
    };
    let mut out = File::create(data)?;
    let (mut files, mut bytes) = (0, 0);
    let mut waiting: Vec<PathBuf> = sources.into_iter().rev().collect();
    while let Some(path) = waiting.pop() {
        if bytes >= DATA_MAX {
            break;
        }
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let mut inside: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            inside.sort();
            waiting.extend(inside.into_iter().rev());
        } else if metadata.is_file() {
            let Ok(file) = File::open(&path) else { continue };
            bytes += io::copy(&mut file.take(DATA_MAX - bytes), &mut out)?;
            let padding = usize::try_from(bytes.next_multiple_of(BLOCK_U64) - bytes).expect("under a block");
            out.write_all(&[0; BLOCK][..padding])?;
            bytes += padding as u64;
            files += 1;
        }
    }
    match bytes {
        0 => Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no data to work with")),
        _ => Ok((files, bytes)),
    }
}

/// What every machine with Rust has: this program and the toolchain.
fn machine_sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    match std::env::current_exe() {
        Ok(program) => sources.push(program),
        Err(error) => say(&format!("this program's file is not to be found: {error}")),
    }
    let rustc = Command::new("rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output();
    if let Ok(answer) = rustc
        && let Ok(root) = String::from_utf8(answer.stdout)
    {
        sources.push(Path::new(root.trim_end()).join("lib"));
    }
    sources
}
