//! `paritas volume create`, `list`, `delete` and `resize`

use crate::caller::Caller;
use crate::cli::{self, Consent, VolumeArgs, VolumeCommand};
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report};
use crate::session;
use crate::status::{glance_at_volume, look, volumes};
use serde_json::json;
use std::path::PathBuf;

pub(crate) fn run(args: cli::Volume, caller: &Caller) -> Result<Report, Failure> {
    match args.command {
        VolumeCommand::Create { volume, size, scheme } => create(&volume, size, scheme, caller),
        VolumeCommand::List(array) => list(&array, caller),
        VolumeCommand::Delete { volume, consent } => delete(&volume, consent, caller),
        VolumeCommand::Resize { volume, size, consent } => resize(&volume, size, consent, caller),
    }
}

fn create(
    args: &VolumeArgs,
    size: u64,
    scheme: Option<SchemeName>,
    caller: &Caller,
) -> Result<Report, Failure> {
    let array = session::open_for(caller, args)?;
    let members = array.status()?.members.len();
    let name = &args.volume.volume;
    let volume = array.create_volume(name, size, scheme.map(|scheme| scheme.on(members)))?;
    array.close()?;
    let scheme = SchemeName::spell(volume.scheme());
    let text = format!("volume '{name}', {}, {scheme}", show_size(size));
    Ok(Report::done(json!({ "name": name, "size": size, "scheme": scheme }), text))
}

fn list(args: &cli::Status, caller: &Caller) -> Result<Report, Failure> {
    let status = look(args, caller)?;
    if let Some(error) = &status.error {
        return Err(Failure::opening(error));
    }
    let lines: Vec<String> = status
        .volumes
        .iter()
        .map(|volume| {
            let (size, used) = (show_size(volume.size), show_size(volume.used));
            format!("{:<16} {size:>11} {used:>11} used  {}", volume.name, SchemeName::spell(volume.scheme))
        })
        .collect();
    Ok(Report::done(json!({ "volumes": volumes(&status.volumes) }), lines.join("\n")))
}

fn delete(args: &VolumeArgs, consent: Consent, caller: &Caller) -> Result<Report, Failure> {
    let name = &args.volume.volume;
    if let Some(device) = device(name, caller) {
        let text = format!("volume '{name}' is {}: `paritas detach` it first", device.display());
        return Err(Failure::refused(text));
    }
    caller.confirm(consent, || {
        let (volume, _) = glance_at_volume(args, caller)?;
        Some(format!("delete {volume}? Everything on it is lost"))
    })?;
    let array = session::open_for(caller, args)?;
    array.delete_volume(name)?;
    array.close()?;
    Ok(Report::done(json!({ "name": name }), format!("volume '{name}' is deleted")))
}

/// The block device that a volume is attached as.
fn device(name: &str, caller: &Caller) -> Option<PathBuf> {
    match caller {
        Caller::Here => None,
        Caller::Elsewhere(remote) => remote.devices().of(name),
    }
}

fn resize(args: &VolumeArgs, size: u64, consent: Consent, caller: &Caller) -> Result<Report, Failure> {
    if let Caller::Elsewhere(remote) = caller {
        // Before anything is changed: a device that goes on with the old size would lose what is cut off under it.
        remote.devices().may_resize(&args.volume.volume)?;
    }
    caller.confirm(consent, || {
        let (volume, _) = glance_at_volume(args, caller).filter(|(_, now)| *now > size)?;
        Some(format!("cut {volume} off at {}? What lies behind that is lost", show_size(size)))
    })?;
    let array = session::open_for(caller, args)?;
    let name = &args.volume.volume;
    let volume = array.volume(name)?;
    volume.resize(size)?;
    if let Caller::Elsewhere(remote) = caller {
        remote.devices().resized(&volume)?;
    }
    array.close()?;
    Ok(Report::done(
        json!({ "name": name, "size": size }),
        format!("volume '{name}' has {} now", show_size(size)),
    ))
}
