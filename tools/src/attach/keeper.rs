//! The process that has an array open for the sake of its devices. It lives as long as a volume is attached; all else
//! that is wanted of the array comes to its desk, as to any server's.

use super::daemon;
use super::devices::Devices;
use crate::caller::Caller;
use crate::cli::{Attach, Keep};
use crate::control::{Desk, Purpose};
use crate::logs::{self, Format};
use crate::outcome::{Failure, Report, print};
use crate::session;
use paritas::volume::Array;
use std::ffi::OsString;
use std::sync::Arc;

/// `paritas __keep`: opens the array, attaches a volume, says so, and serves until nothing is attached.
pub(crate) fn run(args: &Keep) -> Result<Report, Failure> {
    daemon::settle().map_err(|error| Failure::io(format!("a session of its own: {error}")))?;
    let array = session::open_to_serve(&Caller::Here, &args.array, args.read_only)?;
    let desk = Desk::open(&array, Purpose::Devices { read_only: args.read_only })?;
    let kept = keep(args, &array, desk.devices());
    desk.close();
    let closed = array.close();
    desk.leave();
    kept?;
    closed?;
    Ok(Report::silent())
}

fn keep(args: &Keep, array: &Array, devices: &Arc<Devices>) -> Result<(), Failure> {
    let first = devices.attach(array, &args.volume, args.wish())?;
    let told = end_on_signal(devices)
        .and_then(|()| {
            print(&format!("{:#}", first.document())).map_err(|error| Failure::io(error.to_string()))
        })
        .and_then(|()| daemon::let_go().map_err(|error| Failure::io(error.to_string())));
    logs::start(Format::Text);
    if told.is_err() {
        devices.end();
    }
    devices.wait();
    told
}

/// SIGTERM and SIGINT are an order to detach everything.
fn end_on_signal(devices: &Arc<Devices>) -> Result<(), Failure> {
    let devices = devices.clone();
    ctrlc::set_handler(move || devices.end())
        .map_err(|error| Failure::io(format!("signals cannot be waited for: {error}")))
}

/// What starts such a server.
pub(crate) fn command_line(args: &Attach) -> Result<Vec<OsString>, Failure> {
    let Attach { volume, sector, read_only, means } = args;
    let (array, name) = (&volume.volume.array, &volume.choice.name);
    let place =
        std::path::absolute(array).map_err(|error| Failure::io(format!("{}: {error}", array.display())))?;
    let mut words = vec!["__keep".into(), "--json".into()];
    if let Some(name) = name {
        words.extend(["--name".into(), name.into()]);
    }
    if let Some(sector) = sector {
        words.extend(["--sector".into(), sector.to_string().into()]);
    }
    if let Some(means) = means {
        words.extend(["--means".into(), means.name().into()]);
    }
    if *read_only {
        words.push("--read-only".into());
    }
    words.extend(["--".into(), place.into(), volume.volume.volume.clone().into()]);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Means;
    use crate::cli::{Choice, Cli, Command, VolumeArgs};
    use crate::names::VolumeName;
    use clap::Parser;

    #[test]
    fn a_server_is_started_with_what_was_asked_for() {
        let volume = VolumeName { array: "-dir".into(), volume: "--v".into() };
        let volume = VolumeArgs { volume, choice: Choice { name: Some("n".into()) } };
        let mut words = vec!["paritas".into()];
        let attach = Attach { volume, sector: Some(512), read_only: true, means: Some(Means::Fuse) };
        words.extend(command_line(&attach).expect("one"));
        let parsed = Cli::try_parse_from(words).expect("understood");
        let Command::Keep(keep) = parsed.command else { panic!("another command") };
        assert!(parsed.json && keep.array.array.is_absolute() && keep.array.array.ends_with("-dir"));
        assert_eq!((keep.volume.as_str(), keep.wish()), ("--v", attach.wish()));
        assert_eq!(keep.array.choice.name.as_deref(), Some("n"));
    }
}
