//! What is to be started, and what became of it: what goes over the control socket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// A program to be started as a tree of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program, looked up in `PATH` of `env` unless it has a `/`, and its arguments.
    #[serde(with = "words")]
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

/// What is handed to a program is bytes; nearly all of it is text, and goes as text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes(std::borrow::Cow<'a, [u8]>),
}

impl<'a> From<&'a OsString> for Word<'a> {
    fn from(word: &'a OsString) -> Self {
        word.to_str().map_or_else(|| Self::Bytes(word.as_bytes().into()), |text| Self::Text(text.into()))
    }
}

impl From<Word<'_>> for OsString {
    fn from(word: Word<'_>) -> Self {
        match word {
            Word::Text(text) => text.into_owned().into(),
            Word::Bytes(bytes) => Self::from_vec(bytes.into_owned()),
        }
    }
}

mod words {
    use std::ffi::OsString;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Word;

    pub(super) fn serialize<S: Serializer>(words: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(words.iter().map(Word::from))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OsString>, D::Error> {
        Vec::deserialize(from).map(|words: Vec<Word<'_>>| words.into_iter().map(OsString::from).collect())
    }
}

/// JSON has no keys but texts.
mod pairs {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Word;

    pub(super) fn serialize<S: Serializer>(env: &BTreeMap<OsString, OsString>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(env.iter().map(|(name, value)| (Word::from(name), Word::from(value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<OsString, OsString>, D::Error> {
        let pairs = Vec::<(Word<'_>, Word<'_>)>::deserialize(from)?;
        Ok(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
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
/// longer than most such programs.
pub(super) const BRIEF: Duration = Duration::from_millis(10);

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
    /// The program runs. It is not told of one without input that ended within [`BRIEF`].
    Started,
    /// It could not be started; another try will not help if it is `hopeless`.
    Refused { message: String, hopeless: bool },
    /// The tree has ended.
    Ended(Ending),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_arrives_as_it_was() {
        let odd = OsString::from_vec(b"/tmp/\xff".to_vec());
        let program = Program { argv: vec!["ls".into(), odd.clone()], ..Program::default() };
        let program = Program { env: [("PATH".into(), odd)].into(), ..program };
        let text = serde_json::to_string(&program).unwrap();
        assert!(text.contains("\"ls\"") && text.contains("255"), "{text}");
        assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
    }
}
