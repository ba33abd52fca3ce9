//! How late a job of a schedule that is due each second begins, alone and among others that are far from due.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::store::{Intent, Write};
use sched_core::{MemoryStore, ScheduleSpec, Scheduler, SqliteStore, Store, TriggerSpec};

use crate::record::{self, Batches, Recording};
use crate::{peers, world};

/// How many seconds each configuration is watched.
pub(crate) fn measure(seconds: usize) -> anyhow::Result<()> {
    println!("lateness of a job due each second, {seconds} times each; p50, p99, max");
    let folder = tempfile::tempdir()?;
    tell("a thread that sleeps", &mut bare(seconds, || Ok(()))?);
    for others in [0, 100_000] {
        let late = ours(MemoryStore::new(), others, seconds)?;
        tell(&format!("in memory, among {others}"), &mut { late });
    }
    let batches = Batches::default();
    let store = SqliteStore::open(folder.path().join("alone.db"))?;
    tell("durable on SQLite, among 0", &mut ours(Recording::new(store, &batches), 0, seconds)?);
    let store = SqliteStore::open(folder.path().join("among.db"))?;
    tell("durable on SQLite, among 100000", &mut ours(store, 100_000, seconds)?);
    let mut store = SqliteStore::open(folder.path().join("bare.db"))?;
    let mut fires = fires(record::take(&batches)).into_iter();
    let late = bare(seconds, || {
        fires.next().unwrap_or_default().iter().try_for_each(|batch| store.commit(batch).map(drop))?;
        Ok(())
    });
    tell("a thread that sleeps and commits", &mut late?);
    for others in [0, 10_000] {
        let late = peers::tokio_cron::lateness(others, seconds)?;
        tell(&format!("tokio-cron-scheduler, among {others}"), &mut { late });
    }
    for others in [0, 10_000] {
        let late = peers::apalis::lateness(others, seconds)?;
        tell(&format!("apalis-cron, among {others}"), &mut { late });
    }
    Ok(())
}

pub(crate) fn tell(what: &str, micros: &mut [i64]) {
    let [half, most, max] = [0.5, 0.99, 1.0].map(|part| world::quantile(micros, part) as f64 / 1000.0);
    println!("  {what:<38} {half:>8.2} {most:>8.2} {max:>8.2} ms");
}

/// So many values, the first two left out: what starts is still warming up.
pub(crate) fn collect(receiver: &Receiver<i64>, seconds: usize) -> anyhow::Result<Vec<i64>> {
    let next = || Ok(receiver.recv_timeout(Duration::from_secs(10))?);
    (0..seconds + 2).map(|_| next()).skip(2).collect()
}

fn ours(store: impl Store + 'static, others: usize, seconds: usize) -> anyhow::Result<Vec<i64>> {
    let runtime = world::runtime()?;
    let (sender, receiver) = channel();
    let probe = ScheduleSpec::new("probe", "probe", TriggerSpec::every(Duration::from_secs(1)))?;
    let builder = Scheduler::builder(store).registry(world::registry(Some(sender), None)).schedule(probe);
    let builder = builder.schedules(world::far(others)?).runtime(runtime.handle().clone());
    let scheduler = builder.start()?;
    let late = collect(&receiver, seconds);
    runtime.block_on(scheduler.shutdown(Duration::from_secs(5)));
    late
}

/// What the machine allows: a thread that sleeps to the full second and then does only this.
fn bare(seconds: usize, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<i64>> {
    let mut late = Vec::new();
    for _ in 0..seconds {
        let now = Utc::now();
        let next = DateTime::from_timestamp(now.timestamp() + 1, 0).unwrap_or(now);
        std::thread::sleep((next - now).to_std()?);
        work()?;
        late.push(world::micros_since(next, Utc::now()));
    }
    Ok(late)
}

/// The commits of one fire each, up to and with its claim, as the engine asked for them.
fn fires(batches: Vec<Vec<Write>>) -> Vec<Vec<Vec<Write>>> {
    let mut fires = vec![Vec::new()];
    for batch in batches {
        let claims = batch.iter().any(|write| matches!(write.intent, Intent::Claim { .. }));
        if let Some(fire) = fires.last_mut() {
            fire.push(batch);
        }
        if claims {
            fires.push(Vec::new());
        }
    }
    fires
}
