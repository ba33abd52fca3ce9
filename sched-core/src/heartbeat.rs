//! The periodic tick that proves the scheduler lives.
//!
//! A thread of its own pulses once a second on tokio-cron-scheduler; [`Heartbeat::pulse`] (pure) decides which
//! pulses are ticks. It shares no loop with the engine, so it notices when the engine does not answer. Must not
//! know: dispatch.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::drive::Handle;
use crate::event::Event;
use crate::policy::LONGEST;

/// The soonest fires that a tick tells.
const UPCOMING: usize = 100;
/// An engine that does not answer for so long has stalled.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts ticks: the first at once, then one each period.
///
/// ```
/// use std::time::Duration;
/// use sched_core::heartbeat::Heartbeat;
/// let start = "2026-01-01T00:00:00.2Z".parse()?;
/// let mut heartbeat = Heartbeat::every(Duration::from_secs(60));
/// assert_eq!(heartbeat.pulse(start), Some(1));
/// assert_eq!(heartbeat.pulse(start + chrono::TimeDelta::seconds(59)), None);
/// assert_eq!(heartbeat.pulse(start + chrono::TimeDelta::seconds(60)), Some(2));
/// // After a stall of two minutes there is one tick, not two.
/// assert_eq!(heartbeat.pulse(start + chrono::TimeDelta::seconds(190)), Some(3));
/// assert_eq!(heartbeat.pulse(start + chrono::TimeDelta::seconds(191)), None);
/// assert_eq!(Heartbeat::every(Duration::MAX).pulse(start), Some(1));
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Heartbeat {
    period: TimeDelta,
    ticks: u64,
    next: Option<DateTime<Utc>>,
}

impl Heartbeat {
    /// A heartbeat with this period, 100 years at most.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self { period: TimeDelta::from_std(period.min(LONGEST)).unwrap_or(TimeDelta::MAX), ticks: 0, next: None }
    }

    /// The number of the tick that is due at this pulse, if one is. A clock set back by more than a period
    /// starts the count of time anew.
    pub fn pulse(&mut self, now: DateTime<Utc>) -> Option<u64> {
        // Pulses come up to half a second early or late.
        let slack = TimeDelta::milliseconds(500);
        let due = match self.next {
            None => true,
            Some(next) => now + slack >= next || next - now > self.period + slack,
        };
        if !due {
            return None;
        }
        let mut next = self.next.filter(|next| *next <= now + slack).unwrap_or(now) + self.period;
        if next <= now + slack {
            next = now + self.period;
        }
        self.next = Some(next);
        self.ticks += 1;
        Some(self.ticks)
    }
}

/// A heartbeat thread; it ends when this is dropped.
#[derive(Debug)]
pub struct HeartbeatThread {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Why the heartbeat could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// No thread or runtime could be had.
    #[error("the heartbeat's thread could not be started: {0}")]
    System(#[from] std::io::Error),
    /// tokio-cron-scheduler refused.
    #[error("the heartbeat's pulse could not be started: {0}")]
    Pulse(#[from] JobSchedulerError),
}

impl HeartbeatThread {
    /// Begins to tick for an engine: [`Event::Tick`] at once and each `period`, [`Event::Stalled`] when the
    /// engine does not answer.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be had.
    pub fn start(handle: Handle, period: Duration) -> Result<Self, HeartbeatError> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("sched-heartbeat".into()).spawn(move || {
            if let Err(error) = runtime.block_on(beat(handle, period, stopped)) {
                tracing::error!(%error, "the heartbeat has stopped");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for HeartbeatThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the heartbeat ended by a panic");
        }
    }
}

async fn beat(handle: Handle, period: Duration, stop: CancellationToken) -> Result<(), HeartbeatError> {
    let (sender, mut pulses) = tokio::sync::mpsc::channel::<()>(1);
    let mut scheduler = JobScheduler::new().await?;
    // A cron string in UTC: the crate's own repetition stops for good after a stall.
    let job = Job::new("* * * * * *", move |_, _| {
        // A pulse that finds the last one waiting is the same pulse.
        let _ = sender.try_send(());
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    let mut heartbeat = Heartbeat::every(period);
    let mut next = std::collections::BTreeMap::new();
    loop {
        if let Some(tick) = heartbeat.pulse(handle.clock().now().utc) {
            let asked = handle.clock().now().mono;
            match tokio::time::timeout(PATIENCE, handle.status(UPCOMING)).await {
                Ok(Ok(status)) => {
                    next = status.upcoming.into_iter().map(|fire| (fire.schedule, fire.nominal_at)).collect();
                }
                Ok(Err(_)) => break,
                Err(_) => {
                    let waited = handle.clock().now().mono.saturating_sub(asked);
                    handle.announce(Event::Stalled { millis: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) });
                }
            }
            handle.announce(Event::Tick { tick, next: next.clone() });
            handle.prove_store();
        }
        tokio::select! {
            pulse = pulses.recv() => if pulse.is_none() { break },
            () = stop.cancelled() => break,
        }
    }
    scheduler.shutdown().await?;
    Ok(())
}
