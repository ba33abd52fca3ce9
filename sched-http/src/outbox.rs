//! `/api/v1/outbox`: what people are told through channels, and how far that is.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use sched_core::{OutboxFilter, OutboxId, OutboxLine, OutboxState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AppState;
use crate::api::says;
use crate::error::ApiError;

const MOST: u32 = 1000;

pub(crate) fn routes() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/api/v1/outbox", get_with(outbox, says("What people are told through channels, newest first")))
        .api_route("/api/v1/outbox/retry", post_with(retry, says("Try again to deliver what was given up")))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutboxQuery {
    /// Only what is so far.
    state: Option<OutboxState>,
    /// At most so many, up to 1000; 100 unless given.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<OutboxId>,
}

/// A page of the outbox.
#[derive(Serialize, JsonSchema)]
struct OutboxPage {
    /// Newest first.
    outbox: Vec<OutboxLine>,
    /// Give it as `after` for the next page; none on the last.
    next: Option<OutboxId>,
}

/// It is done, and durable.
#[derive(Serialize, JsonSchema)]
struct Retried {
    /// True.
    ok: bool,
    /// How many are tried again.
    count: usize,
}

async fn outbox(
    State(state): State<AppState>,
    query: Result<Query<OutboxQuery>, QueryRejection>,
) -> Result<Json<OutboxPage>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let rows = state.handle().outbox(OutboxFilter { state: query.state, after: query.after, limit }).await?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| row.id);
    Ok(Json(OutboxPage { outbox: rows.into_iter().map(OutboxLine::from).collect(), next }))
}

async fn retry(State(state): State<AppState>) -> Result<Json<Retried>, ApiError> {
    Ok(Json(Retried { ok: true, count: state.handle().redeliver().await? }))
}
