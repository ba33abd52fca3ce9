//! What a configuration would change in the stored schedules. Pure.
//!
//! Must not know: the engine, files.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::ScheduleName;
use crate::spec::ScheduleSpec;
use crate::store::ScheduleRow;

/// What becomes of one schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// The schedule.
    pub schedule: ScheduleName,
    /// What is done.
    pub kind: ChangeKind,
    /// The fields that change, by their paths with dots; a new schedule's fields come from nothing.
    pub fields: Vec<FieldChange>,
}

/// What is done with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new, or was retired.
    Added,
    /// It gets a new version.
    Changed,
    /// It is retired; its history stays.
    Removed,
}

/// One field of a schedule. Secrets are references in schedules, so none is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldChange {
    /// Its path with dots.
    pub field: String,
    /// What it is now.
    pub from: Option<Value>,
    /// What it would be.
    pub to: Option<Value>,
}

/// What making the schedules the wanted ones would change, in the order of names.
pub fn diff<'a>(stored: impl IntoIterator<Item = &'a ScheduleRow>, wanted: &[ScheduleSpec]) -> Vec<Change> {
    let mut old: BTreeMap<&ScheduleName, &ScheduleSpec> =
        stored.into_iter().filter(|row| !row.retired).map(|row| (row.name(), &*row.spec)).collect();
    let mut changes = Vec::new();
    for spec in wanted {
        let before = old.remove(&spec.name);
        if before == Some(spec) {
            continue;
        }
        let kind = if before.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
        changes.push(Change { schedule: spec.name.clone(), kind, fields: fields(before, Some(spec)) });
    }
    let removed =
        old.into_keys().map(|name| Change { schedule: name.clone(), kind: ChangeKind::Removed, fields: Vec::new() });
    changes.extend(removed);
    changes.sort_by(|a, b| a.schedule.cmp(&b.schedule));
    changes
}

fn fields(before: Option<&ScheduleSpec>, after: Option<&ScheduleSpec>) -> Vec<FieldChange> {
    let value = |spec: Option<&ScheduleSpec>| spec.and_then(|spec| serde_json::to_value(spec).ok());
    changed_fields(value(before), value(after))
}

/// The fields in which two tables differ, by their paths with dots; its name is what a thing is known by, and no field.
pub(crate) fn changed_fields(before: Option<Value>, after: Option<Value>) -> Vec<FieldChange> {
    let flat = |value: Option<Value>| {
        let mut flat = BTreeMap::new();
        if let Some(value) = value {
            flatten(&mut flat, String::new(), value);
        }
        flat.remove("name");
        flat
    };
    let (mut before, mut after) = (flat(before), flat(after));
    let paths: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let pairs =
        paths.into_iter().map(|field| FieldChange { from: before.remove(&field), to: after.remove(&field), field });
    pairs.filter(|change| change.from != change.to).collect()
}

fn flatten(flat: &mut BTreeMap<String, Value>, path: String, value: Value) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let inner = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(flat, inner, value);
            }
        }
        Value::Null => {}
        Value::Object(table) if table.is_empty() => {}
        value => drop(flat.insert(path, value)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::trigger::TriggerSpec;

    fn spec(name: &str, seconds: u64) -> ScheduleSpec {
        let trigger = TriggerSpec::every(std::time::Duration::from_secs(seconds));
        ScheduleSpec::new(name, "job", trigger).unwrap().with_param("x", 1)
    }

    fn row(spec: ScheduleSpec) -> ScheduleRow {
        let epoch = DateTime::UNIX_EPOCH;
        ScheduleRow {
            spec: spec.into(),
            version: 1,
            effective_from: epoch,
            cursor: epoch,
            paused: None,
            retired: false,
            failing_since: None,
            zones: None,
        }
    }

    #[test]
    fn only_what_differs_is_named_and_a_retired_schedule_is_as_if_it_were_not_there() {
        let stored = [
            row(spec("same", 60)),
            row(spec("slower", 60)),
            row(spec("gone", 60)),
            ScheduleRow { retired: true, ..row(spec("back", 60)) },
        ];
        let changes = diff(&stored, &[spec("same", 60), spec("slower", 90), spec("back", 60)]);
        let told: Vec<_> = changes.iter().map(|change| (change.schedule.as_str(), change.kind)).collect();
        assert_eq!(told, [("back", ChangeKind::Added), ("gone", ChangeKind::Removed), ("slower", ChangeKind::Changed)]);
        let every = |text: &str| Some(Value::String(text.to_owned()));
        assert_eq!(
            changes[2].fields,
            [FieldChange { field: "trigger.every".into(), from: every("1m"), to: every("1m 30s") }]
        );
    }
}
