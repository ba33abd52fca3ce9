//! `[defaults]` and `[[schedule]]`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::Config;
use super::decode::{Faults, Place, Reader, json, json_table, locate, tell};
use crate::policy::Delivery;
use crate::registry::Registry;
use crate::spec::{ScheduleSpec, check_chains};

/// Policies that `[defaults]` may set for every schedule.
const POLICIES: &[&str] = &[
    "on_start", "misfire", "overlap", "retry", "timeout", "delivery", "jitter", "group", "dst", "alert", "runner",
    "notify",
];

type Policies = Map<String, Value>;

pub(super) fn defaults(reader: Option<&mut Reader<'_>>, faults: &Faults<'_>) -> Policies {
    let mut policies = Policies::new();
    let Some(reader) = reader else { return policies };
    for key in POLICIES {
        if let Some(place) = reader.value(key) {
            policies.insert((*key).to_owned(), json(place));
        }
    }
    for name in reader.names() {
        if !POLICIES.contains(&name.as_str())
            && let Some(place) = reader.value(&name)
        {
            let near = crate::suggest::near(&name, POLICIES.iter().copied());
            faults.add(place.span().start, format!("`{name}` cannot stand in [defaults]{near}"));
        }
    }
    policies
}

pub(super) fn read_all(
    root: &mut Reader<'_>,
    policies: &Policies,
    config: &Config,
    registry: &Registry,
    faults: &Faults<'_>,
) -> Vec<ScheduleSpec> {
    let Some(place) = root.value("schedule") else { return Vec::new() };
    let DeValue::Array(items) = place.get_ref() else {
        faults.add(place.span().start, "schedules are written as [[schedule]], with double brackets");
        return Vec::new();
    };
    let mut names = BTreeSet::new();
    let (mut specs, mut places) = (Vec::new(), Vec::new());
    for item in items {
        let Some(spec) = read_one(item, policies, config, registry, faults) else { continue };
        if !names.insert(spec.name.clone()) {
            let at = locate(item, "name").span().start;
            faults.add(at, format!("two schedules are named `{}`; choose another name for one of them", spec.name));
        }
        specs.push(spec);
        places.push(item);
    }
    // What comes after a schedule with a fault would be told that there is no such schedule.
    if specs.len() == items.len()
        && let Err((name, error)) = check_chains(&specs)
        && let Some(index) = specs.iter().position(|spec| spec.name == name)
    {
        faults.add(locate(places[index], "trigger.after.schedule").span().start, error.to_string());
    }
    specs
}

fn read_one(
    item: Place<'_>,
    policies: &Policies,
    config: &Config,
    registry: &Registry,
    faults: &Faults<'_>,
) -> Option<ScheduleSpec> {
    let DeValue::Table(table) = item.get_ref() else {
        faults.add(item.span().start, "schedules are written as [[schedule]], with double brackets");
        return None;
    };
    let written = json_table(table);
    let fault = |path: &str, message: String| faults.add(locate(item, path).span().start, message);
    for key in ["name", "job", "trigger"] {
        if !written.contains_key(key) {
            fault("", format!("this schedule has no `{key}`"));
            return None;
        }
    }
    let attempts_written = [Some(&written), Some(policies)]
        .into_iter()
        .flatten()
        .any(|table| table.get("retry").and_then(|retry| retry.get("attempts")).is_some());
    let mut merged = merge(policies, written);
    if let Some(dst) = merged.remove("dst")
        && let Some(trigger) = merged.get_mut("trigger")
    {
        each_table(trigger, &|table| {
            table.entry("dst").or_insert_with(|| dst.clone());
        });
    }
    if let Some(trigger) = merged.get_mut("trigger") {
        each_table(trigger, &|table| name_dates(table, config, &fault));
    }
    let parsed: Result<ScheduleSpec, _> = serde_path_to_error::deserialize(Value::Object(merged));
    let mut spec = match parsed {
        Ok(spec) => spec,
        Err(error) => {
            tell(&error, &fault);
            return None;
        }
    };
    spec.trigger = spec.trigger.or_timezone(config.timezone);
    if !attempts_written {
        let once = spec.delivery == Delivery::AtMostOnce;
        let of_kind = registry.kind(&spec.job).map_or(spec.retry.attempts, crate::registry::JobKind::default_attempts);
        spec.retry.attempts = if once { 1 } else { of_kind };
    }
    check(&spec, config, registry, &fault);
    Some(spec)
}

