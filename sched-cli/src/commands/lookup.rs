//! Schedules and runs as people name them; a name that is not known is answered with a near one.

use sched_core::{Query as _, RunId, RunRecord, ScheduleName, SqliteReader};

use crate::compose::Setup;
use crate::exit::{Exit, Failure};

pub(super) fn reader(setup: &Setup) -> Result<SqliteReader, Failure> {
    let path = setup.store_path();
    if !path.exists() {
        let message =
            format!("there is no store at {} yet; it is made by `sched start` or `sched run`", path.display());
        return Err(Failure::new(Exit::NotRunning, message));
    }
    Ok(SqliteReader::open(path)?)
}

pub(super) fn schedule_name(text: &str) -> Result<ScheduleName, Failure> {
    text.parse().map_err(Failure::usage)
}

pub(super) fn run_id(text: &str) -> Result<RunId, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("`{text}` is not a run id; see `sched runs`")))
}

/// The name of a schedule of which the store knows, retired ones included.
pub(super) fn known_schedule(reader: &SqliteReader, text: &str) -> Result<ScheduleName, Failure> {
    let name = schedule_name(text)?;
    let rows = reader.schedules()?;
    match rows.iter().any(|row| *row.name() == name) {
        true => Ok(name),
        false => Err(unknown_schedule(&name, rows.iter().filter(|row| !row.retired).map(|row| row.name().as_str()))),
    }
}

pub(super) fn unknown_schedule<'a>(name: &ScheduleName, known: impl Iterator<Item = &'a str>) -> Failure {
    Failure::failed(format!("no schedule `{name}`{}", sched_core::near(name.as_str(), known)))
}

pub(super) fn known_run(reader: &SqliteReader, run_id: RunId) -> Result<RunRecord, Failure> {
    reader.run(run_id)?.ok_or_else(|| Failure::failed(format!("no run {run_id}; see `sched runs`")))
}
