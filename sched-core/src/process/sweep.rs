//! Processes that outlived the attempt, or the scheduler, that started them.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

use crate::id::RunId;

/// Looking again finds what was forked while the last look was under way; more looks than these are a fork bomb's.
#[cfg(target_os = "linux")]
const LOOKS: usize = 10;
/// Seconds until what was killed and does not die, because it hangs in the kernel, is left to it.
#[cfg(target_os = "linux")]
const DYING: i64 = 1;

/// Kills every process whose environment bears one of these runs' `SCHED_RUN_ID`, until none is found and all have
/// ended; gives their number. Such a process belongs to an attempt that is over: going on, it would run beside the next one.
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
        let found = kill_marked(runs);
        found.iter().for_each(|(_, process)| wait_for(process));
        killed.extend(found.into_iter().map(|(pid, _)| pid));
        if killed.len() == before {
            break;
        }
    }
    killed.len()
}

#[cfg(target_os = "linux")]
fn wait_for(process: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let most = Timespec { tv_sec: DYING, tv_nsec: 0 };
    let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&most)));
}

#[cfg(target_os = "linux")]
fn kill_marked(runs: &[RunId]) -> Vec<(u32, OwnedFd)> {
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
        (theirs && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some((pid, process))
    };
    entries.filter_map(kill).collect()
}

#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn sweep(_: &[RunId]) -> usize {
    0
}
