//! Reads the configuration again in the running scheduler. One that cannot work changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use sched_core::config::{Config, diff_channels, diff_limits};
use sched_core::{AlertKind, Event, Handle, Wanted};
use sched_http::{Reload, ReloadOrder, Reloaded};

use crate::args::Global;
use crate::commands::schedule_changes;
use crate::compose::Setup;
use crate::exit::Failure;

/// What reads the configuration again, with what it was at the start.
pub(crate) fn reloader(global: &Global, setup: &Setup, handle: &Handle) -> Reload {
    let started = Arc::new((global.clone(), setup.config.clone(), setup.file.clone()));
    let taken = Arc::new(Mutex::new(limits_and_channels(&setup.config)));
    let handle = handle.clone();
    Arc::new(move |order| {
        let (started, taken, handle) = (started.clone(), taken.clone(), handle.clone());
        Box::pin(async move {
            let (global, before, file) = &*started;
            let ours = file.as_ref().map_or(String::new(), |path| path.display().to_string());
            if let Some(meant) = order.file.as_ref().filter(|meant| **meant != ours) {
                let ours = if ours.is_empty() { "the built-in schedules" } else { &ours };
                return Err(format!(
                    "the scheduler runs with {ours}, not with {meant}; stop it and start it with that"
                ));
            }
            let result = read_again(global.clone(), before, &taken, &handle, &order).await;
            match result {
                Ok(reloaded) => Ok(reloaded),
                Err(message) if order.dry_run => Err(message),
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

/// Of a configuration what is in no store: to compare the next one with.
fn limits_and_channels(config: &Config) -> Config {
    Config {
        channels: config.channels.clone(),
        groups: config.groups.clone(),
        max_concurrent_runs: config.max_concurrent_runs,
        ..Config::default()
    }
}

async fn read_again(
    global: Global,
    before: &Config,
    taken: &Mutex<Config>,
    handle: &Handle,
    order: &ReloadOrder,
) -> Result<Reloaded, String> {
    let dry_run = order.dry_run;
    let read = move || -> Result<_, Failure> {
        let setup = Setup::load(&global)?;
        let changes = dry_run.then(|| schedule_changes(&setup)).transpose()?;
        Ok((setup, changes))
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    let (setup, changes) = read.map_err(|failure| failure.message)?;
    let channels = setup.channels().map_err(|failure| failure.message)?;
    let config = setup.config;
    let restart_needed = need_restart(before, &config);
    let now = limits_and_channels(&config);
    let (channel_changes, settings) = {
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        (diff_channels(&taken.channels, &now.channels), diff_limits(&taken, &now))
    };
    let told = |changes| Reloaded { ok: true, changes, channels: channel_changes, settings, restart_needed };
    if let Some(changes) = changes {
        return Ok(told(changes));
    }
    let Config { schedules, groups, max_concurrent_runs, .. } = config;
    let wanted = Wanted { schedules, groups, channels, max_concurrent_runs };
    let changes = handle.apply(wanted, &order.by).await.map_err(|error| error.to_string())?;
    *taken.lock().unwrap_or_else(PoisonError::into_inner) = now;
    Ok(told(changes))
}

/// Settings that a running scheduler does not take over.
fn need_restart(before: &Config, now: &Config) -> Vec<String> {
    let differs = [
        ("data_dir", before.data_dir != now.data_dir),
        ("log_dir", before.log_dir != now.log_dir),
        ("store.url", before.store != now.store),
        ("http.listen", before.listen != now.listen),
        ("http.dashboard_key", before.dashboard_key != now.dashboard_key),
        ("log", (before.log, before.log_to_stdout) != (now.log, now.log_to_stdout)),
        ("heartbeat.every", before.heartbeat != now.heartbeat),
        ("shutdown.grace", before.shutdown_grace != now.shutdown_grace),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}
