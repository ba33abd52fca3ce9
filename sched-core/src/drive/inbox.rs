//! Where the drive waits: for inputs, and for the next due instant, whichever comes first. It never polls.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Input;

/// A queue of inputs that can be waited on together with time.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    wait: Wait,
}

#[derive(Default)]
struct Queue {
    inputs: VecDeque<Input>,
    /// The drive waits: who brings something wakes it.
    asleep: bool,
}

impl Inbox {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { queue: Mutex::default(), wait: Wait::new()? })
    }

    pub(super) fn push(&self, input: Input) {
        self.extend([input]);
    }

    pub(super) fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut queue = self.lock();
        queue.inputs.extend(inputs);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.wait.wake();
        }
    }

    pub(super) fn take(&self) -> VecDeque<Input> {
        std::mem::take(&mut self.lock().inputs)
    }

    /// Returns when an input came, the time is over, or the wall clock was set.
    pub(super) fn wait(&self, limit: Option<Duration>) {
        let mut queue = self.lock();
        if !queue.inputs.is_empty() || limit.is_some_and(|limit| limit.is_zero()) {
            return;
        }
        queue.asleep = true;
        drop(queue);
        self.wait.wait(limit);
        self.lock().asleep = false;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
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

    /// An eventfd for inputs, a timerfd for the due instant, and one that fires when the wall clock is set
    /// (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`). The poll's own timeout would do for the due instant, but Linux
    /// lets it be late by a thousandth of the wait, up to 100 ms (`select_estimate_accuracy` in fs/select.c).
    pub(super) struct Wait {
        wake: OwnedFd,
        due: OwnedFd,
        clock_set: OwnedFd,
    }

    const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    impl Wait {
        pub(super) fn new() -> std::io::Result<Self> {
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let due = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let clock_set = timerfd_create(TimerfdClockId::Realtime, flags)?;
            let wait = Self { wake, due, clock_set };
            wait.arm()?;
            Ok(wait)
        }

        /// Far in the future: only a clock that is set makes it readable.
        fn arm(&self) -> std::io::Result<()> {
            let far = Timespec { tv_sec: i64::from(u32::MAX), tv_nsec: 0 };
            let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
            timerfd_settime(&self.clock_set, flags, &Itimerspec { it_interval: ZERO, it_value: far })?;
            Ok(())
        }

        pub(super) fn wake(&self) {
            // A full counter is awake already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }

        pub(super) fn wait(&self, limit: Option<Duration>) {
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let timer = Itimerspec { it_interval: ZERO, it_value: limit.unwrap_or(ZERO) };
            let armed = timerfd_settime(&self.due, TimerfdTimerFlags::empty(), &timer).is_ok();
            let mut fds = [&self.wake, &self.due, &self.clock_set].map(|fd| PollFd::new(fd, PollFlags::IN));
            // An interrupted wait is a wake-up.
            let _ = poll(&mut fds, limit.as_ref().filter(|_| !armed));
            let clock_was_set = !fds[2].revents().is_empty();
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

        pub(super) fn wait(&self, limit: Option<Duration>) {
            let limit = limit.unwrap_or(Duration::MAX).min(Duration::from_secs(1));
            let awake = self.awake.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(awake, limit, |awake| !*awake);
            *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        }
    }
}
