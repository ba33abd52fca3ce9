//! What a shim does: starts a program, takes whom the tree leaves behind, ends the tree when it is told to, when the
//! program has ended, or when the scheduler is gone.
//!
//! One thread waits for orders, and while there is a tree, for children. Another waits for orders meanwhile, but for
//! programs that end at once. Neither polls while a program runs, but for its first moments.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, set_child_subreaper, setsid, waitid};
use wait4::{ResUse, try_wait4_pid};

use super::entry::close_inherited;
use super::launch::Launcher;
use super::order::{BRIEF, Ending, Launch, News, Order};
use super::stage::Failure;
use super::{descent, frame, printed};

/// Between kills of a tree that goes on forking.
const BETWEEN_KILLS: Duration = Duration::from_millis(20);
/// Looks at a program that may end at once.
const MOMENTS: u32 = 5;
/// Looks at a killed tree before what is left of it is given up.
const LOOKS: u32 = 500;

/// What both threads know.
#[derive(Default)]
struct State {
    /// The tree that is under way: they are counted.
    tree: Option<u64>,
    /// Its process group.
    group: Option<Pid>,
    /// Those killed that had left the group.
    strays: BTreeSet<i32>,
}

/// A program, and its standard input if it has one.
type Wanted = (Launch, Option<OwnedFd>);

/// What the thread that starts programs works with.
struct Means {
    launcher: Launcher,
    /// Tells that some child has ended.
    deaths: SignalFd,
    /// Lets the other thread listen.
    calls: Sender<()>,
}

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
    // Blocked before there is another thread, so that it comes by the descriptor alone.
    let mut deaths = SigSet::empty();
    deaths.add(nix::sys::signal::Signal::SIGCHLD);
    deaths.thread_block()?;
    let deaths = SignalFd::with_flags(&deaths, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let shim = Arc::new(Shim::default());
    let (wanted, programs) = channel();
    let (calls, called) = channel();
    let listening = (shim.clone(), control.try_clone()?);
    std::thread::spawn(move || listening.0.listen(listening.1, &called, &wanted));
    let means = Means { launcher: Launcher::new()?, deaths, calls };
    let mut listened = false;
    for number in 1.. {
        // Whoever listens hands on the next program, and listens no more until it is called again.
        let next = if listened { programs.recv().ok() } else { next_program(&mut control) };
        let Some((launch, stdin)) = next else { break };
        listened = shim.tree(number, &launch, stdin, &mut control, &means)?;
    }
    Ok(())
}

/// Waits for a program; none when there is nobody to give one.
fn next_program(control: &mut UnixStream) -> Option<Wanted> {
    loop {
        match frame::receive(control) {
            Ok(Some((Order::Run(launch), came))) => return Some((launch, came.into_iter().next())),
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
                    Ok(Some((Order::Run(launch), came))) => {
                        // The other thread ends only with the process.
                        let _ = wanted.send((launch, came.into_iter().next()));
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
        launch: &Launch,
        stdin: Option<OwnedFd>,
        control: &mut UnixStream,
        means: &Means,
    ) -> std::io::Result<bool> {
        let has_input = stdin.is_some();
        let (program, pipes) = match means.launcher.launch(launch, stdin.as_ref()) {
            Ok(launched) => launched,
            Err(Failure { message, hopeless }) => {
                frame::send(control, &News::Refused { message, hopeless }, &[])?;
                return Ok(false);
            }
        };
        // The program's copy is the only one.
        drop(stdin);
        *self.lock() = State { tree: Some(number), group: Some(program), ..State::default() };
        let brief = if has_input { None } else { end_at_once(program, &pipes, &means.deaths, control)? };
        if let Some(end) = brief {
            let ending = self.end(end, 0);
            let printed = [printed::left_in(&pipes[0])?, printed::left_in(&pipes[1])?];
            let open = pipes.iter().zip(&printed).filter(|(_, said)| said.open).map(|(pipe, _)| pipe.as_fd());
            let open: Vec<_> = open.collect();
            frame::send(control, &News::Brief { ending, printed }, &open)?;
            return Ok(false);
        }
        let called = means.calls.send(()).map_err(std::io::Error::other);
        // A scheduler that is gone is noticed by the other thread, which sees to the tree.
        let told = called.and_then(|()| frame::send(control, &News::Started, &[pipes[0].as_fd(), pipes[1].as_fd()]));
        drop(pipes);
        if told.is_err() {
            // One that is there waits for what it has not been told: only the end can tell it.
            descent::signal(Some(program), Signal::KILL);
        }
        let ending = self.wait(program).map(|(end, ticks)| self.end(end, ticks));
        self.over.notify_all();
        told.and_then(|()| frame::send(control, &News::Ended(ending?), &[]))?;
        Ok(true)
    }

    /// Waits for the program, and takes whom it leaves behind meanwhile: gives their clock ticks too.
    fn wait(&self, program: Pid) -> std::io::Result<(ResUse, u64)> {
        let mut ticks = 0;
        loop {
            // Looks without taking: the program's own use of resources comes with taking it.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(end) = taken(program)? {
                return Ok((end, ticks));
            }
            ticks += descent::reap(Some(program));
        }
    }

    /// Ends what a program that has ended leaves behind.
    fn end(&self, end: ResUse, ticks: u64) -> Ending {
        let (late, left) = self.clear();
        let ticks = ticks + late;
        let strays = {
            let mut state = self.lock();
            (state.tree, state.group) = (None, None);
            std::mem::take(&mut state.strays).len()
        };
        let second = rustix::param::clock_ticks_per_second().max(1);
        let cpu = end.rusage.utime + end.rusage.stime + Duration::from_millis(ticks * 1000 / second);
        let (code, signal) = (end.status.code(), end.status.signal());
        Ending { code, signal, cpu, peak_memory: end.rusage.maxrss, strays, left }
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

/// The end of a program that comes within [`BRIEF`], before there is another order. One that prints is not waited for as
/// long: someone may want to read it.
fn end_at_once(
    program: Pid,
    pipes: &[OwnedFd; 2],
    deaths: &SignalFd,
    control: &UnixStream,
) -> std::io::Result<Option<ResUse>> {
    let Ok(moment) = Timespec::try_from(BRIEF / MOMENTS) else { return Ok(None) };
    for _ in 0..MOMENTS {
        let mut both = [PollFd::new(deaths, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        let came = poll(&mut both, Some(&moment));
        if both[0].revents().contains(PollFlags::IN) {
            // Signals of one kind are one while they wait: who it was, the taking tells.
            let _ = deaths.read_signal();
            if let Some(end) = taken(program)? {
                return Ok(Some(end));
            }
        } else if came != Ok(0) || pipes.iter().any(|pipe| !matches!(ioctl_fionread(pipe), Ok(0))) {
            break;
        }
    }
    Ok(None)
}

/// Takes the program if it has ended.
fn taken(program: Pid) -> std::io::Result<Option<ResUse>> {
    try_wait4_pid(program.as_raw_nonzero().get().unsigned_abs())
}

/// Whether such a child has ended and waits to be taken. An error: there is no such child.
fn has_ended(which: &WaitId<'_>) -> std::io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(rustix::io::retry_on_intr(|| waitid(which.clone(), options))?.is_some())
}
