//! `paritas attach` and `detach`: volumes as block devices.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`means`] | what the kernel offers |
//! | [`place`] | where servers keep what devices need |
//! | [`claims`], [`users`] | devices that are to go, and who uses them |
//! | [`backing`] | what stands behind a device |
//! | [`fuse`], [`loops`] | a file of a FUSE mount, and a loop device on it |
//! | [`ublk`] | a device that the kernel asks the server for |
//! | [`nbd`], [`netlink`], [`guard`] | the kernel's NBD client, how it is asked, and who tells it of a server's death |
//! | [`attachments`], [`devices`] | the volumes of an open array that are devices, and who asks for them |
//! | [`daemon`], [`descriptors`] | a server in the background |
//! | [`keeper`] | the one that is started here |

mod attachments;
mod backing;
mod claims;
mod daemon;
mod descriptors;
mod devices;
mod fuse;
pub(crate) mod guard;
pub(crate) mod keeper;
mod loops;
mod means;
mod nbd;
mod netlink;
mod place;
mod ublk;
mod users;

pub(crate) use attachments::Wish;
pub(crate) use devices::Devices;
pub(crate) use means::Means;
pub(crate) use place::Place;

use crate::caller::Caller;
use crate::cli;
use crate::control::{find_for_device, make_run_folder, sweep};
use crate::outcome::{Failure, Report};
use paritas::volume;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to open an array. Members that hang take half a minute each.
const OPENING: Duration = Duration::from_secs(600);
/// How long another process may have the array open that is about to serve it, or about to end.
const CHANGE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn attach(args: &cli::Attach, caller: &Caller) -> Result<Report, Failure> {
    means::usable(args.means)?;
    let Caller::Elsewhere(remote) = caller else { return begin(args) };
    let attached = remote.devices().attach(remote.array(), &args.volume.volume.volume, args.wish())?;
    Ok(told(attached.document()))
}

fn told(document: Value) -> Report {
    let device = document["device"].as_str().unwrap_or_default().to_owned();
    Report::done(document, device)
}

/// No server has the array: starts one in the background.
fn begin(args: &cli::Attach) -> Result<Report, Failure> {
    let (array, name) = (&args.volume.volume.array, args.volume.choice.name.as_deref());
    let found = volume::Status::of(array, name).map_err(|error| Failure::opening(&error))?;
    let place = Place::of(&make_run_folder()?, found.uuid);
    let until = Instant::now() + CHANGE;
    loop {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io(format!("this program cannot be found again: {error}")))?;
        let mut command = Command::new(program);
        command.args(keeper::command_line(args)?);
        match daemon::start(&mut command, &place.log, OPENING) {
            // Somebody else may be doing the same, or closing it.
            Err(failure) if failure.is_busy() && Instant::now() < until => thread::sleep(PAUSE),
            outcome => return outcome.map(told),
        }
        if let Some(owner) = find_for_device(array, name)? {
            return owner.run();
        }
    }
}

pub(crate) fn detach(args: &cli::Detach, caller: &Caller) -> Result<Report, Failure> {
    let missing = |error: io::Error| Failure::refused(format!("{}: {error}", args.device.display()));
    // As the kernel names it, whatever it is called here. One whose server died may have lost its name.
    let device = std::fs::canonicalize(&args.device).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => std::path::absolute(&args.device),
        _ => Err(error),
    });
    let device = device.map_err(missing)?;
    match caller {
        Caller::Elsewhere(remote) => remote.devices().detach(&device)?,
        Caller::Here => clear(&device)?,
    }
    Ok(Report::done(json!({ "device": device }), ""))
}

/// The device's server has died.
fn clear(device: &Path) -> Result<(), Failure> {
    let folder = make_run_folder()?;
    let file = loops::file_of(device)
        .or_else(|| nbd::file_of(device))
        .or_else(|| place::file_naming(&folder, device));
    let place = file.as_deref().and_then(|file| Some((file, Place::of_file(&folder, file)?)));
    let (file, place) = place
        .ok_or_else(|| Failure::refused(format!("{} is no volume that is attached", device.display())))?;
    attachments::clear(file)?;
    // Unless others of its volumes are left.
    let _left = std::fs::remove_dir(&place.volumes).is_err();
    let array = place.volumes.file_name().unwrap_or_default();
    sweep(&folder, &array.to_string_lossy());
    Ok(())
}
