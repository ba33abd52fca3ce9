//! The one reader of OS time. Everything else takes a [`Clock`] or a [`Now`].
//!
//! Must not know: the engine.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SubsecRound, Utc};

/// One reading of both clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time, which decides when fires are due. It can step.
    pub utc: DateTime<Utc>,
    /// Time since an arbitrary origin, which decides time limits. It never steps.
    pub mono: Duration,
}

/// Tells the time.
///
/// ```
/// use sched_core::{Clock, SystemClock};
/// let clock = SystemClock::new();
/// let earlier = clock.now();
/// assert!(clock.now().mono >= earlier.mono);
/// ```
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Both clocks now; `utc` is whole microseconds, the precision that stores keep.
    fn now(&self) -> Now;
}

/// The machine's own clocks: `CLOCK_REALTIME` and `CLOCK_MONOTONIC`.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of OS time")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of OS time")]
    fn now(&self) -> Now {
        // Not `Utc::now`, which panics before 1970.
        Now { utc: DateTime::<Utc>::from(SystemTime::now()).trunc_subsecs(6), mono: self.origin.elapsed() }
    }
}
