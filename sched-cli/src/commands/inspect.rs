//! `list`, `show`, `runs`, `audit`: read from the store beside the scheduler, running or not.

use chrono::{DateTime, Utc};
use sched_core::{
    Admin as _, Clock as _, HistoryFilter, HistoryRow, Query as _, RangeRecord, RunState, ScheduleView, SystemClock,
    views,
};
use serde_json::json;

use super::lookup::{known_schedule, reader, shown_id};
use crate::args::{Global, Runs};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, distance, short_time, table_without};

/// So many times it is told why fires did not run.
const WHYS: usize = 3;

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
                view.next.map_or("-".into(), |at| left(at, now)),
                short_time(last),
                last.map_or("-".into(), |at| format!("{} ago", distance(now - at))),
                view.name.to_string(),
                state(view),
            ]
        })
        .collect();
    table_without(&["NEXT (UTC)", "LEFT", "LAST (UTC)", "PASSED", "SCHEDULE", "STATE"], &rows, &[2, 3]);
    if !global.quiet {
        let paused = all.iter().filter(|view| view.paused.is_some()).count();
        let paused = if paused > 0 { format!(", {paused} paused") } else { String::new() };
        output::note(&format!("{}{paused}", output::counted(all.len(), "schedule")));
    }
    Ok(Exit::Done)
}

fn left(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if at <= now { "now".into() } else { distance(at - now) }
}

fn state(view: &ScheduleView) -> String {
    match (&view.paused, view.open.is_empty(), &view.last) {
        (Some(_), _, _) => "paused".into(),
        (None, false, Some(run)) if !run.state.is_final() => run.state.to_string(),
        (None, false, _) => RunState::Queued.to_string(),
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
    let next: Vec<_> = sched_core::instants(&*trigger, view.cursor.max(now())).take(5).collect();
    let runs = reader.history(&HistoryFilter::of(name, 10))?;
    if global.json {
        let next: Vec<_> = next.into_iter().map(output::time).collect();
        output::json(&json!({ "schedule": view, "next": next, "runs": runs }));
        return Ok(Exit::Done);
    }
    let spec = &view.spec;
    output::line(&format!("{}: {} ({}), version {}", view.name, spec.job, spec.trigger, view.version));
    let timeout = sched_core::duration_text::serialize(&spec.timeout, serde_json::value::Serializer);
    let timeout = timeout.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let group = spec.group.as_ref().map_or(String::new(), |group| format!(", group {group}"));
    let attempts = output::counted(spec.retry.attempts as usize, "attempt");
    output::line(&format!("timeout {timeout}, {attempts}{group}"));
    show_next(&view, &next);
    show_why(&runs);
    if !runs.is_empty() {
        output::line("");
        print_rows(&runs);
    }
    Ok(Exit::Done)
}

/// What it will do next.
fn show_next(view: &ScheduleView, next: &[DateTime<Utc>]) {
    if let Some(hold) = &view.paused {
        let at = short_time(Some(hold.at));
        output::line(&format!("paused by {} at {at}: {}; `sched resume {}` ends it", hold.by, hold.reason, view.name));
    }
    for run in view.open.iter().map(|run| shown_id(*run)) {
        output::line(&format!("open: run {run}; `sched logs {run} -f` follows it"));
    }
    let now = now();
    let what = if view.paused.is_some() { "next, were it not paused" } else { "next" };
    match next {
        [] if view.spec.trigger.after().is_some() => output::line("next: when a run of that schedule ends"),
        [] => output::line("next: never"),
        next => {
            output::line(&format!("{what}:"));
            next.iter().for_each(|at| output::line(&format!("  {}  in {}", short_time(Some(*at)), left(*at, now))));
        }
    }
}

/// Why the last fires did not run.
fn show_why(rows: &[HistoryRow]) {
    let mut told = 0;
    for row in rows {
        let (count, until, schedule, from) = match row {
            HistoryRow::Range(range) if !range.superseded => (range.count, range.until, &range.schedule, range.from),
            _ => continue,
        };
        if told == WHYS {
            break;
        }
        told += 1;
        let (first, last) = (short_time(Some(from)), short_time(Some(until)));
        let which = match count {
            1 => format!("the fire of {last}"),
            _ => format!("{count} fires from {first} to {last}"),
        };
        output::line(&format!("{which} did not run: {}", note(row)));
        if told == 1 {
            let (from, until) = (output::time(from), output::time(until));
            output::line(&format!("  `sched backfill {schedule} --from {from} --until {until}` runs what was missed"));
        }
    }
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
        bare: false,
    };
    let rows = reader.history(&filter)?;
    if global.json {
        rows.iter().for_each(output::json);
    } else {
        print_rows(&rows);
    }
    Ok(Exit::Done)
}

/// What there is to say of a row, with ids as they are shown.
fn note(row: &HistoryRow) -> String {
    match row {
        HistoryRow::Range(RangeRecord { blocker: Some(run), .. }) => {
            row.note().replace(&run.to_string(), &shown_id(*run))
        }
        _ => row.note(),
    }
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
                shown_id(run.run_id),
                note(row),
            ],
            HistoryRow::Range(range) => vec![
                short_time(Some(range.until)),
                range.schedule.to_string(),
                if range.count == 1 { "1 fire".into() } else { format!("{} fires", range.count) },
                range.state.to_string(),
                String::new(),
                String::new(),
                match range.count {
                    1 => note(row),
                    _ => format!("since {}: {}", short_time(Some(range.from)), note(row)),
                },
            ],
        })
        .collect();
    table_without(&["TIME (UTC)", "SCHEDULE", "ORIGIN", "STATE", "TOOK", "RUN", "NOTE"], &cells, &[2]);
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
