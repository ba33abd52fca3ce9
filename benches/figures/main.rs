//! Measures the figures of benches/README.md:
//! `cargo build --release -p sched-cli && cargo run --release -p sched-benches --bin figures [target/release/sched]`.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "figures are taken with the real clock")]

mod daemon;
mod throughput;

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let sched = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/release/sched"), PathBuf::from);
    let sched = std::path::absolute(sched)?;
    anyhow::ensure!(sched.exists(), "{} is not there; build it: cargo build --release -p sched-cli", sched.display());
    println!("binary size                       {:.1} MiB", std::fs::metadata(&sched)?.len() as f64 / 1_048_576.0);
    let mut starts: Vec<_> = (0..11).map(|_| daemon::time_to_readiness(&sched)).collect::<Result<_, _>>()?;
    starts.sort_unstable();
    println!("start to readiness, median of 11  {:.1} ms", starts[5].as_secs_f64() * 1000.0);
    for schedules in [10, 10_000] {
        let (cpu, resident) = daemon::idle_minute(&sched, schedules)?;
        println!("idle minute, {schedules:>6} schedules     {:.1} ms of CPU, {resident:.0} MiB resident", cpu * 1000.0);
    }
    throughput::measure()
}
