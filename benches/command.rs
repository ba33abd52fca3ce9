//! Programs a second: `command` through the whole engine on SQLite, and the same program spawned in a bare loop.
//!
//! `cargo bench -p sched-benches --bench command`

#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "figures are taken with the real clock")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sched_core::{
    HistoryFilter, HistoryRow, Overlap, Registry, RunState, ScheduleSpec, Scheduler, SqliteStore, TriggerRequest,
    TriggerSpec, process,
};
use sched_jobs::{JobEnv, register_all};

const RUNS: usize = 4000;
/// Threads of the bare loop: more spawn no faster.
const THREADS: usize = 8;
/// Runs at once; the engine's own default.
const PLACES: usize = 64;
const ASKING: usize = 50;
const ROUNDS: usize = 7;
const PROGRAM: &str = "/bin/true";

/// What `command` hands to the program, with some run's marks.
fn environment() -> BTreeMap<OsString, OsString> {
    let inherited = ["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME", "SHELL"];
    let inherited = inherited.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let marks = [
        ("SCHED_RUN_ID", "019ab0d2-4f5e-7c3a-8a53-0d6f6a1f2b3c"),
        ("SCHED_SCHEDULE", "true"),
        ("SCHED_NOMINAL_AT", ""),
        ("SCHED_ATTEMPT", "1"),
        ("SCHED_FENCE", "1000"),
    ];
    inherited.chain(marks.map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Spawns the program as `command` does, with two pipes, and takes its output, in some threads; seconds.
fn bare(folder: &Path) -> anyhow::Result<f64> {
    let environment = environment();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let spawn = || {
            for _ in 0..RUNS / THREADS {
                let mut command = Command::new(PROGRAM);
                command.env_clear().envs(&environment).current_dir(folder).process_group(0);
                let output = command.stdin(Stdio::null()).output()?;
                anyhow::ensure!(output.status.success(), "{PROGRAM} failed");
            }
            Ok(())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(spawn)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread ended by a panic"))?)
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Durable runs of `command`: accepted, claimed, run below a shim, output followed, finished; seconds.
async fn through_the_engine(folder: &Path) -> anyhow::Result<f64> {
    let mut registry = Registry::new();
    let env = JobEnv { base_dir: folder.into(), data_dir: folder.into(), base_url: None };
    register_all(&mut registry, &env);
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse()?);
    let spec = ScheduleSpec::new("true", "command", never)?.with_overlap(Overlap::Allow);
    let spec = spec.with_param("argv", vec![PROGRAM]);
    let builder = Scheduler::builder(SqliteStore::open(folder.join("sched.db"))?).registry(registry);
    let scheduler = builder.schedule(spec.clone()).max_concurrent_runs(PLACES).data_dir(folder).start()?;
    let begun = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    // Each request is answered when it is durable: many at once, so that asking is not what is measured.
    for _ in 0..ASKING {
        let (handle, name) = (scheduler.handle().clone(), spec.name.clone());
        asking.spawn(async move {
            for _ in 0..RUNS / ASKING {
                handle.trigger(TriggerRequest::new(name.clone(), "bench")).await?;
            }
            Ok::<_, sched_core::EngineError>(())
        });
    }
    asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Looked at by the millisecond: a listener would take part of what is measured.
    loop {
        let status = scheduler.handle().status(0).await?;
        if status.running + status.queued == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Answered when it is durable, and so is everything before it.
    scheduler.handle().pause(spec.name.clone(), "bench", "the end").await?;
    let took = begun.elapsed().as_secs_f64();
    let filter = HistoryFilter { bare: true, ..HistoryFilter::of(spec.name, RUNS as u32 + 1) };
    let rows = scheduler.handle().history(filter).await?;
    let succeeded = |row: &HistoryRow| matches!(row, HistoryRow::Run(run) if run.state == RunState::Succeeded);
    anyhow::ensure!(rows.len() == RUNS && rows.iter().all(succeeded), "not every run has succeeded");
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(took)
}

fn main() -> anyhow::Result<()> {
    process::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut loops, mut engine) = (Vec::new(), Vec::new());
    // Taken in turns, so that the machine's moods meet both.
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        loops.push(bare(folder.path())?);
        engine.push(runtime.block_on(through_the_engine(folder.path()))?);
    }
    loops.sort_by(f64::total_cmp);
    engine.sort_by(f64::total_cmp);
    let (bare, ours) = (loops[ROUNDS / 2], engine[ROUNDS / 2]);
    println!("bare spawns of {PROGRAM}, median of {ROUNDS}   {:.0} a second", RUNS as f64 / bare);
    println!("runs of `command`, median of {ROUNDS}          {:.0} a second", RUNS as f64 / ours);
    println!("of the spawn limit                  {:.0} %", 100.0 * bare / ours);
    Ok(())
}
