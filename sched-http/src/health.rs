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
    listen: String,
}

impl Health {
    /// A process that starts now, by its scheduler's clock, and listens there.
    #[must_use]
    pub const fn new(Now { mono: started, .. }: Now, listen: String) -> Self {
        let (last_activity, last_tick) = (AtomicI64::new(NEVER), AtomicI64::new(NEVER));
        Self { started, tick: AtomicU64::new(0), last_activity, last_tick, listen }
    }

    /// Notes an event's time, and its tick if it is one.
    pub fn note_event(&self, recorded: &Recorded) {
        // Events come in their order; their times do not when the clock goes back.
        self.last_activity.store(recorded.ts.timestamp_micros(), Ordering::Relaxed);
        if let Event::Tick { tick, .. } = recorded.event {
            self.tick.store(tick, Ordering::Relaxed);
            self.last_tick.store(recorded.ts.timestamp_micros(), Ordering::Relaxed);
        }
    }
}

/// The answer of `/api/v1/status`, and of `sched status --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StatusBody {
    /// Whether fires are dispatched.
    pub running: bool,
    /// `running` or `degraded`.
    pub state: String,
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
    let uptime = state.handle().clock().now().mono.saturating_sub(health.started);
    Ok(StatusBody {
        running: status.dispatch.is_none() && !status.draining,
        state: if status.problem.is_some() { "degraded" } else { "running" }.into(),
        pid: Some(std::process::id()),
        problem: status.problem,
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
