//! `sched logs` without a run: what the whole scheduler has done, and with `--follow` what it does.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sched_core::Reason;
use serde_json::{Map, Value};

use super::logs::BETWEEN_LOOKS;
use super::lookup::shown_id;
use crate::args::{Global, Logs};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What is read at once from the end of a file, at first.
const BLOCK: u64 = 64 * 1024;
/// The longest value that is shown whole.
const LONGEST: usize = 200;

/// Which lines are wanted.
struct Filter<'w> {
    words: &'w Logs,
}

impl Filter<'_> {
    fn wants(&self, line: &Map<String, Value>) -> bool {
        let is = |key: &str, wanted: &str| line.get(key).and_then(Value::as_str) == Some(wanted);
        let Logs { event, schedule, since, .. } = self.words;
        let late_enough = since.is_none_or(|since| time(line).is_some_and(|at| at >= since));
        let of_event = event.is_empty() || event.iter().any(|event| is("event", event));
        late_enough && of_event && schedule.as_ref().is_none_or(|schedule| is("schedule", schedule))
    }

    /// A line of the file, if it is wanted. What a crash tore is none.
    fn read(&self, text: &str) -> Option<Map<String, Value>> {
        serde_json::from_str(text).ok().filter(|line| self.wants(line))
    }
}

fn time(line: &Map<String, Value>) -> Option<DateTime<Utc>> {
    line.get("ts")?.as_str()?.parse().ok()
}

