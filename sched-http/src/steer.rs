//! `/api/v1`: backfill, reload, ledger, audit, nodes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use sched_core::config::ChannelChange;
use sched_core::{AuditReport, BackfillFire, BackfillOrder, Change, FieldChange, HistoryRow, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AppState;
use crate::api::{ByName, Optional, name, says};
use crate::auth::Caller;
use crate::error::ApiError;

/// No answer of the ledger holds more rows.
const MOST_ROWS: usize = 10_000;

pub(crate) fn routes() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route(
            "/api/v1/schedules/{name}/backfill",
            post_with(backfill, says("Run the missed and skipped fires of a past range")),
        )
        .api_route(
            "/api/v1/reload",
            post_with(reload, says("Read the configuration again, and take over what changed")),
        )
        .api_route("/api/v1/ledger", get_with(ledger, says("What became of each fire of a schedule, in order of time")))
        .api_route("/api/v1/audit", get_with(audit, says("Every nominal time recomputed, and matched to the ledger")))
        .api_route("/api/v1/nodes", get_with(nodes, says("The processes that share the store")))
}

/// Reads the configuration again for whoever asks, and takes over what changed.
pub type Reload =
    Arc<dyn Fn(ReloadOrder) -> Pin<Box<dyn Future<Output = Result<Reloaded, String>> + Send>> + Send + Sync>;

/// What reading the configuration again is for.
#[derive(Debug, Clone, Default)]
pub struct ReloadOrder {
    /// Who asks.
    pub by: String,
    /// The file that is meant.
    pub file: Option<String>,
    /// Only tell what would change.
    pub dry_run: bool,
}

/// What reading the configuration again has changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// True.
    pub ok: bool,
    /// The schedules that changed.
    pub changes: Vec<Change>,
    /// The channels that changed.
    #[serde(default)]
    pub channels: Vec<ChannelChange>,
    /// The limits that changed: `engine.max_concurrent_runs` and `groups`.
    #[serde(default)]
    pub settings: Vec<FieldChange>,
    /// Settings that differ and need a restart.
    pub restart_needed: Vec<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ReloadBody {
    /// The configuration that is meant; refused when the scheduler runs with another.
    file: Option<String>,
    /// Tell what would change, and change nothing.
    dry_run: bool,
}

async fn reload(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    body: Optional<ReloadBody>,
) -> Result<Json<Reloaded>, ApiError> {
    let ReloadBody { file, dry_run } = crate::api::optional(body)?;
    let Some(reload) = state.reload() else {
        return Err(ApiError::not_found("this scheduler has no configuration file; its program decides"));
    };
    let refused = |message| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "config", message);
    reload(ReloadOrder { by, file, dry_run }).await.map(Json).map_err(refused)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackfillBody {
    /// The first nominal time, included.
    from: DateTime<Utc>,
    /// The last nominal time, included.
    until: DateTime<Utc>,
    /// Tell what would run, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Run those that have run as well.
    #[serde(default)]
    rerun: bool,
    /// Run the schedules that come after this one as well.
    #[serde(default)]
    chains: bool,
}

/// What a backfill runs, or would.
#[derive(Serialize, JsonSchema)]
struct BackfillAnswer {
    /// True.
    ok: bool,
    /// Whether nothing was changed.
    dry_run: bool,
    /// How many fires run.
    runs: usize,
    /// Every fire in the range, in order.
    fires: Vec<BackfillFire>,
}

async fn backfill(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    Path(ByName { name: text }): Path<ByName>,
    body: Result<Json<BackfillBody>, JsonRejection>,
) -> Result<Json<BackfillAnswer>, ApiError> {
    let Json(BackfillBody { from, until, dry_run, rerun, chains }) =
        body.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if until < from {
        return Err(ApiError::bad_request("until lies before from"));
    }
    let order = BackfillOrder { schedule: name(&text)?, from, until, rerun, chains, dry_run, by };
    let fires = state.handle().backfill(order).await?.fires;
    let runs = fires.iter().filter(|fire| fire.runs).count();
    Ok(Json(BackfillAnswer { ok: true, dry_run, runs, fires }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    /// The schedule.
    schedule: String,
    /// The first nominal time, included.
    from: Option<DateTime<Utc>>,
    /// The last nominal time, included.
    until: Option<DateTime<Utc>>,
}

/// What became of each fire.
#[derive(Serialize, JsonSchema)]
struct Ledger {
    /// Runs, and ranges of fires that did not run, in order of nominal time.
    fires: Vec<HistoryRow>,
}

async fn ledger(
    State(state): State<AppState>,
    query: Result<Query<LedgerQuery>, QueryRejection>,
) -> Result<Json<Ledger>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let (from, until) = (query.from.unwrap_or(DateTime::UNIX_EPOCH), query.until.unwrap_or(DateTime::<Utc>::MAX_UTC));
    let fires = state.handle().ledger(name(&query.schedule)?, from, until).await?;
    if fires.len() > MOST_ROWS {
        return Err(ApiError::bad_request(format!("over {MOST_ROWS} rows; ask for a shorter range")));
    }
    Ok(Json(Ledger { fires }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only fires after this instant.
    since: Option<DateTime<Utc>>,
}

async fn audit(
    State(state): State<AppState>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditReport>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(state.handle().audit(query.since).await?))
}

/// One process.
#[derive(Serialize, JsonSchema)]
struct Node {
    /// Its identity, new at each start.
    node: NodeId,
    /// Its process id.
    pid: u32,
    /// This program's version.
    version: String,
    /// Runs under way.
    running: usize,
}

async fn nodes(State(state): State<AppState>) -> Result<Json<Vec<Node>>, ApiError> {
    let running = state.handle().status(0).await?.running;
    let (node, pid, version) = (state.handle().node(), std::process::id(), env!("CARGO_PKG_VERSION").into());
    Ok(Json(vec![Node { node, pid, version, running }]))
}
