//! Measures the figures of benches/README.md: `cargo run --release -p sched-benches --bin figures [-- FIGURE]`.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "figures are taken with the real clock")]

mod burst;
mod daemon;
mod lateness;
mod load;
mod peers;
mod record;
mod throughput;
mod world;

use std::path::PathBuf;

const USAGE: &str = "figures [start | idle | lateness [SECONDS] | burst | throughput | load]";

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (figure, seconds) = (args.next(), args.next());
    let seconds = seconds.map_or(Ok(60), |seconds| seconds.parse())?;
    match figure.as_deref() {
        Some("start") => start(),
        Some("idle") => idle(),
        Some("lateness") => lateness::measure(seconds),
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
    println!("  start to readiness, median of 11: {:.1} ms", world::quantile(&mut starts, 0.5).as_secs_f64() * 1000.0);
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
