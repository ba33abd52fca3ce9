//! What the kernel lets this process use.

use rustix::process::{Resource, getrlimit};

use super::Check;

/// Descriptors beside those of runs: the store, sockets, connections, the log.
const OWN_FILES: u64 = 128;
/// A run of `command` has pipes, its output's file and its part of a shim.
const FILES_A_RUN: u64 = 8;
/// Below this an ordinary load of jobs meets the limit.
const LITTLE_MEMORY: u64 = 64 << 20;

pub(super) fn checks(runs: usize) -> Vec<Check> {
    // Without a group of its own the whole machine is the limit.
    let group = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(own_group).map(|group| format!("/sys/fs/cgroup{group}"));
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("{}/{name}", group.as_deref()?)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    vec![
        files(getrlimit(Resource::Nofile).current, runs as u64),
        processes([getrlimit(Resource::Nproc).current, read("pids.max")].into_iter().flatten().min(), runs as u64),
        memory(read("memory.max")),
    ]
}

/// The group of version 2 that the kernel names.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(|group| if group == "/" { "" } else { group })
}

fn files(limit: Option<u64>, runs: u64) -> Check {
    let needed = OWN_FILES + FILES_A_RUN * runs;
    match limit {
        None => Check::ok("open files", "no limit"),
        Some(limit) if limit >= needed => Check::ok("open files", format!("up to {limit}")),
        Some(limit) => Check::warn(
            "open files",
            format!("up to {limit}; {runs} runs at once may need {needed}"),
            format!("`ulimit -n {needed}`, or LimitNOFILE={needed} in the unit"),
        ),
    }
}

fn processes(limit: Option<u64>, runs: u64) -> Check {
    // A job of a process has at least itself and a thread of the scheduler.
    let needed = 64 + 4 * runs;
    match limit {
        None => Check::ok("processes", "no limit"),
        Some(limit) if limit >= needed => Check::ok("processes", format!("up to {limit}")),
        Some(limit) => Check::warn(
            "processes",
            format!("up to {limit} processes and threads; {runs} runs at once may need {needed}"),
            format!("`ulimit -u {needed}`, or TasksMax={needed} in the unit"),
        ),
    }
}

fn memory(limit: Option<u64>) -> Check {
    match limit {
        None => Check::ok("memory", "no limit of the group"),
        Some(limit) if limit >= LITTLE_MEMORY => Check::ok("memory", format!("up to {} MiB", limit >> 20)),
        Some(limit) => Check::warn(
            "memory",
            format!("up to {} MiB, jobs included", limit >> 20),
            "give the container or unit more, or the jobs limits of their own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn limits_are_judged_by_what_so_many_runs_need() {
        assert_eq!(files(Some(1024), 64).state, State::Ok);
        assert_eq!(files(Some(256), 64).state, State::Warn);
        assert_eq!(processes(Some(100), 64).state, State::Warn);
        assert_eq!(processes(None, 64).state, State::Ok);
        assert_eq!(memory(Some(32 << 20)).state, State::Warn);
        assert_eq!(own_group("12:pids:/a\n0::/system.slice/x.service\n"), Some("/system.slice/x.service"));
        assert_eq!(own_group("0::/\n"), Some(""));
    }
}
