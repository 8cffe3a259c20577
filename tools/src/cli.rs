//! What the command line takes.

use crate::attach::{Means, Wish};
use crate::endure::Endure;
use crate::logs::Format;
use crate::names::{
    Every, Limit, SchemeName, VolumeName, parse_every, parse_interval, parse_limit, parse_seconds, parse_size,
};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use paritas::frontend::nbd::server::Address;
use paritas::sim::Scenario;
use paritas::volume::inject::{Span, parse_chance, parse_delay};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Redundant block storage over disk files and block devices.
#[derive(Parser)]
#[command(name = "paritas", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make an array; the program does just that when it is called mkfs.paritas
    Mkfs(Mkfs),
    /// Show how an array is: exit 0 healthy, 1 redundancy is reduced, 2 data is lost or it cannot be opened
    Status(Status),
    /// Create, list, delete and resize volumes
    Volume(Volume),
    /// Copy a file onto a volume
    Import(Import),
    /// Copy a volume into a file
    Export(Export),
    /// Take a member out, as if it broke; it stays out until it is replaced
    Fail(Fail),
    /// Take a member back into use that was lost and is there again, and rebuild what it missed
    ///
    /// Whoever opens an array takes back the members that are there; this is for one that is being served.
    Online(Online),
    /// Put a file or device in the place of a member, and rebuild what that one held
    Replace(Replace),
    /// Restore full redundancy with what is there; exit 1 when something is still missing
    Rebuild(Rebuild),
    /// Verify every block of every member, and heal what is wrong; goes on where an interrupted one was
    Scrub(Scrub),
    /// Show how far rebuild and scrub are on an array that is served, until none is under way; exits as status does
    Watch(Status),
    /// Show what volumes are asked for, and members, on an array that is served: operations, bytes, times, errors
    ///
    /// Times are those of half of the operations (p50), and of all but one in a hundred (p99), known to a fifth. queue
    /// is what is under way at the moment. With --json, each look is a document on a line of its own.
    Iostat(Iostat),
    /// Tell what happened to an array: members lost and back, errors, rebuilds, volumes, damage, rehearsals
    ///
    /// The newest few hundred events are kept in the array itself, so it does not have to be served, nor to be in a
    /// state to be opened. What a server has noted, and not committed yet, only that server knows. Events with the same
    /// cause within a day are one, with their number. With --follow --json, each event is a document on a line.
    Events(Events),
    /// Acknowledge recorded damage; lost blocks stay unreadable until overwritten. Zeroes the error counts
    Clear(Destructive),
    /// Rehearse a failure: let a member of an array go wrong on purpose
    ///
    /// Faults are kept in a text file beside the member, MEMBER.inject, and strike every command that opens the array
    /// from then on, until they are removed. Each such command says so, and how often they struck. Commands that only
    /// look, such as status and inspect, are not struck; to them, too, a member that is to vanish is missing. A program
    /// that has the array open already goes on undisturbed. Rot is not kept: it strikes the member itself, at once.
    Inject(Inject),
    /// Show what one member holds: superblocks, chunks, records; reads only
    Inspect(Inspect),
    /// Measure the engine beside plain I/O on the same files
    Bench(Bench),
    /// Serve volumes to clients of the Network Block Device protocol, until SIGTERM or SIGINT
    ///
    /// Says where each volume is as soon as clients may come. Sockets that a service manager hands over (LISTEN_FDS)
    /// are used as well. An array that lacks members is served, and rebuilt meanwhile if they are there again. All
    /// other commands work on the array as before: the server runs them.
    Serve(Serve),
    /// Make a block device of a volume, and print its path
    ///
    /// For file systems, and for whatever else wants a disk. A server in the background serves the volume to the
    /// kernel: by the kernel's NBD client where it is loaded (modprobe nbd), else by a FUSE file with a loop device on
    /// it; what it says is kept in /run/paritas. The server ends with the last device of its array. A volume that is
    /// attached already is told again. Needs root.
    Attach(Attach),
    /// Flush a device that attach has made, and take it away
    Detach(Detach),
    /// Rebuild lost metadata from the log alone, also when every superblock of every member is gone
    Salvage(Destructive),
    /// Show on temporary disk files what the engine does, and verify every step
    Demo(Demo),
    /// Run the engine on simulated members, with faults and crashes, and check its promise
    Sim(Sim),
    /// Print a script that completes this command's words in a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
    /// Print what --json prints, as JSON Schema: of all commands, or of one
    Schema(Schema),
    /// Long runs on real files
    #[command(name = "__endure", hide = true)]
    Endure(Endure),
    /// What attach starts in the background
    #[command(name = "__keep", hide = true)]
    Keep(Keep),
    /// Waits for a server's death
    #[command(name = "__guard", hide = true)]
    Guard(Guard),
}

