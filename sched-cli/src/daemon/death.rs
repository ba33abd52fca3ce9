//! Why a scheduler ended that nobody told to, as far as it can be known afterwards and from outside.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::process::signal_name;
use serde::{Deserialize, Serialize};

use super::marker::Marker;
use super::origin::{self, Container};

/// A platform that ends a session's processes does so within this after the session.
const CLEAN_UP: TimeDelta = TimeDelta::seconds(90);
/// Clock ticks a second, as /proc counts (USER_HZ).
const TICKS: u64 = 100;
/// As much of what a scheduler printed last is looked at.
const TAIL: u64 = 8192;

/// What ended a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The machine was started anew.
    Reboot,
    /// The container was started anew.
    ContainerRestart,
    /// The kernel took its memory.
    OutOfMemory,
    /// It said itself why.
    Failure,
    /// It did not answer any more, and its supervisor ended it.
    Hung,
    /// A signal.
    Signal,
    /// It ended with a code.
    Exit,
    /// It ended with the session that started it.
    SessionEnd,
    /// Nothing is known.
    Unknown,
}

/// The end of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    pub(crate) cause: Cause,
    /// In words.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: Option<String>,
}

impl Cause {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::ContainerRestart => "container_restart",
            Self::OutOfMemory => "out_of_memory",
            Self::Failure => "failure",
            Self::Hung => "hung",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::SessionEnd => "session_end",
            Self::Unknown => "unknown",
        }
    }
}

/// What can still be seen of a scheduler that has ended.
#[derive(Debug, Default)]
struct Traces {
    boot: Option<String>,
    container: Option<Container>,
    /// What its supervisor saw.
    seen: Option<Death>,
    /// What the kernel wrote of the process.
    kernel: Option<Kernel>,
    /// Processes that its control group has killed for want of memory since it began.
    killed_for_memory: u64,
    /// Its control group is gone.
    group_gone: bool,
    session_lives: bool,
    /// The last line of its log.
    last_line_at: Option<DateTime<Utc>>,
    /// A panic that it printed last.
    panic: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kernel {
    OutOfMemory,
    Fault(String),
}

/// Why the scheduler of this marker ended; `seen` is what whoever waited for its end saw.
pub(crate) fn of(marker: &Marker, seen: Option<Death>, log_dir: &Path) -> Death {
    let origin = &marker.origin;
    let counted = origin.memory.as_ref();
    let traces = Traces {
        boot: origin::boot(),
        container: Container::here(),
        seen,
        kernel: kernel_log().and_then(|log| kernel_word(&log, marker.pid, origin.begun)),
        killed_for_memory: counted
            .and_then(|(path, before)| Some(origin::killed_for_memory(path)?.saturating_sub(*before)))
            .unwrap_or(0),
        group_gone: counted.is_some_and(|(path, _)| !path.exists()),
        session_lives: origin.session.as_ref().is_some_and(origin::Session::lives),
        last_line_at: tail(&log_dir.join("scheduler.log"), 0).as_deref().and_then(last_time),
        panic: tail(&log_dir.join("scheduler.out"), 0).as_deref().and_then(last_panic),
    };
    judge(marker, &traces)
}

/// The firmest explanation that the traces allow.
fn judge(marker: &Marker, traces: &Traces) -> Death {
    let death = |cause, message: String, remedy: Option<&str>| Death {
        pid: marker.pid,
        cause,
        message,
        remedy: remedy.map(str::to_owned),
    };
    let origin = &marker.origin;
    let differs = |before: Option<&String>, now: Option<&String>| before.is_some() && now.is_some() && before != now;
    if differs(origin.boot.as_ref(), traces.boot.as_ref()) {
        let remedy = "let the machine start it: `sched install` writes a systemd unit";
        return death(Cause::Reboot, "the machine was restarted".into(), Some(remedy));
    }
    if origin.container.is_some() && traces.container.is_some() && origin.container != traces.container {
        let message = "the container was restarted, or this is another one".into();
        return death(Cause::ContainerRestart, message, Some("let the container run `sched run` as its program"));
    }
    if traces.kernel == Some(Kernel::OutOfMemory) {
        return death(Cause::OutOfMemory, "the kernel killed it for want of memory".into(), Some(MEMORY_REMEDY));
    }
    if let Some(seen) = &traces.seen {
        if seen.cause == Cause::Signal && traces.killed_for_memory > 0 {
            let message = format!("{}; its control group ran out of memory", seen.message);
            return death(Cause::OutOfMemory, message, Some(MEMORY_REMEDY));
        }
        return seen.clone();
    }
    if let Some(failure) = &marker.failure {
        return death(Cause::Failure, failure.clone(), None);
    }
    if let Some(Kernel::Fault(line)) = &traces.kernel {
        return death(Cause::Signal, format!("the kernel says: {line}"), Some("this is a defect, please report it"));
    }
    if let Some(panic) = &traces.panic {
        return death(Cause::Failure, panic.clone(), Some("this is a defect, please report it"));
    }
    if traces.killed_for_memory > 0 {
        let message = "its control group ran out of memory while it ran, and the kernel killed processes in it".into();
        return death(Cause::OutOfMemory, message, Some(MEMORY_REMEDY));
    }
    if let Some(message) = with_session(marker, traces) {
        return death(Cause::SessionEnd, message, Some(SESSION_REMEDY));
    }
    let remedy = "`sched start --supervise`, or a service, sees the end and restarts it";
    death(Cause::Unknown, "it was killed, and left no trace of by whom".into(), Some(remedy))
}

/// What helps who runs out of memory.
pub(super) const MEMORY_REMEDY: &str =
    "give it or its neighbours more memory, or bound its jobs with `limits = { memory = … }`";

/// What keeps a scheduler alive where sessions take their processes along.
pub(crate) const SESSION_REMEDY: &str = "let something else than a session run it: a systemd unit (`sched install`; with \
     --user also `loginctl enable-linger`), in a container `sched run` as its program, \
     elsewhere the platform's own service";

/// That the session which started it took it along.
fn with_session(marker: &Marker, traces: &Traces) -> Option<String> {
    let session = marker.origin.session.as_ref()?;
    if traces.session_lives {
        return None;
    }
    if traces.group_gone {
        return Some(format!("its control group is gone with {session}, the session that started it"));
    }
    let Some(ended) = marker.session_ended_at else {
        return Some(format!("{session}, the session that started it, has ended too, and not before it"));
    };
    let outlived = traces.last_line_at.is_some_and(|last| last > ended + CLEAN_UP);
    (!outlived).then(|| format!("it ended soon after {session}, the session that started it"))
}

/// The kernel's log, as far as it may be read here (dmesg(1)).
fn kernel_log() -> Option<String> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).ok()?;
    let mut log = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    loop {
        match log.read(&mut record) {
            Ok(0) => return Some(text),
            Ok(length) => {
                text.push_str(&String::from_utf8_lossy(&record[..length]));
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            // Records were overwritten meanwhile.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => return Some(text),
        }
    }
}

