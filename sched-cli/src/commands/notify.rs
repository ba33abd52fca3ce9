//! `sched notify`: channels tried out, and what became of what people are told.

use hyper::Method;
use sched_core::{OutboxFilter, OutboxLine, OutboxState, Query as _};
use serde_json::{Value, json};

use super::inspect::now;
use super::lookup::reader;
use crate::args::{Global, Notify};
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, short_time, table};

pub(crate) fn notify(global: &Global, what: &Notify) -> Outcome {
    match what {
        Notify::Test { channel } => test(global, channel),
        Notify::List { dead, limit } => list(global, *dead, *limit),
        Notify::Retry => retry(global),
    }
}

/// Needs no scheduler: the channel is made from the configuration.
fn test(global: &Global, name: &str) -> Outcome {
    let setup = Setup::load(global)?;
    let channels = setup.channels()?;
    let Some((name, channel)) = channels.iter().find(|(known, _)| known.as_str() == name) else {
        let known = if channels.is_empty() {
            "; there is none; write one as a [[channel]]".into()
        } else {
            sched_core::near(name, channels.keys().map(|name| name.as_str()))
        };
        return Err(Failure::usage(format!("no channel `{name}`{known}")));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sent = runtime.block_on(channel.test(name, now()));
    runtime.shutdown_background();
    if let Err(error) = sent {
        return Err(Failure::failed(format!("channel {name} did not take it: {error}")));
    }
    if global.json {
        output::json(&json!({ "ok": true, "channel": name }));
    } else if !global.quiet {
        output::line(&format!("channel {name} has taken a trial message"));
    }
    Ok(Exit::Done)
}

fn list(global: &Global, dead: bool, limit: u32) -> Outcome {
    let setup = Setup::find(global)?;
    let state = dead.then_some(OutboxState::Dead);
    let rows = reader(&setup)?.outbox(&OutboxFilter { state, after: None, limit })?;
    let lines: Vec<OutboxLine> = rows.into_iter().map(OutboxLine::from).collect();
    if global.json {
        lines.iter().for_each(output::json);
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let what = line.error.as_ref().map_or(line.message.clone(), |error| format!("{} ({error})", line.message));
            vec![
                short_time(Some(line.at)),
                line.channel.to_string(),
                line.state.to_string(),
                line.attempt.to_string(),
                what.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table(&["TIME (UTC)", "CHANNEL", "STATE", "TRIES", "MESSAGE"], &rows);
    Ok(Exit::Done)
}

fn retry(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let answer: Value = call(&setup.config.data_dir, Method::POST, "/api/v1/outbox/retry", Some(&json!({})), None)?;
    if global.json {
        output::json(&answer);
    } else if !global.quiet {
        output::line(&match answer["count"].as_u64() {
            Some(1) => "1 message is tried again".into(),
            _ => format!("{} messages are tried again", answer["count"]),
        });
    }
    Ok(Exit::Done)
}
