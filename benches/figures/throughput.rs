//! Durable empty runs a second: through the whole engine, and the same statements in a bare loop.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sched_core::store::{Committed, Snapshot, Write};
use sched_core::{
    Event, Job, JobError, Output, Overlap, Query, Registry, RunContext, ScheduleSpec, Scheduler, SqliteStore, Store,
    StoreError, TriggerRequest, TriggerSpec, async_trait,
};

const RUNS: usize = 20_000;
const CALLERS: usize = 64;

struct Empty;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoParams {}

#[async_trait]
impl Job for Empty {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Ok(Output::default())
    }
}

type Batches = Arc<Mutex<Vec<Vec<Write>>>>;

/// A store that keeps what it was asked, batch by batch.
struct Recording {
    inner: SqliteStore,
    batches: Batches,
}

impl Store for Recording {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(writes.to_vec());
        self.inner.commit(writes)
    }

    fn reader(&self) -> Arc<dyn Query> {
        self.inner.reader()
    }
}

/// Asks for every run from `CALLERS` tasks, and waits until the last has ended; seconds.
async fn through_the_engine(store: impl Store + 'static) -> anyhow::Result<f64> {
    let mut registry = Registry::new();
    registry.register("empty", "Does nothing", |_: NoParams| Ok(Empty));
    let mut spec = ScheduleSpec::new("empty", "empty", TriggerSpec::once("2999-01-01T00:00:00Z".parse()?))?;
    spec.overlap = Overlap::Allow;
    let scheduler = Scheduler::builder(store).registry(registry).schedule(spec.clone()).start()?;
    let mut events = scheduler.handle().subscribe(None);
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (handle, name) = (scheduler.handle().clone(), spec.name.clone());
        callers.spawn(async move {
            for _ in 0..RUNS / CALLERS {
                handle.trigger(TriggerRequest::new(name.clone(), "figures")).await?;
            }
            Ok::<_, sched_core::EngineError>(())
        });
    }
    let mut finished = 0;
    while finished < RUNS / CALLERS * CALLERS {
        let recorded = events.next().await.ok_or_else(|| anyhow::anyhow!("the engine ended"))?;
        finished += usize::from(matches!(recorded.event, Event::RunFinished { .. }));
    }
    let took = begun.elapsed().as_secs_f64();
    callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(took)
}

/// Commits recorded batches with nothing around them; seconds.
fn bare(path: &Path, batches: &[Vec<Write>]) -> anyhow::Result<f64> {
    let mut store = SqliteStore::open(path)?;
    let begun = Instant::now();
    for batch in batches {
        store.commit(batch)?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

pub(crate) fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rate = |seconds: f64| (RUNS / CALLERS * CALLERS) as f64 / seconds;
    let batches = Batches::default();
    let inner = SqliteStore::open(folder.path().join("recorded.db"))?;
    runtime.block_on(through_the_engine(Recording { inner, batches: batches.clone() }))?;
    let batches = std::mem::take(&mut *batches.lock().unwrap_or_else(PoisonError::into_inner));
    let writes: usize = batches.iter().map(Vec::len).sum();
    println!("a commit holds on average         {:.0} writes", writes as f64 / batches.len() as f64);
    // Taken in turns, so that the machine's moods meet both.
    let (mut engine, mut loops) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let store = SqliteStore::open(folder.path().join(format!("engine{round}.db")))?;
        engine.push(runtime.block_on(through_the_engine(store))?);
        loops.push(bare(&folder.path().join(format!("bare{round}.db")), &batches)?);
    }
    engine.sort_by(f64::total_cmp);
    loops.sort_by(f64::total_cmp);
    println!("durable empty runs, median of 5   {:.0} a second through the engine", rate(engine[2]));
    println!("the same commits in a bare loop   {:.0} a second", rate(loops[2]));
    println!("the engine's part                 {:.0} % of the bare loop's rate", 100.0 * loops[2] / engine[2]);
    Ok(())
}
