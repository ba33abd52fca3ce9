//! What shells and readers of manuals get: completions that know schedules and runs, and man pages.

use std::ffi::OsStr;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use sched_core::{HistoryFilter, HistoryRow, Query as _, SqliteReader};

use crate::args::{Args, Global};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// So many candidates help anyone.
const MOST: u32 = 200;
/// The variable by which a shell asks this program to complete a line.
pub(crate) const ASKS: &str = "SCHED_COMPLETE";

/// `sched completions SHELL`: what a shell has to read to ask this program.
pub(crate) fn completions(shell: &str) -> Outcome {
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(shell) else {
        return Err(Failure::usage(format!("no shell `{shell}`{}", sched_core::near(shell, shells.names()))));
    };
    let mut text = Vec::new();
    completer.write_registration(ASKS, "sched", "sched", "sched", &mut text)?;
    output::line(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Done)
}

/// `sched man`: the page of the program on standard output, or all pages into a folder.
pub(crate) fn man(global: &Global, folder: Option<&Path>) -> Outcome {
    let command = Args::command();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        output::line(String::from_utf8_lossy(&page).trim_end());
        return Ok(Exit::Done);
    };
    let fault = |error| Failure::failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(fault)?;
    clap_mangen::generate_to(command, folder).map_err(fault)?;
    if global.json {
        output::json(&serde_json::json!({ "ok": true, "folder": folder }));
    } else if !global.quiet {
        output::line(&format!("read them with `man -l {}`", folder.join("sched.1").display()));
    }
    Ok(Exit::Done)
}

/// The store of the configuration that the environment names: a line that is being written has no flags yet.
fn reader() -> Option<SqliteReader> {
    let config = std::env::var_os("SCHED_CONFIG").map(Into::into);
    let global = Global { config, json: false, quiet: true, verbose: 0, no_color: true, no_pager: true };
    SqliteReader::open(Setup::find(&global).ok()?.store_path()).ok()
}

/// Schedules whose names begin so.
pub(crate) fn schedules(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(rows) = reader().and_then(|reader| reader.schedules().ok()) else { return Vec::new() };
    let begin = current.to_string_lossy();
    let rows = rows.into_iter().filter(|row| !row.retired && row.name().as_str().starts_with(&*begin));
    let candidate = |row: sched_core::store::ScheduleRow| {
        let about = format!("{} ({})", row.spec.job, row.spec.trigger);
        CompletionCandidate::new(row.name().as_str()).help(Some(about.into()))
    };
    rows.take(MOST as usize).map(candidate).collect()
}

/// The newest runs whose ids begin so.
pub(crate) fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let filter = HistoryFilter::newest(MOST);
    let Some(rows) = reader().and_then(|reader| reader.history(&filter).ok()) else { return Vec::new() };
    let begin = current.to_string_lossy();
    let candidate = |(order, row)| match row {
        HistoryRow::Run(run) => {
            let id = run.run_id.to_string();
            let when = output::short_time(Some(run.started_at.unwrap_or(run.queued_at)));
            let about = format!("{} {} {when}", run.schedule, run.state);
            let candidate = CompletionCandidate::new(&id).help(Some(about.into())).display_order(Some(order));
            id.starts_with(&*begin).then_some(candidate)
        }
        HistoryRow::Range(_) => None,
    };
    rows.into_iter().enumerate().filter_map(candidate).collect()
}