#[derive(Args)]
pub(crate) struct Mkfs {
    /// k+m, mirror, mirror3, ... or stripe [default: mirror below 5 members, else k+2 with k up to 8]
    #[arg(long)]
    pub(crate) scheme: Option<SchemeName>,
    /// Size of members that do not exist or are blank files, such as 10G
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// Size of a chunk [default: by the members' sizes]
    #[arg(long, value_parser = parse_size)]
    pub(crate) chunk: Option<u64>,
    /// Name of the array [default: that of the first member's directory]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Overwrite members that hold something else
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    /// Files and block devices
    #[arg(required = true, value_name = "MEMBER")]
    pub(crate) members: Vec<PathBuf>,
}

/// What destroys something asks first, where a person sits at a terminal.
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Consent {
    /// Do not ask before something is destroyed; without a terminal nobody is asked
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Which of several arrays in a directory.
#[derive(Args, Clone)]
pub(crate) struct Choice {
    /// Name of the array, where a directory holds several
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Args)]
pub(crate) struct Status {
    /// The directory that holds the members, or any one member
    pub(crate) array: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

/// An array of which something is destroyed.
#[derive(Args)]
pub(crate) struct Destructive {
    #[command(flatten)]
    pub(crate) array: Status,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct Volume {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

#[derive(Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create {
        #[command(flatten)]
        volume: VolumeArgs,
        /// Its size
        #[arg(long, value_parser = parse_size)]
        size: u64,
        /// Its scheme, as strong as the members allow [default: the array's]
        #[arg(long)]
        scheme: Option<SchemeName>,
    },
    /// List the volumes
    List(Status),
    /// Delete a volume and everything on it
    Delete {
        #[command(flatten)]
        volume: VolumeArgs,
        #[command(flatten)]
        consent: Consent,
    },
    /// Change a volume's size; what is cut off is lost
    Resize {
        #[command(flatten)]
        volume: VolumeArgs,
        /// Its new size
        #[arg(long, value_parser = parse_size)]
        size: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Args)]
pub(crate) struct VolumeArgs {
    /// The array's directory or any one member, a colon, the volume's name
    #[arg(value_name = "ARRAY:VOL", value_parser = OsStringValueParser::new().try_map(VolumeName::parse))]
    pub(crate) volume: VolumeName,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

#[derive(Args)]
pub(crate) struct Import {
    /// The file, or - for what comes in
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    /// The file, made anew, or - for what goes out
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Args)]
pub(crate) struct Fail {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Its path, file name, slot number or UUID
    pub(crate) member: PathBuf,
}

#[derive(Args)]
pub(crate) struct Online {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Its path, file name, slot number or UUID
    pub(crate) member: PathBuf,
    /// Where it is now [default: where it was]
    #[arg(long, value_name = "PATH")]
    pub(crate) at: Option<PathBuf>,
    /// Leave the rebuild to `paritas rebuild`, or to the server
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args)]
pub(crate) struct Replace {
    #[command(flatten)]
    pub(crate) array: Status,
    /// The member that goes: its path, file name, slot number or UUID; it may be gone already
    pub(crate) old: PathBuf,
    /// The file or device that comes; a file that does not exist is made as large as the old one
    pub(crate) new: PathBuf,
    /// Overwrite what the new one holds
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
    /// Record the new one, and leave the rebuild to `paritas rebuild`
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    pub(crate) array: Status,
    #[command(flatten)]
    pub(crate) job: Job,
}

