//! Reads the configuration again in the running scheduler. One that cannot work changes nothing.

use std::sync::Arc;

use sched_core::config::Config;
use sched_core::{AlertKind, Event, Handle, Wanted};
use sched_http::{Reload, Reloaded};

use crate::args::Global;
use crate::compose::Setup;

/// What reads the configuration again, with what it was at the start.
pub(crate) fn reloader(global: &Global, setup: &Setup, handle: &Handle) -> Reload {
    let started = Arc::new((global.clone(), setup.config.clone(), setup.file.clone()));
    let handle = handle.clone();
    Arc::new(move |by, meant| {
        let (started, handle) = (started.clone(), handle.clone());
        Box::pin(async move {
            let (global, before, file) = &*started;
            let ours = file.as_ref().map_or(String::new(), |path| path.display().to_string());
            if let Some(meant) = meant.filter(|meant| *meant != ours) {
                let ours = if ours.is_empty() { "the built-in schedules" } else { &ours };
                return Err(format!(
                    "the scheduler runs with {ours}, not with {meant}; stop it and start it with that"
                ));
            }
            match take_over(global.clone(), before, &handle, &by).await {
                Ok(reloaded) => Ok(reloaded),
                Err(message) => {
                    let told = format!("the configuration was not taken over, nothing has changed: {message}");
                    // The caller is told in any case.
                    let alert = Event::Alert { kind: AlertKind::Config, schedule: None, run_id: None, message: told };
                    let _ = handle.note(alert).await;
                    Err(message)
                }
            }
        })
    })
}

async fn take_over(global: Global, before: &Config, handle: &Handle, by: &str) -> Result<Reloaded, String> {
    let setup = tokio::task::spawn_blocking(move || Setup::load(&global)).await.map_err(|error| error.to_string())?;
    let setup = setup.map_err(|failure| failure.message)?;
    let channels = setup.channels().map_err(|failure| failure.message)?;
    let config = setup.config;
    let restart_needed = need_restart(before, &config);
    let Config { schedules, groups, max_concurrent_runs, .. } = config;
    let wanted = Wanted { schedules, groups, channels, max_concurrent_runs };
    let changes = handle.apply(wanted, by).await.map_err(|error| error.to_string())?;
    Ok(Reloaded { ok: true, changes, restart_needed })
}

/// Settings that a running scheduler does not take over.
fn need_restart(before: &Config, now: &Config) -> Vec<String> {
    let differs = [
        ("data_dir", before.data_dir != now.data_dir),
        ("log_dir", before.log_dir != now.log_dir),
        ("store.url", before.store != now.store),
        ("http.listen", before.listen != now.listen),
        ("http.dashboard_key", before.dashboard_key != now.dashboard_key),
        ("log", before.log != now.log),
        ("heartbeat.every", before.heartbeat != now.heartbeat),
        ("shutdown.grace", before.shutdown_grace != now.shutdown_grace),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}
