//! Programs a second: `command` through the whole engine on SQLite, and the same program spawned in a bare loop.
//!
//! `cargo bench -p sched-benches --bench command`

#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "figures are taken with the real clock")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sched_core::{
    Event, Overlap, Registry, ScheduleSpec, Scheduler, SqliteStore, TriggerRequest, TriggerSpec, process,
};
use sched_jobs::{JobEnv, register_all};

const RUNS: usize = 2000;
/// Places for runs, and threads of the bare loop.
const CALLERS: usize = 8;
const ASKING: usize = 50;
const ROUNDS: usize = 5;
const PROGRAM: &str = "/bin/true";

/// Spawns the program with two pipes and takes its output, in as many threads as the engine has places; seconds.
fn bare() -> anyhow::Result<f64> {
    let begun = Instant::now();
    let threads: Vec<_> = (0..CALLERS)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..RUNS / CALLERS {
                    Command::new(PROGRAM).env_clear().stdin(Stdio::null()).output()?;
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread ended by a panic"))??;
    }
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
    let scheduler = builder.schedule(spec.clone()).max_concurrent_runs(CALLERS).data_dir(folder).start()?;
    let mut events = scheduler.handle().subscribe(None);
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
    let mut succeeded = 0;
    while succeeded < RUNS {
        let recorded = events.next().await.ok_or_else(|| anyhow::anyhow!("the engine ended"))?;
        if let Event::RunFinished { ok, error, .. } = recorded.event {
            anyhow::ensure!(ok, "a run failed: {error:?}");
            succeeded += 1;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(took)
}

fn main() -> anyhow::Result<()> {
    process::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut loops, mut engine) = (Vec::new(), Vec::new());
    // Taken in turns, so that the machine's moods meet both.
    for _ in 0..ROUNDS {
        loops.push(bare()?);
        let folder = tempfile::tempdir()?;
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
