//! `sched stop` and `sched restart`.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sched_core::{Clock as _, StoreLock, SystemClock};
use serde_json::json;

use super::marker::{Marker, Note as _, announce_stop};
use super::peer::Peer;
use super::place::{is_held, lock_path};
use super::start::{MARGIN, start_in};
use super::supervisor::{self, as_before};
use super::turn::Turn;
use crate::args::{Global, Watch};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What a start writes at least, in bytes.
const ROOM: usize = 256 << 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What was stopped.
struct End {
    pid: u32,
    /// It had to be killed: why.
    killed: Option<String>,
}

pub(crate) fn stop(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    let turn = if data_dir.is_dir() { Some(Turn::take(data_dir)?) } else { None };
    let end = match turn {
        Some(_) => stop_in(data_dir, setup.config.shutdown_grace)?,
        None => None,
    };
    if let Some(End { pid, killed: Some(why) }) = end {
        return Err(Failure::failed(format!("pid {pid}: {why}")));
    }
    let pid = end.map(|end| end.pid);
    if global.json {
        output::json(&json!({ "ok": true, "running": false, "was_running": pid.is_some(), "pid": pid }));
    } else if !global.quiet {
        output::line(&pid.map_or_else(|| "not running".into(), |pid| format!("stopped: pid {pid}")));
    }
    Ok(Exit::Done)
}

/// Stops what runs on the data folder.
fn stop_in(data_dir: &Path, grace: Duration) -> Result<Option<End>, Failure> {
    let (above, engine) = (supervisor::lock_path(data_dir), lock_path(data_dir));
    let supervisor = Peer::holding(&above)?;
    let holder = Peer::holding(&engine)?;
    // A supervisor passes it on, and starts nothing again.
    let Some(first) = supervisor.as_ref().or(holder.as_ref()) else { return Ok(None) };
    let pid = holder.as_ref().map_or(first.pid, |holder| holder.pid);
    announce_stop(data_dir);
    first.signal(Signal::TERM)?;
    // Who stands still cannot end in order.
    for peer in [&supervisor, &holder].into_iter().flatten() {
        peer.signal(Signal::CONT)?;
    }
    let patience = grace + MARGIN;
    if ended_within(data_dir, patience) {
        return Ok(Some(End { pid, killed: None }));
    }
    let why = format!("it did not end within {} s of being told to, and was killed", patience.as_secs());
    if let Some(marker) = Marker::read(data_dir).filter(|marker| marker.pid == pid)
        && let Err(error) = (Marker { failure: Some(why.clone()), ..marker }).write(data_dir)
    {
        output::note(&format!("why it ended could not be written down: {error}"));
    }
    for peer in [Peer::holding(&above)?, Peer::holding(&engine)?].into_iter().flatten() {
        peer.signal(Signal::KILL)?;
    }
    if ended_within(data_dir, MARGIN) {
        return Ok(Some(End { pid, killed: Some(why) }));
    }
    Err(Failure::failed(format!("pid {pid} was killed and has not ended; it may wait for a disk that does not answer")))
}

/// Waits until nobody holds the data folder, neither a scheduler nor a supervisor.
fn ended_within(data_dir: &Path, limit: Duration) -> bool {
    let clock = SystemClock::new();
    let begun = clock.now().mono;
    while is_held(data_dir) || StoreLock::is_held(&supervisor::lock_path(data_dir)) {
        if clock.now().mono.saturating_sub(begun) > limit {
            return false;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    true
}

/// That a scheduler which starts here could write: one that runs on a full disk goes on until there is room, one that
/// starts does not stand.
fn has_room(folder: &Path) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, &[0; ROOM])?;
        file.as_file().sync_all()
    };
    // What else may be wrong the start tells, as it always does.
    match write() {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Err(Failure::failed(format!(
            "nothing was stopped: {} is on a full disk, and what starts there would not stand; make room first",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn restart(global: &Global, watch: Watch) -> Outcome {
    // A configuration that cannot work must not stop what works.
    let setup = Setup::load(global)?;
    let data_dir = &setup.config.data_dir;
    super::place::folder(data_dir)?;
    for folder in [data_dir, &setup.config.log_dir] {
        has_room(folder)?;
    }
    // Nobody else's stop or start comes between.
    let turn = Turn::take(data_dir)?;
    let watch = if watch.supervise { watch } else { as_before(data_dir).unwrap_or(watch) };
    // The start tells of one that had to be killed.
    stop_in(data_dir, setup.config.shutdown_grace)?;
    start_in(global, watch, &setup, &turn)
}
