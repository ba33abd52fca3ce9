//! Durable empty runs a second: through the whole engine, and the same statements in a bare loop; with few and with
//! many runs that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sched_core::{
    EngineError, Event, Handle, Overlap, ScheduleSpec, Scheduler, SqliteStore, Store, TriggerRequest, TriggerSpec,
};

use crate::record::{self, Batches, Recording};
use crate::world;

const RUNS: usize = 20_000;
const CALLERS: usize = 64;
const ROUNDS: usize = 5;

fn schedule() -> anyhow::Result<ScheduleSpec> {
    let spec = ScheduleSpec::new("empty", "empty", TriggerSpec::once("2999-01-01T00:00:00Z".parse()?))?;
    Ok(spec.with_overlap(Overlap::Allow))
}

/// Asks for so many runs from `CALLERS` tasks; the tasks end when all are accepted.
fn ask(handle: &Handle, spec: &ScheduleSpec, runs: usize) -> tokio::task::JoinSet<Result<(), EngineError>> {
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(runs));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (handle, name, left) = (handle.clone(), spec.name.clone(), left.clone());
        callers.spawn(async move {
            use std::sync::atomic::Ordering::Relaxed;
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                handle.trigger(TriggerRequest::new(name.clone(), "figures")).await?;
            }
            Ok(())
        });
    }
    callers
}

/// Puts `backlog` runs into the queue; then asks for `RUNS` more while as many end. Gives the seconds of the second
/// part, and the number of commits before it.
async fn through_the_engine(
    store: impl Store + 'static,
    backlog: usize,
    batches: Option<&Batches>,
) -> anyhow::Result<(f64, usize)> {
    let spec = schedule()?;
    let scheduler = Scheduler::builder(store).registry(world::registry(None, None)).schedule(spec.clone()).start()?;
    let handle = scheduler.handle();
    if backlog > 0 {
        handle.set_dispatch(false, "figures").await?;
        ask(handle, &spec, backlog).join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let before = batches.map_or(0, record::count);
    let mut events = handle.subscribe(None);
    let begun = Instant::now();
    if backlog > 0 {
        handle.set_dispatch(true, "figures").await?;
    }
    let callers = ask(handle, &spec, RUNS);
    let mut finished = 0;
    while finished < RUNS {
        let recorded = events.next().await.ok_or_else(|| anyhow::anyhow!("the engine ended"))?;
        finished += usize::from(matches!(recorded.event, Event::RunFinished { .. }));
    }
    let took = begun.elapsed().as_secs_f64();
    callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok((took, before))
}

pub(crate) fn measure() -> anyhow::Result<()> {
    println!("durable empty runs on SQLite, {CALLERS} callers, median of {ROUNDS}");
    let folder = tempfile::tempdir()?;
    let runtime = world::runtime()?;
    let file = |name: &str, round: usize| folder.path().join(format!("{name}-{round}.db"));
    for backlog in [0, 500, 100_000] {
        let batches = Batches::default();
        let recording = Recording::new(SqliteStore::open(file(&format!("recorded-{backlog}"), 0))?, &batches);
        let (_, begin) = runtime.block_on(through_the_engine(recording, backlog, Some(&batches)))?;
        let batches = record::take(&batches);
        let writes: usize = batches[begin..].iter().map(Vec::len).sum();
        // Taken in turns, so that the machine's moods meet both.
        let (mut engine, mut loops) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let store = SqliteStore::open(file(&format!("engine-{backlog}"), round))?;
            engine.push(runtime.block_on(through_the_engine(store, backlog, None))?.0);
            loops.push(record::replay(&file(&format!("bare-{backlog}"), round), &batches, begin)?);
        }
        let rate = |seconds: &mut [f64]| RUNS as f64 / world::quantile(seconds, 0.5);
        let (ours, bare) = (rate(&mut engine), rate(&mut loops));
        let a_commit = writes as f64 / (batches.len() - begin) as f64;
        println!(
            "  {backlog:>6} waiting: {ours:>6.0} a second, bare loop {bare:>6.0}, {:.0} % of it; {a_commit:.0} writes a commit",
            100.0 * ours / bare
        );
    }
    Ok(())
}
