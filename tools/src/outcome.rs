//! How a command ends: the one table of exit codes, and the one place that prints.

use paritas::error::{Error, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit codes of all commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Done, but redundancy is reduced.
    Reduced = 1,
    /// Data is lost, or the array cannot be opened or written.
    Lost = 2,
    /// The command was used wrongly.
    Usage = 64,
    /// Refused: busy, holds something else, no space, no such volume.
    Refused = 65,
    /// A defect of this program.
    Bug = 70,
    /// An I/O error.
    Io = 74,
}

/// The same for people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done; of status and watch: the array is healthy
   1  done, but redundancy is reduced
   2  data is lost, or the array cannot be opened or written
  64  the command was used wrongly
  65  refused: busy, holds something else, no space, no such volume, or the answer to a question was not yes
  70  this program has a defect
  74  an I/O error";

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The exit code for an error of an open array, and of making one.
    fn of(kind: Kind) -> Exit {
        match kind {
            Kind::Invalid => Exit::Usage,
            Kind::NotFound | Kind::Exists | Kind::Busy | Kind::Refused | Kind::NoSpace => Exit::Refused,
            Kind::Io => Exit::Io,
            // What else there is, or may come to be, keeps the array from being read or written.
            _ => Exit::Lost,
        }
    }
}

/// A command that was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    exit: Exit,
    kind: String,
    message: String,
}

impl Failure {
    fn new(exit: Exit, kind: &str, message: impl Into<String>) -> Failure {
        Failure { exit, kind: kind.into(), message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, "refused", message)
    }

    /// Something is not as it must be: a promise is broken.
    pub(crate) fn lost(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Lost, "data-loss", message)
    }

    pub(crate) fn io(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Io, "io", message)
    }

    /// What another process of this program has told with its exit code, as `--json` has it.
    pub(crate) fn relayed(exit: i32, told: &Value) -> Failure {
        let known = [Exit::Reduced, Exit::Lost, Exit::Usage, Exit::Refused, Exit::Bug];
        let exit = known.into_iter().find(|known| *known as i32 == exit).unwrap_or(Exit::Io);
        let text = |name: &str| told[name].as_str().unwrap_or("unknown").to_owned();
        Failure { exit, kind: text("kind"), message: text("message") }
    }

    /// Somebody else has what is needed, and perhaps not for long.
    pub(crate) fn is_busy(&self) -> bool {
        self.kind == kind_name(Kind::Busy)
    }

    /// The same failure, and where it happened.
    pub(crate) fn context(mut self, place: &str) -> Failure {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The array could not be opened: unless it is in use or the choice is open, it is out of reach.
    pub(crate) fn opening(error: &Error) -> Failure {
        let exit = match error.kind() {
            Kind::Busy | Kind::Refused => Exit::Refused,
            _ => Exit::Lost,
        };
        Failure { exit, ..Failure::from(error.clone()) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(Exit::of(error.kind()), kind_name(error.kind()), error.to_string())
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::NotFound => "not-found",
        Kind::Exists => "exists",
        Kind::Busy => "busy",
        Kind::Refused => "refused",
        Kind::DataLoss { .. } => "data-loss",
        Kind::LostWrites { .. } => "lost-writes",
        Kind::Corrupt => "corrupt",
        Kind::NoSpace => "no-space",
        Kind::ReadOnly => "read-only",
        Kind::Io => "io",
        Kind::Closed => "closed",
        _ => "other",
    }
}

/// What a command did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) exit: Exit,
    /// For programs; nothing when null.
    pub(crate) json: Value,
    /// For people; nothing when empty.
    pub(crate) text: String,
}

impl Report {
    pub(crate) fn done(json: Value, text: impl Into<String>) -> Report {
        Report { exit: Exit::Done, json, text: text.into() }
    }

    /// All was said before.
    pub(crate) fn silent() -> Report {
        Report::done(Value::Null, "")
    }
}

/// Prints what came of a command.
pub(crate) fn deliver(answer: Result<Report, Failure>, json: bool) -> Exit {
    match answer {
        Ok(Report { exit, json: document, text }) => {
            let written = match json {
                true if document.is_null() => Ok(()),
                true => print(&format!("{document:#}")),
                false => print(text.trim_end()),
            };
            match written {
                Ok(()) => exit,
                Err(error) => {
                    say(&format!("cannot write the answer: {error}"));
                    Exit::Io
                }
            }
        }
        Err(Failure { exit, kind, message }) => {
            say(&message);
            if json && print(&error_document(&kind, &message)).is_err() {
                return Exit::Io;
            }
            exit
        }
    }
}

fn error_document(kind: &str, message: &str) -> String {
    format!("{:#}", json!({ "error": { "kind": kind, "message": message } }))
}

pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    out.flush()
}

/// A word to the person on stderr.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told that it cannot be told.
    let _untold = writeln!(io::stderr(), "paritas: {text}").is_err();
}

/// A panic on any thread is a defect: says so and ends the process. What was flushed is safe.
pub(crate) fn report_panics(json: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let message = format!("this is a bug in paritas, please report it: {panic}");
        say(&message);
        if json {
            let _untold = print(&error_document("bug", &message)).is_err();
        }
        std::process::exit(Exit::Bug as i32);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained() {
        let codes = [Exit::Done, Exit::Reduced, Exit::Lost, Exit::Usage, Exit::Refused, Exit::Bug, Exit::Io];
        let lines = EXIT_CODES.lines().skip(1);
        let explained: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(explained, codes.map(|code| (code as i32).to_string()));
    }
}
