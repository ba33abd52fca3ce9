//! Where the drive waits: for inputs, and for the next due instant, whichever comes first. It never polls.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Input;

/// A queue of inputs that can be waited on together with time.
pub(super) struct Inbox {
    queue: Mutex<VecDeque<Input>>,
    wait: Wait,
}

impl Inbox {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { queue: Mutex::default(), wait: Wait::new()? })
    }

    pub(super) fn push(&self, input: Input) {
        self.extend([input]);
    }

    pub(super) fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        self.lock().extend(inputs);
        self.wait.wake();
    }

    pub(super) fn take(&self) -> VecDeque<Input> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns when an input came, the time is over, or the wall clock was set.
    pub(super) fn wait(&self, limit: Option<Duration>) {
        self.wait.wait(limit, || !self.lock().is_empty());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Input>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
use linux::Wait;
#[cfg(not(target_os = "linux"))]
use portable::Wait;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    /// An eventfd for inputs and a timerfd that also fires when the wall clock is set (timerfd_create(2),
    /// `TFD_TIMER_CANCEL_ON_SET`). The timer carries no due instant: the poll's own timeout does.
    pub(super) struct Wait {
        wake: OwnedFd,
        clock_set: OwnedFd,
    }

    impl Wait {
        pub(super) fn new() -> std::io::Result<Self> {
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let clock_set = timerfd_create(TimerfdClockId::Realtime, flags)?;
            let wait = Self { wake, clock_set };
            wait.arm()?;
            Ok(wait)
        }

        /// Far in the future: only a clock that is set makes it readable.
        fn arm(&self) -> std::io::Result<()> {
            let far = Timespec { tv_sec: i64::from(u32::MAX), tv_nsec: 0 };
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
            timerfd_settime(&self.clock_set, flags, &Itimerspec { it_interval: zero, it_value: far })?;
            Ok(())
        }

        pub(super) fn wake(&self) {
            // A full counter is awake already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }

        pub(super) fn wait(&self, limit: Option<Duration>, ready: impl Fn() -> bool) {
            if ready() {
                return;
            }
            let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let mut fds = [PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&self.clock_set, PollFlags::IN)];
            // An interrupted wait is a wake-up.
            let _ = poll(&mut fds, timeout.as_ref());
            let clock_was_set = !fds[1].revents().is_empty();
            let mut drain = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut drain);
            if clock_was_set {
                let _ = rustix::io::read(&self.clock_set, &mut drain);
                if let Err(error) = self.arm() {
                    tracing::warn!(%error, "steps of the wall clock are noticed late from now on");
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    /// Waits at most a second, so that a wall clock that was set is noticed.
    pub(super) struct Wait {
        awake: Mutex<bool>,
        changed: Condvar,
    }

    impl Wait {
        pub(super) fn new() -> std::io::Result<Self> {
            Ok(Self { awake: Mutex::new(false), changed: Condvar::new() })
        }

        pub(super) fn wake(&self) {
            *self.awake.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.changed.notify_one();
        }

        pub(super) fn wait(&self, limit: Option<Duration>, ready: impl Fn() -> bool) {
            if ready() {
                return;
            }
            let limit = limit.unwrap_or(Duration::MAX).min(Duration::from_secs(1));
            let awake = self.awake.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(awake, limit, |awake| !*awake);
            *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        }
    }
}
