//! The daemon from outside: how soon it stands, what it costs while nothing is due.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(sched: &Path, folder: &Path) -> anyhow::Result<Daemon> {
    let mut command = Command::new(sched);
    command.arg("run").current_dir(folder).env("SCHED__HTTP__LISTEN", "127.0.0.1:0").stderr(Stdio::piped());
    let mut daemon = Daemon(command.spawn()?);
    let lines = BufReader::new(daemon.0.stderr.take().context("no standard error")?).lines();
    for line in lines {
        if line?.starts_with("sched is running") {
            return Ok(daemon);
        }
    }
    anyhow::bail!("it ended before it stood")
}

/// From the start of the process in an empty folder to the line that says it stands: store made, listener
/// bound, first tick written.
pub(crate) fn time_to_readiness(sched: &Path) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let _daemon = start(sched, folder.path())?;
    Ok(begun.elapsed())
}

/// Seconds of CPU in a minute in which no schedule is due, heartbeat included; and the resident memory in MiB.
pub(crate) fn idle_minute(sched: &Path, schedules: usize) -> anyhow::Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let mut config = String::new();
    for number in 0..schedules {
        writeln!(config, "[[schedule]]\nname = \"s{number}\"\njob = \"command\"\nparams = {{ argv = [\"true\"] }}")?;
        writeln!(config, "trigger = {{ cron = \"{} 0 1 1 *\" }}", number % 60)?;
    }
    std::fs::write(folder.path().join("sched.toml"), config)?;
    let daemon = start(sched, folder.path())?;
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu_seconds(daemon.0.id())?;
    std::thread::sleep(Duration::from_secs(60));
    let cpu = cpu_seconds(daemon.0.id())? - before;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    Ok((cpu, resident / 1024.0))
}

/// The first figure of each thread's schedstat is its time on a CPU in nanoseconds (proc_pid_schedstat(5)).
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().context("no figure")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
