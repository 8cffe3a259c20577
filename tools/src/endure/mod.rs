//! The hidden `__endure`: long runs on real files, and the processes that they start.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`kill9`] | rounds of `kill -9` at random moments of a writer of many volumes, each verified |
//! | [`overwrite`] | a nearly full array, overwritten at random: rate, stalls, amplification, memory |
//! | [`scatter`] | blocks at random all over a volume, perhaps with a crash behind them |
//! | [`reopen`] | what it takes to open an array, and whether it holds what was scattered |

pub(crate) mod history;
mod kill9;
mod overwrite;
mod reopen;
mod scatter;
pub(crate) mod victim;
mod writer;

use crate::cli::VolumeArgs;
use crate::names::{SchemeName, parse_size};
use crate::outcome::{Failure, Report};
use clap::{Args, Subcommand};
use std::io;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Endure {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take steps of volumes' histories until killed
    Writer(WriterArgs),
    /// Kill a writer again and again, and verify each time
    Kill9(Kill9Args),
    /// Fill an array, and overwrite it at random
    Overwrite(OverwriteArgs),
    /// Write blocks at random all over a volume
    Scatter(ScatterArgs),
    /// Open an array, count what that takes, and verify what was scattered
    Reopen(ReopenArgs),
}

#[derive(Args)]
struct WriterArgs {
    array: PathBuf,
    volumes: Vec<String>,
    /// The number of the last step that is not taken
    #[arg(long)]
    after: u64,
}

#[derive(Args)]
struct Kill9Args {
    #[arg(long)]
    rounds: u64,
    /// Chooses the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct OverwriteArgs {
    #[arg(long, default_value = "4+2")]
    scheme: SchemeName,
    /// Of each of as many members as the scheme has columns
    #[arg(long, value_parser = parse_size, default_value = "512M")]
    size: u64,
    /// Live data, in percent of what the array accepts
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u64).range(1..=100))]
    fill: u64,
    #[arg(long, default_value_t = 1_000_000)]
    writes: u64,
}

#[derive(Args)]
struct ScatterArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The number of the first write
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many
    #[arg(long)]
    writes: u64,
    /// Bytes of the map in memory
    #[arg(long, value_parser = parse_size)]
    map_cache: Option<u64>,
    /// End by SIGKILL when all is flushed
    #[arg(long)]
    crash: bool,
}

#[derive(Args)]
struct ReopenArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// Writes that were scattered
    #[arg(long)]
    writes: u64,
    /// Blocks to verify
    #[arg(long, default_value_t = 20_000)]
    samples: u64,
}

pub(crate) fn run(args: &Endure) -> Result<Report, Failure> {
    match &args.command {
        Command::Writer(args) => writer::run(args),
        Command::Kill9(args) => kill9::run(args),
        Command::Overwrite(args) => overwrite::run(args),
        Command::Scatter(args) => scatter::run(args),
        Command::Reopen(args) => reopen::run(args),
    }
}

fn file_error(error: &io::Error) -> Failure {
    Failure::io(error.to_string())
}
