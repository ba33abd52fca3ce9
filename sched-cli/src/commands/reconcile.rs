//! `sched diff`, `apply` and `reload`: from one configuration to the next, without a restart.

use hyper::Method;
use sched_core::{Change, ChangeKind, Query as _, SqliteReader};
use sched_http::Reloaded;
use serde_json::{Value, json};

use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Outcome};
use crate::output;

pub(crate) fn diff(global: &Global) -> Outcome {
    let setup = Setup::load(global)?;
    print(global, &changes(&setup)?);
    Ok(Exit::Done)
}

pub(crate) fn apply(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let file = setup.file.as_ref().map(|path| path.display().to_string());
    ask(global, &setup, &json!({ "file": file.unwrap_or_default() }))
}

pub(crate) fn reload(global: &Global) -> Outcome {
    // The scheduler says what is wrong with a configuration; only its place is needed here.
    let setup = Setup::find(global)?;
    ask(global, &setup, &json!({}))
}

fn ask(global: &Global, setup: &Setup, body: &Value) -> Outcome {
    let answer: Reloaded = call(&setup.config.data_dir, Method::POST, "/api/v1/reload", Some(body), None)?;
    if global.json {
        output::json(&answer);
        return Ok(Exit::Done);
    }
    print(global, &answer.changes);
    for setting in answer.restart_needed {
        output::note(&format!("{setting} differs: it is taken over by `sched restart`"));
    }
    Ok(Exit::Done)
}

/// What taking over the configuration would change in the store.
fn changes(setup: &Setup) -> Result<Vec<Change>, crate::exit::Failure> {
    let path = setup.store_path();
    let rows = if path.exists() { SqliteReader::open(path)?.schedules()? } else { Vec::new() };
    Ok(sched_core::diff(&rows, &setup.config.schedules))
}

fn print(global: &Global, changes: &[Change]) {
    if global.json {
        changes.iter().for_each(output::json);
        return;
    }
    for change in changes {
        let sign = match change.kind {
            ChangeKind::Added => "+",
            ChangeKind::Changed => "~",
            ChangeKind::Removed => "-",
        };
        output::line(&format!("{sign} {}", change.schedule));
        for field in &change.fields {
            let text = |value: &Option<Value>| value.as_ref().map_or("none".into(), Value::to_string);
            output::line(&match (&field.from, change.kind) {
                (None, ChangeKind::Added) => format!("    {} = {}", field.field, text(&field.to)),
                _ => format!("    {}: {} -> {}", field.field, text(&field.from), text(&field.to)),
            });
        }
    }
    let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
    let [added, changed, removed] = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Removed].map(count);
    output::line(&match changes.len() {
        0 => "nothing changes".into(),
        _ => format!("{added} added, {changed} changed, {removed} removed"),
    });
}