#[derive(Args)]
pub(crate) struct Scrub {
    #[command(flatten)]
    pub(crate) array: Status,
    #[command(flatten)]
    pub(crate) job: Job,
    /// End a scrub for good, at once: the next one begins anew. A rebuild that it began goes on
    #[arg(long, conflicts_with_all = ["limit", "pause", "no_wait"])]
    pub(crate) stop: bool,
}

#[derive(Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Go on telling what happens, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begin with the last N [default: with all that are known]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
}

#[derive(Args)]
pub(crate) struct Iostat {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Seconds between two looks [default: one second, and once]
    #[arg(value_parser = parse_interval)]
    pub(crate) interval: Option<Duration>,
    /// How often to show it [default: until interrupted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// How a long job is to go.
#[derive(Args)]
pub(crate) struct Job {
    /// Bytes per second at most, such as 100M, or none; changes the speed of one that is under way in a server, too
    #[arg(long, value_name = "SPEED", value_parser = parse_limit)]
    pub(crate) limit: Option<Limit>,
    /// Hold it back in the server that has the array open, until it is asked for again
    #[arg(long)]
    pub(crate) pause: bool,
    /// Let the server that has the array open do it, and do not wait for it
    #[arg(long, conflicts_with = "pause")]
    pub(crate) no_wait: bool,
}

#[derive(Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Its path, file name, slot number or UUID
    #[arg(requires = "kind", required_unless_present_any = ["list", "remove"])]
    pub(crate) member: Option<PathBuf>,
    /// What is to go wrong
    pub(crate) kind: Option<InjectKind>,
    /// Only where an operation touches these bytes of the member, such as 1M+64K [default: everywhere]
    #[arg(long, value_name = "OFF+LEN", requires = "kind")]
    pub(crate) range: Option<Span>,
    /// How likely it strikes an operation, such as 5% or 1/1000 [default: always]
    #[arg(long, value_name = "CHANCE", requires = "kind", value_parser = parse_chance)]
    pub(crate) chance: Option<u32>,
    /// How often it strikes at most, counted anew by each command; for rot, how many blocks
    #[arg(long, value_name = "N", requires = "kind")]
    pub(crate) count: Option<u64>,
    /// How late answers are, such as 50ms or 2s; for what is slow
    #[arg(long, value_name = "TIME", requires = "kind", value_parser = parse_delay)]
    pub(crate) delay: Option<Duration>,
    /// What chance begins with; for rot [default: chance]
    #[arg(long, value_name = "S", requires = "kind")]
    pub(crate) seed: Option<u64>,
    /// List the faults that are kept
    #[arg(long, conflicts_with_all = ["member", "remove"])]
    pub(crate) list: bool,
    /// Forget the faults of one member, or of all
    #[arg(long, value_name = "MEMBER|all", conflicts_with = "member")]
    pub(crate) remove: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum InjectKind {
    /// Reads fail
    ReadError,
    /// Writes fail, and nothing is written
    WriteError,
    /// Flushes fail, and nothing is flushed
    FlushError,
    /// Answers come late, by --delay
    Slow,
    /// Answers never come
    Hang,
    /// Writes succeed, and nothing is written
    LostWrite,
    /// Writes succeed, and land elsewhere on the member
    MisdirectedWrite,
    /// Reads return a wrong bit, the next ones perhaps not
    BitFlip,
    /// The member is gone
    Vanish,
    /// Bits of the member flip at once and for good: in --count blocks that hold something, or within --range
    Rot,
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// A file or block device
    pub(crate) member: PathBuf,
    /// List all chunks (the first 1024) and the records in them
    #[arg(long)]
    pub(crate) records: bool,
    /// Show this chunk alone, and the records in it
    #[arg(long, value_name = "N")]
    pub(crate) chunk: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// k+m, mirror, mirror3, ... or stripe [default: 8+2]
    #[arg(long)]
    pub(crate) scheme: Option<SchemeName>,
    /// Blank files and block devices, blank again afterwards [default: files in /dev/shm, removed afterwards]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) members: Vec<PathBuf>,
    /// Size of members that do not exist or are blank files [default: 512M, less where there is less room]
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// How long each job runs at most
    #[arg(long, default_value = "2", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Measure only the rows with this in their names
    #[arg(long, value_name = "PART")]
    pub(crate) only: Option<String>,
}

#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) array: Status,
    /// Where clients come to; may be given several times [default: unix:FOLDER/NAME.sock; none where sockets are
    /// handed over. FOLDER is /run/paritas for root, else $XDG_RUNTIME_DIR/paritas, or what PARITAS_RUN says]
    #[arg(long, value_name = "unix:PATH|HOST:PORT")]
    pub(crate) listen: Vec<Address>,
    /// Serve this volume; may be given several times [default: all volumes]
    #[arg(long, value_name = "VOL")]
    pub(crate) export: Vec<String>,
    /// Let nobody write, and write nothing to the members, not even what is healed
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Scrub the array when so many days have passed since the last one, or never
    #[arg(long, value_name = "DAYS", default_value = "14", value_parser = parse_every)]
    pub(crate) scrub_every: Every,
    /// Bytes that such a scrub reads per second at most, or none
    #[arg(long, value_name = "SPEED", default_value = "200M", value_parser = parse_limit)]
    pub(crate) scrub_limit: Limit,
    /// Give figures to programs that collect them (OpenMetrics), at http://ADDR/metrics; to everybody who reaches it
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// How the lines look that the server writes on its standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: Format,
    /// The server's certificate and those that lead to its authority's, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let in only clients with a certificate that one of those in this file has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_clients: Option<PathBuf>,
    /// Whether clients encrypt [default: required with a certificate, else off]
    #[arg(long, value_name = "WHEN")]
    pub(crate) tls: Option<TlsWhen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TlsWhen {
    /// Nobody does
    Off,
    /// Who likes to
    Optional,
    /// Everybody must
    Required,
}

/// Bytes of a sector: 512 or 4096.
fn parse_sector(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err(format!("'{text}' is neither 512 nor 4096")),
    }
}

