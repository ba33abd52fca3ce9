//! Schedules and runs as people name them; a name that is not known is answered with a near one.

use sched_core::{HistoryFilter, HistoryRow, Query as _, RunId, RunRecord, ScheduleName, SqliteReader};

use crate::compose::Setup;
use crate::exit::{Exit, Failure};
use crate::output;

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

/// So many of the newest runs are known by the end of their ids.
const RECENT: u32 = 1000;
/// As much of a run's id as a terminal shows; how ids begin is when, and the same for many.
const SHORT: usize = 8;

/// A run's id: whole in a pipe, on a terminal its end, which is what people read and write.
pub(super) fn shown_id(run_id: RunId) -> String {
    let id = run_id.to_string();
    if output::is_for_people() { id[id.len() - SHORT..].to_owned() } else { id }
}

/// The id of a run: whole, or the end of that of a recent one, as `runs` shows it on a terminal.
pub(super) fn run_id(setup: &Setup, text: &str) -> Result<RunId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let odd = || Failure::usage(format!("`{text}` is not a run id; see `sched runs`"));
    if text.len() < SHORT || !text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-') {
        return Err(odd());
    }
    let mut found = reader(setup)?.history(&HistoryFilter::newest(RECENT))?.into_iter().filter_map(|row| match row {
        HistoryRow::Run(run) => run.run_id.to_string().ends_with(text).then_some(run.run_id),
        HistoryRow::Range(_) => None,
    });
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Failure::usage(format!("more than one run's id ends in `{text}`; write more of it"))),
        (None, _) => Err(Failure::failed(format!("no recent run's id ends in `{text}`; see `sched runs`"))),
    }
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
