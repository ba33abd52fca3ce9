//! A store with a long past, as a daemon of some years has it.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::store::{Ending, Follow, Intent, Receipt, ScheduleRow, Write};
use sched_core::{
    Event, Fence, NodeId, Origin, RunId, RunRecord, RunState, ScheduleSpec, SqliteStore, Store, TriggerSpec,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// So many runs are written at once.
const BATCH: usize = 2000;
/// Between two runs of a schedule.
const APART: TimeDelta = TimeDelta::hours(1);

/// The schedules of [`fill`], as the configuration that goes with them writes them.
pub(crate) fn config(schedules: usize) -> String {
    let one = |number| {
        format!(
            "[[schedule]]\nname = \"s{number}\"\njob = \"command\"\ntrigger = {{ cron = \"{} 4 1 1 *\" }}\n\
             params = {{ argv = [\"true\"] }}\n",
            number % 60
        )
    };
    (0..schedules).map(one).collect()
}

/// Fills a store with so many schedules and so many finished runs in all, with their events.
pub(crate) fn fill(store: &Path, schedules: usize, runs: usize) -> anyhow::Result<()> {
    let mut store = SqliteStore::open(store)?;
    let now = Utc::now();
    let begin = now - APART * i32::try_from(runs / schedules)?;
    let write = |at, intent, events| Write { at, intent, events, outbox: Vec::new() };
    let specs = (0..schedules).map(spec).collect::<anyhow::Result<Vec<_>>>()?;
    for specs in specs.chunks(BATCH) {
        let declare = |spec: &ScheduleSpec| {
            let row = ScheduleRow {
                spec: spec.clone().into(),
                version: 1,
                effective_from: begin,
                cursor: begin,
                paused: None,
                retired: false,
                failing_since: None,
                zones: None,
            };
            write(begin, Intent::Declare(row), Vec::new())
        };
        store.commit(&specs.iter().map(declare).collect::<Vec<_>>())?;
    }
    let node = NodeId::random();
    let numbers: Vec<usize> = (0..runs).collect();
    for numbers in numbers.chunks(BATCH) {
        let past: Vec<_> = numbers
            .iter()
            .map(|number| {
                let at = begin + APART * i32::try_from(number / schedules).unwrap_or(i32::MAX);
                queued(&specs[number % schedules], at)
            })
            .collect();
        let enqueue = |run: &RunRecord| write(run.queued_at, Intent::Enqueue(run.clone()), vec![queued_event(run)]);
        store.commit(&past.iter().map(enqueue).collect::<Vec<_>>())?;
        let claim = |run: &RunRecord| {
            let intent = Intent::Claim { run_id: run.run_id, attempt: 1, node, at: run.queued_at };
            write(run.queued_at, intent, vec![started_event(run)])
        };
        let receipts = store.commit(&past.iter().map(claim).collect::<Vec<_>>())?.receipts;
        let finish = |(run, receipt): (&RunRecord, &Receipt)| {
            let fence = if let Receipt::Claimed(fence) = receipt { *fence } else { Fence(0) };
            let intent =
                Intent::Finish { run_id: run.run_id, fence, ending: ending(run.queued_at), follow: Follow::default() };
            write(run.queued_at, intent, vec![finished_event(run)])
        };
        store.commit(&past.iter().zip(&receipts).map(finish).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn spec(number: usize) -> anyhow::Result<ScheduleSpec> {
    let trigger = TriggerSpec::cron(&format!("{} 4 1 1 *", number % 60), chrono_tz::UTC);
    Ok(ScheduleSpec::new(&format!("s{number}"), "command", trigger)?.with_param("argv", json!(["true"])))
}

fn queued(spec: &ScheduleSpec, at: DateTime<Utc>) -> RunRecord {
    RunRecord {
        run_id: RunId::from_uuid(Uuid::now_v7()),
        schedule: spec.name.clone(),
        job: spec.job.clone(),
        version: 1,
        nominal_at: None,
        origin: Origin::Manual,
        state: RunState::Queued,
        reason: None,
        attempt: 0,
        not_before: at,
        queued_at: at,
        started_at: None,
        finished_at: None,
        duration_ms: None,
        node: None,
        fence: Fence(0),
        params: Value::Null,
        summary: None,
        data: Value::Null,
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
        parent: None,
        chains: true,
        requested_by: Some("local".into()),
        idempotency_key: None,
    }
}

fn ending(at: DateTime<Utc>) -> Ending {
    Ending {
        state: RunState::Succeeded,
        reason: None,
        at,
        duration_ms: Some(12),
        summary: Some("exited with code 0".into()),
        data: json!({ "exit_code": 0, "cpu_ms": 3, "peak_memory_bytes": 3_000_000 }),
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
    }
}

fn queued_event(run: &RunRecord) -> Event {
    Event::RunQueued {
        schedule: run.schedule.clone(),
        run_id: run.run_id,
        nominal_at: None,
        origin: run.origin,
        not_before: run.not_before,
        by: run.requested_by.clone(),
    }
}

fn started_event(run: &RunRecord) -> Event {
    Event::RunStarted {
        schedule: run.schedule.clone(),
        job: run.job.clone(),
        run_id: run.run_id,
        nominal_at: None,
        origin: run.origin,
        attempt: 1,
    }
}

fn finished_event(run: &RunRecord) -> Event {
    Event::RunFinished {
        schedule: run.schedule.clone(),
        job: run.job.clone(),
        run_id: run.run_id,
        nominal_at: None,
        origin: run.origin,
        attempt: 1,
        state: RunState::Succeeded,
        ok: true,
        duration_ms: 12,
        reason: None,
        summary: Some("exited with code 0".into()),
        error: None,
        abandoned: false,
    }
}