#[derive(Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    /// Bytes of the device's sectors, 512 or 4096 [default: 4096, or what it is attached with]
    #[arg(long, value_name = "BYTES", value_parser = parse_sector)]
    pub(crate) sector: Option<u32>,
    /// Let nobody write to it. An array that is opened for that is written to by nothing, not even by what heals it
    #[arg(long)]
    pub(crate) read_only: bool,
    /// By what the kernel is to have the device [default: the best that is there, or what it is attached by]
    #[arg(long, value_name = "MEANS")]
    pub(crate) means: Option<Means>,
}

impl Attach {
    pub(crate) fn wish(&self) -> Wish {
        Wish { sector: self.sector, read_only: self.read_only, means: self.means }
    }
}

#[derive(Args)]
pub(crate) struct Detach {
    /// The device
    #[arg(value_name = "DEV")]
    pub(crate) device: PathBuf,
}

#[derive(Args)]
pub(crate) struct Keep {
    #[command(flatten)]
    pub(crate) array: Status,
    /// The first volume that is attached
    pub(crate) volume: String,
    #[arg(long, value_parser = parse_sector)]
    pub(crate) sector: Option<u32>,
    #[arg(long)]
    pub(crate) read_only: bool,
    #[arg(long)]
    pub(crate) means: Option<Means>,
}