/// Visits a trigger's table, or each table of a list.
fn each_table(trigger: &mut Value, visit: &dyn Fn(&mut Map<String, Value>)) {
    match trigger {
        Value::Object(table) => visit(table),
        Value::Array(parts) => parts.iter_mut().for_each(|part| each_table(part, visit)),
        _ => {}
    }
}

/// Puts a holiday list's dates where a trigger's `except` names it.
fn name_dates(table: &mut Map<String, Value>, config: &Config, fault: &dyn Fn(&str, String)) {
    let Some(except) = table.get_mut("except") else { return };
    let written = match except.take() {
        Value::Array(items) => items,
        one => vec![one],
    };
    let mut dates = Vec::new();
    for item in written {
        match item.as_str().filter(|text| text.parse::<chrono::NaiveDate>().is_err()) {
            None => dates.push(item),
            Some(name) => match config.holidays.get(name) {
                Some(list) => dates.extend(list.iter().map(|date| Value::String(date.to_string()))),
                None => {
                    let near = crate::suggest::near(name, config.holidays.keys().map(String::as_str));
                    fault("trigger.except", format!("`{name}` is no date and no list under [holidays]{near}"));
                }
            },
        }
    }
    *except = Value::Array(dates);
}

/// What needs more than the schedule itself: its group, its job's kind, that kind's parameters.
fn check(spec: &ScheduleSpec, config: &Config, registry: &Registry, fault: &dyn Fn(&str, String)) {
    if let Err(error) = spec.validate() {
        let message = error.to_string();
        let path = message.split(':').next().unwrap_or_default().to_owned();
        fault(&path, message);
    }
    if let Some(group) = spec.group.as_ref().filter(|group| !config.groups.contains_key(*group)) {
        let near = crate::suggest::near(group, config.groups.keys().map(String::as_str));
        fault("group", format!("no group `{group}`; write its limit under [groups]{near}"));
    }
    let no_channel = |name: &str| {
        let known = config.channels.iter().map(|channel| channel.name.as_str());
        let near = crate::suggest::near(name, known.clone());
        let unknown = !known.clone().any(|known| known == name);
        unknown.then(|| format!("no channel `{name}`; write it as a [[channel]]{near}"))
    };
    if let Some(message) = spec.notify.iter().find_map(|name| no_channel(name.as_str())) {
        fault("notify", message);
    }
    match registry.kind(&spec.job) {
        Err(error) => fault("job", error.to_string()),
        Ok(kind) => {
            for (key, name) in named_channels(kind.schema(), &spec.params) {
                if let Some(message) = no_channel(name) {
                    fault(&format!("params.{key}"), format!("params.{key}: {message}"));
                }
            }
            if let Err(error) = kind.build(&spec.params) {
                let text = error.to_string();
                let named = if text.starts_with("params") { text } else { format!("params: {text}") };
                fault(&format!("params.{}", error.path()), named);
            }
        }
    }
}

/// The channels that a kind's parameters name, by the format of its schema.
fn named_channels<'a>(schema: &'a Value, params: &'a Map<String, Value>) -> Vec<(&'a str, &'a str)> {
    let defs = &schema["$defs"];
    let names_one = |schema: &Value| {
        let target = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/"));
        schema["format"] == "channel" || target.is_some_and(|name| defs[name]["format"] == "channel")
    };
    // One that may be left out is any of the name and null.
    let names =
        |schema: &Value| names_one(schema) || schema["anyOf"].as_array().is_some_and(|any| any.iter().any(names_one));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let named = properties.filter_map(|(key, property)| {
        let value = params.get(key)?;
        if names(property) {
            return Some(vec![(key.as_str(), value.as_str()?)]);
        }
        let items = value.as_array().filter(|_| names(&property["items"]))?;
        Some(items.iter().filter_map(|item| Some((key.as_str(), item.as_str()?))).collect())
    });
    named.flatten().collect()
}

/// `over` wins; tables are merged key by key.
fn merge(under: &Policies, over: Map<String, Value>) -> Map<String, Value> {
    let mut merged = under.clone();
    for (key, value) in over {
        match (merged.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) if key != "params" => *below = merge(below, above),
            (_, value) => {
                merged.insert(key, value);
            }
        }
    }
    merged
}
