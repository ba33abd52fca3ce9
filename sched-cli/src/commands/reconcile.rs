//! `sched diff`, `apply` and `reload`: from one configuration to the next, without a restart.

use hyper::Method;
use sched_core::{Change, Query as _, SqliteReader};
use sched_http::Reloaded;
use serde_json::json;

use super::confirm::{agrees, can_ask};
use super::plan;
use crate::args::{Apply, Global};
use crate::compose::Setup;
use crate::control::call;
use crate::daemon::place::is_held;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

pub(crate) fn diff(global: &Global) -> Outcome {
    let setup = Setup::load(global)?;
    let told = would_change(&setup)?;
    if global.json {
        plan::print_json(&told);
    } else {
        plan::print(&told);
        plan::conclude(&told, plan::Tense::Future);
    }
    Ok(Exit::Done)
}

pub(crate) fn apply(global: &Global, words: &Apply) -> Outcome {
    let setup = Setup::find(global)?;
    if global.json || words.yes || !can_ask() {
        return take_over(global, &setup, Some(&file(&setup)), true);
    }
    let would = ask(&setup, Some(&file(&setup)), true)?;
    plan::print(&would);
    plan::conclude(&would, plan::Tense::Future);
    if plan::is_empty(&would) {
        return Ok(Exit::Done);
    }
    if !agrees("take this over?")? {
        return Err(Failure::failed("nothing was changed"));
    }
    take_over(global, &setup, Some(&file(&setup)), false)
}

pub(crate) fn reload(global: &Global) -> Outcome {
    // The scheduler says what is wrong with a configuration; only its place is needed here.
    let setup = Setup::find(global)?;
    take_over(global, &setup, None, true)
}

/// The configuration that is meant, as the scheduler names its own.
fn file(setup: &Setup) -> String {
    setup.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

fn ask(setup: &Setup, file: Option<&str>, dry_run: bool) -> Result<Reloaded, Failure> {
    let body = json!({ "file": file, "dry_run": dry_run });
    call(&setup.config.data_dir, Method::POST, "/api/v1/reload", Some(&body), None)
}

fn take_over(global: &Global, setup: &Setup, file: Option<&str>, with_changes: bool) -> Outcome {
    let done = ask(setup, file, false)?;
    if global.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    if with_changes {
        plan::print(&done);
    }
    plan::conclude(&done, plan::Tense::Past);
    Ok(Exit::Done)
}

/// What taking over the configuration would change. Channels and limits are in no store: the scheduler that runs with
/// this configuration is asked for them.
fn would_change(setup: &Setup) -> Result<Reloaded, Failure> {
    let only_schedules = || {
        let changes = schedule_changes(setup)?;
        Ok(Reloaded { ok: true, changes, ..Reloaded::default() })
    };
    if !is_held(&setup.config.data_dir) {
        output::note(
            "the scheduler does not run: schedules are compared with its store, channels and limits with nothing",
        );
        return only_schedules();
    }
    ask(setup, Some(&file(setup)), true).or_else(|failure| {
        output::note(&format!("channels and limits are not compared: {}", failure.message));
        only_schedules()
    })
}

/// What taking over the configuration would change in the stored schedules.
pub(crate) fn schedule_changes(setup: &Setup) -> Result<Vec<Change>, Failure> {
    let path = setup.store_path();
    let rows = if path.exists() { SqliteReader::open(path)?.schedules()? } else { Vec::new() };
    Ok(sched_core::diff(&rows, &setup.config.schedules))
}
