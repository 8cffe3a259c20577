//! The hidden `__writer`: writes the steps of [`crate::history`] until it is killed, and prints the
//! number of the newest one that is flushed, each time it is.

use crate::cli::Writer;
use crate::history::{content, step};
use crate::outcome::{Failure, Report};
use crate::session;
use paritas::types::BLOCK_U64;
use std::io::{self, Write};

pub(crate) fn run(args: &Writer) -> Result<Report, Failure> {
    let array = session::open_for(&args.volume)?;
    let volume = array.volume(&args.volume.volume.volume)?;
    let blocks = volume.size()? / BLOCK_U64;
    for number in args.after + 1.. {
        let step = step(number, blocks);
        let offset = step.lba * BLOCK_U64;
        if step.is_trim {
            volume.trim(offset, step.blocks * BLOCK_U64)?;
        } else {
            volume.write(offset, content(step))?;
        }
        if step.is_flushed {
            volume.flush()?;
            let mut out = io::stdout().lock();
            let told = writeln!(out, "{number}").and_then(|()| out.flush());
            told.map_err(|error| Failure::io(format!("nobody listens: {error}")))?;
        }
    }
    Err(Failure::io("the numbers of steps ran out"))
}
