//! `/api/v1`: schedules, runs, what comes, status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chrono::{DateTime, Utc};
use sched_core::{
    HistoryCursor, HistoryFilter, HistoryRow, RunId, RunRecord, RunState, ScheduleName, ScheduleView, TriggerRequest,
    Upcoming,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::AppState;
use crate::auth::Caller;
use crate::error::ApiError;

const MOST: u32 = 1000;
const STATUS_NEXT: usize = 100;

/// What the process knows of itself, kept by whoever ticks.
#[derive(Debug)]
pub struct Health {
    started: DateTime<Utc>,
    tick: AtomicU64,
    last_activity: AtomicI64,
    listen: String,
}

impl Health {
    /// A process that started then and listens there.
    #[must_use]
    pub const fn new(started: DateTime<Utc>, listen: String) -> Self {
        Self { started, tick: AtomicU64::new(0), last_activity: AtomicI64::new(i64::MIN), listen }
    }

    /// Notes an event's time, and its tick if it is one.
    pub fn note(&self, at: DateTime<Utc>, tick: Option<u64>) {
        self.last_activity.fetch_max(at.timestamp_micros(), Ordering::Relaxed);
        if let Some(tick) = tick {
            self.tick.store(tick, Ordering::Relaxed);
        }
    }
}

/// The answer of `/api/v1/status`, and of `sched status --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusBody {
    /// Whether fires are dispatched.
    pub running: bool,
    /// `running` or `degraded`.
    pub state: String,
    /// This process.
    pub pid: Option<u32>,
    /// The newest event.
    pub last_activity: Option<DateTime<Utc>>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The heartbeat's count.
    pub tick: u64,
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
    let now = state.handle().clock().now().utc;
    let uptime = (now - health.started).num_seconds();
    Ok(StatusBody {
        running: status.dispatch.is_none() && !status.draining,
        state: if status.store_failing { "degraded" } else { "running" }.into(),
        pid: Some(std::process::id()),
        last_activity: DateTime::from_timestamp_micros(health.last_activity.load(Ordering::Relaxed))
            .filter(|at| *at >= health.started - chrono::TimeDelta::days(1)),
        uptime_seconds: u64::try_from(uptime).unwrap_or(0),
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

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/upcoming", get(upcoming))
        .route("/api/v1/schedules", get(schedules))
        .route("/api/v1/schedules/{name}", get(schedule))
        .route("/api/v1/schedules/{name}/trigger", post(trigger))
        .route("/api/v1/schedules/{name}/pause", post(pause))
        .route("/api/v1/schedules/{name}/resume", post(resume))
        .route("/api/v1/runs", get(runs))
        .route("/api/v1/runs/{id}", get(run))
        .route("/api/v1/runs/{id}/log", get(log))
        .route("/api/v1/runs/{id}/cancel", post(cancel))
        .route("/api/v1/runs/{id}/retry", post(retry))
}

async fn status(State(state): State<AppState>) -> Result<Json<StatusBody>, ApiError> {
    status_body(&state).await.map(Json)
}

async fn upcoming(State(state): State<AppState>) -> Result<Json<Vec<Upcoming>>, ApiError> {
    Ok(Json(state.handle().status(STATUS_NEXT).await?.upcoming))
}

async fn schedules(State(state): State<AppState>) -> Result<Json<Vec<ScheduleView>>, ApiError> {
    Ok(Json(state.handle().schedules().await?))
}

fn name(text: &str) -> Result<ScheduleName, ApiError> {
    text.parse().map_err(|error: sched_core::InvalidName| ApiError::bad_request(error.to_string()))
}

fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("`{text}` is not a run id")))
}

async fn schedule(State(state): State<AppState>, Path(text): Path<String>) -> Result<Json<ScheduleView>, ApiError> {
    let name = name(&text)?;
    let found = state.handle().schedules().await?.into_iter().find(|view| view.name == name);
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("no schedule `{name}`")))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TriggerBody {
    params: Map<String, Value>,
    queue: bool,
    idempotency_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PauseBody {
    reason: String,
}

/// A body that may be left out.
fn optional<T: Default>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(JsonRejection::MissingJsonContentType(_)) => Ok(T::default()),
        Err(error) => Err(ApiError::bad_request(error.body_text())),
    }
}

async fn trigger(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(text): Path<String>,
    body: Result<Json<TriggerBody>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let TriggerBody { params, queue, idempotency_key } = optional(body)?;
    let request = TriggerRequest { schedule: name(&text)?, params, queue, idempotency_key, by };
    let run_id = state.handle().trigger(request).await?;
    Ok(Json(json!({ "ok": true, "run_id": run_id })))
}

async fn pause(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(text): Path<String>,
    body: Result<Json<PauseBody>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let PauseBody { reason } = optional(body)?;
    if reason.trim().is_empty() {
        return Err(ApiError::bad_request("say why: {\"reason\": \"…\"}"));
    }
    state.handle().pause(name(&text)?, by, reason).await?;
    Ok(Json(json!({ "ok": true })))
}

async fn resume(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<Json<Value>, ApiError> {
    state.handle().resume(name(&text)?, by).await?;
    Ok(Json(json!({ "ok": true })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    schedule: Option<String>,
    /// Words with commas.
    state: Option<String>,
    since: Option<DateTime<Utc>>,
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

async fn runs(State(state): State<AppState>, Query(query): Query<RunsQuery>) -> Result<Json<Value>, ApiError> {
    let words = query.state.iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    let states: Result<Vec<RunState>, _> = words.map(str::parse).collect();
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let filter = HistoryFilter {
        schedule: query.schedule.as_deref().map(name).transpose()?,
        states: states.map_err(|error| ApiError::bad_request(format!("state: {error}")))?,
        since: query.since,
        after: query.after.as_deref().map(cursor).transpose()?,
        limit,
    };
    let rows = state.handle().history(filter).await?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| cursor_text(row.cursor()));
    Ok(Json(json!({ "runs": rows, "next": next })))
}

fn cursor_text(cursor: HistoryCursor) -> String {
    format!("{}_{}", cursor.at.timestamp_micros(), cursor.id)
}

fn cursor(text: &str) -> Result<HistoryCursor, ApiError> {
    let parse = || {
        let (at, id) = text.split_once('_')?;
        Some(HistoryCursor { at: DateTime::from_timestamp_micros(at.parse().ok()?)?, id: id.parse().ok()? })
    };
    parse().ok_or_else(|| ApiError::bad_request("after is the `next` of an earlier page"))
}

async fn run(State(state): State<AppState>, Path(text): Path<String>) -> Result<Json<RunRecord>, ApiError> {
    Ok(Json(state.handle().run(run_id(&text)?).await?))
}

async fn log(State(state): State<AppState>, Path(text): Path<String>) -> Result<String, ApiError> {
    let run = state.handle().run(run_id(&text)?).await?;
    let Some(files) = state.handle().files() else { return Ok(String::new()) };
    match tokio::fs::read(files.output_path(run.run_id)).await {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())),
    }
}

async fn cancel(State(state): State<AppState>, Path(text): Path<String>) -> Result<Json<Value>, ApiError> {
    state.handle().cancel(run_id(&text)?).await?;
    Ok(Json(json!({ "ok": true })))
}

async fn retry(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let run_id = state.handle().retry(run_id(&text)?, by).await?;
    Ok(Json(json!({ "ok": true, "run_id": run_id })))
}

/// The newest lines of history, for the page.
pub(crate) async fn recent(state: &AppState, limit: u32) -> Result<Vec<HistoryRow>, ApiError> {
    Ok(state.handle().history(HistoryFilter::newest(limit)).await?)
}
