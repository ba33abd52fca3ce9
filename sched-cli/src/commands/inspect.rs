//! `list`, `show`, `runs`, `audit`: read from the store beside the scheduler, running or not.

use chrono::{DateTime, Utc};
use sched_core::{Admin as _, Clock as _, HistoryFilter, HistoryRow, Query as _, ScheduleView, SystemClock, views};
use serde_json::json;

use super::lookup::{known_schedule, reader};
use crate::args::{Global, Runs};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, distance, short_time, table};

pub(super) fn now() -> DateTime<Utc> {
    SystemClock::new().now().utc
}

pub(crate) fn list(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let mut all = views(&reader(&setup)?)?;
    all.sort_by_key(|view| (view.next.is_none(), view.next, view.name.clone()));
    if global.json {
        all.iter().for_each(output::json);
        return Ok(Exit::Done);
    }
    let now = now();
    let rows: Vec<_> = all
        .iter()
        .map(|view| {
            let last = view.last.as_ref().and_then(|run| run.started_at);
            vec![
                short_time(view.next),
                view.next.map_or("-".into(), |at| distance(at - now)),
                short_time(last),
                last.map_or("-".into(), |at| format!("{} ago", distance(now - at))),
                view.name.to_string(),
                state(view),
            ]
        })
        .collect();
    table(&["NEXT (UTC)", "LEFT", "LAST (UTC)", "PASSED", "SCHEDULE", "STATE"], &rows);
    Ok(Exit::Done)
}

fn state(view: &ScheduleView) -> String {
    match (&view.paused, view.open.is_empty(), &view.last) {
        (Some(_), _, _) => "paused".into(),
        (None, false, _) => "open".into(),
        (None, true, Some(run)) => run.state.to_string(),
        (None, true, None) => "waiting".into(),
    }
}

pub(crate) fn show(global: &Global, text: &str) -> Outcome {
    let setup = Setup::find(global)?;
    let reader = reader(&setup)?;
    let name = known_schedule(&reader, text)?;
    let view = views(&reader)?.into_iter().find(|view| view.name == name);
    let view = view.ok_or_else(|| {
        Failure::failed(format!("schedule `{name}` is removed; `sched runs --schedule {name}` has its history"))
    })?;
    let trigger = view.spec.trigger.compile().map_err(Failure::failed)?;
    let next: Vec<_> = sched_core::instants(&*trigger, view.cursor.max(now())).take(5).map(output::time).collect();
    let runs = reader.history(&HistoryFilter::of(name, 10))?;
    if global.json {
        output::json(&json!({ "schedule": view, "next": next, "runs": runs }));
        return Ok(Exit::Done);
    }
    let spec = &view.spec;
    output::line(&format!("{}: {} ({}), version {}", view.name, spec.job, spec.trigger, view.version));
    if let Some(hold) = &view.paused {
        output::line(&format!("paused by {} at {}: {}", hold.by, output::time(hold.at), hold.reason));
    }
    let timeout = sched_core::duration_text::serialize(&spec.timeout, serde_json::value::Serializer);
    let timeout = timeout.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    output::line(&format!("timeout {timeout}, {}", output::counted(spec.retry.attempts as usize, "attempt")));
    output::line(&format!("next: {}", if next.is_empty() { "never".into() } else { next.join(", ") }));
    print_rows(&runs);
    Ok(Exit::Done)
}

pub(crate) fn runs(global: &Global, words: &Runs) -> Outcome {
    let setup = Setup::find(global)?;
    let reader = reader(&setup)?;
    let filter = HistoryFilter {
        schedule: words.schedule.as_deref().map(|text| known_schedule(&reader, text)).transpose()?,
        states: words.state.clone(),
        since: words.since,
        after: None,
        limit: words.limit,
    };
    let rows = reader.history(&filter)?;
    if global.json {
        rows.iter().for_each(output::json);
    } else {
        print_rows(&rows);
    }
    Ok(Exit::Done)
}

fn print_rows(rows: &[HistoryRow]) {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| match row {
            HistoryRow::Run(run) => vec![
                short_time(Some(run.nominal_at.unwrap_or(run.queued_at))),
                run.schedule.to_string(),
                run.origin.to_string(),
                run.state.to_string(),
                run.duration_text().unwrap_or_default(),
                run.run_id.to_string(),
                row.note(),
            ],
            HistoryRow::Range(range) => vec![
                short_time(Some(range.until)),
                range.schedule.to_string(),
                if range.count == 1 { "1 fire".into() } else { format!("{} fires", range.count) },
                range.state.to_string(),
                String::new(),
                String::new(),
                match range.count {
                    1 => row.note(),
                    _ => format!("since {}: {}", short_time(Some(range.from)), row.note()),
                },
            ],
        })
        .collect();
    table(&["TIME (UTC)", "SCHEDULE", "ORIGIN", "STATE", "TOOK", "RUN", "NOTE"], &cells);
}

pub(crate) fn audit(global: &Global, since: Option<DateTime<Utc>>) -> Outcome {
    let setup = Setup::find(global)?;
    let reader = reader(&setup)?;
    // What is read from a damaged file vouches for nothing.
    let integrity = reader.integrity()?;
    let report = sched_core::audit(&reader, since)?;
    if global.json {
        let mut told = serde_json::to_value(&report).map_err(Failure::failed)?;
        told["ok"] = json!(report.ok && integrity.is_empty());
        told["integrity"] = json!(integrity);
        output::json(&told);
    } else {
        for line in &integrity {
            output::line(&format!("damaged: {line}"));
        }
        for (what, faults) in [("missing", &report.missing), ("wrong", &report.duplicates)] {
            for fault in faults {
                output::line(&format!("{what}: {} {}", fault.schedule, output::time(fault.nominal_at)));
            }
        }
        for line in &report.contradictions {
            output::line(&format!("altered: {line}"));
        }
        let expected = output::counted(usize::try_from(report.expected).unwrap_or(usize::MAX), "nominal time");
        output::line(&format!("{expected} expected, {} recorded", report.recorded));
    }
    Ok(match (integrity.is_empty(), report.ok) {
        (false, _) => Exit::Store,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Done,
    })
}
