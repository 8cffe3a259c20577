//! `paritas volume create`, `list`, `delete` and `resize`

use crate::cli::{self, VolumeArgs, VolumeCommand};
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report};
use crate::session;
use crate::status::{look, volumes};
use serde_json::json;

pub(crate) fn run(args: cli::Volume) -> Result<Report, Failure> {
    match args.command {
        VolumeCommand::Create { volume, size, scheme } => create(&volume, size, scheme),
        VolumeCommand::List(array) => list(&array),
        VolumeCommand::Delete(volume) => delete(&volume),
        VolumeCommand::Resize { volume, size } => resize(&volume, size),
    }
}

fn create(args: &VolumeArgs, size: u64, scheme: Option<SchemeName>) -> Result<Report, Failure> {
    let array = session::open_for(args)?;
    let members = array.status()?.members.len();
    let name = &args.volume.volume;
    let volume = array.create_volume(name, size, scheme.map(|scheme| scheme.on(members)))?;
    session::close(&array)?;
    let scheme = SchemeName::spell(volume.scheme());
    let text = format!("volume '{name}', {}, {scheme}", show_size(size));
    Ok(Report::done(json!({ "name": name, "size": size, "scheme": scheme }), text))
}

fn list(args: &cli::Status) -> Result<Report, Failure> {
    let status = look(args)?;
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

fn delete(args: &VolumeArgs) -> Result<Report, Failure> {
    let array = session::open_for(args)?;
    let name = &args.volume.volume;
    array.delete_volume(name)?;
    session::close(&array)?;
    Ok(Report::done(json!({ "name": name }), format!("volume '{name}' is deleted")))
}

fn resize(args: &VolumeArgs, size: u64) -> Result<Report, Failure> {
    let array = session::open_for(args)?;
    let name = &args.volume.volume;
    array.volume(name)?.resize(size)?;
    session::close(&array)?;
    Ok(Report::done(
        json!({ "name": name, "size": size }),
        format!("volume '{name}' has {} now", show_size(size)),
    ))
}
