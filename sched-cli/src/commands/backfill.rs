//! `sched backfill`: past fires, shown first and then run.

use hyper::Method;
use sched_core::{BackfillFire, ScheduleName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::confirm::{agrees, can_ask};
use crate::args::{Backfill, Global};
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, short_time, table};

/// So many fires are shown; all are counted.
const SHOWN: usize = 20;

#[derive(Deserialize)]
struct Answer {
    fires: Vec<BackfillFire>,
}

pub(crate) fn backfill(global: &Global, words: &Backfill) -> Outcome {
    let name: ScheduleName = words.name.parse().map_err(Failure::usage)?;
    if words.until < words.from {
        return Err(Failure::usage("--until lies before --from"));
    }
    let setup = Setup::find(global)?;
    let ask = |dry_run: bool| -> Result<Value, Failure> {
        let body = json!({
            "from": words.from, "until": words.until, "rerun": words.rerun, "chains": words.chain, "dry_run": dry_run,
        });
        let path = format!("/api/v1/schedules/{name}/backfill");
        call(&setup.config.data_dir, Method::POST, &path, Some(&body), None)
    };
    if global.json {
        output::json(&ask(words.dry_run)?);
        return Ok(Exit::Done);
    }
    let interactive = !words.yes && can_ask();
    if words.dry_run || interactive {
        let fires = read(ask(true)?)?;
        let running = show(&fires);
        if words.dry_run || running == 0 {
            return Ok(Exit::Done);
        }
        if !agrees(&format!("run these {running} fires of {name}?"))? {
            return Err(Failure::failed("nothing was run"));
        }
    }
    let fires = read(ask(false)?)?;
    for fire in &fires {
        if let Some(run_id) = fire.run_id {
            output::line(&run_id.to_string());
        }
    }
    let runs = fires.iter().filter(|fire| fire.runs).count();
    if !global.quiet {
        output::note(&format!("{runs} of {} fires run; they wait below everything else", fires.len()));
    }
    Ok(Exit::Done)
}

fn read(answer: Value) -> Result<Vec<BackfillFire>, Failure> {
    let answer: Answer = serde_json::from_value(answer).map_err(Failure::failed)?;
    Ok(answer.fires)
}

fn show(fires: &[BackfillFire]) -> usize {
    let rows: Vec<_> = fires
        .iter()
        .take(SHOWN)
        .map(|fire| {
            let why = fire.reason.map_or("", |reason| reason.explain());
            let runs = if fire.runs { "runs" } else { "stays" };
            vec![short_time(Some(fire.nominal_at)), runs.into(), fire.state.to_string(), why.to_owned()]
        })
        .collect();
    table(&["FIRE (UTC)", "DOES", "IT WAS", "BECAUSE"], &rows);
    let runs = fires.iter().filter(|fire| fire.runs).count();
    output::line(&format!("{} fires, {runs} run", fires.len()));
    runs
}
