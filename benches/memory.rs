//! The bytes a schedule takes in the engine, counted by the allocator: `cargo bench -p sched-benches --bench memory`.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use peak_alloc::PeakAlloc;
use sched_core::engine::{EngineConfig, Machine, StartOptions};
use sched_core::store::{Intent, ScheduleRow, Snapshot, Write};
use sched_core::{Hold, NodeId, Now, ScheduleSpec, SqliteStore, Store as _, TriggerSpec};

/// Counts what is asked for, not what the allocator adds to it.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SCHEDULES: usize = 100_000;

fn main() -> anyhow::Result<()> {
    println!("bytes a schedule, {SCHEDULES} schedules");
    let every = |_| TriggerSpec::every(Duration::from_secs(3600));
    let cron =
        |number: usize| TriggerSpec::cron(&format!("{} {} * * *", number % 60, number / 60 % 24), chrono_tz::UTC);
    tell("every hour, no parameters", every, false)?;
    tell("cron, no parameters", cron, false)?;
    tell("cron, one parameter", cron, true)
}

fn tell(what: &str, trigger: impl Fn(usize) -> TriggerSpec, param: bool) -> anyhow::Result<()> {
    let spec = |number: usize| -> anyhow::Result<ScheduleSpec> {
        let spec = ScheduleSpec::new(&format!("schedule-{number}"), "http_call", trigger(number))?;
        Ok(if param { spec.with_param("url", "https://example.org/healthz") } else { spec })
    };
    let now: DateTime<Utc> = "2026-01-01T00:00:30Z".parse()?;
    let folder = tempfile::tempdir()?;
    let mut store = SqliteStore::open(folder.path().join("sched.db"))?;
    let declare = |number: usize| -> anyhow::Result<Write> {
        Ok(Write { at: now, intent: Intent::Declare(row(spec(number)?, now)), events: Vec::new(), outbox: Vec::new() })
    };
    store.commit(&(0..SCHEDULES).map(declare).collect::<anyhow::Result<Vec<_>>>()?)?;
    let mut rows = || Ok::<_, anyhow::Error>(store.load()?.schedules);
    // The first time warms up what is kept for good.
    drop(machine(rows()?, now, None)?);
    let begin = MEMORY.current_usage();
    let list = rows()?;
    let listed = a_schedule(begin);
    drop(list);
    let running = machine(rows()?, now, None)?;
    let begin_stopped = MEMORY.current_usage();
    let all = a_schedule(begin);
    drop(running);
    let hold = Hold { by: "bench".into(), at: now, reason: "no schedule is in the order of fires".into() };
    let stopped = machine(rows()?, now, Some(hold))?;
    let order = begin_stopped.saturating_sub(MEMORY.current_usage()) as f64 / SCHEDULES as f64;
    drop(stopped);
    println!(
        "  {what:<26} {all:>5.0} in all: {listed:.0} its row, {:.0} beside it, of which {order:.0} in the order of fires",
        all - listed
    );
    Ok(())
}

fn a_schedule(begin: usize) -> f64 {
    MEMORY.current_usage().saturating_sub(begin) as f64 / SCHEDULES as f64
}

fn row(spec: ScheduleSpec, now: DateTime<Utc>) -> ScheduleRow {
    ScheduleRow {
        spec: spec.into(),
        version: 1,
        effective_from: now,
        cursor: now,
        paused: None,
        retired: false,
        failing_since: None,
        zones: None,
    }
}

/// A machine that has started on these rows and changed nothing.
fn machine(rows: Vec<ScheduleRow>, now: DateTime<Utc>, dispatch: Option<Hold>) -> anyhow::Result<Machine> {
    let config = EngineConfig {
        node: NodeId::random(),
        max_concurrent_runs: 64,
        groups: BTreeMap::new(),
        channels: BTreeMap::new(),
        seed: 1,
    };
    let wanted: Vec<ScheduleSpec> = rows.iter().map(|row| ScheduleSpec::clone(&row.spec)).collect();
    let snapshot = Snapshot { schedules: rows, dispatch, ..Snapshot::default() };
    let now = Now { utc: now, mono: Duration::ZERO };
    let (machine, effects) = Machine::start(config, now, snapshot, &wanted, StartOptions::default())?;
    anyhow::ensure!(effects.is_empty(), "something changed");
    Ok(machine)
}
