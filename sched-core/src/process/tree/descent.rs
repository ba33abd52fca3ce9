//! Who descends from a process, as /proc tells.

use std::collections::BTreeMap;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid};

/// What proc_pid_stat(5) says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    zombie: bool,
    parent: i32,
    group: i32,
    /// Clock ticks on a CPU, its own and those of children that it waited for.
    ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in parentheses, may hold anything, parentheses too.
fn parse(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        zombie: *fields.first()? == "Z",
        parent: number(1)?,
        group: number(2)?,
        ticks: ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?,
    })
}

fn everyone() -> BTreeMap<i32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// Sends a signal to every descendant of this process; gives those of another process group than `group` that it reached.
///
/// A process is named by a handle while it is looked at again, so a recycled PID is never signalled.
pub(super) fn signal(group: Option<Pid>, signal: Signal) -> Vec<i32> {
    let all = everyone();
    let ourselves = getpid().as_raw_nonzero().get();
    let descends = |mut pid: i32| {
        // Parents may change while all are read; no chain is longer than all.
        for _ in 0..all.len() {
            match all.get(&pid) {
                Some(stat) if stat.parent == ourselves => return true,
                Some(stat) => pid = stat.parent,
                None => return false,
            }
        }
        false
    };
    let living = all.iter().filter(|(pid, stat)| !stat.zombie && descends(**pid));
    let reach = |(pid, before): (&i32, &Stat)| {
        let process = pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?;
        let now = stat(*pid)?;
        let same = now.parent == before.parent || now.parent == ourselves;
        (same && pidfd_send_signal(&process, signal).is_ok()).then_some((*pid, now.group))
    };
    let group = group.map(|group| group.as_raw_nonzero().get());
    living.filter_map(reach).filter(|(_, of)| Some(*of) != group).map(|(pid, _)| pid).collect()
}

/// Takes every child of this process that has ended, but for `spared`; gives their clock ticks on a CPU.
pub(super) fn reap(spared: Option<Pid>) -> u64 {
    let ourselves = getpid().as_raw_nonzero().get();
    let ended = everyone().into_iter().filter(|(_, stat)| stat.zombie && stat.parent == ourselves);
    let mut ticks = 0;
    for (pid, stat) in ended {
        let Some(pid) = Pid::from_raw(pid).filter(|pid| Some(*pid) != spared) else { continue };
        if let Ok(Some(_)) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            ticks += stat.ticks;
        }
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_parentheses_hides_nothing() {
        let text = "42 (a) Z 1 (b) S 7 8 9 0 -1 4194304 0 0 0 0 3 4 5 6 20 0 1 0 100";
        assert_eq!(parse(text), Some(Stat { zombie: false, parent: 7, group: 8, ticks: 18 }));
        assert_eq!(parse("42 (short) S 7"), None);
    }
}
