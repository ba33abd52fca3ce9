//! The engine as an embedder runs it: real threads, a real SQLite file, real time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sched_core::runner::{Attempt, Runner};
use sched_core::sink::{NdjsonLog, Rotation};
use sched_core::{
    Alerting, Channels, EngineError, Event, Job, JobError, MemoryStore, Misfire, Outcome, Output, PruneRule,
    PrunedHistory, Recorded, Registry, Retry, RunContext, RunId, RunState, ScheduleSpec, Scheduler, SqliteStore,
    TriggerRequest, TriggerSpec, Wanted, async_trait,
};
use serde::Deserialize;
use serde_json::Map;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// What the job does: `ok`, `panic`, `block`, `wait`, `files`.
    act: String,
}

struct Acting {
    params: Params,
    unblock: Arc<std::sync::Barrier>,
    begun: Arc<AtomicUsize>,
}

#[async_trait]
impl Job for Acting {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        match self.params.act.as_str() {
            "panic" => panic!("told to"),
            "block" => {
                self.unblock.wait();
            }
            "wait" => {
                ctx.cancelled().await;
                return Err(JobError::new("stopped waiting"));
            }
            "files" => {
                ctx.log("one line").await;
                let path = ctx.artifact("out.txt", "hello").await?;
                ctx.state_put("path", path.to_string_lossy().into()).await?;
                assert!(ctx.artifact("../out.txt", "x").await.is_err());
                let kept = ctx.state_get("path").await?;
                return Ok(Output::summary("kept").with_data(kept.unwrap_or_default()));
            }
            _ => {}
        }
        Ok(Output::summary("did it"))
    }
}

struct World {
    folder: tempfile::TempDir,
    unblock: Arc<std::sync::Barrier>,
    begun: Arc<AtomicUsize>,
}

impl World {
    fn new(blocked: usize) -> Self {
        let unblock = Arc::new(std::sync::Barrier::new(blocked + 1));
        Self { folder: tempfile::tempdir().unwrap(), unblock, begun: Arc::default() }
    }

    fn start(&self, acts: &[&str]) -> Scheduler {
        let mut registry = Registry::new();
        let (unblock, begun) = (self.unblock.clone(), self.begun.clone());
        registry.register("act", "Acts", move |params: Params| {
            Ok(Acting { params, unblock: unblock.clone(), begun: begun.clone() })
        });
        let store = SqliteStore::open(self.folder.path().join("sched.db")).unwrap();
        let specs = acts.iter().map(|act| {
            let trigger = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
            ScheduleSpec::new(act, "act", trigger).unwrap().with_param("act", *act)
        });
        Scheduler::builder(store).registry(registry).schedules(specs).data_dir(self.folder.path()).start().unwrap()
    }
}

