//! `sched start`: starts the daemon, and returns when it is proved to live, or says why it does not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hyper::Method;
use sched_core::{Clock as _, Event, Recorded, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use super::place::{holder, is_held};
use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// The daemon stands within this, or is stopped.
const READY_WITHIN: Duration = Duration::from_millis(3400);
/// How long it must live after it said so.
const SURVIVAL: Duration = Duration::from_secs(2);
/// However slow the start was, the command ends by then.
const ANSWER_WITHIN: Duration = Duration::from_millis(3900);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A killed process has ended within this.
const LAST_BREATH: Duration = Duration::from_millis(1000);

#[derive(Debug, Deserialize)]
struct Word {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    http: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    exit: u8,
    #[serde(default)]
    error: String,
}

pub(crate) fn start(global: &Global) -> Outcome {
    let setup = Setup::load(global)?;
    if let Some(pid) = living_holder(&setup.config.data_dir) {
        return Ok(already(global, pid));
    }
    let clock = SystemClock::new();
    let begun = clock.now().mono;
    let mut child = spawn(global, &setup)?;
    let word = wait_for_word(&mut child)?;
    if !word.ready {
        return refused(global, &setup, &word);
    }
    let left = ANSWER_WITHIN.saturating_sub(clock.now().mono.saturating_sub(begun));
    if let Some(status) = death_within(&mut child, SURVIVAL.min(left))? {
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        let out = setup.config.log_dir.join("scheduler.out");
        return Err(Failure::failed(format!("the scheduler started and died ({how}); see {}", out.display())));
    }
    log_start(&setup, word.pid)?;
    if global.json {
        output::json(&json!({ "ok": true, "running": true, "pid": word.pid, "http": word.http }));
    } else if !global.quiet {
        output::line(&format!("started: pid {}, http://{}/", word.pid, word.http));
        if let Some(key) = word.key {
            output::line(&format!("the dashboard key is in {key}"));
        }
    }
    Ok(Exit::Done)
}

/// The process that holds the data folder and goes on holding it. One that was killed holds it until its last thread
/// has ended; to call that running would leave nothing running.
fn living_holder(data_dir: &Path) -> Option<u32> {
    let mut waited = Duration::ZERO;
    loop {
        let pid = holder(data_dir)?;
        let answers = call::<Value>(data_dir, Method::GET, "/api/v1/status", None, Some(LAST_BREATH)).is_ok();
        if answers || waited >= LAST_BREATH {
            return Some(pid);
        }
        std::thread::sleep(BETWEEN_LOOKS);
        waited += BETWEEN_LOOKS;
    }
}

/// Waits for the whole time, unless the child dies meanwhile.
fn death_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut waited = Duration::ZERO;
    while waited < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(BETWEEN_LOOKS);
        waited += BETWEEN_LOOKS;
    }
    child.try_wait()
}

fn already(global: &Global, pid: u32) -> Exit {
    if global.json {
        output::json(&json!({ "ok": true, "running": true, "pid": pid, "already": true }));
    } else if !global.quiet {
        output::line(&format!("already running: pid {pid}"));
    }
    Exit::Done
}

fn spawn(global: &Global, setup: &Setup) -> Result<Child, Failure> {
    let log_dir = &setup.config.log_dir;
    std::fs::create_dir_all(log_dir)
        .map_err(|error| Failure::failed(format!("the folder {} cannot be made: {error}", log_dir.display())))?;
    let out = log_dir.join("scheduler.out");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&out);
    let file = file.map_err(|error| Failure::failed(format!("{}: {error}", out.display())))?;
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    for _ in 0..global.verbose {
        command.arg("-v");
    }
    command.args(["run", "--daemon"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    Ok(command.spawn()?)
}

/// Reads the daemon's first line. One that says nothing in time is stopped.
fn wait_for_word(child: &mut Child) -> Result<Word, Failure> {
    let Some(pipe) = child.stdout.take() else { return Err(Failure::failed("no pipe to the daemon")) };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // No line at all is told by the closed channel.
        if BufReader::new(pipe).read_line(&mut line).is_ok_and(|length| length > 0) {
            let _ = sender.send(line);
        }
    });
    match receiver.recv_timeout(READY_WITHIN) {
        Ok(line) => {
            serde_json::from_str(&line).map_err(|_| Failure::failed(format!("the daemon said: {}", line.trim())))
        }
        Err(RecvTimeoutError::Disconnected) => {
            let status = child.wait()?;
            Err(Failure::failed(format!("the scheduler died before it stood ({status}); see scheduler.out")))
        }
        Err(RecvTimeoutError::Timeout) => {
            child.kill()?;
            child.wait()?;
            let limit = READY_WITHIN.as_secs_f64();
            Err(Failure::failed(format!(
                "the scheduler did not stand within {limit} s and was stopped; try `sched run -v`"
            )))
        }
    }
}

/// The daemon says why it does not stand. If another one holds the folder, that is what was wanted.
fn refused(global: &Global, setup: &Setup, word: &Word) -> Outcome {
    let data_dir = &setup.config.data_dir;
    if word.exit == Exit::Store as u8 && is_held(data_dir) {
        return Ok(already(global, holder(data_dir).unwrap_or(0)));
    }
    let exit = match word.exit {
        2 => Exit::Usage,
        4 => Exit::Store,
        _ => Exit::Failed,
    };
    Err(Failure::new(exit, word.error.clone()))
}

/// The original's line of its supervisor.
fn log_start(setup: &Setup, pid: u32) -> Result<(), Failure> {
    let ts = SystemClock::new().now().utc;
    let line = sched_core::sink::line(&Recorded { ts, event: Event::SupervisorStart { pid }, seq: None });
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(setup.log_path())?;
    log.write_all(line.as_bytes())?;
    Ok(())
}
