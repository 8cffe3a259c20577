//! `paritas completions` and `paritas man`: what shells and readers of manual pages want to know, made from the
//! command line's own description.

use crate::cli::{Cli, Completions, Man};
use crate::examples::with_examples;
use crate::outcome::{Failure, Report};
use clap::{Command, CommandFactory};
use serde_json::json;
use std::io;

/// The name that shells know the program by.
const NAME: &str = "paritas";

pub(crate) fn completions(args: &Completions) -> Result<Report, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), NAME, &mut script);
    let script = String::from_utf8(script).map_err(|error| Failure::io(error.to_string()))?;
    Ok(Report::done(json!({ "shell": args.shell.to_string(), "script": script }), script))
}

/// The command line without what is hidden: the scripts would offer it.
fn visible() -> Command {
    let all = Cli::command();
    let subcommands = all.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned();
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(subcommands)
}

pub(crate) fn man(args: &Man) -> Result<Report, Failure> {
    let failed = |error: io::Error| Failure::io(format!("{}: {error}", args.folder.display()));
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(with_examples(Cli::command()), &args.folder).map_err(failed)?;
    let entries = std::fs::read_dir(&args.folder).map_err(failed)?;
    let mut pages: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(NAME) && name.ends_with(".1"))
        .collect();
    pages.sort();
    let text = format!("{} manual pages in {}", pages.len(), args.folder.display());
    Ok(Report::done(json!({ "folder": args.folder, "pages": pages }), text))
}