impl Keep {
    pub(crate) fn wish(&self) -> Wish {
        Wish { sector: self.sector, read_only: self.read_only, means: self.means }
    }
}

#[derive(Args)]
pub(crate) struct Guard {
    /// The number of the device
    pub(crate) index: u32,
    /// Its name
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// A file or folder to work with [default: this program and the Rust toolchain]
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Sim {
    /// How many seeds to run
    #[arg(long, required_unless_present_any = ["minutes", "instead"], conflicts_with = "instead")]
    pub(crate) seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// What the runs are about: standard, power, rot, slow, members or full
    #[arg(long, default_value_t)]
    pub(crate) scenario: Scenario,
    /// Seeds, or workloads, at a time [default: one per core]
    #[arg(long)]
    pub(crate) jobs: Option<u64>,
    /// Begin no more seeds after so many minutes
    #[arg(long, value_name = "MINUTES", conflicts_with = "instead")]
    pub(crate) minutes: Option<u64>,
    /// Fail also when a kind of fault or event never happened
    #[arg(long, conflicts_with = "instead")]
    pub(crate) require_all: bool,
    /// Make the first runs that fail as small as they can be, tell their stories, and keep them as files to replay
    #[arg(long, conflicts_with = "instead")]
    pub(crate) shrink: bool,
    /// Write report.json, a page to look at (index.html), and the runs that were made small, into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "instead")]
    pub(crate) report: Option<PathBuf>,
    /// Run the runs that such files describe once more, and tell their stories
    #[arg(long, value_name = "FILE", num_args = 1.., group = "instead")]
    pub(crate) replay: Vec<PathBuf>,
    /// Instead of seeds: recover, and check, what a power loss at any write of any small workload may leave
    #[arg(long, group = "instead")]
    pub(crate) crash_enumeration: bool,
    /// Calls in a workload at most: 1 takes a few seconds, each further one 14 times as long
    #[arg(long, default_value_t = 1, requires = "crash_enumeration")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=4))]
    pub(crate) ops: u64,
    /// Recoveries run for each moment of a crash, those with the fewest torn writes first; counts what it leaves out
    #[arg(long, default_value_t = 64, value_name = "N", requires = "crash_enumeration")]
    pub(crate) runs: usize,
    /// Of these, how many crash once more, at every moment of theirs
    #[arg(long, default_value_t = 1, value_name = "N", requires = "crash_enumeration")]
    pub(crate) follow: usize,
    /// Recoveries run for each moment of such a crash
    #[arg(long, default_value_t = 6, value_name = "N", requires = "crash_enumeration")]
    pub(crate) again: usize,
    /// Run one image again, by the name that a crash enumeration gave it
    #[arg(long, value_name = "NAME", group = "instead")]
    pub(crate) image: Option<String>,
    /// Instead: damage every block of small arrays in every way, alone and in pairs
    #[arg(long, groups = ["instead", "whole"])]
    pub(crate) every_block: bool,
    /// Instead: give small arrays every set of their members, in every order, split, doubled, cut, shifted
    #[arg(long, groups = ["instead", "whole"])]
    pub(crate) every_assembly: bool,
    /// Instead: let each operation of a member fail, one after the other, once and for ever
    #[arg(long, groups = ["instead", "whole"])]
    pub(crate) nth_operation: bool,
    /// Of these, only every so many-th
    #[arg(long, default_value_t = 1, value_name = "N", requires = "whole")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) every: u64,
    /// Run one case again, by the name that one of these three gave it
    #[arg(long, value_name = "NAME", group = "instead")]
    pub(crate) case: Option<String>,
}

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(crate) struct Schema {
    /// Such as status or volume create [default: all]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Man {
    /// The directory that they go into, made if need be
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
