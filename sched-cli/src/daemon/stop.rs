//! `sched stop` and `sched restart`.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::marker::announce_stop;
use super::peer::Peer;
use super::place::{is_held, lock_path};
use super::start::{start_in, supervised};
use super::supervisor;
use super::turn::Turn;
use crate::args::{Global, Watch};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What a scheduler gets beyond its own grace before it is killed.
const MARGIN: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

pub(crate) fn stop(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    let turn = if data_dir.is_dir() { Some(Turn::take(data_dir)?) } else { None };
    let stopped = match turn {
        Some(_) => stop_in(data_dir, setup.config.shutdown_grace)?,
        None => None,
    };
    if global.json {
        output::json(&json!({ "ok": true, "running": false, "was_running": stopped.is_some(), "pid": stopped }));
    } else if !global.quiet {
        output::line(&stopped.map_or_else(|| "not running".into(), |pid| format!("stopped: pid {pid}")));
    }
    Ok(Exit::Done)
}

/// Stops what runs on the data folder; gives its process.
fn stop_in(data_dir: &Path, grace: Duration) -> Result<Option<u32>, Failure> {
    let (above, engine) = (supervisor::lock_path(data_dir), lock_path(data_dir));
    let supervisor = Peer::holding(&above)?;
    let holder = Peer::holding(&engine)?;
    // A supervisor passes it on, and starts nothing again.
    let Some(first) = supervisor.as_ref().or(holder.as_ref()) else { return Ok(None) };
    let pid = holder.as_ref().map_or(first.pid, |holder| holder.pid);
    announce_stop(data_dir);
    first.signal(Signal::TERM)?;
    let patience = grace + MARGIN;
    let mut waited = Duration::ZERO;
    while is_held(data_dir) || sched_core::StoreLock::is_held(&above) {
        if waited > patience {
            for peer in [Peer::holding(&above)?, Peer::holding(&engine)?].into_iter().flatten() {
                peer.signal(Signal::KILL)?;
            }
            let seconds = patience.as_secs();
            return Err(Failure::failed(format!("pid {pid} did not stop within {seconds} s and was killed")));
        }
        std::thread::sleep(BETWEEN_LOOKS);
        waited += BETWEEN_LOOKS;
    }
    Ok(Some(pid))
}

pub(crate) fn restart(global: &Global, watch: Watch) -> Outcome {
    // A configuration that cannot work must not stop what works.
    let setup = Setup::load(global)?;
    let data_dir = &setup.config.data_dir;
    super::place::folder(data_dir)?;
    // Nobody else's stop or start comes between.
    let turn = Turn::take(data_dir)?;
    let watch = Watch { supervise: watch.supervise || supervised(data_dir).is_some(), ..watch };
    stop_in(data_dir, setup.config.shutdown_grace)?;
    start_in(global, watch, &setup, &turn)
}
