//! Changes as people know them from plans: `+` what is added, `~` what is changed, `-` what is removed.

use std::collections::BTreeMap;

use chrono::DateTime;
use sched_core::{ChangeKind, FieldChange, ScheduleSpec, TriggerSpec};
use sched_http::Reloaded;
use serde_json::{Value, json};

use crate::output::{self, Colour};

/// Whether it is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tense {
    Future,
    Past,
}

/// Whether nothing changes, now or by a restart.
pub(super) fn is_empty(told: &Reloaded) -> bool {
    told.changes.is_empty() && told.channels.is_empty() && told.settings.is_empty()
}

/// One object a change.
pub(super) fn print_json(told: &Reloaded) {
    told.changes.iter().for_each(output::json);
    told.channels.iter().for_each(output::json);
    for setting in &told.settings {
        output::json(
            &json!({ "setting": setting.field, "kind": kind(setting), "from": setting.from, "to": setting.to }),
        );
    }
}

/// Every change with its fields. Of a schedule that is added, what is not as it is by default.
pub(super) fn print(told: &Reloaded) {
    let usual = usual();
    for change in &told.changes {
        head(change.kind, &format!("schedule \"{}\"", change.schedule));
        let added = change.kind == ChangeKind::Added;
        let unusual = |field: &&FieldChange| !added || usual.get(&field.field) != Some(&field.to);
        change.fields.iter().filter(unusual).for_each(|field| line(field, added));
    }
    for change in &told.channels {
        head(change.kind, &format!("channel \"{}\"", change.channel));
        change.fields.iter().for_each(|field| line(field, change.kind == ChangeKind::Added));
    }
    for setting in &told.settings {
        head(kind(setting), &fragment(setting, setting.from.is_none()));
    }
}

/// How many there are of each, and what a restart has to do.
pub(super) fn conclude(told: &Reloaded, tense: Tense) {
    let kinds = told.changes.iter().map(|change| change.kind);
    let kinds = kinds.chain(told.channels.iter().map(|change| change.kind)).chain(told.settings.iter().map(kind));
    let [mut added, mut changed, mut removed] = [0_usize; 3];
    for kind in kinds {
        *match kind {
            ChangeKind::Added => &mut added,
            ChangeKind::Changed => &mut changed,
            ChangeKind::Removed => &mut removed,
        } += 1;
    }
    output::line(&match tense {
        _ if is_empty(told) => "nothing changes".into(),
        Tense::Future => format!("Plan: {added} to add, {changed} to change, {removed} to remove."),
        Tense::Past => format!("Done: {added} added, {changed} changed, {removed} removed."),
    });
    for setting in &told.restart_needed {
        output::note(&format!("{setting} differs: it is taken over by `sched restart`"));
    }
}

fn kind(setting: &FieldChange) -> ChangeKind {
    match (&setting.from, &setting.to) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    }
}

fn head(kind: ChangeKind, what: &str) {
    let (sign, colour) = match kind {
        ChangeKind::Added => ("+", Colour::Good),
        ChangeKind::Changed => ("~", Colour::Unusual),
        ChangeKind::Removed => ("-", Colour::Bad),
    };
    output::line(&output::coloured(&format!("{sign} {what}"), colour));
}

fn line(field: &FieldChange, added: bool) {
    output::line(&format!("    {}", fragment(field, added)));
}

fn fragment(field: &FieldChange, added: bool) -> String {
    let text = |value: &Option<Value>| value.as_ref().map_or("none".into(), Value::to_string);
    match &field.from {
        None if added => format!("{} = {}", field.field, text(&field.to)),
        from => format!("{}: {} -> {}", field.field, text(from), text(&field.to)),
    }
}

/// The fields of a schedule of which only the job and the trigger are written.
fn usual() -> BTreeMap<String, Option<Value>> {
    let bare = ScheduleSpec::new("bare", "", TriggerSpec::once(DateTime::UNIX_EPOCH));
    let changes = bare.map(|bare| sched_core::diff([], &[bare])).unwrap_or_default();
    let fields = changes.into_iter().flat_map(|change| change.fields);
    fields.filter(|field| !field.field.starts_with("trigger.")).map(|field| (field.field, field.to)).collect()
}
