//! The paritas command.

mod attach;
mod bench;
mod caller;
mod clear;
mod cli;
mod consent;
mod control;
mod demo;
mod endure;
mod events;
mod examples;
mod export;
mod files;
mod held;
mod import;
mod inject;
mod inspect;
mod iostat;
mod jobs;
mod keeper;
mod logs;
mod manual;
mod members;
mod metrics;
mod mkfs;
mod names;
mod outcome;
mod pieces;
mod progress;
mod rot;
mod salvage;
mod schema;
mod serve;
mod session;
mod sim;
mod status;
mod volume;
mod watch;

use caller::Caller;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use cli::{Cli, Command};
use outcome::{Failure, Report};
use serde_json::json;
use signal_hook::consts::SIGXFSZ;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words = words();
    let wants_json = words.iter().take_while(|arg| **arg != "--").any(|arg| *arg == "--json");
    outcome::report_panics(wants_json);
    // A write beyond a limit of the process kills it, unless somebody listens; then it fails, as that of any member
    // that is full. A system that does not let us listen may kill us.
    let _deaf = signal_hook::flag::register(SIGXFSZ, Arc::default()).is_err();
    let parsed = examples::with_examples(Cli::command())
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let answer = match parsed {
        Ok(cli) => control::find(&cli.command).and_then(|owner| match owner {
            Some(owner) => owner.run(),
            None => run(cli.command, cli.json, &Caller::Here),
        }),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let text = error.to_string();
            Ok(Report::done(json!({ "help": text }), text))
        }
        Err(error) => Err(Failure::usage(error.to_string().trim_end().trim_start_matches("error: "))),
    };
    outcome::deliver(answer, wants_json).code()
}

/// The command line. By its second name the program makes arrays, as the programs beside it make file systems.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().and_then(|program| Path::new(program).file_name());
    if name.is_some_and(|name| name == "mkfs.paritas") {
        words.insert(1, "mkfs".into());
    }
    words
}

/// Runs a command for whoever asks for it.
fn run(command: Command, json: bool, caller: &Caller) -> Result<Report, Failure> {
    match command {
        Command::Mkfs(args) => mkfs::run(args, caller),
        Command::Status(args) => status::run(&args, caller),
        Command::Volume(args) => volume::run(args, caller),
        Command::Import(args) => import::run(&args, caller),
        Command::Export(args) => export::run(&args, json, caller),
        Command::Fail(args) => members::fail(&args, caller),
        Command::Online(args) => members::online(&args, caller),
        Command::Replace(args) => members::replace(&args, caller),
        Command::Rebuild(args) => jobs::rebuild(&args, caller),
        Command::Scrub(args) => jobs::scrub(&args, caller),
        Command::Iostat(args) => iostat::run(&args, json, caller),
        Command::Events(args) => events::run(&args, json, caller),
        Command::Watch(args) => watch::run(&args, caller),
        Command::Clear(args) => clear::run(&args, caller),
        Command::Inject(args) => inject::run(&args, caller),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Serve(args) => serve::run(&args, json),
        Command::Attach(args) => attach::attach(&args, caller),
        Command::Detach(args) => attach::detach(&args, caller),
        Command::Salvage(args) => salvage::run(&args, caller),
        Command::Demo(args) => demo::run(&args, json),
        Command::Sim(args) => sim::command(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Endure(args) => endure::run(&args),
        Command::Keep(args) => attach::keeper::run(&args),
        Command::Guard(args) => attach::guard::run(&args),
    }
}
