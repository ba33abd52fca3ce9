//! A pager below what is long, as git(1) and systemctl(1) have it: on a terminal only, and gone at once when all fits.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// What less(1) is told unless LESS says otherwise: to end when all fits, to leave colours, and the screen as it was.
const LESS: &str = "FRX";

static OPEN: AtomicBool = AtomicBool::new(false);

/// Whether standard output goes to a pager.
pub(super) fn is_open() -> bool {
    OPEN.load(Ordering::Relaxed)
}

/// A pager that standard output goes to. Dropping it shows the rest and waits until the reader has had enough.
#[derive(Debug)]
pub(crate) struct Pager {
    program: Child,
    /// Keeps Ctrl-C from ending this process before its pager, which takes it as a word of its own.
    _runtime: tokio::runtime::Runtime,
}

/// The pager's command line: `SCHED_PAGER`, else `PAGER`, else less(1); none when one of them is empty or `cat`.
fn wanted() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok();
    let words = set("SCHED_PAGER").or_else(|| set("PAGER")).unwrap_or_else(|| "less".into());
    let program = words.split_whitespace().next().filter(|program| *program != "cat")?.to_owned();
    let path = set("PATH").unwrap_or_default();
    // A shell that does not find it would swallow what is printed.
    let found = program.contains('/') || std::env::split_paths(&path).any(|folder| folder.join(&program).is_file());
    found.then_some(words)
}

impl Pager {
    /// Begins one if a person reads on a terminal that can have it.
    pub(crate) fn begin() -> Option<Self> {
        let smart = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if !smart || !std::io::stdout().is_terminal() {
            return None;
        }
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &wanted()?]).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            shell.env("LESS", LESS);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
        {
            let _inside = runtime.enter();
            // The first one sets the handler, which stays.
            drop(signal(SignalKind::interrupt()).ok()?);
        }
        let mut program = shell.spawn().ok()?;
        let input: OwnedFd = program.stdin.take()?.into();
        rustix::stdio::dup2_stdout(&input).ok()?;
        OPEN.store(true, Ordering::Relaxed);
        Some(Self { program, _runtime: runtime })
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Relaxed);
        // Its input ends when nobody can write to it any more.
        let _ = std::io::stdout().flush();
        if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&nowhere);
        }
        let _ = self.program.wait();
    }
}
