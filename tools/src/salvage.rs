//! `paritas salvage`

use crate::caller::Caller;
use crate::cli::Destructive;
use crate::jobs::watched;
use crate::outcome::{Exit, Failure, Report};
use crate::session::open_for_upkeep;
use crate::status::glance;
use paritas::volume::{Array, Pace, State};
use serde_json::json;

pub(crate) fn run(args: &Destructive, caller: &Caller) -> Result<Report, Failure> {
    let (Destructive { array: args, consent }, name) = (args, args.array.choice.name.as_deref());
    caller.confirm(*consent, || {
        // One that is well is refused.
        let is_well = glance(&args.array, name, caller).is_some_and(|status| status.state == State::Healthy);
        let place = args.array.display();
        (!is_well).then(|| {
            format!(
                "make the metadata of the members at {place} anew? The metadata that is there is written over"
            )
        })
    })?;
    let salvaged = Array::salvage(&args.array, name)?;
    for (name, is_from_headers) in &salvaged.volumes {
        if *is_from_headers {
            caller.say(&format!(
                "the map of volume '{name}' is lost; it was made from record headers: what was trimmed or cut off may \
                 be there again"
            ));
        }
    }
    if salvaged.is_renamed {
        caller.say(
            "no superblock was left: the array is named after its directory, its members have new UUIDs",
        );
    }
    // What no header vouched for is verified, and completed where it can be.
    let array = open_for_upkeep(caller, args)?;
    let rebuilt = watched(&array, caller, Pace::default());
    let closed = array.close();
    let rebuilt = rebuilt?.rebuilt;
    closed?;
    let volumes: Vec<_> = salvaged
        .volumes
        .iter()
        .map(|(name, is_from_headers)| json!({ "name": name, "from_headers": is_from_headers }))
        .collect();
    let document = json!({
        "uuid": salvaged.uuid.to_string(),
        "members": salvaged.members,
        "missing": salvaged.missing,
        "volumes": volumes,
        "lost": rebuilt.lost * paritas::types::BLOCK_U64,
    });
    let names: Vec<&str> = salvaged.volumes.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = format!("salvaged {} members; volumes: {}", salvaged.members.len(), names.join(", "));
    for slot in &salvaged.missing {
        text += &format!("\nmember {slot} is not there: replace it");
    }
    let exit = match (rebuilt.lost, rebuilt.missing, salvaged.missing.len()) {
        (1.., _, _) => Exit::Lost,
        (0, 0, 0) => Exit::Done,
        _ => Exit::Reduced,
    };
    Ok(Report { exit, json: document, text })
}
