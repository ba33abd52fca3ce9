//! The process below a supervisor: what it has said, and how it ended.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::watched::{self, Word};

/// The engine's process, until it has been waited for: its id is nobody else's so long.
pub(super) struct Engine {
    pub(super) pid: Pid,
    pub(super) begun: Duration,
    /// It has said that it stands.
    pub(super) stands: bool,
    /// Looks since the last sign of life.
    pub(super) silent: u32,
    /// Why it ends, in its own words.
    pub(super) word: Option<String>,
    pub(super) killed_as_hung: bool,
}

/// A process that has ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
}

impl Engine {
    pub(super) const fn begun(pid: Pid, begun: Duration) -> Self {
        Self { pid, begun, stands: false, silent: 0, word: None, killed_as_hung: false }
    }

    /// Takes a message of its own.
    pub(super) fn said(&mut self, message: &str) {
        self.silent = 0;
        for word in watched::words(message) {
            match word {
                Word::Ready => self.stands = true,
                Word::Failure(text) => self.word = Some(text),
                Word::Alive => {}
            }
        }
    }
}

impl Ended {
    /// As shells do: 128 and the number of the signal.
    pub(super) fn as_exit_code(&self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(1)
    }
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        Self { code: status.exit_status(), signal: status.terminating_signal() }
    }
}

/// Takes every process that has ended, the engine's and those of orphans; gives the engine's end.
pub(super) fn reap(engine: Option<&Engine>) -> Option<Ended> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if engine.is_some_and(|engine| engine.pid == pid) {
            ended = Some(Ended::from(status));
        }
    }
    ended
}
