//! `sched backup` and `restore`: the whole store as one file.

use std::path::Path;

use sched_core::{Admin as _, Query as _, SqliteReader, SqliteStore};
use serde_json::json;

use super::lookup::reader;
use crate::args::Global;
use crate::compose::Setup;
use crate::daemon::place::is_held;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

pub(crate) fn backup(global: &Global, file: &Path) -> Outcome {
    let setup = Setup::find(global)?;
    let store = reader(&setup)?;
    if file.exists() {
        return Err(Failure::usage(format!(
            "{} is there already; a backup replaces nothing, choose another name",
            file.display()
        )));
    }
    store.backup(file)?;
    let copy = verified(file)?;
    let (bytes, schedules) = (std::fs::metadata(file)?.len(), copy.schedules()?.len());
    if global.json {
        output::json(&json!({ "ok": true, "file": file, "bytes": bytes, "schedules": schedules }));
    } else {
        output::line(&format!(
            "{}: {bytes} bytes, {}, checked",
            file.display(),
            output::counted(schedules, "schedule")
        ));
    }
    Ok(Exit::Done)
}

pub(crate) fn restore(global: &Global, file: &Path) -> Outcome {
    let setup = Setup::find(global)?;
    if is_held(&setup.config.data_dir) {
        return Err(Failure::failed("the scheduler runs; stop it with `sched stop`, then restore"));
    }
    if !file.exists() {
        return Err(Failure::usage(format!("there is no file {}", file.display())));
    }
    let schedules = verified(file)?.schedules()?.len();
    std::fs::create_dir_all(&setup.config.data_dir)?;
    let kept = SqliteStore::restore(file, setup.store_path())?;
    if global.json {
        output::json(&json!({ "ok": true, "schedules": schedules, "kept": kept }));
    } else {
        output::line(&format!(
            "{} restored; what comes due from the backup's time on is caught up",
            output::counted(schedules, "schedule")
        ));
        if let Some(kept) = kept {
            output::note(&format!("the old store is kept as {}", kept.display()));
        }
    }
    Ok(Exit::Done)
}

/// Opens a store that is whole.
fn verified(file: &Path) -> Result<SqliteReader, Failure> {
    let reader = SqliteReader::open(file)?;
    match reader.integrity()?.first() {
        None => Ok(reader),
        Some(problem) => Err(Failure::new(Exit::Store, format!("{} is damaged: {problem}", file.display()))),
    }
}
