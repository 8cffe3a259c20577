//! Which commands a server runs for others, and the paths in them.

use crate::cli::{Command, Inject, Status, VolumeArgs, VolumeCommand};
use std::path::{Path, PathBuf};

/// What a command works on: a path, and the name of an array where there are several.
pub(super) enum Named<'a> {
    Array(&'a Path, Option<&'a str>),
    /// To make a device of a volume.
    ArrayForDevice(&'a Path, Option<&'a str>),
    Device(&'a Path),
}

/// What a command works on, if a server that has that can do it.
pub(super) fn named(command: &Command) -> Option<Named<'_>> {
    match command {
        Command::Status(args) | Command::Watch(args) => Some(of_array(args)),
        Command::Clear(args) => Some(of_array(&args.array)),
        Command::Volume(args) => Some(match &args.command {
            VolumeCommand::List(args) => of_array(args),
            VolumeCommand::Create { volume, .. } | VolumeCommand::Resize { volume, .. } => of_volume(volume),
            VolumeCommand::Delete { volume, .. } => of_volume(volume),
        }),
        Command::Import(args) => Some(of_volume(&args.volume)),
        Command::Export(args) => Some(of_volume(&args.volume)),
        Command::Attach(args) => {
            let VolumeArgs { volume, choice } = &args.volume;
            Some(Named::ArrayForDevice(&volume.array, choice.name.as_deref()))
        }
        Command::Detach(args) => Some(Named::Device(&args.device)),
        Command::Events(args) => Some(of_array(&args.array)),
        Command::Iostat(args) => Some(of_array(&args.array)),
        Command::Fail(args) => Some(of_array(&args.array)),
        Command::Online(args) => Some(of_array(&args.array)),
        Command::Replace(args) => Some(of_array(&args.array)),
        Command::Rebuild(args) => Some(of_array(&args.array)),
        Command::Scrub(args) => Some(of_array(&args.array)),
        Command::Inject(args) => Some(of_array(&args.array)),
        _ => None,
    }
}

fn of_array(args: &Status) -> Named<'_> {
    Named::Array(&args.array, args.choice.name.as_deref())
}

fn of_volume(args: &VolumeArgs) -> Named<'_> {
    Named::Array(&args.volume.array, args.choice.name.as_deref())
}

/// Lets the paths in a command lead on from a folder, as they do for its caller.
pub(super) fn lead_on(command: &mut Command, folder: &Path) {
    let at = |path: &mut PathBuf| *path = folder.join(&*path);
    match command {
        Command::Status(args) | Command::Watch(args) => at(&mut args.array),
        Command::Clear(args) => at(&mut args.array.array),
        Command::Volume(args) => match &mut args.command {
            VolumeCommand::List(args) => at(&mut args.array),
            VolumeCommand::Create { volume, .. } | VolumeCommand::Resize { volume, .. } => {
                at(&mut volume.volume.array);
            }
            VolumeCommand::Delete { volume, .. } => at(&mut volume.volume.array),
        },
        Command::Import(args) => {
            at(&mut args.volume.volume.array);
            file(&mut args.file, folder);
        }
        Command::Export(args) => {
            at(&mut args.volume.volume.array);
            file(&mut args.file, folder);
        }
        Command::Attach(args) => at(&mut args.volume.volume.array),
        Command::Detach(args) => at(&mut args.device),
        Command::Fail(args) => {
            at(&mut args.array.array);
            member(&mut args.member, folder);
        }
        Command::Online(args) => {
            at(&mut args.array.array);
            member(&mut args.member, folder);
            args.at.iter_mut().for_each(at);
        }
        Command::Replace(args) => {
            at(&mut args.array.array);
            member(&mut args.old, folder);
            at(&mut args.new);
        }
        Command::Rebuild(args) => at(&mut args.array.array),
        Command::Events(args) => at(&mut args.array.array),
        Command::Iostat(args) => at(&mut args.array.array),
        Command::Scrub(args) => at(&mut args.array.array),
        Command::Inject(Inject { array, member: struck, remove, .. }) => {
            at(&mut array.array);
            [struck, remove].into_iter().flatten().for_each(|name| member(name, folder));
        }
        _ => {}
    }
}

/// A file, unless it is the standard input or output.
fn file(path: &mut PathBuf, folder: &Path) {
    if path != Path::new("-") {
        *path = folder.join(&*path);
    }
}

/// A member may be named by a path, and by what looks like one.
fn member(name: &mut PathBuf, folder: &Path) {
    let path = folder.join(&*name);
    if name.components().count() > 1 || path.exists() {
        *name = path;
    }
}
