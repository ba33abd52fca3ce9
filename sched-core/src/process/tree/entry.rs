//! Where this executable, run again, turns into a shim, a stage or a worker instead of itself.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use super::{shim, stage};

/// Names under which this executable is run again.
const SHIM: &str = "sched-shim";
const STAGE: &str = "sched-stage";
const WORKER: &str = "sched-worker";
/// What was started, resolved in the process itself: also when the file has been replaced since.
const OURSELVES: &str = "/proc/self/exe";

/// The arguments that lead a repeated execution to [`init`]; set once `init` has been called.
static READY: OnceLock<Vec<OsString>> = OnceLock::new();

/// Lets this program start trees. Call it first in `main`, before arguments are read, files opened or threads started:
/// in a process that was started to be a shim it becomes one and never returns.
///
/// ```
/// sched_core::process::init();
/// // … the program
/// ```
pub fn init() {
    init_within(&[]);
}

/// [`init`] for a program whose `main` is not yours, such as a harness of tests: with these arguments it must lead to
/// this very call.
pub fn init_within(arguments: &[&str]) {
    // The first call tells. A shim needs them too: it starts stages.
    let _ = READY.set(arguments.iter().map(OsString::from).collect());
    match std::env::args_os().next() {
        Some(name) if name == SHIM => shim::run(),
        Some(name) if name == STAGE => stage::run(),
        _ => {}
    }
}

/// Closes every descriptor but the three standard ones: what whoever started this process had left open over exec, against
/// all custom, a process that outlives it must not hold. Call it while this process has opened nothing itself.
pub fn close_inherited() {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // Among them is the one of the listing, which is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// Whether [`init`] has been called.
pub(crate) fn is_ready() -> bool {
    READY.get().is_some()
}

/// Whether this process was started to run one attempt, which [`runner::serve`](crate::runner::serve) does.
#[must_use]
pub fn is_worker() -> bool {
    std::env::args_os().next().is_some_and(|name| name == WORKER)
}

fn again(name: &str) -> Command {
    let mut command = Command::new(OURSELVES);
    command.arg0(name).args(READY.get().into_iter().flatten());
    command
}

pub(super) fn shim() -> Command {
    let mut command = again(SHIM);
    // Nothing of the scheduler's environment but what it may need to start.
    command.env_clear().envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
    command
}

/// This executable as a stage: its path, and the words that lead to it.
pub(super) fn stage() -> (CString, Vec<CString>) {
    let words = READY.get().into_iter().flatten().map(|word| word.as_bytes());
    let words = [STAGE.as_bytes()].into_iter().chain(words);
    // A word that came from an argument holds no NUL byte.
    (CString::from(c"/proc/self/exe"), words.filter_map(|word| CString::new(word).ok()).collect())
}

/// This executable as a worker; the program's name, the name it is started under, and the arguments to begin with.
pub(crate) fn worker() -> (OsString, OsString, Vec<OsString>) {
    (OURSELVES.into(), WORKER.into(), READY.get().cloned().unwrap_or_default())
}
