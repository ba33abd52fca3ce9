//! What a shim does: starts a program, takes whom the tree leaves behind, ends the tree when it is told to, when the
//! program has ended, or when the scheduler is gone.
//!
//! One thread waits for orders, and while there is a tree, for children. Another waits for orders meanwhile, but for
//! programs that end at once. Neither polls while a program runs.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, set_child_subreaper, setsid, waitid,
};
use wait4::Wait4 as _;

use super::entry::{self, close_inherited};
use super::order::{BRIEF, Ending, News, Order, Program};
use super::stage::{Failure, Task};
use super::{descent, frame};

/// Between kills of a tree that goes on forking.
const BETWEEN_KILLS: Duration = Duration::from_millis(20);
/// Looks at a killed tree before what is left of it is given up.
const LOOKS: u32 = 500;

/// What both threads know.
#[derive(Default)]
struct State {
    /// The tree that is under way: they are counted.
    tree: Option<u64>,
    /// Its program, which is also its process group, while it has not been taken.
    program: Option<Pid>,
    group: Option<Pid>,
    /// Those killed that had left the group.
    strays: BTreeSet<i32>,
}

/// A program, and the ends of pipes that came with it.
type Wanted = (Box<Program>, Vec<OwnedFd>);

#[derive(Default)]
struct Shim {
    state: Mutex<State>,
    over: Condvar,
}

/// Serves trees until the scheduler lets go.
pub(super) fn run() -> ! {
    close_inherited();
    let served = serve();
    std::process::exit(if served.is_ok() { 0 } else { 2 })
}

fn serve() -> std::io::Result<()> {
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    // It may be a leader already, when a person tries it out.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    let shim = Arc::new(Shim::default());
    let (wanted, programs) = channel();
    let (calls, called) = channel();
    let listening = (shim.clone(), control.try_clone()?);
    std::thread::spawn(move || listening.0.listen(listening.1, &called, &wanted));
    let mut listened = false;
    for number in 1.. {
        // Whoever listens hands on the next program, and listens no more until it is called again.
        let next = if listened { programs.recv().ok() } else { next_program(&mut control) };
        let Some((program, descriptors)) = next else { break };
        listened = shim.tree(number, &program, descriptors, &mut control, &calls)?;
    }
    Ok(())
}

