//! Between a shim and a program that runs under other conditions: sets them on itself, then becomes the program.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid, getrlimit, setpriority_process, setrlimit, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::order::Program;
use crate::limits::Limits;

/// The variable that holds the [`Task`].
pub(super) const TASK: &str = "SCHED_STAGE";

/// What a stage does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The program, without its environment: the stage has that already.
    pub(super) program: Program,
    /// The descriptor of the pipe that is told why it could not be done. It closes when the program has taken over.
    pub(super) report: i32,
}

/// Why a program did not take over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hopeless: bool,
}

pub(super) fn run() -> ! {
    let task = std::env::var(TASK).ok().and_then(|text| serde_json::from_str::<Task>(&text).ok());
    if let Some(Task { program, report }) = task {
        // Opened anew it closes by itself at exec.
        let pipe = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{report}"));
        let _ = nix::unistd::close(report);
        let failure = become_it(&program);
        // A shim that has gone needs no answer.
        let _ = pipe.and_then(|mut pipe| pipe.write_all(&serde_json::to_vec(&failure)?));
    }
    std::process::exit(127)
}

/// Returns only when it cannot be done.
fn become_it(program: &Program) -> Failure {
    let mut command = Command::new(&program.argv[0]);
    let fixed = |message| Failure { message, hopeless: true };
    if let Err(message) = set(program, &mut command) {
        return fixed(message);
    }
    if let Err(error) = std::env::set_current_dir(&program.cwd) {
        return Failure { message: format!("its folder {}: {error}", program.cwd.display()), hopeless: false };
    }
    if let Err(message) = limit(&program.limits) {
        return fixed(message);
    }
    if let Some(name) = &program.arg0 {
        command.arg0(name);
    }
    let error = command.args(&program.argv[1..]).env_remove(TASK).exec();
    super::shim::refusal(&program.argv[0], &error)
}

fn set(program: &Program, command: &mut Command) -> Result<(), String> {
    if let Some(mask) = program.umask {
        umask(Mode::from_raw_mode(mask));
    }
    if let Some(nice) = program.nice {
        setpriority_process(None, nice).map_err(|error| format!("nice = {nice}: {error}"))?;
    }
    let (user, group) = (program.user.as_deref(), program.group.as_deref());
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