pub(crate) fn journal(global: &Global, words: &Logs) -> Outcome {
    let path = Setup::find(global)?.log_path();
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let filter = Filter { words };
    let print = |line: &Map<String, Value>| if global.json { output::json(line) } else { output::line(&shown(line)) };
    let mut follower = Follower::at_the_end(&path).map_err(fault)?;
    if follower.file.is_none() && !words.follow {
        return Err(Failure::failed(format!("{} is not there; has the scheduler been started?", path.display())));
    }
    // Up to where it is followed from.
    let lines = match &follower.file {
        Some(file) => last_lines(file, follower.begin, &path, &filter).map_err(fault)?,
        None => Vec::new(),
    };
    lines.iter().for_each(print);
    follower.go_back().map_err(fault)?;
    if !words.follow {
        return Ok(Exit::Done);
    }
    // Who reads may have had enough long before there is another line.
    while output::is_read() {
        for text in follower.gained().map_err(fault)? {
            filter.read(&text).iter().for_each(print);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(Exit::Done)
}

/// The last wanted lines of a log of this length, and of those moved away before it.
fn last_lines(log: &File, length: u64, path: &Path, filter: &Filter<'_>) -> std::io::Result<Vec<Map<String, Value>>> {
    let most = filter.words.lines;
    let mut lines = VecDeque::from(last_of(log, length, filter, most)?);
    let ours = log.metadata()?.ino();
    for file in moved(path) {
        let meta = file.metadata()?;
        if lines.len() >= most {
            break;
        }
        // It may have been moved away since it was opened.
        if meta.ino() != ours {
            let found = last_of(&file, meta.len(), filter, most - lines.len())?;
            found.into_iter().rev().for_each(|line| lines.push_front(line));
        }
    }
    Ok(lines.into())
}

/// The logs that were moved away, the newest first.
fn moved(path: &Path) -> impl Iterator<Item = File> {
    let places = (1..).map(move |number| PathBuf::from(format!("{}.{number}", path.display())));
    places.map_while(|path| File::open(path).ok())
}

/// The last wanted lines of one file. A long one is read from its end, as far as is needed.
fn last_of(mut file: &File, length: u64, filter: &Filter<'_>, most: usize) -> std::io::Result<Vec<Map<String, Value>>> {
    let mut block = BLOCK;
    loop {
        let begin = length.saturating_sub(block);
        file.seek(SeekFrom::Start(begin))?;
        let mut reader = BufReader::new(file.take(length - begin));
        if begin > 0 {
            // The line that the block begins in.
            reader.skip_until(b'\n')?;
        }
        let (mut lines, mut bytes, mut before) = (VecDeque::new(), Vec::new(), false);
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            let parsed: Option<Map<String, Value>> = serde_json::from_str(&text).ok();
            before |=
                parsed.as_ref().is_some_and(|line| filter.words.since.is_some_and(|since| time(line) < Some(since)));
            if let Some(line) = parsed.filter(|line| filter.wants(line)) {
                lines.push_back(line);
                if lines.len() > most {
                    lines.pop_front();
                }
            }
            bytes.clear();
        }
        // Times do not run back: what comes before an old line is older.
        if lines.len() >= most || begin == 0 || before {
            return Ok(lines.into());
        }
        block = block.saturating_mul(4);
    }
}

/// Reads what a log gains, over its being moved away.
struct Follower {
    path: PathBuf,
    file: Option<File>,
    begin: u64,
    half: Vec<u8>,
}

impl Follower {
    fn at_the_end(path: &Path) -> std::io::Result<Self> {
        let (file, begin) = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => (None, 0),
            file => {
                let mut file = file?;
                let begin = file.seek(SeekFrom::End(0))?;
                (Some(file), begin)
            }
        };
        Ok(Self { path: path.into(), file, begin, half: Vec::new() })
    }

    /// To where it begins, after the lines before that were read.
    fn go_back(&mut self) -> std::io::Result<()> {
        let begin = SeekFrom::Start(self.begin);
        self.file.as_mut().map_or(Ok(()), |file| file.seek(begin).map(drop))
    }

    fn gained(&mut self) -> std::io::Result<Vec<String>> {
        // Whether another file is in its place is looked at first: what the old one still gains is read below.
        let now = std::fs::metadata(&self.path).ok();
        let ours = self.file.as_ref().map(File::metadata).transpose()?;
        let replaced = now.is_some_and(|now| ours.as_ref().is_none_or(|ours| identity(ours) != identity(&now)));
        if let (Some(file), Some(ours)) = (&mut self.file, &ours) {
            // What was emptied begins anew.
            if ours.len() < file.stream_position()? {
                file.rewind()?;
                self.half.clear();
            }
            file.read_to_end(&mut self.half)?;
        }
        if replaced && let Ok(mut newest) = File::open(&self.path) {
            if let Some(ours) = &ours {
                for mut file in between(&self.path, ours, &newest.metadata()?) {
                    file.read_to_end(&mut self.half)?;
                }
            }
            newest.read_to_end(&mut self.half)?;
            self.file = Some(newest);
        }
        let whole = self.half.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text: Vec<u8> = self.half.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

/// The logs that were begun after the one and moved away before the other, the oldest first. When the one itself is gone,
/// it is not known which of them were read.
fn between(path: &Path, one: &Metadata, other: &Metadata) -> Vec<File> {
    let mut files = Vec::new();
    for file in moved(path) {
        match file.metadata().map(|meta| identity(&meta)) {
            Ok(this) if this == identity(one) => {
                files.reverse();
                return files;
            }
            Ok(this) if this == identity(other) => files.clear(),
            _ => files.push(file),
        }
    }
    Vec::new()
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// A line for people: time, what happened, to which schedule, and the rest.
fn shown(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let at = output::short_time(time(line));
    let event = output::coloured(&format!("{:<16}", text("event")), colour(line));
    let rest = match text("event") {
        "run_queued" => queued(line),
        "run_started" => {
            format!("attempt {}  {}", line.get("attempt").map(plain).unwrap_or_default(), id(line, "run_id"))
        }
        "run_finished" => ended(line),
        "fire_skipped" | "fires_missed" => not_run(line),
        "progress" => {
            let percent = line.get("percent").map(plain).unwrap_or_default();
            format!("{percent} % {}  {}", text("text"), id(line, "run_id"))
        }
        "startup" => others(line, &["ts", "event", "config"]),
        "alert" => format!("{}: {}", text("kind"), text("message")),
        "tick" => {
            let next = line.get("next").and_then(Value::as_object);
            let soonest = next.and_then(|next| next.iter().min_by_key(|(_, at)| at.as_str().map(str::to_owned)));
            let soonest = soonest.map_or(String::new(), |(name, at)| format!(", next {name} at {}", plain(at)));
            format!("{}{soonest}", line.get("tick").map(plain).unwrap_or_default())
        }
        _ => others(line, &["ts", "event", "schedule", "seq"]),
    };
    format!("{at}  {event}  {:<16}  {rest}", text("schedule")).trim_end().to_owned()
}

fn queued(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str);
    let (wanted, nominal) = (text("not_before"), text("nominal_at"));
    let later = wanted.filter(|_| nominal.is_some() && wanted != nominal);
    let later = later.map_or(String::new(), |at| format!(", not before {at}"));
    let by = text("by").map_or(String::new(), |by| format!(" by {by}"));
    format!("{}{by}{later}  {}", text("origin").unwrap_or_default(), id(line, "run_id"))
}

fn ended(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str);
    let state = text("state").unwrap_or_default();
    let took = line.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
    let said = text("error").or(text("summary")).map_or(String::new(), |said| format!(": {said}"));
    format!("{} in {}.{:03} s{said}  {}", output::state(state), took / 1000, took % 1000, id(line, "run_id"))
}

/// Fires that got no run: how many, which, and why; those that follow for the same reason are told when they end.
fn not_run(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let at = |key: &str| output::short_time(text(key).parse().ok());
    let which = match line.get("count").and_then(Value::as_u64) {
        Some(1) | None => format!("of {}", at("until")),
        Some(count) => format!("{count} from {} to {}", at("from"), at("until")),
    };
    let why =
        text("reason").parse().map_or_else(|_| text("reason").to_owned(), |reason: Reason| reason.explain().into());
    let blocker = id(line, "blocker");
    let blocker = if blocker.is_empty() { blocker } else { format!(": run {blocker}") };
    format!("{which}: {why}{blocker}")
}

/// A run's id, as it is shown.
fn id(line: &Map<String, Value>, key: &str) -> String {
    let text = line.get(key).and_then(Value::as_str).unwrap_or_default();
    text.parse().map_or_else(|_| text.to_owned(), shown_id)
}

fn others(line: &Map<String, Value>, known: &[&str]) -> String {
    let other = |(key, value): (&String, &Value)| {
        (!known.contains(&key.as_str()) && !value.is_null()).then(|| format!("{key}={}", plain(value)))
    };
    line.iter().filter_map(other).collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

fn colour(line: &Map<String, Value>) -> output::Colour {
    use output::Colour::{Bad, Faint, Good, Plain, Unusual};

    match line.get("event").and_then(Value::as_str).unwrap_or_default() {
        "run_finished" if line.get("ok") == Some(&Value::Bool(true)) => Good,
        "run_finished" if line.get("state").and_then(Value::as_str) == Some("cancelled") => Unusual,
        "run_finished" | "fires_missed" | "lease_lost" | "alert" | "stalled" | "engine_died" | "supervisor_gave_up" => {
            Bad
        }
        "run_retry" | "fire_skipped" | "clock_jump" | "dispatch_changed" => Unusual,
        "tick" | "run_queued" | "progress" => Faint,
        _ => Plain,
    }
}
