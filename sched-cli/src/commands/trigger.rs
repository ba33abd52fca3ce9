//! `sched trigger`: runs a schedule now, in the running scheduler.

use hyper::Method;
use sched_core::{RunRecord, RunState};
use serde_json::{Map, Value, json};

use super::logs::{BETWEEN_LOOKS, gained};
use crate::args::{Global, Trigger};
use crate::compose::Setup;
use crate::control::call;
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
    let answer: Value = call(data_dir, Method::POST, &path, Some(&body), None)?;
    let run_id = answer["run_id"].as_str().unwrap_or_default().to_owned();
    if !words.wait {
        if global.json {
            output::json(&answer);
        } else {
            output::line(&run_id);
        }
        return Ok(Exit::Done);
    }
    let path = format!("/api/v1/runs/{run_id}");
    let mut printed = 0;
    let run = loop {
        let run: RunRecord = call(data_dir, Method::GET, &path, None, None)?;
        if !global.quiet && !global.json {
            let gained = gained(&setup, run.run_id, printed)?;
            gained.lines().for_each(output::note);
            printed += gained.len();
        }
        if run.state.is_final() {
            break run;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    };
    if global.json {
        output::json(&run);
    } else {
        let note = run.error.as_ref().or(run.summary.as_ref()).map_or(String::new(), |note| format!(": {note}"));
        output::line(&format!("{} {}{note}", run.run_id, run.state));
    }
    Ok(if run.state == RunState::Succeeded { Exit::Done } else { Exit::Failed })
}
