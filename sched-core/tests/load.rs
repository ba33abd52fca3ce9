//! Ten thousand fires due at one instant, on real threads and in real time: each runs once, on both kinds of tokio
//! runtime and on both stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::{
    Clock as _, Event, Job, JobError, MemoryStore, Output, Registry, RunContext, RunState, ScheduleSpec, Scheduler,
    SqliteStore, Store, SystemClock, TriggerSpec, async_trait,
};
use serde::Deserialize;
use tokio::runtime::Builder;

const FIRES: usize = 10_000;
/// What the start gets before they come due.
const AHEAD: TimeDelta = TimeDelta::seconds(4);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which fire this is.
    number: usize,
}

/// Counts how often each fire has run.
struct Counting {
    number: usize,
    times: Arc<[AtomicU32]>,
}

#[async_trait]
impl Job for Counting {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        self.times[self.number].fetch_add(1, Ordering::Relaxed);
        Ok(Output::default())
    }
}

fn registry(times: &Arc<[AtomicU32]>) -> Registry {
    let (mut registry, times) = (Registry::new(), times.clone());
    registry.register("count", "Counts", move |params: Params| {
        Ok(Counting { number: params.number, times: times.clone() })
    });
    registry
}

fn specs(due: DateTime<Utc>) -> impl Iterator<Item = ScheduleSpec> {
    (0..FIRES).map(move |number| {
        let name = format!("s{number}");
        ScheduleSpec::new(&name, "count", TriggerSpec::once(due)).unwrap().with_param("number", number)
    })
}

async fn all_run_once(store: impl Store + 'static, told: &str) {
    let times: Arc<[AtomicU32]> = (0..FIRES).map(|_| AtomicU32::new(0)).collect();
    let clock = SystemClock::new();
    let due = clock.now().utc + AHEAD;
    let scheduler = Scheduler::builder(store).registry(registry(&times)).schedules(specs(due)).start().unwrap();
    let handle = scheduler.handle().clone();
    let mut events = handle.subscribe(None);
    let (mut ended, mut first, mut last) = (0, None, None);
    while ended < FIRES {
        let recorded = events.next().await.unwrap();
        if let Event::RunFinished { state, nominal_at, .. } = recorded.event {
            assert_eq!((state, nominal_at), (RunState::Succeeded, Some(due)));
            first = first.or(Some(recorded.ts));
            last = Some(recorded.ts);
            ended += 1;
        }
    }
    let wrong: Vec<_> = times.iter().map(|times| times.load(Ordering::Relaxed)).filter(|times| *times != 1).collect();
    assert!(wrong.is_empty(), "{} fires ran another number of times than once: {wrong:?}", wrong.len());
    let audit = handle.audit(None).await.unwrap();
    assert!(audit.ok, "{:?} {:?} {:?}", audit.missing, audit.duplicates, audit.contradictions);
    assert_eq!((audit.expected, audit.recorded), (FIRES as u64, FIRES as u64));
    scheduler.shutdown(Duration::from_secs(5)).await;
    let took = (last.unwrap() - due).as_seconds_f64();
    let mut out = std::io::stderr();
    writeln!(out, "{FIRES} fires due at once, {told}: all ended within {took:.2} s, 0 lost, 0 doubled").unwrap();
}

/// Each store on a runtime of this kind, one after the other: they would only wait for each other.
fn on(mut runtime: Builder, kind: &str) {
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(all_run_once(MemoryStore::new(), &format!("{kind}, in memory")));
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("sched.db")).unwrap();
    runtime.block_on(all_run_once(store, &format!("{kind}, on SQLite")));
}

#[test]
fn ten_thousand_fires_of_one_instant_each_run_once_on_a_runtime_of_one_thread() {
    on(Builder::new_current_thread(), "current-thread runtime");
}

#[test]
fn ten_thousand_fires_of_one_instant_each_run_once_on_a_runtime_of_several_threads() {
    on(Builder::new_multi_thread(), "multi-thread runtime");
}
