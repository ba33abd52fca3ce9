//! A web service with a job of its own; the scheduler's API and dashboard are part of it, below `/scheduler`:
//! `DASHBOARD_KEY=$(openssl rand -hex 32) cargo run -p sched-examples --bin service -- 127.0.0.1:8080`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sched_core::heartbeat::HeartbeatThread;
use sched_core::{
    Job, JobError, Output, Registry, RunContext, ScheduleSpec, Scheduler, SqliteStore, TriggerSpec, async_trait,
};
use sched_http::{AppState, Connections, DashboardKey, router, serve};

/// Says how many visits there were since it last ran.
struct CountVisits(Arc<AtomicU64>);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoParams {}

#[async_trait]
impl Job for CountVisits {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Ok(Output::summary(format!("{} visits", self.0.swap(0, Ordering::Relaxed))))
    }
}

async fn visit(State(visits): State<Arc<AtomicU64>>) -> &'static str {
    visits.fetch_add(1, Ordering::Relaxed);
    "hello\n"
}

#[expect(clippy::print_stdout, reason = "an example says where it listens")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let key = std::env::var("DASHBOARD_KEY").context("DASHBOARD_KEY is not set; take 32 random characters or more")?;
    let visits = Arc::new(AtomicU64::new(0));

    let mut registry = Registry::new();
    let counted = visits.clone();
    registry.register("count_visits", "Counts visits", move |_: NoParams| Ok(CountVisits(counted.clone())));
    let minutely = ScheduleSpec::new("visits", "count_visits", TriggerSpec::every(Duration::from_secs(60)))?;
    let scheduler =
        Scheduler::builder(SqliteStore::open("service.db")?).registry(registry).schedule(minutely).start()?;
    let heartbeat = HeartbeatThread::start(scheduler.handle().clone(), Duration::from_secs(60))?;

    let listener = tokio::net::TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    let state = AppState::embedded(scheduler.handle().clone(), DashboardKey::new(&key)?, address.to_string());
    let app = Router::new().route("/", get(visit)).with_state(visits).nest("/scheduler", router(state));
    println!("http://{address}/ and http://{address}/scheduler");
    let connections = Connections::default();
    let server = tokio::spawn(serve(listener, app, connections.clone()));

    tokio::signal::ctrl_c().await?;
    drop(heartbeat);
    connections.close(Duration::from_secs(1)).await;
    server.await?;
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