/// Waits for a program; none when there is nobody to give one.
fn next_program(control: &mut UnixStream) -> Option<Wanted> {
    loop {
        match frame::receive(control) {
            Ok(Some((Order::Run(program), descriptors))) => return Some((program, descriptors)),
            // It was for a tree that has ended.
            Ok(Some((Order::Stop(_), _))) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Shim {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes orders whenever it is called, up to the next program. When there is nobody to give them, nothing may stay.
    fn listen(self: Arc<Self>, mut control: UnixStream, called: &Receiver<()>, wanted: &Sender<Wanted>) {
        while called.recv().is_ok() {
            loop {
                match frame::receive(&mut control) {
                    Ok(Some((Order::Run(program), descriptors))) => {
                        // The other thread ends only with the process.
                        let _ = wanted.send((program, descriptors));
                        break;
                    }
                    Ok(Some((Order::Stop(grace), _))) => {
                        let shim = self.clone();
                        let Some(tree) = shim.lock().tree else { continue };
                        std::thread::spawn(move || shim.stop(tree, grace));
                    }
                    Ok(None) | Err(_) => {
                        let tree = self.lock().tree;
                        if let Some(tree) = tree {
                            self.kill(tree);
                        }
                        std::process::exit(0);
                    }
                }
            }
        }
    }

    fn stop(&self, tree: u64, grace: Duration) {
        let state = self.lock();
        if state.tree == Some(tree) {
            descent::signal(state.group, Signal::TERM);
            let ends = self.over.wait_timeout_while(state, grace, |state| state.tree == Some(tree));
            drop(ends);
            self.kill(tree);
        }
    }

    /// Kills a tree until it is over; the thread that waits for children says when.
    fn kill(&self, tree: u64) {
        let mut state = self.lock();
        for _ in 0..LOOKS {
            if state.tree != Some(tree) {
                return;
            }
            let strays = descent::signal(state.group, Signal::KILL);
            state.strays.extend(strays);
            state = self.over.wait_timeout(state, BETWEEN_KILLS).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One tree, from its order to its end. Says whether the thread that listens was called.
    fn tree(
        &self,
        number: u64,
        program: &Program,
        pipes: Vec<OwnedFd>,
        control: &mut UnixStream,
        calls: &Sender<()>,
    ) -> std::io::Result<bool> {
        let has_input = pipes.len() > 2;
        let child = match launch(program, pipes) {
            Ok(child) => child,
            Err(Failure { message, hopeless }) => {
                frame::send(control, &News::Refused { message, hopeless })?;
                return Ok(false);
            }
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        *self.lock() = State { tree: Some(number), program: pid, group: pid, ..State::default() };
        let lasts = has_input || !pid.is_some_and(|pid| ends_at_once(pid, control));
        let mut told = Ok(());
        if lasts {
            let called = calls.send(()).map_err(std::io::Error::other);
            // A scheduler that is gone is noticed by the other thread, which sees to the tree.
            told = called.and_then(|()| frame::send(control, &News::Started));
        }
        let ending = self.end(child);
        told.and_then(|()| frame::send(control, &News::Ended(ending?)))?;
        Ok(lasts)
    }

    /// Waits for the program, then ends what it leaves behind.
    fn end(&self, mut child: Child) -> std::io::Result<Ending> {
        let program = self.lock().program;
        let mut ticks = 0;
        loop {
            // Looks without taking: the program's own use of resources comes with taking it.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(program) = program
                && has_ended(&WaitId::Pid(program))?
            {
                break;
            }
            ticks += descent::reap(program);
        }
        self.lock().program = None;
        let end = child.wait4()?;
        let (late, left) = self.clear();
        ticks += late;
        let strays = {
            let mut state = self.lock();
            (state.tree, state.group) = (None, None);
            self.over.notify_all();
            std::mem::take(&mut state.strays).len()
        };
        let second = rustix::param::clock_ticks_per_second().max(1);
        let cpu = end.rusage.utime + end.rusage.stime + Duration::from_millis(ticks * 1000 / second);
        let (code, signal) = (end.status.code(), end.status.signal());
        Ok(Ending { code, signal, cpu, peak_memory: end.rusage.maxrss, strays, left })
    }

    /// Kills and takes all that is still there. As long as there is anyone below, one of them is a child of ours, so
    /// having no child is being done. Gives clock ticks, and the number of those that do not die.
    fn clear(&self) -> (u64, usize) {
        let mut ticks = 0;
        for look in 0..LOOKS {
            match has_ended(&WaitId::All) {
                Err(_) => return (ticks, 0),
                Ok(true) => {}
                Ok(false) => {
                    let mut state = self.lock();
                    let strays = descent::signal(state.group, Signal::KILL);
                    state.strays.extend(strays);
                    drop(state);
                    // The dead are soon there to be taken; those that hang are not worth a busy processor.
                    std::thread::sleep(Duration::from_millis(u64::from(look.min(BETWEEN_KILLS.subsec_millis()))));
                }
            }
            ticks += descent::reap(None);
        }
        (ticks, descent::signal(None, Signal::KILL).len().max(1))
    }
}

/// Whether a program ends within [`BRIEF`], before there is another order.
fn ends_at_once(program: Pid, control: &UnixStream) -> bool {
    let (Ok(handle), Ok(brief)) = (pidfd_open(program, PidfdFlags::empty()), Timespec::try_from(BRIEF)) else {
        return false;
    };
    let mut both = [PollFd::new(&handle, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
    poll(&mut both, Some(&brief)).is_ok() && both[0].revents().contains(PollFlags::IN)
}

/// Whether such a child has ended and waits to be taken. An error: there is no such child.
fn has_ended(which: &WaitId<'_>) -> std::io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(rustix::io::retry_on_intr(|| waitid(which.clone(), options))?.is_some())
}

/// Starts a program with these ends of pipes: standard output, error and, if there is a third, input.
fn launch(program: &Program, pipes: Vec<OwnedFd>) -> Result<Child, Failure> {
    let failure = |message: String| Failure { message, hopeless: false };
    match std::fs::metadata(&program.cwd) {
        Ok(folder) if folder.is_dir() => {}
        Ok(_) => return Err(failure(format!("its folder {} is none", program.cwd.display()))),
        Err(error) => return Err(failure(format!("its folder {}: {error}", program.cwd.display()))),
    }
    let mut pipes = pipes.into_iter().map(Stdio::from);
    let mut stdio = || pipes.next().unwrap_or_else(Stdio::null);
    let (stdout, stderr, stdin) = (stdio(), stdio(), stdio());
    let mut staged = None;
    let name = program.argv.first().cloned().unwrap_or_default();
    let path = find(&name, program).map_err(|error| refusal(&name, &error))?;
    let mut command = if program.needs_stage() {
        let (report, told) = pipe().map_err(|error| failure(error.to_string()))?;
        let mut argv = program.argv.clone();
        argv[0] = path.into();
        let arg0 = program.arg0.clone().or(Some(name.clone()));
        let inner = Program { argv, arg0, env: std::collections::BTreeMap::new(), ..program.clone() };
        let task = serde_json::to_string(&Task { program: inner, report: told.as_raw_fd() });
        let mut command = entry::stage();
        command
            .env_clear()
            .envs(&program.env)
            .env(super::stage::TASK, task.map_err(|error| failure(error.to_string()))?);
        staged = Some((report, told));
        command
    } else {
        let mut command = Command::new(path);
        command.arg0(program.arg0.as_ref().unwrap_or(&name)).args(&program.argv[1..]);
        command.env_clear().envs(&program.env).current_dir(&program.cwd);
        command
    };
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    let spawned = command.spawn();
    // Our copies of the pipes' ends close, so that theirs are the last.
    drop(command);
    let mut child = spawned.map_err(|error| refusal(&name, &error))?;
    if let Some((report, told)) = staged {
        drop(told);
        let mut answer = Vec::new();
        let read = std::fs::File::from(report).read_to_end(&mut answer);
        if read.is_err() || !answer.is_empty() {
            // It ends by itself after it has answered.
            let _ = child.wait();
            let unreadable =
                |error: serde_json::Error| failure(format!("`{}` could not be started: {error}", name.display()));
            return Err(serde_json::from_slice(&answer).unwrap_or_else(unreadable));
        }
    }
    Ok(child)
}

/// A pipe whose end to write is inherited. Only this thread starts processes, so only the next one gets it.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    fcntl_setfd(&write, FdFlags::empty())?;
    Ok((read, write))
}

/// Looks a program up as execvp(3) does, in the `PATH` that it gets. Found here, it is started without a fork.
fn find(name: &OsStr, program: &Program) -> std::io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let path = program.env.get(OsStr::new("PATH")).cloned().unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let mut found = Err(ErrorKind::NotFound.into());
    for folder in std::env::split_paths(&path).filter(|_| !name.is_empty()) {
        let file = program.cwd.join(folder).join(name);
        match std::fs::metadata(&file) {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => return Ok(file),
            Ok(_) => found = Err(ErrorKind::PermissionDenied.into()),
            Err(_) => {}
        }
    }
    found
}

pub(super) fn refusal(name: impl AsRef<Path>, error: &std::io::Error) -> Failure {
    let message = format!("`{}` could not be started: {error}", name.as_ref().display());
    Failure { message, hopeless: matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) }
}
