//! Shims that are running. One that has no tree waits a while for the next: starting one costs more than most programs do.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::entry;

/// No more wait than these.
const WAITING: usize = 256;
/// One that was not needed in so long a time ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a shim gets to end what it has, before it is killed itself.
const LAST_LOOKS: u32 = 12_000;

/// A shim of this process, and the way to it. Dropping it kills its tree, waits until that has ended, and ends it.
#[derive(Debug)]
pub(super) struct Shim {
    child: Child,
    control: Option<UnixStream>,
    /// Whether it has served before: it may have died unnoticed meanwhile.
    pub(super) used: bool,
}

#[derive(Default)]
struct Pool {
    waiting: Vec<Shim>,
    /// How many were left waiting at the fewest since the last look: these are not needed.
    idle: usize,
    tended: bool,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: Vec::new(), idle: 0, tended: false });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shim {
    /// One that waits, or else a new one.
    pub(super) fn get() -> std::io::Result<Self> {
        let waiting = {
            let mut pool = pool();
            let last = pool.waiting.pop();
            pool.idle = pool.idle.min(pool.waiting.len());
            last
        };
        waiting.map_or_else(Self::start, Ok)
    }

    pub(super) fn start() -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = entry::shim();
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        Ok(Self { child: command.spawn()?, control: Some(ours), used: false })
    }

    pub(super) const fn take_control(&mut self) -> Option<UnixStream> {
        self.control.take()
    }

    /// Lets it wait for its next tree, here or until it is not needed.
    pub(super) fn put(mut self, control: UnixStream) {
        (self.control, self.used) = (Some(control), true);
        let mut pool = pool();
        if pool.waiting.len() == WAITING {
            drop(pool);
            drop(self);
            return;
        }
        pool.waiting.push(self);
        if !pool.tended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            pool.tended = true;
            runtime.spawn(tend());
        }
    }
}

/// Ends the shims that nobody needs, until none is left.
async fn tend() {
    /// A runtime that ends takes its tasks away in the middle.
    struct Tended;
    impl Drop for Tended {
        fn drop(&mut self) {
            pool().tended = false;
        }
    }
    let _tended = Tended;
    loop {
        tokio::time::sleep(PATIENCE).await;
        let ended: Vec<Shim> = {
            let mut pool = pool();
            let idle = pool.idle.min(pool.waiting.len());
            let ended = pool.waiting.drain(..idle).collect();
            pool.idle = pool.waiting.len();
            ended
        };
        // Each waits until its process has ended.
        let _ = tokio::task::spawn_blocking(move || drop(ended)).await;
        if pool().waiting.is_empty() {
            return;
        }
    }
}

impl Drop for Shim {
    /// Waits for the end: when an attempt is over, nothing of it may run.
    fn drop(&mut self) {
        drop(self.control.take());
        for _ in 0..LAST_LOOKS {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Ours until it is waited for.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
