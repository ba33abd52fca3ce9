//! `sched status`: how the scheduler is, without HTTP and without a key.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::place::{Marker, holder, is_held};
use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Outcome};
use crate::output;

/// A scheduler that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn status(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    let answer = call::<Value>(data_dir, Method::GET, "/api/v1/status", None, Some(PATIENCE));
    let (mut body, exit) = match answer {
        Ok(body) => (body, Exit::Done),
        Err(_) if is_held(data_dir) => (from_outside("hung", holder(data_dir)), Exit::Failed),
        Err(_) => match Marker::read(data_dir) {
            Some(marker) => (from_outside("unclean", Some(marker.pid)), Exit::Failed),
            None => (from_outside("stopped", None), Exit::NotRunning),
        },
    };
    if exit == Exit::Done {
        // The process runs, whether or not it dispatches.
        body["dispatching"] = body["running"].take();
        body["running"] = json!(true);
    }
    if global.json {
        output::json(&body);
    } else if !global.quiet {
        print(&body);
    }
    Ok(exit)
}

fn from_outside(state: &str, pid: Option<u32>) -> Value {
    json!({
        "running": false,
        "state": state,
        "pid": pid,
        "last_activity": null,
        "uptime_seconds": 0,
        "tick": 0,
        "next": {},
        "next_total": 0,
        "http": null,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn print(body: &Value) {
    let text = |key: &str| match &body[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text("state").as_str() {
        "stopped" => output::line("stopped"),
        "unclean" => {
            output::line(&format!("unclean: pid {} ended without stopping; `sched start` recovers", text("pid")))
        }
        "hung" => output::line(&format!("hung: pid {} holds the data folder and does not answer", text("pid"))),
        state => {
            output::line(&format!(
                "{state}: pid {}, tick {}, up {} s, http://{}/",
                text("pid"),
                text("tick"),
                text("uptime_seconds"),
                text("http")
            ));
            if let Some(problem) = body["problem"].as_str() {
                output::line(problem);
            }
            if body["dispatching"] == json!(false) {
                output::line("dispatching is stopped");
            }
            let Some(next) = body["next"].as_object() else { return };
            let mut next: Vec<_> = next.iter().map(|(name, at)| (at.as_str().unwrap_or_default(), name)).collect();
            next.sort_unstable();
            for (at, name) in next.into_iter().take(10) {
                output::line(&format!("  {at}  {name}"));
            }
        }
    }
}
