//! `sched pause`, `resume`, `cancel` and `retry`: one call each to the running scheduler.

use hyper::Method;
use sched_core::{RunId, ScheduleName};
use serde_json::{Value, json};

use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

pub(crate) fn pause(global: &Global, name: &str, reason: &str) -> Outcome {
    let name: ScheduleName = name.parse().map_err(Failure::usage)?;
    let path = format!("/api/v1/schedules/{name}/pause");
    post(global, &path, &json!({ "reason": reason }), |_| format!("{name} is paused; `sched resume {name}` ends it"))
}

pub(crate) fn resume(global: &Global, name: &str) -> Outcome {
    let name: ScheduleName = name.parse().map_err(Failure::usage)?;
    post(global, &format!("/api/v1/schedules/{name}/resume"), &json!({}), |_| format!("{name} goes on"))
}

pub(crate) fn cancel(global: &Global, run: &str) -> Outcome {
    let run: RunId = run.parse().map_err(Failure::usage)?;
    post(global, &format!("/api/v1/runs/{run}/cancel"), &json!({}), |_| format!("{run} is told to stop"))
}

pub(crate) fn retry(global: &Global, run: &str) -> Outcome {
    let run: RunId = run.parse().map_err(Failure::usage)?;
    let told = |answer: &Value| answer["run_id"].as_str().unwrap_or_default().to_owned();
    post(global, &format!("/api/v1/runs/{run}/retry"), &json!({}), told)
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
