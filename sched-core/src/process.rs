//! Processes that outlived the scheduler that started them.
//!
//! Must not know: jobs.

use crate::id::RunId;

/// Kills every process whose environment bears one of these runs' `SCHED_RUN_ID`; gives their number. Such a
/// process belongs to an attempt that is settled as lost: going on, it would run beside the next attempt.
///
/// A process is named by a handle (pidfd_open(2)) while it is looked at, so a recycled PID is never signalled.
/// On other systems than Linux nothing is swept.
#[cfg(target_os = "linux")]
pub(crate) fn sweep(runs: &[RunId]) -> usize {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    if runs.is_empty() {
        return 0;
    }
    let marks: Vec<Vec<u8>> = runs.iter().map(|run| format!("SCHED_RUN_ID={run}").into_bytes()).collect();
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let mut swept = 0;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let ours = environment.split(|byte| *byte == 0).any(|variable| marks.iter().any(|mark| mark == variable));
        if ours && pidfd_send_signal(&process, Signal::KILL).is_ok() {
            swept += 1;
        }
    }
    swept
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn sweep(_: &[RunId]) -> usize {
    0
}
