//! `paritas mkfs`

use crate::caller::Caller;
use crate::cli::Mkfs;
use crate::held::held;
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report};
use paritas::volume::{Array, CreateOptions, default_scheme};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) fn run(args: Mkfs, caller: &Caller) -> Result<Report, Failure> {
    // Without force, what holds something is refused.
    caller.confirm(args.consent, || {
        let held = args.force.then(|| held(args.members.iter().map(PathBuf::as_path)))??;
        Some(format!("make a new array? What is on these members is lost:{held}"))
    })?;
    let count = args.members.len();
    let scheme = args.scheme.map_or_else(|| default_scheme(count), |scheme| scheme.on(count));
    let options = CreateOptions {
        name: args.name,
        scheme: Some(scheme),
        chunk: args.chunk,
        size: args.size,
        force: args.force,
    };
    let array = Array::create(&args.members, &options)?;
    let status = array.status()?;
    array.close()?;
    let members: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            json!({
                "slot": member.slot,
                "path": member.path,
                "uuid": member.uuid.to_string(),
                "size": member.size,
            })
        })
        .collect();
    let scheme = SchemeName::spell(scheme);
    let mut text = format!("array '{}' ({}), {scheme}, {count} members\n", status.name, status.uuid);
    for member in &status.members {
        let (path, size) = (member.path.display(), show_size(member.size));
        writeln!(text, "  {:>3}  {size:>10}  {path}", member.slot).expect("a string takes everything");
    }
    let document =
        json!({ "name": status.name, "uuid": status.uuid.to_string(), "scheme": scheme, "members": members });
    Ok(Report::done(document, text))
}
