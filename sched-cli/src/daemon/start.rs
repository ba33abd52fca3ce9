//! `sched start`: starts the daemon, and returns when it is proved to live, or says why it does not.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sched_core::{Clock as _, Event, StoreLock, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use super::death::{self, SESSION_REMEDY};
use super::marker::{Marker, Note as _, Stopped};
use super::place::{append_event, folder, holder};
use super::supervisor::{self, Record};
use super::turn::Turn;
use super::witness;
use crate::args::{Global, Watch};
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// The daemon stands within this, or is stopped. While it says what it is busy with, it gets as much again.
const READY_WITHIN: Duration = Duration::from_millis(3400);
/// How long it must live after it said so.
const SURVIVAL: Duration = Duration::from_secs(2);
/// However slow the start was, the command ends by then.
const ANSWER_WITHIN: Duration = Duration::from_millis(3900);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A scheduler that is well answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1000);
/// A scheduler that does not answer for so long hangs.
const SILENCE: Duration = Duration::from_secs(2);
/// Beyond its grace, a scheduler that shuts down has ended within this.
pub(super) const MARGIN: Duration = Duration::from_secs(3);
/// So many of the last lines that a dead daemon printed are shown.
const LAST_LINES: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Word {
    ready: bool,
    pid: u32,
    http: String,
    key: Option<String>,
    exit: u8,
    error: String,
    /// It is busy with this, and will say more.
    working: Option<String>,
}

pub(crate) fn start(global: &Global, watch: Watch) -> Outcome {
    let setup = Setup::load(global)?;
    folder(&setup.config.data_dir)?;
    let turn = Turn::take(&setup.config.data_dir)?;
    start_in(global, watch, &setup, &turn)
}

/// Starts it, when it is this command's turn.
pub(crate) fn start_in(global: &Global, watch: Watch, setup: &Setup, _turn: &Turn) -> Outcome {
    let (data_dir, log_dir) = (&setup.config.data_dir, &setup.config.log_dir);
    match look_at_holder(data_dir, setup.config.shutdown_grace + MARGIN) {
        Holder::Nobody => {}
        Holder::Lives(pid) => return Ok(already(global, watch, data_dir, pid)),
        Holder::Silent(pid) => {
            return Err(Failure::failed(format!(
                "pid {pid} holds the data folder and does not answer; `sched restart` ends it and starts another"
            )));
        }
    }
    if let Some(record) = supervised(data_dir) {
        return Err(Failure::failed(format!(
            "a supervisor (pid {}) is about to start it again; see `sched status`, or `sched stop` ends it",
            record.pid
        )));
    }
    tell_last_end(setup);
    let clock = SystemClock::new();
    let begun = clock.now().mono;
    let (mut child, printed_before) = spawn(global, watch, log_dir)?;
    let last_lines = || last_lines(log_dir, printed_before);
    let word = wait_for_word(&mut child, last_lines)?;
    if !word.ready {
        return refused(global, watch, data_dir, &word);
    }
    let left = ANSWER_WITHIN.saturating_sub(clock.now().mono.saturating_sub(begun));
    // A start that was long took its time; whether it lives is looked at all the same.
    let left = if left.is_zero() { SURVIVAL } else { left };
    let died = death_within(&mut child, SURVIVAL.min(left))?;
    if died.is_some() || holder(data_dir) != Some(word.pid) {
        if died.is_none() {
            // Its supervisor would go on trying what has been told to have failed.
            end(&mut child, Signal::TERM);
        }
        return Err(Failure::failed(format!(
            "the scheduler started and died{}{}",
            died.map_or_else(String::new, |status| format!(" ({})", how(status))),
            last_lines()
        )));
    }
    append_event(&setup.log_path(), Event::SupervisorStart { pid: word.pid })?;
    if global.json {
        let supervised = watch.supervise;
        let body = json!({ "ok": true, "running": true, "pid": word.pid, "http": word.http, "supervised": supervised });
        output::json(&body);
    } else if !global.quiet {
        let supervised = if watch.supervise { ", supervised" } else { "" };
        output::line(&format!("started: pid {}, http://{}/{supervised}", word.pid, word.http));
        if let Some(key) = word.key {
            output::line(&format!("the dashboard key is in {key}"));
        }
    }
    Ok(Exit::Done)
}

/// Why the last one is not running any more, if nobody asked for that.
fn tell_last_end(setup: &Setup) {
    let (data_dir, log_dir) = (&setup.config.data_dir, &setup.config.log_dir);
    if let Some(marker) = Marker::read(data_dir) {
        let seen = witness::seen(data_dir, &marker);
        let death = death::of(&marker, seen, log_dir);
        output::note(&format!("the last scheduler (pid {}) was not stopped: {}", death.pid, death.message));
        if let Some(remedy) = death.remedy {
            output::note(&format!("to keep that from happening again: {remedy}"));
        }
    } else if let Some(session) = Stopped::read(data_dir).filter(|end| !end.asked).and_then(|end| end.session) {
        output::note(&format!(
            "the last scheduler was ended by a signal, after {session}, which started it, had ended"
        ));
        output::note(&format!("to keep that from happening again: {SESSION_REMEDY}"));
    }
}

