//! The hidden `__endure writer`: takes steps of the volumes' histories, all volumes at a time, until it is killed. It
//! says in lines on stdout: `opened` once it serves; a volume and a step when a flush that began behind that
//! step is acknowledged; `moved` and the bytes that the cleaner has moved.

use super::history::{Flush, History, Verb};
use super::{WriterArgs, file_error};
use crate::caller::Caller;
use crate::outcome::{Failure, Report};
use crate::session;
use paritas::volume::{Array, Volume};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

const SECTOR: u64 = super::history::SECTOR as u64;
/// How often the writer says what the cleaner did.
const INTERVAL: Duration = Duration::from_millis(20);

pub(super) fn run(args: &WriterArgs) -> Result<Report, Failure> {
    let array = session::open(&Caller::Here, &args.array, None)?;
    let volumes: Vec<Volume> =
        args.volumes.iter().map(|name| array.volume(name)).collect::<Result<_, _>>()?;
    tell("opened")?;
    let (ended, first) = std::sync::mpsc::channel();
    let start = |task: Box<dyn FnOnce() -> Result<(), Failure> + Send>| {
        let ended = ended.clone();
        thread::spawn(move || {
            // Nobody waits any more once another one has failed.
            let _unheard = ended.send(task()).is_err();
        });
    };
    for volume in volumes {
        let (flushes, beside) = sync_channel(1);
        let (flushed, after) = (volume.clone(), args.after);
        start(Box::new(move || write(&volume, after, &flushes)));
        start(Box::new(move || flush_beside(&flushed, &beside)));
    }
    start(Box::new(move || watch(&array)));
    first.recv().map_err(|_| Failure::io("the writers are gone"))??;
    Err(Failure::io("a writer ended before it was killed"))
}

fn write(volume: &Volume, after: u64, flushes: &SyncSender<u64>) -> Result<(), Failure> {
    let history = History::new(volume.name(), volume.size()?);
    for number in after + 1.. {
        let step = history.step(number);
        let (offset, len) = (step.sector * SECTOR, step.sectors * SECTOR);
        match step.verb {
            Verb::Write => volume.write(offset, history.content(step))?,
            Verb::WriteDurable => {
                volume.write_durable(offset, history.content(step))?;
                tell(&format!("{} {number}", volume.name()))?;
            }
            Verb::Trim => volume.trim(offset, len)?,
            Verb::WriteZeroes => volume.write_zeroes(offset, len)?,
        }
        match step.flush {
            Flush::None => {}
            Flush::Wait => {
                volume.flush()?;
                tell(&format!("{} {number}", volume.name()))?;
            }
            // One at a time is enough.
            Flush::Beside => drop(flushes.try_send(number)),
        }
    }
    Ok(())
}

fn flush_beside(volume: &Volume, steps: &Receiver<u64>) -> Result<(), Failure> {
    while let Ok(number) = steps.recv() {
        volume.flush()?;
        tell(&format!("{} {number}", volume.name()))?;
    }
    Ok(())
}

fn watch(array: &Array) -> Result<(), Failure> {
    let mut told = 0;
    loop {
        thread::sleep(INTERVAL);
        let moved = array.status()?.work.moved;
        if moved != told {
            tell(&format!("moved {moved}"))?;
            told = moved;
        }
    }
}

/// One line, whole: it is shorter than what a pipe takes at once.
fn tell(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| file_error(&error))
}
