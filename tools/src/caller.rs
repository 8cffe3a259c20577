//! Who asks for a command: somebody at this process's terminal, or at that of another, for whom a server runs it on
//! the array that it has open.

use crate::cli::Consent;
use crate::consent;
use crate::control::Remote;
use crate::outcome::{Failure, print, say};
use crate::progress;
use indicatif::ProgressBar;
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// How often a bar elsewhere moves.
const TICK: Duration = Duration::from_millis(100);

/// Who asks.
pub(crate) enum Caller {
    /// This process was started for the command, and opens the array for it.
    Here,
    /// A server has the array open; words and progress go to the process that was started for the command.
    Elsewhere(Remote),
}

impl Caller {
    /// A word to the person.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Caller::Here => say(text),
            Caller::Elsewhere(remote) => remote.say(text),
        }
    }

    /// Asks the person before something is destroyed, where one sits at a terminal and has not agreed beforehand.
    /// `loss` says what is to be done, and what is lost by it; `None` when nothing is.
    ///
    /// # Errors
    /// When the answer is not yes.
    pub(crate) fn confirm(
        &self,
        consent: Consent,
        loss: impl FnOnce() -> Option<String>,
    ) -> Result<(), Failure> {
        let is_seated = match self {
            Caller::Here => consent::is_seated(),
            Caller::Elsewhere(remote) => remote.is_seated(),
        };
        if consent.yes || !is_seated {
            return Ok(());
        }
        let Some(question) = loss() else { return Ok(()) };
        let agrees = match self {
            Caller::Here => consent::ask(&question),
            Caller::Elsewhere(remote) => remote.ask(&question),
        };
        if agrees { Ok(()) } else { Err(Failure::refused("the answer was not yes: nothing was changed")) }
    }

    /// Words on the standard output, before the command ends.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        match self {
            Caller::Here => {
                print(text).map_err(|error| Failure::io(format!("cannot write the answer: {error}")))
            }
            Caller::Elsewhere(remote) => {
                remote.print(text);
                Ok(())
            }
        }
    }

    /// Whoever works for a caller for long asks now and then whether that one still waits for it.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Caller::Elsewhere(remote) if remote.is_gone() => Err(Failure::io("the caller is gone")),
            _ => Ok(()),
        }
    }

    /// A bar over `total` bytes; of unknown length when `None`.
    pub(crate) fn bar(&self, what: &str, total: Option<u64>) -> Bar<'_> {
        let shown = match self {
            Caller::Here => Shown::Here(progress::bar(Cow::Owned(what.to_owned()), total)),
            Caller::Elsewhere(remote) => {
                remote.begin_bar(what, total);
                Shown::Elsewhere(remote, Instant::now())
            }
        };
        Bar { shown, done: 0, total }
    }

    /// The caller's standard input.
    pub(crate) fn input(&self) -> io::Result<Box<dyn Read>> {
        match self {
            Caller::Here => Ok(Box::new(io::stdin())),
            Caller::Elsewhere(remote) => Ok(Box::new(remote.input()?)),
        }
    }

    /// The caller's standard output.
    pub(crate) fn output(&self) -> io::Result<Box<dyn Write>> {
        match self {
            Caller::Here => Ok(Box::new(io::stdout())),
            Caller::Elsewhere(remote) => Ok(Box::new(remote.output()?)),
        }
    }
}

/// How far a command is, as the caller sees it.
pub(crate) struct Bar<'a> {
    shown: Shown<'a>,
    done: u64,
    total: Option<u64>,
}

enum Shown<'a> {
    Here(ProgressBar),
    /// And when it moved last.
    Elsewhere(&'a Remote, Instant),
}

impl Bar<'_> {
    /// So much more is done.
    pub(crate) fn add(&mut self, more: u64) {
        self.show(self.done + more, self.total);
    }

    /// Whoever copies for a caller asks before each piece whether that one still waits for it: the end of what a dead
    /// caller sends is no end.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.shown {
            Shown::Elsewhere(remote, _) if remote.is_gone() => Err(Failure::io("the caller is gone")),
            _ => Ok(()),
        }
    }

    /// So much is done, of so much.
    pub(crate) fn show(&mut self, done: u64, total: Option<u64>) {
        (self.done, self.total) = (done, total);
        match &mut self.shown {
            Shown::Here(bar) => {
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Shown::Elsewhere(remote, last) if last.elapsed() >= TICK => {
                *last = Instant::now();
                remote.move_bar(done, total);
            }
            Shown::Elsewhere(..) => {}
        }
    }

    /// Whether anybody looks.
    pub(crate) fn is_seen(&self) -> bool {
        match &self.shown {
            Shown::Here(bar) => !bar.is_hidden(),
            Shown::Elsewhere(remote, _) => !remote.is_gone(),
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        match &self.shown {
            Shown::Here(bar) => bar.finish_and_clear(),
            Shown::Elsewhere(remote, _) => remote.end_bar(),
        }
    }
}
