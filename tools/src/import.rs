//! `paritas import`

use crate::caller::Caller;
use crate::cli::Import;
use crate::names::show_size;
use crate::outcome::{Failure, Report};
use crate::pieces::{self, PIECE};
use crate::session;
use crate::status::glance_at_volume;
use paritas::error::Kind;
use paritas::types::{BLOCK, BLOCK_U64};
use paritas::volume::{Array, Volume};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Instant;

/// What is imported.
struct Source {
    bytes: Box<dyn Read>,
    /// `None` for what comes in until it ends.
    len: Option<u64>,
}

impl Source {
    fn open(path: &Path, caller: &Caller) -> io::Result<Source> {
        if path == Path::new("-") {
            return Ok(Source { bytes: caller.input()?, len: None });
        }
        let mut file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let len = match kind.is_file() || kind.is_block_device() {
            true => Some(file.seek(SeekFrom::End(0))?),
            false => None,
        };
        if len.is_some() {
            file.rewind()?;
        }
        Ok(Source { bytes: Box::new(file), len })
    }
}

pub(crate) fn run(args: &Import, caller: &Caller) -> Result<Report, Failure> {
    let start = Instant::now();
    let failed = |error: io::Error| Failure::io(format!("{}: {error}", args.file.display()));
    let mut source = Source::open(&args.file, caller).map_err(failed)?;
    caller.confirm(args.consent, || {
        let (volume, now) = glance_at_volume(&args.volume, caller)?;
        // What does not fit is refused.
        let fits = source.len.is_none_or(|len| len <= now);
        fits.then(|| format!("write over {volume}? What is there is lost"))
    })?;
    let array = session::open_for(caller, &args.volume)?;
    let name = args.volume.volume.volume.as_str();
    let existing = match array.volume(name) {
        Ok(volume) => Some(volume),
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let is_new = existing.is_none();
    let volume = match (existing, source.len) {
        (Some(volume), Some(len)) if volume.size()? < len => {
            let size = volume.size()?;
            let text = format!("volume '{name}' has {size} bytes, {} has {len}", args.file.display());
            return Err(Failure::refused(text));
        }
        (Some(volume), _) => volume,
        (None, Some(0)) => return Err(Failure::usage("an empty file makes no volume")),
        // What comes in says how much it is only at its end.
        (None, len) => create(&array, name, len.unwrap_or(BLOCK_U64))?,
    };
    let mut copy = Copy { volume: &volume, is_new, grows: source.len.is_none(), done: 0, zeros: 0 };
    let copied = copy.run(&mut source, caller).and_then(|()| match (is_new, copy.done) {
        (true, 0) => Err(Failure::usage("nothing came in: that makes no volume")),
        _ => Ok(array.close()?),
    });
    if let Err(failure) = copied {
        // What is refused has created nothing.
        if is_new && array.delete_volume(name).and_then(|()| array.close()).is_err() {
            caller.say(&format!("volume '{name}' is left behind incomplete"));
        }
        return Err(failure);
    }
    let (done, zeros, seconds) = (copy.done, copy.zeros, start.elapsed().as_secs_f64());
    let text = format!("{} imported into volume '{name}', {} of it zeros", show_size(done), show_size(zeros));
    let document =
        json!({ "volume": name, "created": is_new, "bytes": done, "zeros": zeros, "seconds": seconds });
    Ok(Report::done(document, text))
}

fn create(array: &Array, name: &str, len: u64) -> Result<Volume, Failure> {
    let size = len.checked_next_multiple_of(BLOCK_U64).ok_or_else(|| Failure::usage("too large a file"))?;
    Ok(array.create_volume(name, size, None)?)
}

/// A file on its way onto a volume.
struct Copy<'a> {
    volume: &'a Volume,
    /// It holds nothing: zeros are there already.
    is_new: bool,
    /// It is made larger as bytes come.
    grows: bool,
    done: u64,
    zeros: u64,
}

impl Copy<'_> {
    fn run(&mut self, source: &mut Source, caller: &Caller) -> Result<(), Failure> {
        let mut bar = caller.bar("importing", source.len);
        let mut size = self.volume.size()?;
        loop {
            let left = source.len.map_or(u64::MAX, |len| len - self.done);
            if left == 0 {
                break;
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let read = pieces::next(&mut source.bytes, want.next_multiple_of(BLOCK));
            let (mut piece, filled) =
                read.map_err(|error| Failure::io(format!("reading what is imported: {error}")))?;
            bar.check()?;
            // A file that grows while it is read is imported as long as it was.
            let filled = filled.min(want);
            if filled < want && source.len.is_some() {
                return Err(Failure::io("the file became shorter while it was imported"));
            }
            if filled == 0 {
                break;
            }
            let whole = filled.next_multiple_of(BLOCK);
            let end = self.done + whole as u64;
            if self.grows && end > size {
                self.volume.resize(end)?;
                size = end;
            }
            if filled < whole {
                self.keep_tail(&mut piece.as_mut()[..whole], filled)?;
            }
            let bytes = piece.freeze();
            for (range, zero) in pieces::runs(&bytes[..whole]) {
                let at = self.done + range.start as u64;
                if !zero {
                    self.volume.write(at, bytes.slice(range))?;
                    continue;
                }
                self.zeros += range.len() as u64;
                if !self.is_new {
                    self.volume.trim(at, range.len() as u64)?;
                }
            }
            self.done += filled as u64;
            bar.add(filled as u64);
            // Only the last piece is not full.
            if filled < want {
                break;
            }
        }
        self.volume.flush()?;
        Ok(())
    }

    /// The last block keeps what lies behind the end of the file.
    fn keep_tail(&self, bytes: &mut [u8], filled: usize) -> Result<(), Failure> {
        let tail = &mut bytes[filled..];
        tail.fill(0);
        if !self.is_new {
            let at = self.done + (filled - filled % BLOCK) as u64;
            let old = self.volume.read(at, BLOCK)?;
            tail.copy_from_slice(&old[filled % BLOCK..]);
        }
        Ok(())
    }
}
