//! What is to be started, and what became of it: what goes over the control socket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// A program to be started as a tree of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program, looked up in `PATH` of `env` unless it has a `/`, and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    #[serde(with = "pairs")]
    pub env: BTreeMap<OsString, OsString>,
    /// The folder it runs in.
    pub cwd: PathBuf,
    /// Another name for its first argument.
    pub arg0: Option<OsString>,
    /// The permissions that files it makes do not get.
    pub umask: Option<u32>,
    /// How far it stands back behind others, -20 to 19.
    pub nice: Option<i32>,
    /// What it may use.
    pub limits: Limits,
    /// Whom it runs as, by name or number, with the user's groups. Only root can.
    pub user: Option<String>,
    /// Its group instead of the user's own.
    pub group: Option<String>,
}

/// JSON has no keys but texts, and what stands in an environment need not be one.
mod pairs {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(env: &BTreeMap<OsString, OsString>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(env)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<OsString, OsString>, D::Error> {
        Vec::deserialize(from).map(|pairs: Vec<(OsString, OsString)>| pairs.into_iter().collect())
    }
}

impl Program {
    /// Whether something must be set between the start of its process and that of the program.
    pub(super) fn needs_stage(&self) -> bool {
        let Self { umask, nice, limits, user, group, .. } = self;
        umask.is_some() || nice.is_some() || user.is_some() || group.is_some() || *limits != Limits::default()
    }
}

/// How a tree ended. When it is told, nothing of the tree is left, but for `left`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The program's exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Time on a CPU of all that has ended in the tree.
    pub cpu: Duration,
    /// The most memory that the program, or a process that it waited for, had at once (`ru_maxrss`), in bytes. It is
    /// not below that of the shim, some 3 MiB: the kernel hands it on.
    pub peak_memory: u64,
    /// Processes that had left the program's process group and were killed after its end.
    pub strays: usize,
    /// Processes that could not be killed: they belong to others, or hang in the kernel.
    pub left: usize,
}

impl Ending {
    /// The signal's name, such as `SIGKILL`.
    #[must_use]
    pub fn signal_name(&self) -> Option<String> {
        const NAMES: [&str; 31] = [
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
            "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
            "WINCH", "IO", "PWR", "SYS",
        ];
        let signal = self.signal?;
        let name = usize::try_from(signal).ok().and_then(|number| NAMES.get(number.checked_sub(1)?));
        Some(name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}")))
    }
}

/// What a scheduler tells a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start this; standard output, error and, if there are three, input come along.
    Run(Box<Program>),
    /// End the tree: TERM, this long, KILL.
    Stop(Duration),
}

/// What a shim tells its scheduler.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// An order was read. Before this, nothing has been started.
    Accepted,
    /// The program runs.
    Started,
    /// It could not be started; another try will not help if it is `hopeless`.
    Refused { message: String, hopeless: bool },
    /// The tree has ended.
    Ended(Ending),
}
