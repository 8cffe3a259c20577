//! What a server says while it runs, on its standard error: for people, or for programs that collect it.

use clap::ValueEnum;
use std::io::{self, IsTerminal};

/// How the lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Time, weight, words, and what they are about
    Text,
    /// A JSON object per line
    Json,
}

/// Listens to what the engine and its servers tell from now on.
pub(crate) fn start(format: Format) {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        // Where nobody reads what it says, it cannot say that either.
        .log_internal_errors(false);
    let started = match format {
        Format::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    assert!(started.is_ok(), "a process logs to one place");
}
