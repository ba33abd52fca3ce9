//! What is to be started, and what became of it: what goes over the control socket.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// A program to be started as a tree of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The program, looked up in `PATH` of `env` unless it has a `/`, and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The folder it runs in.
    pub cwd: PathBuf,
    /// Another name for its first argument.
    pub arg0: Option<OsString>,
    /// How it runs otherwise.
    pub conditions: Conditions,
}

/// What is set between the start of its process and that of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
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

impl Conditions {
    pub(super) fn are_ordinary(&self) -> bool {
        *self == Self::default()
    }
}

/// A program as it goes to a shim, in the words that execve(2) takes: to start one, a shim makes nothing of them anew.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) program: CString,
    /// Its arguments, the name that it is called by first.
    pub(super) argv: Words,
    /// `NAME=value`.
    pub(super) env: Words,
    pub(super) cwd: CString,
    /// As JSON, which leaves out what is not set; none when they are ordinary.
    pub(super) conditions: Option<String>,
}

/// Words, each with the NUL byte that ends it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Words(Vec<u8>);

impl Words {
    /// Adds the parts of one word. None of them holds a NUL byte.
    fn push(&mut self, parts: &[&[u8]]) -> Result<(), NulByte> {
        for part in parts {
            if part.contains(&0) {
                return Err(NulByte);
            }
            self.0.extend_from_slice(part);
        }
        self.0.push(0);
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.0.split_inclusive(|byte| *byte == 0).filter_map(|word| CStr::from_bytes_with_nul(word).ok())
    }
}

/// As much as the environments of most programs take.
const ENVIRONMENT: usize = 512;

/// No word of a program can hold one.
#[derive(Debug)]
pub(super) struct NulByte;

impl TryFrom<Program> for Launch {
    type Error = NulByte;

    fn try_from(program: Program) -> Result<Self, NulByte> {
        let mut words = program.argv.into_iter();
        let name = words.next().unwrap_or_default();
        let (mut argv, mut env) = (Words::default(), Words(Vec::with_capacity(ENVIRONMENT)));
        argv.push(&[program.arg0.as_ref().unwrap_or(&name).as_bytes()])?;
        words.try_for_each(|word| argv.push(&[word.as_bytes()]))?;
        program.env.iter().try_for_each(|(name, value)| env.push(&[name.as_bytes(), b"=", value.as_bytes()]))?;
        let conditions =
            (!program.conditions.are_ordinary()).then(|| serde_json::json!(program.conditions).to_string());
        let whole = |word: OsString| CString::new(word.into_vec()).map_err(|_| NulByte);
        Ok(Self { program: whole(name)?, argv, env, cwd: whole(program.cwd.into())?, conditions })
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
    /// The name of the signal that ended the program.
    #[must_use]
    pub fn signal_name(&self) -> Option<String> {
        self.signal.map(signal_name)
    }
}

/// A signal's name on Linux (signal(7)), such as `SIGKILL` for 9.
///
/// ```
/// assert_eq!(sched_core::process::signal_name(9), "SIGKILL");
/// assert_eq!(sched_core::process::signal_name(40), "signal 40");
/// ```
#[must_use]
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(signal).ok().and_then(|number| NAMES.get(number.checked_sub(1)?));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

/// A program that ends within this is told of once, and waited for without a runtime: to hand it to other threads takes
/// longer than most such programs. It is longer than they take where many share the processors.
pub(super) const BRIEF: Duration = Duration::from_millis(50);

/// What a scheduler tells a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start this; its standard input comes along, if it has one.
    Run(Launch),
    /// End the tree: TERM, this long, KILL.
    Stop(Duration),
}

/// What a shim tells its scheduler.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// The program runs. What it prints comes along: standard output, then error.
    Started,
    /// It could not be started; another try will not help if it is `hopeless`.
    Refused { message: String, hopeless: bool },
    /// The tree has ended.
    Ended(Ending),
    /// A program without input ended within [`BRIEF`], and its tree with it. A pipe that is held open by someone who is
    /// none of the tree, or holds more than is read at once, comes along.
    Brief { ending: Ending, printed: [Said; 2] },
}

/// What a program had printed when it ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// Someone may add to it.
    pub(super) open: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_arrives_as_it_was() {
        let odd = OsString::from_vec(b"/tmp/\xff".to_vec());
        let program = Program { argv: vec!["ls".into(), odd.clone()], ..Program::default() };
        let conditions = Conditions { umask: Some(0o27), ..Conditions::default() };
        let program = Program { env: [("PATH".into(), odd)].into(), cwd: "/".into(), conditions, ..program };
        let packed = postcard::to_allocvec(&Launch::try_from(program).unwrap()).unwrap();
        let launch = postcard::from_bytes::<Launch>(&packed).unwrap();
        assert_eq!(launch.argv.iter().collect::<Vec<_>>(), [c"ls", c"/tmp/\xff"]);
        assert_eq!(launch.env.iter().collect::<Vec<_>>(), [c"PATH=/tmp/\xff"]);
        assert_eq!((launch.program.as_c_str(), launch.cwd.as_c_str()), (c"ls", c"/"));
        assert!(launch.conditions.unwrap().contains("23"));
    }

    #[test]
    fn a_word_with_a_nul_byte_is_refused() {
        let program = Program { argv: vec!["echo".into(), "a\0b".into()], ..Program::default() };
        assert!(Launch::try_from(program).is_err());
    }
}
