//! The dashboard: one page, rendered here, kept fresh by a small script. No request leaves this server.

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Extension, Router};
use chrono::{DateTime, Utc};
use sched_core::HistoryRow;
use serde_json::{Value, json};

use crate::AppState;
use crate::api::recent;
use crate::error::ApiError;
use crate::health::status_body;
use crate::page::{self, Base};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/", get(whole)).route("/parts/live", get(live)).route("/assets/dashboard.js", get(script))
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("pages/style.css"))
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("pages/dashboard.js"))
}

async fn whole(State(state): State<AppState>, Extension(base): Extension<Base>) -> Result<Html<String>, ApiError> {
    render("page.html", &state, &base).await
}

/// The part of the page that changes.
async fn live(State(state): State<AppState>, Extension(base): Extension<Base>) -> Result<Html<String>, ApiError> {
    render("live.html", &state, &base).await
}

async fn render(name: &str, state: &AppState, base: &Base) -> Result<Html<String>, ApiError> {
    let status = status_body(state).await?;
    let now = state.handle().clock().now().utc;
    let schedules: Vec<Value> = state.handle().schedules().await?.into_iter().map(|view| {
        let state = match (&view.paused, view.open.is_empty()) {
            (Some(hold), _) => format!("paused by {}: {}", hold.by, hold.reason),
            (None, false) => "open".into(),
            (None, true) => "waiting".into(),
        };
        json!({ "name": view.name, "job": view.spec.job, "trigger": view.spec.trigger.to_string(), "next": view.next, "next_text": view.next.map(text), "state": state })
    }).collect();
    let runs: Vec<Value> = recent(state, 25).await?.iter().map(line).collect();
    let facts = json!({
        "base": base.0,
        "status": status,
        "tick_age": status.last_tick.map(|at| (now - at).num_seconds().max(0)),
        "activity_age": status.last_activity.map(|at| (now - at).num_seconds().max(0)),
        "schedules": schedules,
        "runs": runs,
        "now": now,
    });
    page::render(name, facts)
}

fn line(row: &HistoryRow) -> Value {
    match row {
        HistoryRow::Run(run) => json!({
            "schedule": run.schedule,
            "at": text(run.nominal_at.unwrap_or(run.queued_at)),
            "origin": run.origin,
            "state": run.state,
            "duration": run.duration_text(),
            "note": row.note(),
        }),
        HistoryRow::Range(range) => json!({
            "schedule": range.schedule,
            "at": text(range.until),
            "origin": if range.count == 1 { "1 fire".to_owned() } else { format!("{} fires", range.count) },
            "state": range.state,
            "duration": Value::Null,
            "note": row.note(),
        }),
    }
}

/// To the second; the page says that it is UTC.
fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