/// What the kernel wrote of a process since it began. Records are `level,number,microseconds,…;text`.
fn kernel_word(log: &str, pid: u32, begun: Option<u64>) -> Option<Kernel> {
    let begun = begun? / TICKS;
    let mut word = None;
    for line in log.lines() {
        let Some((head, text)) = line.split_once(';') else { continue };
        let at: Option<u64> = head.split(',').nth(2).and_then(|micros| micros.parse().ok());
        if at.is_none_or(|at| at / 1_000_000 < begun) {
            continue;
        }
        if text.contains(&format!("Killed process {pid} (")) {
            word = Some(Kernel::OutOfMemory);
        } else if text.contains(&format!("[{pid}]: segfault")) || text.contains(&format!("[{pid}] general protection"))
        {
            word = Some(Kernel::Fault(text.trim().to_owned()));
        }
    }
    word
}

/// The end of a text that may be long, and nothing of what is before `begin`.
pub(super) fn tail(path: &Path, begin: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL).max(begin))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_time(log: &str) -> Option<DateTime<Utc>> {
    log.lines()
        .rev()
        .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["ts"].as_str()?.parse().ok())
}

/// The panic that ends a text, with its message: `thread 'x' panicked at place:` and a line.
fn last_panic(printed: &str) -> Option<String> {
    let lines: Vec<&str> = printed.lines().collect();
    let at = lines.iter().rposition(|line| line.starts_with("thread '") && line.contains("panicked at "))?;
    // What a later start printed is none of it.
    let tail = &lines[at..];
    (tail.len() <= 4).then(|| tail.iter().take(2).copied().collect::<Vec<_>>().join(" "))
}

/// How a process ended, as whoever waited for it sees it.
pub(crate) fn of_status(pid: u32, code: Option<i32>, signal: Option<i32>) -> Death {
    let (cause, message) = match (code, signal) {
        (Some(code), _) => (Cause::Exit, format!("it ended with code {code}")),
        (None, Some(signal)) => (Cause::Signal, format!("it was ended by {}", signal_name(signal))),
        (None, None) => (Cause::Unknown, "it ended".into()),
    };
    let remedy = match (code, signal) {
        (Some(_), _) => Some("see scheduler.out for its last words".into()),
        (None, Some(4 | 6 | 7 | 8 | 11)) => Some("this is a defect, please report it with scheduler.out".into()),
        _ => None,
    };
    Death { pid, cause, message, remedy }
}

