//! Arrays as commands open them.

use crate::cli::{Status, VolumeArgs};
use crate::outcome::{Failure, say};
use crate::status::describe_injected;
use paritas::error::{Error, Kind};
use paritas::volume::{Array, OpenOptions, Upkeep};
use std::path::Path;

/// Opens the array to write it, and says on stderr what was left alone.
pub(crate) fn open(place: &Path, name: Option<&str>) -> Result<Array, Failure> {
    open_as(place, name, false, Upkeep::Nothing).map_err(|error| Failure::opening(&error))
}

/// Opens the array to work on its members: those that came back are taken back.
pub(crate) fn open_for_upkeep(args: &Status) -> Result<Array, Failure> {
    let name = args.choice.name.as_deref();
    open_as(&args.array, name, false, Upkeep::OnDemand).map_err(|error| Failure::opening(&error))
}

/// Opens the array of a volume.
pub(crate) fn open_for(args: &VolumeArgs) -> Result<Array, Failure> {
    open(&args.volume.array, args.choice.name.as_deref())
}

/// Opens the array to read and heal it; only to read it where too few members are there, or this process may
/// not write them.
pub(crate) fn open_to_read(args: &VolumeArgs) -> Result<Array, Failure> {
    let (place, name) = (&args.volume.array, args.choice.name.as_deref());
    let opened = match open_as(place, name, false, Upkeep::Nothing) {
        Err(error) if error.kind() == Kind::ReadOnly => {
            say(&format!("{error}; reading what is there, healing and recording nothing"));
            open_as(place, name, true, Upkeep::Nothing)
        }
        opened => opened,
    };
    opened.map_err(|error| Failure::opening(&error))
}

/// Opens the array to serve it: what it needs is done in the background.
pub(crate) fn open_to_serve(args: &Status, read_only: bool) -> Result<Array, Failure> {
    let name = args.choice.name.as_deref();
    let upkeep = if read_only { Upkeep::Nothing } else { Upkeep::Background };
    open_as(&args.array, name, read_only, upkeep).map_err(|error| Failure::opening(&error))
}

/// Closes the array, and says on stderr what was injected into it meanwhile.
pub(crate) fn close(array: &Array) -> Result<(), Error> {
    let closed = array.close();
    for fault in array.injected().unwrap_or_default().iter().filter(|fault| fault.struck > 0) {
        say(&format!("{}: struck {} times", describe_injected(fault), fault.struck));
    }
    closed
}

fn open_as(place: &Path, name: Option<&str>, read_only: bool, upkeep: Upkeep) -> Result<Array, Error> {
    let name = name.map(str::to_owned);
    let array = Array::open(place, &OpenOptions { read_only, upkeep, name, ..OpenOptions::default() })?;
    array.notes().iter().for_each(|note| say(note));
    Ok(array)
}
