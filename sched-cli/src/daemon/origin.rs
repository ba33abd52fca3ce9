//! Where a process comes from, written down while it lives, so that its end can be explained afterwards: the boot, the
//! container, the session that started it, and how often its control group has run out of memory.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, getpid};
use serde::{Deserialize, Serialize};

/// Where a process comes from. What cannot be seen here is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Of the machine's start (random(4)).
    pub(crate) boot: Option<String>,
    /// Of the container, or of the machine.
    pub(crate) container: Option<Container>,
    /// When the process began, in clock ticks since the machine's start.
    pub(crate) begun: Option<u64>,
    /// Who started it; none for one that leads a session of its own, such as a service.
    pub(crate) session: Option<Session>,
    /// Where its control group counts what it killed for want of memory, and the count.
    pub(crate) memory: Option<(PathBuf, u64)>,
}

/// The PID namespace, and the beginning of its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    namespace: PathBuf,
    first: u64,
}

/// The leader of a session: the shell, the remote login or the step of a pipeline from which something was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) leader: i32,
    pub(crate) begun: u64,
    pub(crate) name: String,
}

impl Origin {
    /// Of this process. Call it before the process leaves its session.
    pub(crate) fn here() -> Self {
        Self {
            boot: boot(),
            container: Container::here(),
            begun: begun(getpid().as_raw_nonzero().get()),
            session: Session::here(),
            memory: memory_events().and_then(|path| Some((path.clone(), killed_for_memory(&path)?))),
        }
    }
}

impl Container {
    pub(crate) fn here() -> Option<Self> {
        Some(Self { namespace: std::fs::read_link("/proc/self/ns/pid").ok()?, first: begun(1)? })
    }
}

impl Session {
    fn here() -> Option<Self> {
        let ourselves = getpid().as_raw_nonzero().get();
        // 0 is a leader outside of this PID namespace, which getsid(2) cannot name either.
        let leader = stat(ourselves)?.get(3)?.parse().ok().filter(|leader| ![0, ourselves].contains(leader))?;
        Some(Self { leader, begun: begun(leader)?, name: name(leader) })
    }

    /// Whether its leader still runs.
    pub(crate) fn lives(&self) -> bool {
        begun(self.leader) == Some(self.begun)
    }

    /// The process that leads it, if it is there.
    pub(crate) fn leader(&self) -> Option<Pid> {
        Pid::from_raw(self.leader).filter(|_| self.lives())
    }
}

impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.leader)
    }
}

/// The id of the machine's start.
pub(crate) fn boot() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// When a process began, in clock ticks since the machine's start: with its id it names a process for good. None for one
/// that has ended.
pub(crate) fn begun(pid: i32) -> Option<u64> {
    let fields = stat(pid)?;
    let lives = !matches!(fields.first()?.as_str(), "Z" | "X");
    fields.get(19)?.parse().ok().filter(|_| lives)
}

/// The fields of proc_pid_stat(5) from the state on. The name before them, in parentheses, may hold anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn name(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Where the control group of this process counts its kills: cgroup v2, else v1.
fn memory_events() -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let places = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some(Path::new("/sys/fs/cgroup").join(path).join("memory.events")),
            "memory" => Some(Path::new("/sys/fs/cgroup/memory").join(path).join("memory.oom_control")),
            _ => None,
        }
    });
    let mut there = places.filter(|path| path.exists());
    there.next()
}

/// How many processes a control group has killed for want of memory.
pub(crate) fn killed_for_memory(events: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(events).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}
