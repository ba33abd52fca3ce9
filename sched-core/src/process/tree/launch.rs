//! How a shim starts a program: with posix_spawn(3), from the words as they came; or by a stage, when conditions are to be
//! set first.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, chdir, waitid};

use super::entry;
use super::order::{Conditions, Launch};
use super::stage::{Failure, TASK, Task};

/// Starts programs, each in a process group of its own.
pub(super) struct Launcher {
    attributes: PosixSpawnAttr,
}

impl Launcher {
    pub(super) fn new() -> Result<Self> {
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
        // Whatever the scheduler ignores or blocks, a program begins as if nobody had.
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
        )?;
        Ok(Self { attributes })
    }

    /// Starts a program with this standard input; without, it has that of this process, which is at its end. Gives the
    /// pipes that it prints to: standard output, then error.
    pub(super) fn launch(
        &self,
        launch: &Launch,
        stdin: Option<&OwnedFd>,
    ) -> std::result::Result<(Pid, [OwnedFd; 2]), Failure> {
        let failure = |error: &Error| Failure { message: format!("no pipe could be had: {error}"), hopeless: false };
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| failure(&error.into()));
        let ((out, their_out), (err, their_err)) = (pipe()?, pipe()?);
        // It is the program's, which finds itself there. A stage goes there by itself, as whom it is to be.
        match chdir(launch.cwd.as_c_str()) {
            Err(Errno::ACCESS) if launch.conditions.is_some() => {}
            there => there.map_err(|error| no_folder(launch, &error.into()))?,
        }
        let found = find(launch).map_err(|error| refusal(name(launch), &error));
        let started = found.and_then(|program| match &launch.conditions {
            None => {
                let words: (Vec<&CStr>, Vec<&CStr>) = (launch.argv.iter().collect(), launch.env.iter().collect());
                let started = self.spawn(&program, &words.0, &words.1, stdin, [&their_out, &their_err]);
                started.map_err(|error| refusal(name(launch), &error))
            }
            Some(conditions) => self.stage(&program, launch, conditions, stdin, [&their_out, &their_err]),
        });
        // Nothing of it is held when it is over.
        let _ = chdir("/");
        Ok((started?, [out, err]))
    }

    fn spawn(
        &self,
        program: &CStr,
        argv: &[&CStr],
        env: &[&CStr],
        stdin: Option<&OwnedFd>,
        [out, err]: [&OwnedFd; 2],
    ) -> Result<Pid> {
        let mut descriptors = PosixSpawnFileActions::init()?;
        if let Some(stdin) = stdin {
            descriptors.add_dup2(stdin.as_raw_fd(), 0)?;
        }
        descriptors.add_dup2(out.as_raw_fd(), 1)?;
        descriptors.add_dup2(err.as_raw_fd(), 2)?;
        let pid = posix_spawn(program, &descriptors, &self.attributes, argv, env)?;
        Pid::from_raw(pid.as_raw()).ok_or_else(|| Error::other("a process without a number"))
    }

    /// Lets a stage start it, and waits until the program has taken over.
    fn stage(
        &self,
        program: &CStr,
        launch: &Launch,
        conditions: &str,
        stdin: Option<&OwnedFd>,
        ends: [&OwnedFd; 2],
    ) -> std::result::Result<Pid, Failure> {
        let failure = |message: String| Failure { message, hopeless: false };
        let unstarted = |error: &Error| failure(format!("`{}` could not be started: {error}", name(launch).display()));
        let unreadable = |error: serde_json::Error| unstarted(&error.into());
        let conditions: Conditions = serde_json::from_str(conditions).map_err(unreadable)?;
        let (report, told) = inherited_pipe().map_err(|error| unstarted(&error))?;
        let owned = |word: &CStr| OsStr::from_bytes(word.to_bytes()).to_owned();
        let words = [program].into_iter().chain(launch.argv.iter()).map(owned).collect();
        let task = Task { words, cwd: owned(&launch.cwd).into(), conditions, report: told.as_raw_fd() };
        let task = format!("{TASK}={}", serde_json::to_string(&task).map_err(unreadable)?);
        let task = CString::new(task).map_err(|error| unstarted(&error.into()))?;
        let (ourselves, argv) = entry::stage();
        let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
        // First, for a variable of the same name must not stand in for it.
        let env: Vec<&CStr> = [task.as_c_str()].into_iter().chain(launch.env.iter()).collect();
        let stage = self.spawn(&ourselves, &argv, &env, stdin, ends).map_err(|error| refusal(name(launch), &error))?;
        // Our copy of the end closes, so that its own is the last.
        drop(told);
        let mut answer = Vec::new();
        let read = std::fs::File::from(report).read_to_end(&mut answer);
        if read.is_err() || !answer.is_empty() {
            // It ends by itself after it has answered.
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(stage), WaitIdOptions::EXITED));
            return Err(serde_json::from_slice(&answer).unwrap_or_else(unreadable));
        }
        Ok(stage)
    }
}

fn name(launch: &Launch) -> &Path {
    Path::new(OsStr::from_bytes(launch.program.to_bytes()))
}

/// A pipe whose end to write is inherited. Only this thread starts processes, so only the next one gets it.
fn inherited_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfd(&write, FdFlags::empty())?;
    Ok((read, write))
}

/// Looks a program up as execvp(3) does, in the `PATH` that it gets, from its folder.
fn find(launch: &Launch) -> Result<Cow<'_, CStr>> {
    let program = launch.program.as_c_str();
    if program.to_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let name = OsStr::from_bytes(program.to_bytes());
    let path = launch.env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let path = OsStr::from_bytes(path.unwrap_or(b"/usr/bin:/bin"));
    let mut found = Err(Error::new(ErrorKind::NotFound, "no folder of its PATH has it"));
    for folder in std::env::split_paths(path).filter(|_| !name.is_empty()) {
        // Without a folder it would be looked for once more.
        let file = Path::new(".").join(folder).join(name);
        match std::fs::metadata(&file) {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => {
                return Ok(CString::new(file.into_os_string().into_vec())?.into());
            }
            Ok(_) => {
                let message = format!("{} is no program that may be run", file.display());
                found = Err(Error::new(ErrorKind::PermissionDenied, message));
            }
            Err(_) => {}
        }
    }
    found
}

fn no_folder(launch: &Launch, error: &Error) -> Failure {
    let folder = Path::new(OsStr::from_bytes(launch.cwd.to_bytes())).display();
    let message = match error.kind() {
        ErrorKind::NotADirectory => format!("its folder {folder} is none"),
        _ => format!("its folder {folder}: {error}"),
    };
    Failure { message, hopeless: false }
}

pub(super) fn refusal(name: impl AsRef<Path>, error: &Error) -> Failure {
    let message = format!("`{}` could not be started: {error}", name.as_ref().display());
    Failure { message, hopeless: matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) }
}
