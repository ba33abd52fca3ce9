//! `sched pause`, `resume`, `cancel` and `retry`: one call each to the running scheduler.

use hyper::Method;
use sched_core::{RunId, RunState};
use serde_json::{Value, json};

use super::lookup::{known_run, reader, run_id, schedule_name};
use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

pub(crate) fn pause(global: &Global, name: &str, reason: &str) -> Outcome {
    let name = schedule_name(name)?;
    let path = format!("/api/v1/schedules/{name}/pause");
    post(global, &path, &json!({ "reason": reason }), |_| format!("{name} is paused; `sched resume {name}` ends it"))
}

pub(crate) fn resume(global: &Global, name: &str) -> Outcome {
    let name = schedule_name(name)?;
    post(global, &format!("/api/v1/schedules/{name}/resume"), &json!({}), |_| format!("{name} goes on"))
}

pub(crate) fn cancel(global: &Global, run: &str) -> Outcome {
    let run = run_id(&Setup::find(global)?, run)?;
    let path = format!("/api/v1/runs/{run}/cancel");
    let asked = post(global, &path, &json!({}), |_| format!("{run} is told to stop; `sched logs {run} -f` follows it"));
    asked.map_err(|failure| match ended(global, run) {
        Some(state) if failure.exit == Exit::Failed => Failure::failed(format!("run {run} has ended: it is {state}")),
        _ => named(global, run, failure),
    })
}

pub(crate) fn retry(global: &Global, run: &str) -> Outcome {
    let run = run_id(&Setup::find(global)?, run)?;
    let told = |answer: &Value| answer["run_id"].as_str().unwrap_or_default().to_owned();
    post(global, &format!("/api/v1/runs/{run}/retry"), &json!({}), told).map_err(|failure| named(global, run, failure))
}

/// How a run ended, if it has.
fn ended(global: &Global, run: RunId) -> Option<RunState> {
    let record = known_run(&reader(&Setup::find(global).ok()?).ok()?, run).ok()?;
    record.state.is_final().then_some(record.state)
}

/// Why the scheduler refused; that it knows no such run is told with where to find those that it knows.
fn named(global: &Global, run: RunId, refused: Failure) -> Failure {
    let unknown = || known_run(&reader(&Setup::find(global).ok()?).ok()?, run).err();
    if refused.exit == Exit::Failed { unknown().unwrap_or(refused) } else { refused }
}

fn post(global: &Global, path: &str, body: &Value, told: impl Fn(&Value) -> String) -> Outcome {
    let setup = Setup::find(global)?;
    let answer: Value = call(&setup.config.data_dir, Method::POST, path, Some(body), None)?;
    if global.json {
        output::json(&answer);
    } else if !global.quiet {
        output::line(&told(&answer));
    }
    Ok(Exit::Done)
}
