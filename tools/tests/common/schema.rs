//! Holds what commands print against the schema that they print: as much of JSON Schema as that uses, and stricter.
//! What it does not name is wrong here, though programs must live with it.

use serde_json::{Deserializer, Value};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../json/paritas.schema.json")).expect("the schema is JSON")
}

/// The names of what is described.
pub(crate) fn names() -> Vec<String> {
    schema()["$defs"].as_object().expect("definitions").keys().cloned().collect()
}

/// Demands of a command with `--json` that all documents that it printed are described.
#[track_caller]
pub(crate) fn demand(args: &[&str], out: &str) {
    let whole = schema();
    let words: Vec<&str> = args.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let command = match words.as_slice() {
        ["volume", word, ..] => format!("volume-{word}"),
        [word, ..] => (*word).to_owned(),
        [] => String::new(),
    };
    // What help does not show is for nobody but its own tests.
    if command.starts_with("__") {
        return;
    }
    for document in Deserializer::from_str(out).into_iter::<Value>() {
        let document = document.unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"));
        let name = match (document.get("error").is_some_and(Value::is_object), document.get("help")) {
            (true, _) => "error",
            (false, Some(_)) => "help",
            (false, None) => &command,
        };
        let rule = whole["$defs"].get(name).unwrap_or_else(|| panic!("{args:?}: {name} is not described"));
        if let Err(why) = check(&whole, rule, &document) {
            panic!("{args:?}: {why}: {document:#}");
        }
    }
}

/// Whether a value is as a rule says; else where it is not.
pub(crate) fn check(whole: &Value, rule: &Value, value: &Value) -> Result<(), String> {
    for (word, what) in rule.as_object().expect("a rule") {
        match word.as_str() {
            "description" => {}
            "$ref" => {
                let name =
                    what.as_str().and_then(|to| to.strip_prefix("#/$defs/")).expect("a definition here");
                let named = whole["$defs"].get(name).unwrap_or_else(|| panic!("{name} is not defined"));
                check(whole, named, value).map_err(|why| format!("{name}: {why}"))?;
            }
            "anyOf" => {
                let reasons: Vec<String> =
                    list(what).iter().filter_map(|rule| check(whole, rule, value).err()).collect();
                if reasons.len() == list(what).len() {
                    return Err(reasons.join(", nor "));
                }
            }
            "type" => {
                let types = if what.is_array() { list(what) } else { std::slice::from_ref(what) };
                if !types.iter().any(|name| is_of(name.as_str().expect("a type"), value)) {
                    return Err(format!("{value} is no {what}"));
                }
            }
            "enum" if list(what).contains(value) => {}
            "enum" => return Err(format!("{value} is none of {what}")),
            "minimum" if value.as_f64() < what.as_f64() && value.is_number() => {
                return Err(format!("{value} is too small"));
            }
            "minimum" => {}
            "items" => {
                for (at, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(whole, what, value).map_err(|why| format!("{at}: {why}"))?;
                }
            }
            "required" => {
                let is_missing = |name: &&Value| value.get(name.as_str().expect("a name")).is_none();
                if let Some(name) = list(what).iter().filter(|_| value.is_object()).find(is_missing) {
                    return Err(format!("{name} is missing"));
                }
            }
            "properties" | "additionalProperties" => fields(whole, rule, value)?,
            _ => panic!("the schema says {word}, which nobody checks"),
        }
    }
    Ok(())
}

/// Whether each field is as its rule says, or that of all others.
fn fields(whole: &Value, rule: &Value, value: &Value) -> Result<(), String> {
    for (name, value) in value.as_object().into_iter().flatten() {
        let named = rule["properties"].get(name).or_else(|| rule.get("additionalProperties"));
        let named = named.ok_or_else(|| format!("{name} is not described"))?;
        check(whole, named, value).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("{name} is no type"),
    }
}