#[cfg(test)]
mod tests {
    use super::super::origin::{Origin, Session};
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn marker() -> Marker {
        let session = Session { leader: 7, begun: 70, name: "bash".into() };
        let origin =
            Origin { boot: Some("one".into()), begun: Some(5000), session: Some(session), ..Origin::default() };
        Marker::new(42, at("2026-01-01T00:00:00Z"), "127.0.0.1:5000".into(), origin)
    }

    /// Of a scheduler whose session still lives, on the same boot.
    fn traces() -> Traces {
        Traces { boot: Some("one".into()), session_lives: true, ..Traces::default() }
    }

    fn check(marker: &Marker, traces: &Traces, cause: Cause, message: &str) {
        let death = judge(marker, traces);
        assert_eq!((death.pid, death.cause), (42, cause), "{death:?}");
        assert!(death.message.contains(message), "{death:?}");
    }

    #[test]
    fn the_firmest_trace_decides() {
        let killed = of_status(42, None, Some(9));
        check(&marker(), &traces(), Cause::Unknown, "left no trace");
        check(&marker(), &Traces { boot: Some("two".into()), ..traces() }, Cause::Reboot, "restarted");
        check(&marker(), &Traces { seen: Some(killed.clone()), ..traces() }, Cause::Signal, "SIGKILL");
        check(&marker(), &Traces { kernel: Some(Kernel::OutOfMemory), ..traces() }, Cause::OutOfMemory, "the kernel");
        let seen_and_counted = Traces { seen: Some(killed), killed_for_memory: 1, ..traces() };
        check(&marker(), &seen_and_counted, Cause::OutOfMemory, "SIGKILL; its control group");
        check(&marker(), &Traces { killed_for_memory: 1, ..traces() }, Cause::OutOfMemory, "its control group");
        let said = Marker { failure: Some("the engine ended".into()), ..marker() };
        check(&said, &traces(), Cause::Failure, "the engine ended");
        let seen = Some(of_status(42, Some(3), None));
        check(&marker(), &Traces { seen, ..traces() }, Cause::Exit, "code 3");
    }

    #[test]
    fn a_session_is_accused_only_if_it_ended_and_the_scheduler_did_not_outlive_it() {
        let gone = Traces { session_lives: false, ..traces() };
        check(&marker(), &gone, Cause::SessionEnd, "bash (pid 7), the session that started it, has ended too");
        let outlived = Marker { session_ended_at: Some(at("2026-01-01T01:00:00Z")), ..marker() };
        let last = |last| Traces { session_lives: false, last_line_at: Some(at(last)), ..traces() };
        check(&outlived, &last("2026-01-01T01:01:00Z"), Cause::SessionEnd, "soon after bash");
        check(&outlived, &last("2026-01-01T03:00:00Z"), Cause::Unknown, "left no trace");
        let service = Marker { origin: Origin { session: None, ..marker().origin }, ..marker() };
        check(&service, &gone, Cause::Unknown, "left no trace");
    }

    #[test]
    fn the_kernels_log_is_believed_of_this_process_and_not_of_an_earlier_one_with_its_number() {
        let kill = "3,1,60000000,-;Out of memory: Killed process 42 (sched) total-vm:1kB\n";
        assert_eq!(kernel_word(kill, 42, Some(5000)), Some(Kernel::OutOfMemory));
        assert_eq!(kernel_word(kill, 42, Some(7000)), None, "it began ten seconds later");
        assert_eq!(kernel_word(kill, 4, Some(5000)), None);
        let fault = "4,1,60000000,-;sched-engine[42]: segfault at 8 ip 0 sp 0 error 6 in sched\n";
        let expected = Kernel::Fault("sched-engine[42]: segfault at 8 ip 0 sp 0 error 6 in sched".into());
        assert_eq!(kernel_word(fault, 42, Some(5000)), Some(expected));
    }

    #[test]
    fn a_panic_is_a_cause_only_as_the_last_thing_that_was_printed() {
        let panic = "thread 'sched-http' (7) panicked at src/x.rs:1:1:\nindex out of bounds\nnote: run with\n";
        let told = last_panic(&format!("started\n{panic}"));
        assert_eq!(told.as_deref(), Some("thread 'sched-http' (7) panicked at src/x.rs:1:1: index out of bounds"));
        assert_eq!(last_panic(&format!("{panic}{}", "WARN later\n".repeat(5))), None);
    }
}
