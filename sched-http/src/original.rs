//! The original system's calls, by a table of aliases: path, schedule or kind, and what of the run's figures to lift.

use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sched_core::{EngineError, Refusal, RunState, TriggerRequest};
use serde_json::{Value, json};

use crate::AppState;
use crate::api::says;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::health::status_body;

/// A run that takes longer is answered by 202.
const PATIENCE: Duration = Duration::from_secs(25);

/// One path of the original.
#[derive(Debug, Clone)]
pub struct Alias {
    /// The path, answered for POST.
    pub path: &'static str,
    /// The schedule it runs.
    pub schedule: &'static str,
    /// Without such a schedule, the first of this kind.
    pub kind: &'static str,
    /// The figures of the run that stand at the top of the answer.
    pub lift: &'static [&'static str],
}

pub(crate) fn routes(aliases: &[Alias]) -> ApiRouter<AppState> {
    let mut router = ApiRouter::new()
        .api_route("/api/automations/start", post_with(start, says("Dispatch fires again")))
        .api_route("/api/automations/stop", post_with(stop, says("Dispatch no fires until started")))
        .api_route("/api/automations/status", get_with(status, says("How the scheduler is, in the original's words")));
    for alias in aliases.iter().cloned() {
        let path = alias.path;
        let summary = format!("Run `{}` now, or join its open run, and wait up to 25 s", alias.schedule);
        let handler = post_with(move |state, caller| run(state, caller, alias), |op| op.summary(&summary));
        router = router.api_route(path, handler);
    }
    router
}

async fn start(state: State<AppState>, caller: Extension<Caller>) -> Result<Json<Value>, ApiError> {
    set_dispatch(state, caller, true).await
}

async fn stop(state: State<AppState>, caller: Extension<Caller>) -> Result<Json<Value>, ApiError> {
    set_dispatch(state, caller, false).await
}

async fn set_dispatch(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    run: bool,
) -> Result<Json<Value>, ApiError> {
    state.handle().set_dispatch(run, by).await?;
    Ok(Json(json!({ "ok": true, "running": run, "pid": std::process::id() })))
}

async fn status(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let body = status_body(&state).await?;
    Ok(Json(json!({
        "ok": true,
        "running": body.running,
        "pid": body.pid,
        "last_activity": body.last_activity,
        "tick": body.tick,
        "next": body.next,
    })))
}

/// Runs the alias's schedule, or joins its open run, and waits.
async fn run(
    State(state): State<AppState>,
    Extension(Caller(by)): Extension<Caller>,
    alias: Alias,
) -> Result<Response, ApiError> {
    let handle = state.handle();
    let schedule = state.schedule_of(&alias).await?;
    let run_id = match handle.trigger(TriggerRequest::new(schedule, by)).await {
        Ok(run_id) => run_id,
        Err(EngineError::Refused(Refusal::Busy { blocker })) => blocker,
        Err(error) => return Err(error.into()),
    };
    let Ok(run) = tokio::time::timeout(PATIENCE, handle.wait(run_id)).await else {
        let run = handle.run(run_id).await?;
        return Ok(
            (StatusCode::ACCEPTED, Json(json!({ "ok": true, "run_id": run_id, "state": run.state }))).into_response()
        );
    };
    let run = run?;
    let ok = run.state == RunState::Succeeded;
    let mut body = json!({ "ok": ok, "run_id": run_id, "state": run.state });
    for key in alias.lift {
        body[*key] = run.data.get(*key).cloned().unwrap_or(Value::Null);
    }
    body["data"] = run.data;
    if ok {
        return Ok(Json(body).into_response());
    }
    let message = run.error.unwrap_or_else(|| run.state.to_string());
    body["error"] = json!({ "code": run.state, "message": message });
    Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response())
}
