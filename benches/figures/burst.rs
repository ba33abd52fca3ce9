//! Ten thousand schedules due at one instant, with jobs that do nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use sched_core::store::Write;
use sched_core::{MemoryStore, ScheduleSpec, Scheduler, Seq, SqliteStore, Store, TriggerSpec};

use crate::peers;
use crate::record::{self, Batches, Recording};
use crate::world::{self, Starts};

const FIRES: usize = 10_000;
const ROUNDS: usize = 5;

struct Burst {
    /// From the due instant to the first line of the last job, in milliseconds.
    started: f64,
    /// To when everything is recorded as ended, durably.
    ended: f64,
    /// By how many MiB the process has grown at its largest.
    growth: f64,
}

pub(crate) fn measure() -> anyhow::Result<()> {
    println!("{FIRES} schedules due at one instant; to the last job's first line, median of {ROUNDS}");
    let mut bare: Vec<f64> = (0..ROUNDS).map(|_| spawn()).collect::<anyhow::Result<_>>()?;
    println!("  {:<40} {:>8.1} ms", "so many closures on the blocking pool", world::quantile(&mut bare, 0.5));
    for places in [64, 512] {
        let rounds = (0..ROUNDS).map(|_| ours(MemoryStore::new(), places)).collect::<anyhow::Result<_>>()?;
        tell(&format!("in memory, {places} at once"), rounds);
    }
    for places in [64, 512] {
        let folder = tempfile::tempdir()?;
        let file = |round: usize| folder.path().join(format!("{places}-{round}.db"));
        let rounds = (0..ROUNDS).map(|round| ours(SqliteStore::open(file(round))?, places));
        tell(&format!("durable on SQLite, {places} at once"), rounds.collect::<anyhow::Result<_>>()?);
        let batches = Batches::default();
        ours(Recording::new(SqliteStore::open(folder.path().join("recorded.db"))?, &batches), places)?;
        let batches = record::take(&batches);
        let path = |round: usize| folder.path().join(format!("bare-{places}-{round}.db"));
        let mut bare = (0..ROUNDS)
            .map(|round| Ok(1000.0 * record::replay(&path(round), &batches, first_fire(&batches))?))
            .collect::<anyhow::Result<Vec<f64>>>()?;
        println!("  {:<40} {:>8.1} ms", "  its commits in a bare loop", world::quantile(&mut bare, 0.5));
    }
    peers::tokio_cron::burst(FIRES)?.tell("tokio-cron-scheduler");
    peers::apalis::burst(FIRES)?.tell("apalis-cron");
    Ok(())
}

fn tell(what: &str, mut rounds: Vec<Burst>) {
    let mut median = |figure: fn(&Burst) -> f64| {
        world::quantile(&mut rounds.iter_mut().map(|burst| figure(burst)).collect::<Vec<_>>(), 0.5)
    };
    let (started, ended, growth) = (median(|b| b.started), median(|b| b.ended), median(|b| b.growth));
    println!("  {what:<40} {started:>8.1} ms, all ended {ended:.1} ms, {growth:.0} MiB more");
}

/// The first commit of a fire.
fn first_fire(batches: &[Vec<Write>]) -> usize {
    let plans = |write: &Write| matches!(write.intent, sched_core::store::Intent::Plan { .. });
    batches.iter().position(|batch| batch.iter().any(plans)).unwrap_or(0)
}

/// A full second that leaves time to begin.
pub(crate) fn soon(seconds: i64) -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0) + TimeDelta::seconds(seconds)
}

/// Waits until all have started, or nothing starts any more.
pub(crate) fn wait_for(starts: &Starts, all: usize, due: DateTime<Utc>) {
    let mut seen = (0, Utc::now().max(due));
    while starts.count() < all {
        std::thread::sleep(Duration::from_millis(1));
        let now = Utc::now();
        if starts.count() > seen.0 {
            seen = (starts.count(), now);
        } else if now - seen.1 > TimeDelta::seconds(3) {
            return;
        }
    }
}

/// What the runtime allows: as many closures given to its blocking pool.
fn spawn() -> anyhow::Result<f64> {
    let runtime = world::runtime()?;
    let starts = Arc::new(Starts::default());
    let begun = Utc::now();
    for _ in 0..FIRES {
        let starts = starts.clone();
        runtime.spawn_blocking(move || starts.tell(world::micros_since(begun, Utc::now())));
    }
    wait_for(&starts, FIRES, begun);
    Ok(starts.last() as f64 / 1000.0)
}

fn ours(store: impl Store + 'static, places: usize) -> anyhow::Result<Burst> {
    let runtime = world::runtime()?;
    let starts = Arc::new(Starts::default());
    let due = soon(3);
    let spec = |number| ScheduleSpec::new(&format!("burst-{number}"), "counted", TriggerSpec::once(due));
    let specs = (0..FIRES).map(spec).collect::<Result<Vec<_>, _>>()?;
    let builder = Scheduler::builder(store).registry(world::registry(None, Some(starts.clone())));
    let builder = builder.schedules(specs).max_concurrent_runs(places).runtime(runtime.handle().clone());
    let scheduler = builder.start()?;
    anyhow::ensure!(Utc::now() < due, "the machine is too busy to begin in time");
    let before = world::memory("VmRSS")?;
    wait_for(&starts, FIRES, due);
    anyhow::ensure!(starts.count() == FIRES, "{} of {FIRES} jobs started", starts.count());
    let handle = scheduler.handle();
    let ended = runtime.block_on(async {
        while handle.status(0).await.is_ok_and(|status| status.running + status.queued > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // It is written after everything else.
        handle.mark("figures", Seq(0)).await?;
        Ok::<_, sched_core::EngineError>(Utc::now())
    })?;
    let growth = world::memory("VmRSS")? - before;
    runtime.block_on(scheduler.shutdown(Duration::from_secs(5)));
    let ended = world::micros_since(due, ended) as f64 / 1000.0;
    Ok(Burst { started: starts.last() as f64 / 1000.0, ended, growth })
}
