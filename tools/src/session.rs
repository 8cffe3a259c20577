//! Arrays as commands open them.

use crate::caller::Caller;
use crate::cli::{Status, VolumeArgs};
use crate::outcome::Failure;
use crate::status::describe_injected;
use paritas::error::{Error, Kind};
use paritas::volume::{Array, OpenOptions, Upkeep};
use std::ops::Deref;
use std::path::Path;

/// An array that is open for a command: opened for it, or that of the server that runs it.
pub(crate) struct Session<'a> {
    array: Array,
    caller: &'a Caller,
}

impl Deref for Session<'_> {
    type Target = Array;

    fn deref(&self) -> &Array {
        &self.array
    }
}

impl Session<'_> {
    /// Closes the array if it was opened for this command, and says what was injected into it meanwhile.
    pub(crate) fn close(&self) -> Result<(), Error> {
        if let Caller::Elsewhere(_) = self.caller {
            return Ok(());
        }
        let closed = self.array.close();
        for fault in self.array.injected().unwrap_or_default().iter().filter(|fault| fault.struck > 0) {
            self.caller.say(&format!("{}: struck {} times", describe_injected(fault), fault.struck));
        }
        closed
    }
}

/// Opens the array to write it, and says what was left alone.
pub(crate) fn open<'a>(caller: &'a Caller, place: &Path, name: Option<&str>) -> Result<Session<'a>, Failure> {
    open_as(caller, place, name, false, Upkeep::Nothing).map_err(|error| Failure::opening(&error))
}

/// Opens the array to work on its members: those that came back are taken back.
pub(crate) fn open_for_upkeep<'a>(caller: &'a Caller, args: &Status) -> Result<Session<'a>, Failure> {
    let name = args.choice.name.as_deref();
    open_as(caller, &args.array, name, false, Upkeep::OnDemand).map_err(|error| Failure::opening(&error))
}

/// Opens the array of a volume.
pub(crate) fn open_for<'a>(caller: &'a Caller, args: &VolumeArgs) -> Result<Session<'a>, Failure> {
    open(caller, &args.volume.array, args.choice.name.as_deref())
}

/// Opens the array to read and heal it; only to read it where too few members are there, or this process may
/// not write them.
pub(crate) fn open_to_read<'a>(caller: &'a Caller, args: &VolumeArgs) -> Result<Session<'a>, Failure> {
    let (place, name) = (&args.volume.array, args.choice.name.as_deref());
    let opened = match open_as(caller, place, name, false, Upkeep::Nothing) {
        Err(error) if error.kind() == Kind::ReadOnly => {
            caller.say(&format!("{error}; reading what is there, healing and recording nothing"));
            open_as(caller, place, name, true, Upkeep::Nothing)
        }
        opened => opened,
    };
    opened.map_err(|error| Failure::opening(&error))
}

/// Opens the array to serve it: what it needs is done in the background.
pub(crate) fn open_to_serve<'a>(
    caller: &'a Caller,
    args: &Status,
    read_only: bool,
) -> Result<Session<'a>, Failure> {
    let name = args.choice.name.as_deref();
    let upkeep = if read_only { Upkeep::Nothing } else { Upkeep::Background };
    open_as(caller, &args.array, name, read_only, upkeep).map_err(|error| Failure::opening(&error))
}

/// The array of the server, however that has it open; or the array that `place` names, opened for the command.
fn open_as<'a>(
    caller: &'a Caller,
    place: &Path,
    name: Option<&str>,
    read_only: bool,
    upkeep: Upkeep,
) -> Result<Session<'a>, Error> {
    if let Caller::Elsewhere(remote) = caller {
        return Ok(Session { array: remote.array().clone(), caller });
    }
    let name = name.map(str::to_owned);
    let array = Array::open(place, &OpenOptions { read_only, upkeep, name, ..OpenOptions::default() })?;
    array.notes().iter().for_each(|note| caller.say(note));
    Ok(Session { array, caller })
}
