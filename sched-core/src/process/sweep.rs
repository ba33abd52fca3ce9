//! Processes that outlived the attempt, or the scheduler, that started them.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;

use crate::id::RunId;

/// Looking again finds what was forked while the last look was under way; more looks than these are a fork bomb's.
#[cfg(target_os = "linux")]
const LOOKS: usize = 10;

/// Kills every process whose environment bears one of these runs' `SCHED_RUN_ID`, until none is found; gives their
/// number. Such a process belongs to an attempt that is over: going on, it would run beside the next one.
///
/// A process is named by a handle (pidfd_open(2)) while it is looked at, so a recycled PID is never signalled.
/// On other systems than Linux nothing is swept.
#[cfg(target_os = "linux")]
#[must_use]
pub fn sweep(runs: &[RunId]) -> usize {
    let mut killed = BTreeSet::new();
    if runs.is_empty() {
        return 0;
    }
    for _ in 0..LOOKS {
        let before = killed.len();
        killed.extend(kill_marked(runs));
        if killed.len() == before {
            break;
        }
    }
    killed.len()
}

#[cfg(target_os = "linux")]
fn kill_marked(runs: &[RunId]) -> Vec<u32> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    let marks: Vec<Vec<u8>> = runs.iter().map(|run| format!("SCHED_RUN_ID={run}").into_bytes()).collect();
    let Ok(entries) = std::fs::read_dir("/proc").map(|entries| entries.flatten()) else { return Vec::new() };
    let marked = |path: &std::path::Path| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| marks.iter().any(|mark| mark == variable))
    };
    let kill = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let process = pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
        // A scheduler that was started by a job bears its mark.
        let theirs = pid != std::process::id() && marked(&entry.path());
        (theirs && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some(pid)
    };
    entries.filter_map(kill).collect()
}

#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn sweep(_: &[RunId]) -> usize {
    0
}
