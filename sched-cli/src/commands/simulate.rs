//! `sched simulate`: the whole configuration on a virtual clock, through the machine that production steps.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use sched_core::testing::{Bench, Oblivious};
use sched_core::{Event, HistoryFilter, HistoryRow, Query as _, ScheduleName, SqliteReader};
use serde_json::json;

use super::lanes;
use crate::args::{Global, Simulate};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, table};

/// Simulated at once.
const STEP: Duration = Duration::from_secs(86_400);
/// So many of the busiest minutes are told.
const BUSIEST: usize = 10;
/// Durations are measured over so many of a schedule's last runs.
const MEASURED: u32 = 50;

pub(crate) fn simulate(global: &Global, words: &Simulate) -> Outcome {
    let setup = Setup::load(global)?;
    if words.until < words.from {
        return Err(Failure::usage("--until lies before --from"));
    }
    let mut bench = Bench::start(Oblivious::default(), words.from, &setup.config.schedules);
    let mut fires = Vec::new();
    while bench.now() < words.until {
        // In steps, so that only the fires are kept of what happens.
        let step = (words.until - bench.now()).to_std().unwrap_or_default().min(STEP);
        bench.advance(step);
        fires.extend(bench.take_events().into_iter().filter_map(|event| match event {
            Event::RunQueued { schedule, nominal_at: Some(at), .. } => Some((at, schedule)),
            _ => None,
        }));
    }
    fires.sort();
    // Only what is drawn or counted asks how long runs took.
    let wanted = (words.summary || words.svg.is_some()) && setup.store_path().exists();
    let reader = wanted.then(|| SqliteReader::open(setup.store_path())).transpose()?;
    let mut measured = BTreeMap::new();
    for spec in &setup.config.schedules {
        measured.insert(&spec.name, reader.as_ref().map(|reader| median(reader, &spec.name)).transpose()?.flatten());
    }
    if let Some(path) = &words.svg {
        let until = words.until.min(words.from + TimeDelta::days(1));
        let day: Vec<_> = fires.iter().filter(|(at, _)| *at <= until).cloned().collect();
        std::fs::write(path, lanes::draw(words.from, &measured, &day))
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))?;
        output::note(&format!("{}: {} fires from {} to {until}", path.display(), day.len(), words.from));
    }
    if words.summary {
        return summary(global, &measured, &fires);
    }
    for (at, schedule) in &fires {
        let at = output::time(*at);
        if global.json {
            output::json(&json!({ "schedule": schedule, "nominal_at": at }));
        } else {
            output::line(&format!("{at}  {schedule}"));
        }
    }
    Ok(Exit::Done)
}

/// How long the last runs of a schedule took; none when none has run.
fn median(reader: &SqliteReader, name: &ScheduleName) -> Result<Option<TimeDelta>, Failure> {
    let rows = reader.history(&HistoryFilter::of(name.clone(), MEASURED))?;
    let mut took: Vec<u64> = rows.iter().filter_map(duration).collect();
    took.sort_unstable();
    let median = took.get(took.len() / 2);
    Ok(median.map(|median| TimeDelta::milliseconds(i64::try_from(*median).unwrap_or(i64::MAX))))
}

fn summary(
    global: &Global,
    measured: &BTreeMap<&ScheduleName, Option<TimeDelta>>,
    fires: &[(DateTime<Utc>, ScheduleName)],
) -> Outcome {
    let mut by_schedule: BTreeMap<&ScheduleName, Vec<DateTime<Utc>>> =
        measured.keys().map(|name| (*name, Vec::new())).collect();
    let mut by_minute: HashMap<DateTime<Utc>, usize> = HashMap::new();
    for (at, schedule) in fires {
        by_schedule.entry(schedule).or_default().push(*at);
        *by_minute.entry(at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(*at)).or_default() += 1;
    }
    let mut minutes: Vec<_> = by_minute.into_iter().collect();
    minutes.sort_by_key(|(at, count)| (std::cmp::Reverse(*count), *at));
    minutes.truncate(BUSIEST);
    let overlaps = |name: &ScheduleName, fires: &[DateTime<Utc>]| {
        let median = measured.get(name).copied().flatten()?;
        Some(fires.windows(2).filter(|pair| pair[1] - pair[0] < median).count())
    };
    let mut rows = Vec::new();
    for (name, fires) in &by_schedule {
        rows.push((name, fires.len(), overlaps(name, fires)));
    }
    if global.json {
        let schedules: Vec<_> = rows
            .iter()
            .map(|(name, count, overlaps)| json!({ "schedule": name, "fires": count, "overlaps": overlaps }))
            .collect();
        let busiest: Vec<_> =
            minutes.iter().map(|(at, count)| json!({ "at": output::time(*at), "fires": count })).collect();
        output::json(&json!({ "fires": fires.len(), "schedules": schedules, "busiest": busiest }));
        return Ok(Exit::Done);
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|(name, count, overlaps)| {
            vec![name.to_string(), count.to_string(), overlaps.map_or("not measured".into(), |count| count.to_string())]
        })
        .collect();
    table(&["SCHEDULE", "FIRES", "EXPECTED OVERLAPS"], &cells);
    output::line("");
    let cells: Vec<_> = minutes.iter().map(|(at, count)| vec![output::time(*at), count.to_string()]).collect();
    table(&["BUSIEST MINUTE (UTC)", "FIRES"], &cells);
    Ok(Exit::Done)
}

fn duration(row: &HistoryRow) -> Option<u64> {
    match row {
        HistoryRow::Run(run) => run.duration_ms,
        HistoryRow::Range(_) => None,
    }
}
