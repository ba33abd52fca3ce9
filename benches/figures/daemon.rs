//! The daemon from outside: how soon it stands, what it costs while nothing is due.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{history, world};

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

/// The same in a folder that has a past; each start is one after a clean stop.
pub(crate) fn times_to_readiness_with_a_past(
    sched: &Path,
    schedules: usize,
    runs: usize,
    times: usize,
) -> anyhow::Result<Vec<Duration>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("sched.toml"), history::config(schedules))?;
    std::fs::create_dir(folder.path().join("data"))?;
    let store = folder.path().join("data/sched.db");
    history::fill(&store, schedules, runs)?;
    println!("    the store: {:.0} MiB", std::fs::metadata(&store)?.len() as f64 / 1_048_576.0);
    // The first start writes the log of the past.
    drop(start(sched, folder.path())?);
    let mut taken = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let mut daemon = start(sched, folder.path())?;
        taken.push(begun.elapsed());
        Command::new("kill").arg(daemon.0.id().to_string()).status()?;
        daemon.0.wait()?;
    }
    Ok(taken)
}

/// How long a command takes, as often as that.
pub(crate) fn times_of(sched: &Path, folder: &Path, words: &[&str], times: usize) -> anyhow::Result<Vec<Duration>> {
    let once = || {
        let mut command = Command::new(sched);
        command.args(words).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        command.status()?;
        Ok(begun.elapsed())
    };
    (0..times).map(|_| once()).collect()
}

/// `sched --help`, and `sched status` beside a running scheduler.
pub(crate) fn times_of_commands(sched: &Path, times: usize) -> anyhow::Result<[Vec<Duration>; 2]> {
    let folder = tempfile::tempdir()?;
    let _daemon = start(sched, folder.path())?;
    Ok([times_of(sched, folder.path(), &["--help"], times)?, times_of(sched, folder.path(), &["status"], times)?])
}

/// What a minute in which no schedule is due has cost, heartbeat included.
pub(crate) struct IdleMinute {
    cpu: f64,
    resident: f64,
    /// How often threads have waited and were woken, by the threads' names.
    wakes: BTreeMap<String, u64>,
}

impl IdleMinute {
    pub(crate) fn tell(&self, schedules: usize) {
        let Self { cpu, resident, wakes } = self;
        let share = 100.0 * cpu / 60.0;
        println!(
            "  {schedules:>6} schedules: {:.1} ms of CPU, {share:.3} % of a core; {resident:.0} MiB",
            cpu * 1000.0
        );
        let wakes: Vec<_> = wakes.iter().map(|(thread, count)| format!("{thread} {count}")).collect();
        println!("    woken: {}", wakes.join(", "));
    }
}

pub(crate) fn idle_minute(sched: &Path, schedules: usize) -> anyhow::Result<IdleMinute> {
    let folder = tempfile::tempdir()?;
    let mut config = String::new();
    let month = world::far_month();
    for number in 0..schedules {
        writeln!(config, "[[schedule]]\nname = \"s{number}\"\njob = \"command\"\nparams = {{ argv = [\"true\"] }}")?;
        writeln!(config, "trigger = {{ cron = \"{} 0 1 {month} *\" }}", number % 60)?;
    }
    std::fs::write(folder.path().join("sched.toml"), config)?;
    let daemon = start(sched, folder.path())?;
    std::thread::sleep(Duration::from_secs(5));
    let before = tasks(daemon.0.id())?;
    std::thread::sleep(Duration::from_secs(60));
    let after = tasks(daemon.0.id())?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id()))?;
    let resident: f64 = field(&status, "VmRSS")?.trim_end_matches(" kB").parse()?;
    let mut wakes = BTreeMap::new();
    for (id, task) in &after {
        let woken = task.woken - before.get(id).map_or(0, |task| task.woken);
        *wakes.entry(task.name.clone()).or_default() += woken;
    }
    let sum = |tasks: &BTreeMap<String, Task>| tasks.values().map(|task| task.nanoseconds).sum::<u64>();
    let cpu = (sum(&after) - sum(&before)) as f64 / 1e9;
    Ok(IdleMinute { cpu, resident: resident / 1024.0, wakes })
}

struct Task {
    name: String,
    nanoseconds: u64,
    woken: u64,
}

/// Each thread: the first figure of its schedstat is its time on a CPU in nanoseconds (proc_pid_schedstat(5)); it
/// gives up the CPU by itself when it waits (proc_pid_status(5)).
fn tasks(pid: u32) -> anyhow::Result<BTreeMap<String, Task>> {
    let mut tasks = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let read = |file: &str| std::fs::read_to_string(task.path().join(file));
        let (status, schedstat) = (read("status")?, read("schedstat")?);
        let nanoseconds = schedstat.split(' ').next().context("no figure")?.parse()?;
        let woken = field(&status, "voluntary_ctxt_switches")?.parse()?;
        let name = field(&status, "Name")?.to_owned();
        tasks.insert(task.file_name().to_string_lossy().into_owned(), Task { name, nanoseconds, woken });
    }
    Ok(tasks)
}

fn field<'a>(status: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim).with_context(|| format!("no {name}"))
}
