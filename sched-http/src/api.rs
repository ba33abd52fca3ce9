//! `/api/v1`: schedules, runs, what comes, status. Each handler's types are its documentation.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use sched_core::{
    HistoryCursor, HistoryFilter, HistoryRow, RunId, RunRecord, RunState, ScheduleName, ScheduleView, TriggerRequest,
    Upcoming,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::health::{STATUS_NEXT, StatusBody, status_body};

const MOST: u32 = 1000;

pub(crate) fn routes() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/api/v1/status", get_with(status, says("How the scheduler is")))
        .api_route("/api/v1/upcoming", get_with(upcoming, says("The 100 soonest fires")))
        .api_route("/api/v1/schedules", get_with(schedules, says("Every schedule")))
        .api_route("/api/v1/schedules/{name}", get_with(schedule, says("One schedule")))
        .api_route("/api/v1/schedules/{name}/trigger", post_with(trigger, says("Run a schedule now")))
        .api_route("/api/v1/schedules/{name}/pause", post_with(pause, says("Let its fires pass, and say why")))
        .api_route("/api/v1/schedules/{name}/resume", post_with(resume, says("End the pause")))
        .api_route(
            "/api/v1/runs",
            get_with(runs, says("History, newest first: runs, and ranges of fires that did not run")),
        )
        .api_route("/api/v1/runs/{id}", get_with(run, says("One run")))
        .api_route("/api/v1/runs/{id}/log", get_with(log, says("What a run printed")))
        .api_route("/api/v1/runs/{id}/cancel", post_with(cancel, says("Cancel a run: asked first, then forced")))
        .api_route("/api/v1/runs/{id}/retry", post_with(retry, says("Run a finished run again, as a new run")))
}

/// An operation's one line.
pub(crate) fn says(summary: &'static str) -> impl Fn(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.summary(summary)
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ByName {
    /// The schedule's name.
    pub(crate) name: String,
}

#[derive(Deserialize, JsonSchema)]
struct ById {
    /// The run's id.
    id: String,
}

/// It is done, and durable.
#[derive(Serialize, JsonSchema)]
struct Done {
    /// True.
    ok: bool,
}

const DONE: Json<Done> = Json(Done { ok: true });

/// The run is accepted, and durable.
#[derive(Serialize, JsonSchema)]
struct Accepted {
    /// True.
    ok: bool,
    /// The run to ask for.
    run_id: RunId,
}

/// A page of history.
#[derive(Serialize, JsonSchema)]
struct RunsPage {
    /// Newest first.
    runs: Vec<HistoryRow>,
    /// Give it as `after` for the next page; none on the last.
    next: Option<String>,
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

pub(crate) fn name(text: &str) -> Result<ScheduleName, ApiError> {
    text.parse().map_err(|error: sched_core::InvalidName| ApiError::bad_request(error.to_string()))
}

fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("`{text}` is not a run id")))
}

async fn schedule(
    State(state): State<AppState>,
    Path(ByName { name: text }): Path<ByName>,
) -> Result<Json<ScheduleView>, ApiError> {
    let name = name(&text)?;
    let found = state.handle().schedules().await?.into_iter().find(|view| view.name == name);
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("no schedule `{name}`")))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TriggerBody {
    /// Parameters that differ for this run.
    params: Map<String, Value>,
    /// Wait behind an open run instead of being refused.
    queue: bool,
    /// Asking again with the same key gives the same run.
    idempotency_key: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PauseBody {
    /// Why; kept with who and when.
    reason: String,
}

/// A body that may be left out, with its content type.
pub(crate) type Optional<T> = Result<Option<Json<T>>, JsonRejection>;

/// What was sent, or nothing. What is sent as something else is refused: it would be taken for nothing.
pub(crate) fn optional<T: Default>(body: Optional<T>) -> Result<T, ApiError> {
    match body {
        Ok(body) => Ok(body.map(|Json(body)| body).unwrap_or_default()),
        Err(JsonRejection::MissingJsonContentType(_)) => {
            let message = "a body is sent with `content-type: application/json`, or left out";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message))
        }
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a body has at most 1 MiB"))
        }
        Err(error) => Err(ApiError::bad_request(error.body_text())),
    }
}

async fn trigger(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(ByName { name: text }): Path<ByName>,
    body: Optional<TriggerBody>,
) -> Result<Json<Accepted>, ApiError> {
    let TriggerBody { params, queue, idempotency_key } = optional(body)?;
    let request = TriggerRequest { schedule: name(&text)?, params, queue, idempotency_key, by };
    let run_id = state.handle().trigger(request).await?;
    Ok(Json(Accepted { ok: true, run_id }))
}

async fn pause(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(ByName { name: text }): Path<ByName>,
    body: Optional<PauseBody>,
) -> Result<Json<Done>, ApiError> {
    let PauseBody { reason } = optional(body)?;
    if reason.trim().is_empty() {
        return Err(ApiError::bad_request("say why: {\"reason\": \"…\"}"));
    }
    state.handle().pause(name(&text)?, by, reason).await?;
    Ok(DONE)
}

async fn resume(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(ByName { name: text }): Path<ByName>,
) -> Result<Json<Done>, ApiError> {
    state.handle().resume(name(&text)?, by).await?;
    Ok(DONE)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    /// Only this schedule.
    schedule: Option<String>,
    /// Only these states, with commas.
    state: Option<String>,
    /// Only what was queued at or after this instant.
    since: Option<DateTime<Utc>>,
    /// At most so many, up to 1000; 100 unless given.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

async fn runs(
    State(state): State<AppState>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<RunsPage>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let words = query.state.iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    let states: Result<Vec<RunState>, _> = words.map(str::parse).collect();
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let filter = HistoryFilter {
        schedule: query.schedule.as_deref().map(name).transpose()?,
        states: states.map_err(|error| ApiError::bad_request(format!("state: {error}")))?,
        since: query.since,
        after: query.after.as_deref().map(cursor).transpose()?,
        limit,
        bare: false,
    };
    let rows = state.handle().history(filter).await?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| cursor_text(row.cursor()));
    Ok(Json(RunsPage { runs: rows, next }))
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

async fn run(State(state): State<AppState>, Path(ById { id: text }): Path<ById>) -> Result<Json<RunRecord>, ApiError> {
    Ok(Json(state.handle().run(run_id(&text)?).await?))
}

async fn log(State(state): State<AppState>, Path(ById { id: text }): Path<ById>) -> Result<String, ApiError> {
    let run = state.handle().run(run_id(&text)?).await?;
    let Some(files) = state.handle().files() else { return Ok(String::new()) };
    match tokio::fs::read(files.output_path(run.run_id)).await {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())),
    }
}

async fn cancel(State(state): State<AppState>, Path(ById { id: text }): Path<ById>) -> Result<Json<Done>, ApiError> {
    state.handle().cancel(run_id(&text)?).await?;
    Ok(DONE)
}

async fn retry(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(ById { id: text }): Path<ById>,
) -> Result<Json<Accepted>, ApiError> {
    let run_id = state.handle().retry(run_id(&text)?, by).await?;
    Ok(Json(Accepted { ok: true, run_id }))
}

/// The newest lines of history, for the page.
pub(crate) async fn recent(state: &AppState, limit: u32) -> Result<Vec<HistoryRow>, ApiError> {
    Ok(state.handle().history(HistoryFilter::newest(limit)).await?)
}
