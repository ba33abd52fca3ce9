//! How the process is: for `/api/v1/status`, `/readyz` and the page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use sched_core::{Event, Now, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AppState;
use crate::error::ApiError;

/// So many of the soonest fires are told.
pub(crate) const STATUS_NEXT: usize = 100;
/// A tick so late says that the heartbeat has stopped.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(10);
/// Stands for no time; it is outside the range of instants.
const NEVER: i64 = i64::MIN;

/// What the process knows of itself, kept by whoever ticks.
#[derive(Debug)]
pub struct Health {
    /// By the clock that does not step.
    started: Duration,
    tick: AtomicU64,
    last_activity: AtomicI64,
    last_tick: AtomicI64,
    /// When the heartbeat was heard last, in milliseconds of the clock that does not step.
    heard: AtomicU64,
    /// How often the heartbeat beats; none where there is none.
    heartbeat: Option<Duration>,
    listen: String,
}

impl Health {
    /// A process that starts now, by its scheduler's clock, and listens there.
    #[must_use]
    pub fn new(Now { mono: started, .. }: Now, listen: String) -> Self {
        let (last_activity, last_tick) = (AtomicI64::new(NEVER), AtomicI64::new(NEVER));
        let heard = AtomicU64::new(millis(started));
        Self { started, tick: AtomicU64::new(0), last_activity, last_tick, heard, heartbeat: None, listen }
    }

    /// Expects a tick each `period`: without one the status is `degraded`.
    #[must_use]
    pub const fn with_heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = Some(period);
        self
    }

    /// How long no tick has been heard, if one is overdue; `now` is by the clock that does not step.
    pub fn heartbeat_overdue(&self, now: Duration) -> Option<Duration> {
        let silent = now.saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)));
        self.heartbeat.filter(|period| silent > period.saturating_add(HEARTBEAT_SLACK)).map(|_| silent)
    }

    /// Notes an event's time, and its tick if it is one; `now` is by the clock that does not step.
    pub fn note_event(&self, recorded: &Recorded, now: Duration) {
        // Events come in their order; their times do not when the clock goes back.
        self.last_activity.store(recorded.ts.timestamp_micros(), Ordering::Relaxed);
        if let Event::Tick { tick, .. } = recorded.event {
            self.tick.store(tick, Ordering::Relaxed);
            self.last_tick.store(recorded.ts.timestamp_micros(), Ordering::Relaxed);
            self.heard.store(millis(now), Ordering::Relaxed);
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The answer of `/api/v1/status`, and of `sched status --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StatusBody {
    /// Whether fires are dispatched.
    pub running: bool,
    /// `running` or `degraded`.
    pub state: String,
    /// Whether it shuts down.
    #[serde(default)]
    pub stopping: bool,
    /// Why it is degraded, and what happens next.
    pub problem: Option<String>,
    /// This process.
    pub pid: Option<u32>,
    /// The last event.
    pub last_activity: Option<DateTime<Utc>>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The heartbeat's count.
    pub tick: u64,
    /// When the heartbeat last ticked.
    pub last_tick: Option<DateTime<Utc>>,
    /// The 100 soonest fires.
    pub next: BTreeMap<String, DateTime<Utc>>,
    /// How many schedules have a coming fire.
    pub next_total: usize,
    /// Where HTTP listens.
    pub http: String,
    /// This program's version.
    pub version: String,
    /// Runs under way.
    pub active_runs: usize,
    /// Runs that wait.
    pub queued_runs: usize,
}

pub(crate) async fn status_body(state: &AppState) -> Result<StatusBody, ApiError> {
    let status = state.handle().status(STATUS_NEXT).await?;
    let health = &state.inner.health;
    let now = state.handle().clock().now().mono;
    let uptime = now.saturating_sub(health.started);
    let silent = health.heartbeat_overdue(now).map(|silent| {
        format!("the heartbeat has been silent for {} s; `sched restart` brings it back", silent.as_secs())
    });
    let problem = status.problem.or(silent);
    Ok(StatusBody {
        running: status.dispatch.is_none() && !status.draining,
        stopping: status.draining,
        state: if problem.is_some() { "degraded" } else { "running" }.into(),
        pid: Some(std::process::id()),
        problem,
        last_activity: DateTime::from_timestamp_micros(health.last_activity.load(Ordering::Relaxed)),
        last_tick: DateTime::from_timestamp_micros(health.last_tick.load(Ordering::Relaxed)),
        uptime_seconds: uptime.as_secs(),
        tick: health.tick.load(Ordering::Relaxed),
        next: status.upcoming.into_iter().map(|fire| (fire.schedule.to_string(), fire.nominal_at)).collect(),
        next_total: status.upcoming_total,
        http: health.listen.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        active_runs: status.running,
        queued_runs: status.queued,
    })
}

pub(crate) async fn ready(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    let status = state.handle().status(0).await?;
    if status.store_failing || status.draining {
        let message = if status.draining { "shutting down" } else { "the store cannot be written" };
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
    }
    Ok("ready\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_overdue_a_while_after_its_period_and_not_once_it_beats_again() {
        let seconds = Duration::from_secs;
        let health = |begun| Health::new(Now { utc: DateTime::UNIX_EPOCH, mono: begun }, String::new());
        assert_eq!(health(seconds(5)).heartbeat_overdue(seconds(1_000_000)), None, "there is none");
        let health = health(seconds(5)).with_heartbeat(seconds(60));
        assert_eq!(health.heartbeat_overdue(seconds(75)), None);
        assert_eq!(health.heartbeat_overdue(seconds(76)), Some(seconds(71)));
        let tick = |tick| Event::Tick { tick, next: BTreeMap::new() };
        health.note_event(&Recorded { ts: DateTime::UNIX_EPOCH, event: tick(1), seq: None }, seconds(70));
        health.note_event(
            &Recorded { ts: DateTime::UNIX_EPOCH, event: Event::Stalled { millis: 1 }, seq: None },
            seconds(140),
        );
        assert_eq!(health.heartbeat_overdue(seconds(140)), None);
        assert_eq!(health.heartbeat_overdue(seconds(141)), Some(seconds(71)));
    }
}
