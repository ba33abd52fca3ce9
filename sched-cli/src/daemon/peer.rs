//! Another process of ours, known by the lock that it holds. Only such a one is ever signalled: a file with a number in it
//! decides nothing, and a number may belong to a stranger by now.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sched_core::StoreLock;

use crate::exit::Failure;

const LOOKS: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// The holder of a lock file.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    handle: OwnedFd,
}

impl Peer {
    /// The process that holds the lock file now; none when nobody does.
    ///
    /// # Errors
    /// When somebody holds it who cannot be named from here, such as one in another container.
    pub(crate) fn holding(lock: &Path) -> Result<Option<Self>, Failure> {
        for _ in 0..LOOKS {
            let Some(pid) = StoreLock::holder(lock) else { return Ok(None) };
            let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let handle = raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
            // Who holds the lock after the handle was taken is whom the handle names, if the file is open there.
            if let Some(handle) = handle
                && has_open(pid, lock)
                && StoreLock::holder(lock) == Some(pid)
            {
                return Ok(Some(Self { pid, handle }));
            }
            // One that is ending lets go of its files before its lock is seen to be free.
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Err(Failure::failed(format!(
            "{} is held by a process that is not to be seen from here; stop it where it runs",
            lock.display()
        )))
    }

    /// Sends a signal; one that has ended needs none.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Failure::failed(format!("pid {}: {error}; it may belong to another user", self.pid))),
        }
    }
}

/// Whether a process has this file open. One whose files may not be looked at is believed: it cannot be signalled either.
fn has_open(pid: u32, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let Ok(wanted) = std::fs::metadata(path) else { return false };
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    files.flatten().any(|file| {
        std::fs::metadata(file.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
    })
}
