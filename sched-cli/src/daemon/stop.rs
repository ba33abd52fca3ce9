//! `sched stop` and `sched restart`.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::place::{holder, is_held};
use super::start::start;
use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What a scheduler gets beyond its own grace before it is killed.
const MARGIN: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

pub(crate) fn stop(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    // Only the process that holds the lock is ever signalled: the PID file decides nothing.
    let Some(pid) = holder(data_dir) else {
        if global.json {
            output::json(&json!({ "ok": true, "running": false, "was_running": false }));
        } else if !global.quiet {
            output::line("not running");
        }
        return Ok(Exit::Done);
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| Failure::failed(format!("the lock names no process: {pid}")))?;
    kill_process(process, Signal::TERM).map_err(|error| Failure::failed(format!("pid {pid}: {error}")))?;
    let patience = setup.config.shutdown_grace + MARGIN;
    let mut waited = Duration::ZERO;
    while is_held(data_dir) {
        if waited > patience {
            kill_process(process, Signal::KILL).map_err(|error| Failure::failed(format!("pid {pid}: {error}")))?;
            return Err(Failure::failed(format!(
                "pid {pid} did not stop within {} s and was killed",
                patience.as_secs()
            )));
        }
        std::thread::sleep(BETWEEN_LOOKS);
        waited += BETWEEN_LOOKS;
    }
    if global.json {
        output::json(&json!({ "ok": true, "running": false, "was_running": true, "pid": pid }));
    } else if !global.quiet {
        output::line(&format!("stopped: pid {pid}"));
    }
    Ok(Exit::Done)
}

pub(crate) fn restart(global: &Global) -> Outcome {
    // A configuration that cannot work must not stop what works.
    Setup::load(global)?;
    stop(&Global { json: false, quiet: true, ..global.clone() })?;
    start(global)
}
