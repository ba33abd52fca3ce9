//! What another configuration would change beside the schedules: channels and limits. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChannelSpec, Config};
use crate::diff::{ChangeKind, FieldChange, changed_fields};
use crate::id::ChannelName;

/// Stands for a text that may be a secret.
const NOT_SHOWN: &str = "(not shown)";

/// What becomes of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChannelChange {
    /// The channel.
    pub channel: ChannelName,
    /// What is done.
    pub kind: ChangeKind,
    /// The fields that change, by their paths with dots. Of a parameter's texts only `env:` and `file:` references are
    /// shown: a URL that is written as it is may be a secret.
    pub fields: Vec<FieldChange>,
}

/// What the channels of `after` change in those of `before`, in the order of names.
#[must_use]
pub fn diff_channels(before: &[ChannelSpec], after: &[ChannelSpec]) -> Vec<ChannelChange> {
    let by_name = |specs: &[ChannelSpec]| -> BTreeMap<ChannelName, Value> {
        let value = |spec: &ChannelSpec| serde_json::to_value(spec).unwrap_or_default();
        specs.iter().map(|spec| (spec.name.clone(), value(spec))).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let names: BTreeSet<&ChannelName> = before.keys().chain(after.keys()).collect();
    let change = |name: &ChannelName| {
        let (from, to) = (before.get(name), after.get(name));
        let kind = match (from, to) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let mut fields = changed_fields(from.cloned(), to.cloned());
        for field in fields.iter_mut().filter(|field| field.field.starts_with("params.")) {
            field.from.iter_mut().chain(&mut field.to).for_each(hide);
        }
        if kind == ChangeKind::Removed {
            fields.clear();
        }
        ChannelChange { channel: name.clone(), kind, fields }
    };
    names
        .into_iter()
        .map(change)
        .filter(|change| change.kind == ChangeKind::Removed || !change.fields.is_empty())
        .collect()
}

/// What `after` changes in the limits of `before`: `max_concurrent_runs` and `groups`.
#[must_use]
pub fn diff_limits(before: &Config, after: &Config) -> Vec<FieldChange> {
    let value = |config: &Config| serde_json::json!({ "engine": { "max_concurrent_runs": config.max_concurrent_runs }, "groups": config.groups });
    changed_fields(Some(value(before)), Some(value(after)))
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("env:") || text.starts_with("file:") => {}
        Value::String(text) => *text = NOT_SHOWN.into(),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(table) => table.values_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel(name: &str, params: &Value) -> ChannelSpec {
        serde_json::from_value(json!({ "name": name, "kind": "webhook", "params": params, "group": "10s" })).unwrap()
    }

    #[test]
    fn a_channel_that_is_new_changed_or_gone_is_told_and_no_literal_is_shown() {
        let before = [
            channel("same", &json!({ "url": "https://h/s3cret" })),
            channel("gone", &json!({ "url": "https://h/s3cret" })),
            channel(
                "ops",
                &json!({ "url": "https://h/s3cret", "headers": { "x": "s3cret" }, "network": { "redirects": 5 } }),
            ),
        ];
        let after = [
            channel("same", &json!({ "url": "https://h/s3cret" })),
            channel("ops", &json!({ "url": "env:OPS", "headers": { "x": "s3cret2" }, "network": { "redirects": 3 } })),
            channel("new", &json!({ "url": ["https://h/s3cret"] })),
        ];
        let changes = diff_channels(&before, &after);
        let told = json!(changes);
        assert!(!told.to_string().contains("s3cret"), "{told}");
        let kinds: Vec<_> = changes.iter().map(|change| (change.channel.as_str(), change.kind)).collect();
        let wanted = [("gone", ChangeKind::Removed), ("new", ChangeKind::Added), ("ops", ChangeKind::Changed)];
        assert_eq!(kinds, wanted);
        let field = |field: &str, from, to| json!({ "field": field, "from": from, "to": to });
        assert_eq!(
            told[2]["fields"],
            json!([
                field("params.headers.x", json!(NOT_SHOWN), json!(NOT_SHOWN)),
                field("params.network.redirects", json!(5), json!(3)),
                field("params.url", json!(NOT_SHOWN), json!("env:OPS")),
            ])
        );
    }

    #[test]
    fn limits_are_compared() {
        let before = Config { groups: [("a".into(), 1), ("b".into(), 2)].into(), ..Config::default() };
        let after = Config { groups: [("b".into(), 3)].into(), max_concurrent_runs: 8, ..Config::default() };
        let told: Vec<_> =
            diff_limits(&before, &after).into_iter().map(|change| (change.field, change.from, change.to)).collect();
        let wanted = [
            ("engine.max_concurrent_runs".to_owned(), Some(json!(64)), Some(json!(8))),
            ("groups.a".to_owned(), Some(json!(1)), None),
            ("groups.b".to_owned(), Some(json!(2)), Some(json!(3))),
        ];
        assert_eq!(told, wanted);
    }
}
