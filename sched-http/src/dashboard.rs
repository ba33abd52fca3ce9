//! The dashboard: one page, rendered here, kept fresh by a small script. No request leaves this server.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use minijinja::{AutoEscape, Environment};
use sched_core::HistoryRow;
use serde_json::{Value, json};

use crate::AppState;
use crate::api::{recent, status_body};
use crate::error::ApiError;

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/", get(page)).route("/parts/live", get(live)).route("/assets/dashboard.js", get(script))
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("pages/style.css"))
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("pages/dashboard.js"))
}

async fn page(State(state): State<AppState>) -> Result<Html<String>, ApiError> {
    render("page.html", &state).await
}

/// The part of the page that changes.
async fn live(State(state): State<AppState>) -> Result<Html<String>, ApiError> {
    render("live.html", &state).await
}

async fn render(name: &str, state: &AppState) -> Result<Html<String>, ApiError> {
    let status = status_body(state).await?;
    let now = state.handle().clock().now().utc;
    let schedules: Vec<Value> = state.handle().schedules().await?.into_iter().map(|view| {
        let state = match (&view.paused, view.open.is_empty()) {
            (Some(hold), _) => format!("paused by {}: {}", hold.by, hold.reason),
            (None, false) => "open".into(),
            (None, true) => "waiting".into(),
        };
        json!({ "name": view.name, "job": view.spec.job, "trigger": view.spec.trigger.to_string(), "next": view.next, "state": state })
    }).collect();
    let runs: Vec<Value> = recent(state, 25).await?.iter().map(line).collect();
    let fail = |error: minijinja::Error| {
        ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{error:#}"))
    };
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    pages.add_template("page.html", include_str!("pages/page.html")).map_err(fail)?;
    pages.add_template("live.html", include_str!("pages/live.html")).map_err(fail)?;
    let facts = json!({
        "status": status,
        "tick_age": status.last_activity.map(|at| (now - at).num_seconds().max(0)),
        "schedules": schedules,
        "runs": runs,
        "now": now,
    });
    let page = pages.get_template(name).map_err(fail)?;
    page.render(minijinja::value::Serde(facts)).map(Html).map_err(fail)
}

fn line(row: &HistoryRow) -> Value {
    match row {
        HistoryRow::Run(run) => json!({
            "schedule": run.schedule,
            "at": run.nominal_at.unwrap_or(run.queued_at),
            "origin": run.origin,
            "state": run.state,
            "duration": run.duration_ms.map(|ms| format!("{ms} ms")),
            "note": run.error.as_ref().or(run.summary.as_ref()),
        }),
        HistoryRow::Range(range) => json!({
            "schedule": range.schedule,
            "at": range.until,
            "origin": format!("{} fires", range.count),
            "state": range.state,
            "duration": Value::Null,
            "note": range.reason.explain(),
        }),
    }
}
