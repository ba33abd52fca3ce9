//! `sched trigger`: runs a schedule now, in the running scheduler.

use hyper::Method;
use sched_core::{RunId, RunState};
use serde_json::{Map, Value, json};

use super::watch;
use crate::args::{Global, Trigger};
use crate::compose::Setup;
use crate::control::{Events, call};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Reads `key=value` words; a value that is JSON is taken as JSON.
pub(crate) fn parse_params(words: &[String]) -> Result<Map<String, Value>, Failure> {
    let parse = |word: &String| {
        let (key, value) =
            word.split_once('=').ok_or_else(|| Failure::usage(format!("--param {word}: write it as key=value")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok((key.to_owned(), value))
    };
    words.iter().map(parse).collect()
}

pub(crate) fn trigger(global: &Global, words: &Trigger) -> Outcome {
    let name: sched_core::ScheduleName = words.name.parse().map_err(Failure::usage)?;
    let params = parse_params(&words.params)?;
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    let body = json!({ "params": params, "queue": words.queue, "idempotency_key": words.idempotency_key });
    let path = format!("/api/v1/schedules/{name}/trigger");
    // From before the run begins, so that none of its progress is lost.
    let events = words.wait.then(|| Events::open(data_dir)).transpose()?;
    let answer: Value = call(data_dir, Method::POST, &path, Some(&body), None)?;
    let Some(mut events) = events else {
        if global.json {
            output::json(&answer);
        } else {
            output::line(answer["run_id"].as_str().unwrap_or_default());
        }
        return Ok(Exit::Done);
    };
    let run_id: RunId = serde_json::from_value(answer["run_id"].clone()).map_err(Failure::failed)?;
    let run = watch::wait(global, &setup, &mut events, run_id)?;
    if global.json {
        output::json(&run);
    } else {
        output::line(&watch::conclusion(&run));
        if !global.quiet {
            output::note(&watch::more(&run));
        }
    }
    Ok(if run.state == RunState::Succeeded { Exit::Done } else { Exit::Failed })
}
