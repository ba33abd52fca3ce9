//! Measures the figures of benches/README.md: `cargo run --release -p sched-benches --bin figures [-- FIGURE]`.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "figures are taken with the real clock")]

mod burst;
mod daemon;
mod history;
mod isolation;
mod lateness;
mod load;
mod peers;
mod record;
mod throughput;
mod world;

use std::path::PathBuf;

const USAGE: &str = "figures [start | idle | lateness [SECONDS] | isolation [SECONDS] | burst | throughput | load]";

fn main() -> anyhow::Result<()> {
    sched_core::process::init();
    if sched_core::process::is_worker() {
        sched_core::runner::serve(&isolation::registry());
    }
    let mut args = std::env::args().skip(1);
    let (figure, seconds) = (args.next(), args.next());
    let seconds = seconds.map_or(Ok(60), |seconds| seconds.parse())?;
    match figure.as_deref() {
        Some("start") => start(),
        Some("idle") => idle(),
        Some("lateness") => lateness::measure(seconds),
        Some("isolation") => isolation::measure(seconds),
        Some("burst") => burst::measure(),
        Some("throughput") => throughput::measure(),
        Some("load") => load::measure(),
        Some(other) => anyhow::bail!("no figure `{other}`: {USAGE}"),
        None => {
            start()?;
            load::measure()?;
            burst::measure()?;
            throughput::measure()?;
            lateness::measure(seconds)?;
            isolation::measure(seconds)?;
            idle()
        }
    }
}

/// The program, which is measured from outside.
fn sched() -> anyhow::Result<PathBuf> {
    let sched = std::path::absolute("target/release/sched")?;
    anyhow::ensure!(sched.exists(), "{} is not there; build it: cargo build --release -p sched-cli", sched.display());
    Ok(sched)
}

fn start() -> anyhow::Result<()> {
    let sched = sched()?;
    println!("the program: {:.1} MiB", std::fs::metadata(&sched)?.len() as f64 / 1_048_576.0);
    let mut starts: Vec<_> = (0..11).map(|_| daemon::time_to_readiness(&sched)).collect::<Result<_, _>>()?;
    let median = |times: &mut Vec<std::time::Duration>| world::quantile(times, 0.5).as_secs_f64() * 1000.0;
    println!("  start to readiness, median of 11: {:.1} ms", median(&mut starts));
    let [mut help, mut status] = daemon::times_of_commands(&sched, 51)?;
    println!("  --help, median of 51: {:.1} ms; status: {:.1} ms", median(&mut help), median(&mut status));
    println!("  with 10,000 schedules and 1,000,000 runs:");
    let mut starts = daemon::times_to_readiness_with_a_past(&sched, 10_000, 1_000_000, 5)?;
    println!("    start to readiness, median of 5: {:.0} ms", median(&mut starts));
    Ok(())
}

fn idle() -> anyhow::Result<()> {
    let sched = sched()?;
    println!("a minute of the daemon in which nothing is due");
    for schedules in [10, 100_000] {
        let minute = daemon::idle_minute(&sched, schedules)?;
        minute.tell(schedules);
    }
    Ok(())
}
