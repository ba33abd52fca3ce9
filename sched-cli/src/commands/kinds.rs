//! `sched kinds`: what jobs and channels there are, and the parameters of one, from its JSON Schema.

use serde_json::{Value, json};

use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, table};

/// Parameters within parameters are shown down to this depth.
const DEEPEST: usize = 3;

pub(crate) fn kinds(global: &Global, kind: Option<&str>) -> Outcome {
    // The kinds are the program's own: a fault in the configuration is no reason not to show them.
    let registry = Setup::kinds(global)?;
    let jobs = registry.kinds().map(|(name, kind)| ("job", name, kind.about(), kind.schema()));
    let channels = registry.channel_kinds().map(|(name, kind)| ("channel", name, kind.about(), kind.schema()));
    let all: Vec<_> = jobs.chain(channels).collect();
    let Some(wanted) = kind else {
        if global.json {
            for (of, name, about, schema) in &all {
                output::json(&json!({ "kind": name, "of": of, "about": about, "schema": schema }));
            }
        } else {
            let rows: Vec<_> = all
                .iter()
                .map(|(of, name, about, _)| vec![name.to_string(), of.to_string(), about.to_string()])
                .collect();
            table(&["KIND", "OF", "WHAT IT DOES"], &rows);
            output::note("sched kinds KIND shows its parameters");
        }
        return Ok(Exit::Done);
    };
    let Some((of, name, about, schema)) = all.iter().find(|(_, name, ..)| *name == wanted) else {
        let near = sched_core::near(wanted, all.iter().map(|(_, name, ..)| *name));
        return Err(Failure::usage(format!("no kind `{wanted}`{near}")));
    };
    if global.json {
        output::json(&json!({ "kind": name, "of": of, "about": about, "schema": schema }));
        return Ok(Exit::Done);
    }
    output::line(&format!("{name} ({of}): {about}\n"));
    let mut rows = Vec::new();
    parameters(schema, schema, "", 0, &mut rows);
    for Parameter { name, form, about } in rows {
        output::line(&format!("  {name}  {form}"));
        output::wrapped(&about, 6);
    }
    Ok(Exit::Done)
}

struct Parameter {
    name: String,
    /// Its type, and what it is unless written.
    form: String,
    about: String,
}

/// The schema that a reference leads to.
fn target<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &root["$defs"][name])
}

/// What may be left out is any of something and null: the something.
fn inner<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let any = schema["anyOf"].as_array().into_iter().flatten();
    let some: Vec<&Value> = any.filter(|one| one["type"] != "null").collect();
    target(root, if let [one] = some.as_slice() { one } else { schema })
}

fn parameters(root: &Value, schema: &Value, above: &str, depth: usize, rows: &mut Vec<Parameter>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, written) in schema["properties"].as_object().into_iter().flatten() {
        let full = inner(root, written);
        let of = if full["type"] == "array" { inner(root, &full["items"]) } else { full };
        let about = [written, full].into_iter().find_map(|schema| schema["description"].as_str()).unwrap_or_default();
        let default = match &written["default"] {
            Value::Null if required.contains(&name.as_str()) => ", required".into(),
            Value::Null => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::Object(fields) if fields.is_empty() || of["properties"].is_object() => String::new(),
            default => format!(", {default} unless written"),
        };
        let path = format!("{above}{name}");
        let begin = if full["type"] == "array" { format!("{path}[].") } else { format!("{path}.") };
        rows.push(Parameter { name: path, form: format!("{}{default}", form(root, full)), about: about.to_owned() });
        if of["properties"].is_object() && depth < DEEPEST {
            parameters(root, of, &begin, depth + 1, rows);
        }
        // Each variant that is a table of its own.
        for variant in of["oneOf"].as_array().into_iter().flatten() {
            let variant = target(root, variant);
            if variant["properties"].is_object() && depth < DEEPEST {
                parameters(root, variant, &begin, depth + 1, rows);
            }
        }
    }
}

/// A type in words.
fn form(root: &Value, schema: &Value) -> String {
    if let Some(word) = schema["const"].as_str() {
        return format!("\"{word}\"");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        return words.join(" or ");
    }
    for any in ["oneOf", "anyOf"] {
        if let Some(variants) = schema[any].as_array() {
            let mut forms: Vec<String> = Vec::new();
            for variant in variants {
                let form = form(root, target(root, variant));
                if form != "null" && !forms.contains(&form) {
                    forms.push(form);
                }
            }
            return forms.join(" or ");
        }
    }
    let word = |word: &str| match word {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "object" => "table".to_owned(),
        "array" => format!("list of {}", form(root, inner(root, &schema["items"]))),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(one) => word(one),
        Value::Array(many) => {
            let words = many.iter().filter_map(Value::as_str).filter(|word| *word != "null").map(word);
            words.collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".into(),
    }
}
