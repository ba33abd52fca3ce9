//! Waits for the end of a run before someone's eyes: its output as it comes, its progress as a bar on a terminal and as
//! lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use sched_core::{RunId, RunRecord, RunState};
use serde_json::Value;

use super::logs::{BETWEEN_LOOKS, gained};
use super::lookup::shown_id;
use crate::args::Global;
use crate::compose::Setup;
use crate::control::{Events, Heard, call};
use crate::exit::Failure;
use crate::output;

/// Between turns of the sign that it goes on.
const TURN: Duration = Duration::from_millis(120);

/// The end of a run. Whoever interrupts the wait leaves the run going.
pub(super) fn wait(global: &Global, setup: &Setup, events: &mut Events, run_id: RunId) -> Result<RunRecord, Failure> {
    let path = format!("/api/v1/runs/{run_id}");
    let told = Told::new(global);
    let mut printed = 0;
    loop {
        let run: RunRecord = call(&setup.config.data_dir, Method::GET, &path, None, None)?;
        told.state(&run);
        if !global.quiet && !global.json {
            let gained = gained(setup, run_id, printed)?;
            gained.lines().for_each(|line| told.line(line));
            printed += gained.len();
        }
        if run.state.is_final() {
            told.end();
            return Ok(run);
        }
        match events.next(BETWEEN_LOOKS) {
            Heard::Interrupted => {
                told.end();
                let id = shown_id(run_id);
                return Err(Failure::failed(format!(
                    "no longer waiting; run {id} goes on: `sched logs {id} -f` follows it, `sched cancel {id}` ends it"
                )));
            }
            Heard::Event(event) if event["run_id"] == run_id.to_string() => told.progress(&event),
            Heard::Event(_) | Heard::Nothing => {}
        }
    }
}

/// Where it is told.
enum Told {
    Nowhere,
    Lines,
    Bar(ProgressBar),
}

impl Told {
    fn new(global: &Global) -> Self {
        if global.quiet || global.json {
            Self::Nowhere
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(100);
            bar.set_style(style("{spinner} {prefix}  {elapsed}  {wide_msg}"));
            bar.enable_steady_tick(TURN);
            Self::Bar(bar)
        } else {
            Self::Lines
        }
    }

    fn state(&self, run: &RunRecord) {
        if let Self::Bar(bar) = self {
            let again = if run.attempt > 1 { format!(", attempt {}", run.attempt) } else { String::new() };
            bar.set_prefix(format!("{} {}{again}", run.schedule, output::state(run.state.word())));
        }
    }

    fn line(&self, line: &str) {
        match self {
            Self::Nowhere => {}
            Self::Lines => output::note(line),
            Self::Bar(bar) => bar.println(line),
        }
    }

    fn progress(&self, event: &Value) {
        let Some(percent) = event["percent"].as_u64() else { return };
        let text = event["text"].as_str().unwrap_or_default();
        match self {
            Self::Nowhere => {}
            Self::Lines => output::note(format!("{percent} % {text}").trim_end()),
            Self::Bar(bar) => {
                bar.set_style(style("{spinner} {prefix}  {elapsed}  {bar:24}{percent:>4} %  {wide_msg}"));
                bar.set_position(percent);
                bar.set_message(text.to_owned());
            }
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// How a run ended, how long it took and what it said.
pub(super) fn conclusion(run: &RunRecord) -> String {
    let took = run.duration_text().map_or(String::new(), |took| format!(" in {took}"));
    let note = run.error.as_ref().or(run.summary.as_ref()).map_or(String::new(), |note| format!(": {note}"));
    format!("{} {}{took}{note}", shown_id(run.run_id), output::state(run.state.word()))
}

/// The commands that show more of a run that has ended.
pub(super) fn more(run: &RunRecord) -> String {
    let (id, schedule) = (shown_id(run.run_id), &run.schedule);
    match run.state {
        RunState::Succeeded => format!("`sched show {schedule}` shows the schedule, `sched logs {id}` what it printed"),
        _ => format!("`sched logs {id}` shows what it printed, `sched retry {id}` runs it again"),
    }
}
