//! What commands print: data on standard output, everything else on standard error.

mod pager;
mod table;

use std::io::{IsTerminal as _, Write};
use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rustix::event::{PollFd, PollFlags, Timespec};
use sched_core::RunState;
use serde::Serialize;

pub(crate) use pager::Pager;
pub(crate) use table::{table, table_without};

use crate::exit::Failure;

/// Prints one line of data. A reader that has gone away (`head`) is no fault.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A number of things: `1 schedule`, `2 schedules`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Whether somebody still reads what is printed: a pipe may have been closed (poll(2)).
pub(crate) fn is_read() -> bool {
    let out = std::io::stdout();
    let mut look = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec::default();
    rustix::event::poll(&mut look, Some(&now)).is_err() || !look[0].revents().intersects(PollFlags::ERR)
}

/// Prints one object.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => note(&format!("this could not be printed: {error}")),
    }
}

/// Prints a remark on standard error; below a pager in the place where the reader looks.
pub(crate) fn note(text: &str) {
    if pager::is_open() {
        return line(text);
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints why a command failed.
pub(crate) fn failure(failure: &Failure, as_json: bool) {
    if as_json {
        json(&serde_json::json!({ "ok": false, "error": failure.message }));
    }
    note(&format!("sched: {}", failure.message));
}

/// What standard output was when the program began, for a pager may come between.
#[derive(Debug, Default)]
struct Screen {
    coloured: bool,
    /// A person reads it.
    terminal: bool,
    width: Option<usize>,
}

static SCREEN: OnceLock<Screen> = OnceLock::new();

fn screen() -> &'static Screen {
    SCREEN.get_or_init(Screen::default)
}

/// Looks where it prints to. States are coloured on a terminal, unless `--no-color` or `NO_COLOR` (no-color.org) says
/// otherwise.
pub(crate) fn look(no_color: bool) {
    let forbidden = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let out = std::io::stdout();
    let terminal = out.is_terminal();
    let size = terminal.then(|| terminal_size::terminal_size_of(out)).flatten();
    let width = size.map(|(width, _)| usize::from(width.0));
    // Called once, at the begin.
    let _ = SCREEN.set(Screen { coloured: terminal && !forbidden, terminal, width });
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Good,
    Active,
    Unusual,
    Bad,
    Faint,
    Plain,
}

/// A text in its colour.
pub(crate) fn coloured(text: &str, colour: Colour) -> String {
    let code = match colour {
        Colour::Good => "32",
        Colour::Active => "36",
        Colour::Unusual => "33",
        Colour::Bad => "31",
        Colour::Faint => "2",
        Colour::Plain => return text.to_owned(),
    };
    if screen().coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The state of a run in its colour; any other text as it is.
pub(crate) fn state(text: &str) -> String {
    painted(text, 0)
}

/// A padded cell; one that is the state of a run has its colour.
fn painted(cell: &str, width: usize) -> String {
    let colour = match cell.trim().parse::<RunState>() {
        Ok(RunState::Succeeded) => Colour::Good,
        Ok(RunState::Running) => Colour::Active,
        Ok(RunState::Queued | RunState::Skipped | RunState::Cancelled) => Colour::Unusual,
        Ok(RunState::Failed | RunState::TimedOut | RunState::Interrupted | RunState::Missed) => Colour::Bad,
        Err(_) => Colour::Plain,
    };
    coloured(&format!("{cell:<width$}"), colour)
}

/// Prints what a look found: its state, coloured, what was looked at, and what to do about it.
pub(crate) fn finding(state: &str, of: &str, found: &str, remedy: Option<&str>) {
    let colour = match state {
        "ok" => Colour::Good,
        "warn" => Colour::Unusual,
        _ => Colour::Bad,
    };
    let state = coloured(&format!("{state:<4}"), colour);
    // What spans lines, as faults of a configuration, stays below its first.
    let found = found.replace('\n', "\n      ");
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    line(&format!("{state}  {of}: {found}{remedy}"));
}

/// Prints a text in lines of a readable length, each with this much space before it.
pub(crate) fn wrapped(text: &str, indent: usize) {
    const WIDTH: usize = 96;
    let mut row = String::new();
    for word in text.split_whitespace() {
        if !row.is_empty() && indent + row.chars().count() + 1 + word.chars().count() > WIDTH {
            line(&format!("{:indent$}{row}", ""));
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    if !row.is_empty() {
        line(&format!("{:indent$}{row}", ""));
    }
}

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Whether standard output is read by a person.
pub(crate) fn is_for_people() -> bool {
    screen().terminal
}

/// A time to the second, for people.
pub(crate) fn short_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or("-".into(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// A distance in time in at most two units.
pub(crate) fn distance(span: TimeDelta) -> String {
    let mut left = span.num_seconds().abs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)] {
        let count = left / seconds;
        left %= seconds;
        if count > 0 || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{count}{unit}"));
        }
    }
    parts.truncate(2);
    parts.join(" ")
}
