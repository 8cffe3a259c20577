//! `paritas schema`

use crate::cli::Schema;
use crate::outcome::{Failure, Report};
use serde_json::Value;

/// What `--json` prints, command by command. Written by hand; the tests of the commands hold it against what these
/// print.
const SCHEMA: &str = include_str!("../json/paritas.schema.json");

pub(crate) fn run(args: &Schema) -> Result<Report, Failure> {
    let mut document: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    if args.command.is_empty() {
        return Ok(Report::done(document, SCHEMA));
    }
    let name = args.command.join("-");
    if document["$defs"].get(&name).is_none() {
        let words = args.command.join(" ");
        return Err(Failure::usage(format!(
            "'{words}' is no command that prints JSON; `paritas --help` lists all"
        )));
    }
    document["$ref"] = format!("#/$defs/{name}").into();
    let text = format!("{document:#}");
    Ok(Report::done(document, text))
}
