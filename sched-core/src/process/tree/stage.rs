//! Between a shim and a program that runs under other conditions: sets them on itself, then becomes the program.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, getrlimit, setpriority_process, setrlimit, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::order::Conditions;
use crate::limits::Limits;

/// The variable that holds the [`Task`].
pub(super) const TASK: &str = "SCHED_STAGE";

/// What a stage does. Its environment is the program's already.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The program, found, then its arguments, the name that it is called by first.
    #[serde(with = "words")]
    pub(super) words: Vec<OsString>,
    pub(super) cwd: PathBuf,
    pub(super) conditions: Conditions,
    /// The descriptor of the pipe that is told why it could not be done. It closes when the program has taken over.
    pub(super) report: i32,
}

/// What is handed to a program is bytes; nearly all of it is text, and goes as text: a variable has no room for more.
mod words {
    use std::borrow::Cow;
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Word<'a> {
        Text(Cow<'a, str>),
        Bytes(Cow<'a, [u8]>),
    }

    pub(super) fn serialize<S: Serializer>(words: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(words.iter().map(|word| match word.to_str() {
            Some(text) => Word::Text(text.into()),
            None => Word::Bytes(word.as_bytes().into()),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OsString>, D::Error> {
        let words = Vec::<Word<'_>>::deserialize(from)?;
        let word = |word: Word<'_>| match word {
            Word::Text(text) => text.into_owned().into(),
            Word::Bytes(bytes) => OsString::from_vec(bytes.into_owned()),
        };
        Ok(words.into_iter().map(word).collect())
    }
}

/// Why a program did not take over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hopeless: bool,
}

pub(super) fn run() -> ! {
    let task = std::env::var(TASK).ok().and_then(|text| serde_json::from_str::<Task>(&text).ok());
    if let Some(task) = task {
        // Opened anew it closes by itself at exec.
        let pipe = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", task.report));
        let _ = nix::unistd::close(task.report);
        let failure = become_it(&task);
        // A shim that has gone needs no answer.
        let _ = pipe.and_then(|mut pipe| pipe.write_all(&serde_json::to_vec(&failure)?));
    }
    std::process::exit(127)
}

/// Returns only when it cannot be done.
fn become_it(task: &Task) -> Failure {
    let fixed = |message| Failure { message, hopeless: true };
    let [program, name, arguments @ ..] = task.words.as_slice() else { return fixed("no program is named".into()) };
    let mut command = Command::new(program);
    if let Err(message) = set(&task.conditions, &mut command) {
        return fixed(message);
    }
    if let Err(error) = std::env::set_current_dir(&task.cwd) {
        return Failure { message: format!("its folder {}: {error}", task.cwd.display()), hopeless: false };
    }
    if let Err(message) = limit(&task.conditions.limits) {
        return fixed(message);
    }
    let error = command.arg0(name).args(arguments).env_remove(TASK).exec();
    super::launch::refusal(program, &error)
}

fn set(conditions: &Conditions, command: &mut Command) -> Result<(), String> {
    if let Some(mask) = conditions.umask {
        umask(Mode::from_raw_mode(mask));
    }
    if let Some(nice) = conditions.nice {
        setpriority_process(None, nice).map_err(|error| format!("nice = {nice}: {error}"))?;
    }
    let (user, group) = (conditions.user.as_deref(), conditions.group.as_deref());
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err("`user` and `group` need a scheduler that runs as root; leave them out".into());
    }
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let account = Account::find(user, group, &read("/etc/passwd")?, &read("/etc/group")?)?;
    let groups: Vec<Gid> = account.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    let gid = Gid::from_raw(account.gid);
    let told = |error: rustix::io::Errno| format!("its user or group could not be set: {error}");
    // The user last: after it nothing else may be changed.
    set_thread_groups(&groups).and_then(|()| set_thread_res_gid(gid, gid, gid)).map_err(told)?;
    if let Some(uid) = account.uid.map(Uid::from_raw) {
        set_thread_res_uid(uid, uid, uid).map_err(told)?;
    }
    command.envs(account.variables.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
    Ok(())
}

fn limit(limits: &Limits) -> Result<(), String> {
    let all = [
        ("files", Resource::Nofile, limits.files, 0),
        ("cpu", Resource::Cpu, limits.cpu.map(|limit| limit.as_secs()), 1),
        ("memory", Resource::Data, limits.memory, 0),
    ];
    for (name, resource, limit, beyond) in all {
        let Some(limit) = limit else { continue };
        let most = getrlimit(resource).maximum;
        let hard = limit.saturating_add(beyond);
        let new = Rlimit { current: Some(limit), maximum: Some(most.map_or(hard, |most| hard.min(most))) };
        setrlimit(resource, new).map_err(|error| {
            let most = most.map_or("any".into(), |most| most.to_string());
            format!("limits.{name}: {error}; this scheduler can give at most {most}")
        })?;
    }
    Ok(())
}
