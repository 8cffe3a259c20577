//! `paritas attach` and `detach`: volumes as block devices.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`means`] | what the kernel offers |
//! | [`place`] | where servers keep what they need |
//! | [`loops`], [`users`] | loop devices, and who uses them |
//! | [`attachments`] | the volumes of an open array that are devices |
//! | [`daemon`], [`descriptors`] | a server in the background |
//! | [`keeper`] | the one that is started here, and how it is asked |

mod attachments;
mod daemon;
mod descriptors;
pub(crate) mod keeper;
mod loops;
mod means;
mod place;
mod users;

use crate::cli;
use crate::outcome::{Failure, Report};
use keeper::{Wish, ask};
use paritas::volume;
use place::{Place, run_folder};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to open an array. Members that hang take half a minute each.
const OPENING: Duration = Duration::from_secs(600);
/// How long another process may have the array open that is about to serve it, or about to end.
const CHANGE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn attach(args: &cli::Attach) -> Result<Report, Failure> {
    means::check()?;
    let cli::Attach { volume, sector, read_only } = args;
    let array = cli::Status { array: volume.volume.array.clone(), choice: volume.choice.clone() };
    let found = volume::Status::of(&array.array, array.choice.name.as_deref());
    let place = Place::of(&run_folder()?, found.map_err(|error| Failure::opening(&error))?.uuid);
    let wish = Wish::Attach { volume: volume.volume.volume.clone(), sector: *sector, read_only: *read_only };
    let said = reach(&place, &array, &wish)?;
    let device = said["device"].as_str().unwrap_or_default().to_owned();
    Ok(Report::done(said, device))
}

/// Asks the server of the array, or starts one.
fn reach(place: &Place, array: &cli::Status, wish: &Wish) -> Result<Value, Failure> {
    let until = Instant::now() + CHANGE;
    loop {
        if let Some(said) = ask(&place.socket, wish)? {
            return Ok(said);
        }
        let program = std::env::current_exe()
            .map_err(|error| Failure::io(format!("this program cannot be found again: {error}")))?;
        let mut command = Command::new(program);
        command.args(keeper::command_line(array, wish)?);
        match daemon::start(&mut command, &place.log, OPENING) {
            // Somebody else may be doing the same, or closing it.
            Err(failure) if failure.is_busy() && Instant::now() < until => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

pub(crate) fn detach(args: &cli::Detach) -> Result<Report, Failure> {
    // As the kernel names it, whatever it is called here.
    let device = std::fs::canonicalize(&args.device)
        .map_err(|error| Failure::refused(format!("{}: {error}", args.device.display())))?;
    let folder = run_folder()?;
    let file = loops::file_of(&device);
    let place = file.as_deref().and_then(|file| Some((file, Place::of_file(&folder, file)?)));
    let (file, place) = place.ok_or_else(|| {
        Failure::refused(format!("{} is no volume that is attached", args.device.display()))
    })?;
    let said = match ask(&place.socket, &Wish::Detach { device: device.clone() })? {
        Some(said) => said,
        None => clear(&device, file, &place)?,
    };
    Ok(Report::done(said, ""))
}

/// Its server has died, and left its socket, too.
fn clear(device: &Path, file: &Path, place: &Place) -> Result<Value, Failure> {
    attachments::clear(file)?;
    // Unless others of its volumes are left. Another server may have taken the socket away already.
    let _left =
        std::fs::remove_dir(&place.volumes).and_then(|()| std::fs::remove_file(&place.socket)).is_err();
    Ok(json!({ "device": device }))
}