/// The supervisor that holds a data folder.
pub(super) fn supervised(data_dir: &Path) -> Option<Record> {
    StoreLock::is_held(&supervisor::lock_path(data_dir)).then(|| Record::read(data_dir)).flatten()
}

/// Who holds the data folder and goes on holding it.
enum Holder {
    Nobody,
    Lives(u32),
    Silent(u32),
}

/// Looks who holds the data folder. One that was killed holds it until its last thread has ended, and one that shuts down
/// until it has: to call that running would leave nothing running.
fn look_at_holder(data_dir: &Path, shutdown: Duration) -> Holder {
    let clock = SystemClock::new();
    let begun = clock.now().mono;
    loop {
        let Some(pid) = holder(data_dir) else { return Holder::Nobody };
        let answer = call::<Value>(data_dir, Method::GET, "/api/v1/status", None, Some(ANSWERS_WITHIN));
        let marked = Marker::read(data_dir).is_some_and(|marker| marker.pid == pid && marker.stopping);
        let stopping = marked || answer.as_ref().is_ok_and(|status| status["stopping"] == true);
        if answer.is_ok() && !stopping {
            return Holder::Lives(pid);
        }
        if clock.now().mono.saturating_sub(begun) >= if stopping { shutdown } else { SILENCE } {
            return Holder::Silent(pid);
        }
        std::thread::sleep(BETWEEN_LOOKS);
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

fn how(status: ExitStatus) -> String {
    status.signal().map_or_else(|| status.to_string(), sched_core::process::signal_name)
}

/// What the daemon printed last, for who has to find out why it died; nothing of those before it.
fn last_lines(log_dir: &Path, printed_before: u64) -> String {
    let out = log_dir.join("scheduler.out");
    let printed = death::tail(&out, printed_before).unwrap_or_default();
    let lines: Vec<&str> = printed.lines().collect();
    if lines.is_empty() {
        return format!("; it has left no word in {}", out.display());
    }
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("\n  {line}"));
    format!("; the last lines of {}:{}", out.display(), last.collect::<String>())
}

fn already(global: &Global, watch: Watch, data_dir: &Path, pid: u32) -> Exit {
    let supervised = supervised(data_dir).is_some();
    if global.json {
        let body = json!({ "ok": true, "running": true, "pid": pid, "already": true, "supervised": supervised });
        output::json(&body);
    } else if !global.quiet {
        output::line(&format!("already running: pid {pid}{}", if supervised { ", supervised" } else { "" }));
    }
    if watch.supervise && !supervised {
        output::note("it has no supervisor; `sched restart --supervise` starts it anew with one");
    }
    Exit::Done
}

/// Starts the daemon; with the length of what was printed before it.
fn spawn(global: &Global, watch: Watch, log_dir: &Path) -> Result<(Child, u64), Failure> {
    folder(log_dir)?;
    let out = log_dir.join("scheduler.out");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&out);
    let file = file.map_err(|error| Failure::failed(format!("{}: {error}", out.display())))?;
    let printed_before = file.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(global.words()).args(["run", "--daemon"]);
    if let Some(limit) = watch.limit() {
        command.args(["--supervise", "--hung-after", &humantime::format_duration(limit).to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    Ok((command.spawn()?, printed_before))
}

/// Reads what the daemon says until it stands or gives up. One that says nothing in time is stopped.
fn wait_for_word(child: &mut Child, last_lines: impl Fn() -> String) -> Result<Word, Failure> {
    let lines = listen(child)?;
    loop {
        match lines.recv_timeout(READY_WITHIN) {
            Ok(line) => {
                let word: Word = serde_json::from_str(&line)
                    .map_err(|_| Failure::failed(format!("the daemon said: {}", line.trim())))?;
                match word.working {
                    Some(doing) => output::note(&format!("{doing} …")),
                    None => return Ok(word),
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                let (how, last) = (how(status), last_lines());
                return Err(Failure::failed(format!("the scheduler died before it stood ({how}){last}")));
            }
            Err(RecvTimeoutError::Timeout) => {
                end(child, Signal::KILL);
                let limit = READY_WITHIN.as_secs_f64();
                return Err(Failure::failed(format!(
                    "the scheduler did not stand within {limit} s and was stopped; try `sched run -v`"
                )));
            }
        }
    }
}

fn listen(child: &mut Child) -> Result<Receiver<String>, Failure> {
    let pipe = child.stdout.take().ok_or_else(|| Failure::failed("no pipe to the daemon"))?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Who has heard enough hears no more.
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Ends what was started: asks it, or kills it with the engine below it, which is in its group.
fn end(child: &mut Child, signal: Signal) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    // It may be over by itself, and one that has just begun leads no group yet.
    if signal != Signal::KILL || kill_process_group(pid, signal).is_err() {
        let _ = kill_process(pid, signal);
    }
    let _ = child.wait();
}

/// The daemon says why it does not stand. If another one holds the folder, that is what was wanted.
fn refused(global: &Global, watch: Watch, data_dir: &Path, word: &Word) -> Outcome {
    if word.exit == Exit::Store as u8
        && let Some(pid) = holder(data_dir)
    {
        return Ok(already(global, watch, data_dir, pid));
    }
    let exit = match word.exit {
        2 => Exit::Usage,
        4 => Exit::Store,
        _ => Exit::Failed,
    };
    Err(Failure::new(exit, word.error.clone()))
}
