//! From a SQLite file with many schedules to an engine that knows them all, with nothing changed.

use std::path::Path;
use std::time::{Duration, Instant};

use sched_core::engine::{EngineConfig, Machine, StartOptions};
use sched_core::{Clock as _, NodeId, Scheduler, SqliteStore, Store as _, SystemClock};

use crate::world;

const SCHEDULES: usize = 100_000;
const ROUNDS: usize = 5;

pub(crate) fn measure() -> anyhow::Result<()> {
    println!("{SCHEDULES} schedules from SQLite, median of {ROUNDS}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sched.db");
    let runtime = world::runtime()?;
    let specs = world::far(SCHEDULES)?;
    let start = |path: &Path| -> anyhow::Result<Duration> {
        let specs = specs.clone();
        let registry = world::registry(None, None);
        let begun = Instant::now();
        let builder = Scheduler::builder(SqliteStore::open(path)?).registry(registry).schedules(specs);
        let scheduler = builder.runtime(runtime.handle().clone()).start()?;
        let took = begun.elapsed();
        runtime.block_on(scheduler.shutdown(Duration::from_secs(5)));
        Ok(took)
    };
    println!("  {:<40} {:>6.0} ms", "the first start, all new", start(&path)?.as_secs_f64() * 1000.0);
    let mut parts = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let mut last = Instant::now();
        let mut lap = |part: usize| {
            parts[part].push(last.elapsed().as_secs_f64() * 1000.0);
            last = Instant::now();
        };
        let mut store = SqliteStore::open(&path)?;
        lap(0);
        let snapshot = store.load()?;
        lap(1);
        let config = EngineConfig {
            node: NodeId::random(),
            max_concurrent_runs: 64,
            groups: Default::default(),
            channels: Default::default(),
            seed: 1,
        };
        let now = SystemClock::new().now();
        let (machine, effects) = Machine::start(config, now, snapshot, &specs, StartOptions::default())?;
        lap(2);
        anyhow::ensure!(effects.is_empty(), "something changed");
        drop((machine, store));
        parts[3].push(start(&path)?.as_secs_f64() * 1000.0);
    }
    for (what, part) in
        ["open the file", "read it", "start the machine", "all of it, threads included"].iter().zip(&mut parts)
    {
        println!("  {what:<40} {:>6.0} ms", world::quantile(part, 0.5));
    }
    Ok(())
}
