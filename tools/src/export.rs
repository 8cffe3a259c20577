//! `paritas export`

use crate::caller::Caller;
use crate::cli::Export;
use crate::files::is_same;
use crate::names::show_size;
use crate::outcome::{Exit, Failure, Report};
use crate::pieces::{self, PIECE};
use crate::session;
use crate::status::glance;
use paritas::error::{Error, Kind};
use paritas::types::{BLOCK, BLOCK_U64};
use paritas::volume::{Status, Volume};
use serde_json::{Value, json};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::time::Instant;

/// Where a volume goes.
enum Target {
    /// A regular file: what is not written is a hole.
    Sparse(File),
    /// What takes bytes one after the other.
    Stream(Box<dyn Write>),
}

impl Target {
    fn make(path: &Path, size: u64, caller: &Caller) -> io::Result<Target> {
        if path == Path::new("-") {
            return Ok(Target::Stream(caller.output()?));
        }
        let file = File::create(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Target::Stream(Box::new(file)));
        }
        file.set_len(size)?;
        Ok(Target::Sparse(file))
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::Stream(out) => out.write_all(bytes),
            Target::Sparse(file) => {
                let written = pieces::runs(bytes).into_iter().filter(|(_, zero)| !zero);
                for (range, _) in written {
                    file.write_all_at(&bytes[range.clone()], offset + range.start as u64)?;
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Target::Stream(out) => out.flush(),
            Target::Sparse(_) => Ok(()),
        }
    }
}

pub(crate) fn run(args: &Export, json: bool, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    let to_stdout = args.file == Path::new("-");
    if to_stdout && json {
        return Err(Failure::usage("--json and a volume cannot both go to the standard output"));
    }
    caller.confirm(args.consent, || {
        let status = glance(&args.volume.volume.array, args.volume.choice.name.as_deref(), caller)?;
        let is_there = status.volumes.iter().any(|volume| volume.name == args.volume.volume.volume);
        // Otherwise it is refused.
        let goes_on = is_there && refuse_members(&status, &args.file).is_ok();
        let kind =
            std::fs::metadata(&args.file).ok().filter(|file| goes_on && holds_bytes(file))?.file_type();
        let what = if kind.is_file() { "file" } else { "block device" };
        Some(format!("write over the {what} {}? What it holds is lost", args.file.display()))
    })?;
    let array = session::open_to_read(caller, &args.volume)?;
    let name = &args.volume.volume.volume;
    let volume = array.volume(name)?;
    refuse_members(&array.status()?, &args.file)?;
    let size = volume.size()?;
    let failed = |error: io::Error| Failure::io(format!("{}: {error}", args.file.display()));
    let mut target = Target::make(&args.file, size, caller).map_err(failed)?;
    let lost = copy(&volume, size, &mut target, caller, failed)?;
    let healed = array.status()?.work.healed * BLOCK_U64;
    if let Err(error) = array.close() {
        caller.say(&format!("what was found is not recorded: {error}"));
    }
    for &(offset, length) in &lost {
        caller.say(&format!("volume '{name}': {length} bytes at {offset} are lost"));
    }
    let ranges: Vec<Value> =
        lost.iter().map(|(offset, length)| json!({ "offset": offset, "length": length })).collect();
    let seconds = start.elapsed().as_secs_f64();
    let document =
        json!({ "volume": name, "bytes": size, "lost": ranges, "healed": healed, "seconds": seconds });
    let text = if to_stdout { String::new() } else { format!("{} exported", show_size(size)) };
    let exit = if lost.is_empty() { Exit::Done } else { Exit::Lost };
    Ok(Report { exit, json: document, text })
}

/// Whether something is lost when it is written over.
fn holds_bytes(file: &Metadata) -> bool {
    file.is_file() && file.len() > 0 || file.file_type().is_block_device()
}

/// A volume is not exported onto its own array.
fn refuse_members(status: &Status, file: &Path) -> Result<(), Failure> {
    let Ok(file) = std::fs::metadata(file) else { return Ok(()) };
    for member in &status.members {
        if std::fs::metadata(&member.path).is_ok_and(|member| is_same(&member, &file)) {
            return Err(Failure::refused(format!("{} is a member of the array", member.path.display())));
        }
    }
    Ok(())
}

/// Copies the volume. What is lost stays zero and is returned as ranges of bytes.
fn copy(
    volume: &Volume,
    size: u64,
    target: &mut Target,
    caller: &Caller,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<Vec<(u64, u64)>, Failure> {
    let mut bar = caller.bar("exporting", Some(size));
    let mut lost = Vec::new();
    let mut offset = 0;
    while offset < size {
        bar.check()?;
        let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(PIECE);
        match volume.read(offset, len) {
            Ok(bytes) => target.put(offset, &bytes).map_err(&failed)?,
            Err(error) if is_loss(&error) => {
                for at in (offset..).step_by(BLOCK).take(len / BLOCK) {
                    let block = salvage(volume, at, &mut lost)?;
                    target.put(at, &block).map_err(&failed)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        offset += len as u64;
        bar.add(len as u64);
    }
    target.finish().map_err(&failed)?;
    Ok(lost)
}

fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), Kind::DataLoss { .. } | Kind::Corrupt | Kind::Io)
}

/// A block, or zeros where it is lost.
fn salvage(volume: &Volume, offset: u64, lost: &mut Vec<(u64, u64)>) -> Result<Vec<u8>, Failure> {
    match volume.read(offset, BLOCK) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) if is_loss(&error) => {
            match lost.last_mut() {
                Some((start, length)) if *start + *length == offset => *length += BLOCK_U64,
                _ => lost.push((offset, BLOCK_U64)),
            }
            Ok(vec![0; BLOCK])
        }
        Err(error) => Err(error.into()),
    }
}