fn request(name: &str) -> TriggerRequest {
    TriggerRequest::new(name.parse().unwrap(), "test")
}

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_triggered_run_succeeds_and_is_still_known_after_a_restart() {
    let world = World::new(0);
    let scheduler = world.start(&["ok"]);
    let run_id = scheduler.handle().trigger(request("ok")).await.unwrap();
    let run = scheduler.handle().wait(run_id).await.unwrap();
    assert_eq!((run.state, run.summary.as_deref()), (RunState::Succeeded, Some("did it")));
    scheduler.shutdown(GRACE).await;
    let scheduler = world.start(&["ok"]);
    assert_eq!(scheduler.handle().run(run_id).await.unwrap(), run);
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_shutdown_with_an_endless_grace_ends_when_the_runs_have() {
    let world = World::new(0);
    let scheduler = world.start(&["ok"]);
    let run_id = scheduler.handle().trigger(request("ok")).await.unwrap();
    scheduler.shutdown(Duration::MAX).await;
    let scheduler = world.start(&["ok"]);
    assert_eq!(scheduler.handle().run(run_id).await.unwrap().state, RunState::Succeeded);
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_schedule_with_an_endless_duration_is_refused() {
    let spec = || ScheduleSpec::new("a", "act", TriggerSpec::every(Duration::from_secs(60))).unwrap();
    let endless = Some(Duration::MAX);
    let wrong = [
        ("timeout", spec().with_timeout(Duration::MAX)),
        ("jitter", ScheduleSpec { jitter: Duration::MAX, ..spec() }),
        ("retry.max", spec().with_retry(Retry { max: Duration::MAX, ..Retry::default() })),
        ("alert.overrun", ScheduleSpec { alert: Alerting { overrun: endless, ..Alerting::default() }, ..spec() }),
    ];
    for (field, spec) in wrong {
        let error = Scheduler::builder(MemoryStore::new()).schedule(spec).start().unwrap_err();
        assert_eq!(error.to_string(), format!("schedule `a`: {field}: must be 100 years or less"));
    }
}

#[tokio::test]
async fn a_panic_fails_the_run_with_its_message_and_harms_nothing_else() {
    let world = World::new(0);
    let mut specs = world.start(&["panic", "ok"]);
    let handle = specs.handle().clone();
    let mut events = handle.subscribe(None);
    let run_id = handle.trigger(request("panic")).await.unwrap();
    let error = loop {
        match events.next().await.unwrap().event {
            Event::RunRetry { run_id: id, error, .. } if id == run_id => break error,
            _ => {}
        }
    };
    assert_eq!(error, "the job panicked: told to");
    handle.cancel(run_id).await.unwrap();
    let ok = handle.trigger(request("ok")).await.unwrap();
    assert_eq!(handle.wait(ok).await.unwrap().state, RunState::Succeeded);
    specs = {
        specs.shutdown(GRACE).await;
        world.start(&["ok"])
    };
    specs.shutdown(GRACE).await;
}

#[tokio::test]
async fn jobs_that_block_their_threads_delay_no_other_job_and_no_answer() {
    let names: Vec<String> = (0..8).map(|n| format!("block{n}")).collect();
    let world = World::new(names.len());
    let mut registry = Registry::new();
    let (unblock, begun) = (world.unblock.clone(), world.begun.clone());
    registry.register("act", "Acts", move |params: Params| {
        Ok(Acting { params, unblock: unblock.clone(), begun: begun.clone() })
    });
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let spec = |name: &str, act: &str| ScheduleSpec::new(name, "act", never.clone()).unwrap().with_param("act", act);
    let store = SqliteStore::open(world.folder.path().join("sched.db")).unwrap();
    let scheduler = Scheduler::builder(store)
        .registry(registry)
        .schedules(names.iter().map(|name| spec(name, "block")))
        .schedule(spec("ok", "ok"))
        .start()
        .unwrap();
    let handle = scheduler.handle();
    let mut blocked = Vec::new();
    for name in &names {
        blocked.push(handle.trigger(request(name)).await.unwrap());
    }
    while world.begun.load(Ordering::SeqCst) < names.len() {
        tokio::task::yield_now().await;
    }
    let ok = handle.trigger(request("ok")).await.unwrap();
    assert_eq!(handle.wait(ok).await.unwrap().state, RunState::Succeeded);
    assert_eq!(handle.status(10).await.unwrap().running, names.len());
    let unblock = world.unblock.clone();
    tokio::task::spawn_blocking(move || unblock.wait()).await.unwrap();
    for run_id in blocked {
        assert_eq!(handle.wait(run_id).await.unwrap().state, RunState::Succeeded);
    }
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_cancelled_run_hears_of_it_and_a_second_trigger_is_refused_meanwhile() {
    let world = World::new(0);
    let scheduler = world.start(&["wait"]);
    let handle = scheduler.handle();
    let run_id = handle.trigger(request("wait")).await.unwrap();
    assert!(matches!(handle.trigger(request("wait")).await, Err(EngineError::Refused(_))));
    handle.cancel(run_id).await.unwrap();
    assert_eq!(handle.wait(run_id).await.unwrap().state, RunState::Cancelled);
    assert!(handle.cancel(run_id).await.is_err());
    scheduler.shutdown(GRACE).await;
}

/// tokio-cron-scheduler: after a thousand requests at once, none was answered any more. Here more than 1,024 wait
/// before the engine takes them.
#[tokio::test]
async fn thousands_of_requests_at_once_are_all_answered_and_so_is_the_next() {
    let world = World::new(0);
    let scheduler = world.start(&["ok"]);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..3000 {
        let handle = scheduler.handle().clone();
        let keyed = TriggerRequest { idempotency_key: Some(format!("k{}", number % 10)), queue: true, ..request("ok") };
        asking.spawn(async move { handle.trigger(keyed).await.unwrap() });
    }
    let runs: std::collections::BTreeSet<_> = asking.join_all().await.into_iter().collect();
    assert_eq!(runs.len(), 10, "one run for each key");
    for run_id in runs {
        assert_eq!(scheduler.handle().wait(run_id).await.unwrap().state, RunState::Succeeded);
    }
    let next = scheduler.handle().trigger(request("ok")).await.unwrap();
    assert_eq!(scheduler.handle().wait(next).await.unwrap().state, RunState::Succeeded);
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_job_keeps_output_artifacts_and_state() {
    let world = World::new(0);
    let scheduler = world.start(&["files"]);
    let handle = scheduler.handle();
    let run_id = handle.trigger(request("files")).await.unwrap();
    let run = handle.wait(run_id).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(std::fs::read_to_string(&run.artifacts[0].path).unwrap(), "hello");
    assert_eq!(run.data, run.artifacts[0].path.to_string_lossy().as_ref());
    let output = handle.files().unwrap().output_path(run_id);
    assert_eq!(std::fs::read_to_string(output).unwrap(), "one line\n");
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn pruned_runs_take_what_they_printed_and_kept_with_them_and_nothing_else() {
    let world = World::new(0);
    let scheduler = world.start(&["files"]);
    let handle = scheduler.handle();
    let run_id = handle.trigger(request("files")).await.unwrap();
    let run = handle.wait(run_id).await.unwrap();
    scheduler.shutdown(GRACE).await;
    // Someone's hand has named another file as the run's.
    let precious = world.folder.path().join("precious.txt");
    std::fs::write(&precious, "x").unwrap();
    let stranger = serde_json::json!([run.artifacts[0], { "name": "precious.txt", "path": precious, "bytes": 1 }]);
    let store = rusqlite::Connection::open(world.folder.path().join("sched.db")).unwrap();
    store.execute("UPDATE runs SET artifacts = ?1", [stranger.to_string()]).unwrap();
    drop(store);
    let scheduler = world.start(&["files"]);
    let handle = scheduler.handle();
    let later = handle.clock().now().utc + chrono::TimeDelta::days(1);
    let rule = PruneRule { before: later, failures_before: later, keep_newest: 0, dry_run: true };
    let expected = PrunedHistory { runs: 1, ranges: 0, files: 2 };
    assert_eq!(handle.prune(rule.clone()).await.unwrap(), expected);
    let output = handle.files().unwrap().output_path(run_id);
    assert!(output.exists() && run.artifacts[0].path.exists());
    assert_eq!(handle.prune(PruneRule { dry_run: false, ..rule }).await.unwrap(), expected);
    assert!(!output.exists() && !run.artifacts[0].path.exists() && precious.exists());
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn half_a_line_that_a_crash_left_in_the_log_swallows_no_other() {
    let world = World::new(0);
    let path = world.folder.path().join("scheduler.log");
    std::fs::write(&path, "{\"ts\":\"2026-01-0").unwrap();
    let scheduler = world.start(&["ok"]);
    let handle = scheduler.handle().clone();
    let log = NdjsonLog::start(&path, Rotation::default(), &handle, &tokio::runtime::Handle::current()).unwrap();
    scheduler.shutdown(GRACE).await;
    let (ts, event) = (handle.clock().now().utc, Event::Cleanup { removed_pid: 1 });
    log.finish(Recorded { ts, event, seq: None }).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    assert!(lines.next().unwrap().is_err());
    let events: Vec<_> = lines.map(|line| line.unwrap()["event"].clone()).collect();
    assert_eq!(events, ["schedule_changed", "cleanup"]);
}

/// Every line of a log, the oldest file first.
fn whole_log(path: &std::path::Path) -> Vec<serde_json::Value> {
    let moved = |number: u32| std::path::PathBuf::from(format!("{}.{number}", path.display()));
    let files = (1..).map(moved).take_while(|path| path.exists()).collect::<Vec<_>>();
    let files = files.into_iter().rev().chain([path.to_path_buf()]);
    files
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// `ROTATED_RUNS=200000 cargo test --release -p sched-core --all-features --test embedded rotation -- --nocapture` is the
/// long form, and prints how fast lines came.
#[tokio::test]
async fn rotation_under_load_loses_no_line_and_tears_none() {
    let runs: usize = std::env::var("ROTATED_RUNS").map_or(3000, |runs| runs.parse().unwrap());
    let world = World::new(0);
    let path = world.folder.path().join("scheduler.log");
    let mut registry = Registry::new();
    let (unblock, begun) = (world.unblock.clone(), world.begun.clone());
    registry.register("act", "Acts", move |params: Params| {
        Ok(Acting { params, unblock: unblock.clone(), begun: begun.clone() })
    });
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let mut spec = ScheduleSpec::new("ok", "act", never).unwrap().with_param("act", "ok");
    spec.overlap = sched_core::Overlap::Allow;
    let builder = Scheduler::builder(sched_core::MemoryStore::new()).registry(registry).schedule(spec);
    let scheduler = builder.start().unwrap();
    let handle = scheduler.handle().clone();
    let rotation = Rotation { max_size: Some(64 * 1024), every: None, keep: u32::MAX };
    let log = NdjsonLog::start(&path, rotation, &handle, &tokio::runtime::Handle::current()).unwrap();
    let begun = handle.clock().now().mono;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let handle = handle.clone();
        asked.spawn(async move {
            for _ in 0..runs / 32 {
                handle.trigger(request("ok")).await.unwrap();
            }
        });
    }
    while asked.join_next().await.is_some() {}
    let taken = handle.clock().now().mono.saturating_sub(begun);
    scheduler.shutdown(GRACE).await;
    let (ts, event) = (handle.clock().now().utc, Event::Cleanup { removed_pid: 1 });
    log.finish(Recorded { ts, event, seq: None }).await;
    let lines = whole_log(&path);
    let seqs: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each committed event once, in order");
    let queued = lines.iter().filter(|line| line["event"] == "run_queued").count();
    assert_eq!(queued, runs / 32 * 32);
    let files = std::fs::read_dir(world.folder.path()).unwrap().count();
    println!("{} lines in {files} files, {:.0} lines a second", lines.len(), lines.len() as f64 / taken.as_secs_f64());
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused_before_anything_runs() {
    let world = World::new(0);
    let scheduler = world.start(&["ok"]);
    let mut wrong = request("ok");
    wrong.params.insert("atc".into(), "x".into());
    let error = scheduler.handle().trigger(wrong).await.unwrap_err().to_string();
    assert!(error.contains("unknown field `atc`"), "{error}");
    scheduler.shutdown(GRACE).await;
}

#[tokio::test]
async fn a_second_schedule_comes_due_by_itself() {
    let world = World::new(0);
    let mut registry = Registry::new();
    let (unblock, begun) = (world.unblock.clone(), world.begun.clone());
    registry.register("act", "Acts", move |params: Params| {
        Ok(Acting { params, unblock: unblock.clone(), begun: begun.clone() })
    });
    let spec = ScheduleSpec::new("tick", "act", TriggerSpec::every(Duration::from_secs(1)))
        .unwrap()
        .with_param("act", "ok")
        .with_misfire(Misfire::default());
    let scheduler =
        Scheduler::builder(sched_core::MemoryStore::new()).registry(registry).schedule(spec).start().unwrap();
    let mut events = scheduler.handle().subscribe(None);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Event::RunFinished { nominal_at, state, .. } = events.next().await.unwrap().event {
            assert_eq!(state, RunState::Succeeded);
            seen.push(nominal_at.unwrap());
        }
    }
    assert_eq!(seen[1] - seen[0], chrono::TimeDelta::seconds(1));
    scheduler.shutdown(GRACE).await;
}

/// Runs every kind itself.
struct Elsewhere;

impl Runner for Elsewhere {
    fn start(&self, attempt: Attempt) {
        (attempt.report)(Outcome::Succeeded(Output::summary(attempt.params.to_string())));
    }

    fn drop_attempt(&self, _: RunId) {}
}

fn wanted(schedules: Vec<ScheduleSpec>) -> Wanted {
    Wanted { schedules, groups: BTreeMap::new(), channels: Channels::new(), max_concurrent_runs: 1 }
}

#[tokio::test]
async fn a_runner_of_ones_own_runs_kinds_that_are_not_registered_here() {
    let builder = Scheduler::builder(MemoryStore::new()).runner(Arc::new(Elsewhere));
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let spec = |name| ScheduleSpec::new(name, "far", never.clone()).unwrap().with_param("n", 1);
    let scheduler = builder.schedule(spec("a")).start().unwrap();
    let handle = scheduler.handle();
    handle.apply(wanted(vec![spec("a"), spec("b")]), "test").await.unwrap();
    let params = Map::from_iter([("n".to_owned(), 2.into())]);
    let run_id = handle.trigger(TriggerRequest { params, ..request("b") }).await.unwrap();
    assert_eq!(handle.wait(run_id).await.unwrap().summary.as_deref(), Some("{\"n\":2}"));
    scheduler.shutdown(GRACE).await;
}
