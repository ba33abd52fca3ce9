//! What the store says, held against what the jobs' own processes wrote and what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use sched_core::{Admin as _, SqliteReader};

use super::KINDS;
use crate::world::World;

/// The runs that the program has acknowledged, by key.
#[derive(Default)]
pub(super) struct Acknowledged {
    runs: BTreeMap<String, String>,
    answers: usize,
    faults: Vec<String>,
}

impl Acknowledged {
    pub(super) fn note(&mut self, key: &str, run: &str) {
        self.answers += 1;
        let known = self.runs.entry(key.to_owned()).or_insert_with(|| run.to_owned());
        if known != run {
            self.faults.push(format!("{key} was acknowledged as {known} and as {run}"));
        }
    }
}

pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    pub(super) figures: String,
}

/// One line of the children's own ledger.
struct Line {
    ended: bool,
    schedule: String,
    run: String,
    attempt: u32,
    fence: u64,
}

struct Run {
    state: String,
    fence: u64,
}

struct Attempt {
    attempt: u32,
    state: Option<String>,
    error: Option<String>,
}

impl Attempt {
    /// Stopped by a shutdown, and so made again under its number.
    fn was_drained(&self) -> bool {
        let lost = self.error.as_ref().is_some_and(|error| error.contains("the scheduler died"));
        self.state.as_deref() == Some("interrupted") && !lost
    }
}

/// What is in the store.
struct Facts {
    runs: HashMap<String, Run>,
    keys: HashMap<String, String>,
    attempts: HashMap<(String, u64), Attempt>,
    last_event: u64,
}

impl Facts {
    fn read(path: &Path) -> Self {
        let conn = Connection::open(path).unwrap();
        let id = |bytes: Vec<u8>| uuid::Uuid::from_slice(&bytes).unwrap().to_string();
        let last_event = conn.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).unwrap();
        let mut facts = Self { runs: HashMap::new(), keys: HashMap::new(), attempts: HashMap::new(), last_event };
        let mut statement = conn.prepare("SELECT run_id, state, fence, idempotency FROM runs").unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let run = id(row.get(0).unwrap());
            if let Some(key) = row.get::<_, Option<String>>(3).unwrap() {
                facts.keys.insert(key, run.clone());
            }
            facts.runs.insert(run, Run { state: row.get(1).unwrap(), fence: row.get(2).unwrap() });
        }
        let mut statement = conn.prepare("SELECT run_id, fence, attempt, state, error FROM attempts").unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let attempt =
                Attempt { attempt: row.get(2).unwrap(), state: row.get(3).unwrap(), error: row.get(4).unwrap() };
            facts.attempts.insert((id(row.get(0).unwrap()), row.get(1).unwrap()), attempt);
        }
        facts
    }
}

fn read_ledger(world: &World) -> Vec<Line> {
    let text = std::fs::read_to_string(world.path("ledger")).unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, schedule, run, attempt, fence] = words[..] else { panic!("a torn line: {line}") };
            let (attempt, fence) = (attempt.parse().unwrap(), fence.parse().unwrap());
            Line { ended: what == "E", schedule: schedule.to_owned(), run: run.to_owned(), attempt, fence }
        })
        .collect()
}

pub(super) fn verdict(world: &World, acknowledged: &Acknowledged, backups: &[PathBuf], took: Duration) -> Verdict {
    let audit = world.sched(&["audit", "--json"]);
    let lines = read_ledger(world);
    let facts = Facts::read(&world.path("data/sched.db"));
    let mut faults = acknowledged.faults.clone();
    if audit.code != 0 {
        faults.push(format!("the audit: {} {}", audit.out, audit.err));
    }
    faults.extend(open_runs(&facts));
    faults.extend(lost_acknowledgements(acknowledged, &facts));
    faults.extend(wrong_starts(&lines, &facts));
    faults.extend(successes_without_an_end(&lines, &facts));
    faults.extend(overlaps(&lines));
    faults.extend(bad_copies(backups));
    faults.extend(gaps_in_the_log(world, facts.last_event));
    let starts = lines.iter().filter(|line| !line.ended).count();
    let drained = facts.attempts.values().filter(|attempt| attempt.was_drained()).count();
    let lost = facts.attempts.values().filter(|attempt| attempt.error.is_some() && !attempt.was_drained());
    let lost = lost.filter(|attempt| attempt.state.as_deref() == Some("interrupted")).count();
    let audited = serde_json::from_str::<serde_json::Value>(&audit.out).unwrap_or_default();
    let figures = format!(
        "in {:.0} s: {} fires expected, {} recorded; {} runs, {starts} attempts begun, {lost} lost with the scheduler, \
         {drained} drained; {} keys acknowledged {} times; {} backups finished and whole; {} faults",
        took.as_secs_f64(),
        audited["expected"],
        audited["recorded"],
        facts.runs.len(),
        acknowledged.runs.len(),
        acknowledged.answers,
        backups.len(),
        faults.len(),
    );
    Verdict { faults, figures }
}

fn open_runs(facts: &Facts) -> Vec<String> {
    let open = facts.runs.iter().filter(|(_, run)| matches!(run.state.as_str(), "queued" | "running"));
    open.map(|(id, run)| format!("run {id} is still {}", run.state)).collect()
}

fn lost_acknowledgements(acknowledged: &Acknowledged, facts: &Facts) -> Vec<String> {
    let lost = acknowledged.runs.iter().filter(|(key, run)| facts.keys.get(*key) != Some(run));
    lost.map(|(key, run)| format!("{key} was acknowledged as {run}; the store has {:?}", facts.keys.get(key))).collect()
}

/// Each start belongs to an attempt that the store claimed before; a number is used again only after a drain, fences
/// grow, and no policy is exceeded.
fn wrong_starts(lines: &[Line], facts: &Facts) -> Vec<String> {
    let mut faults = Vec::new();
    let mut last: HashMap<&str, (u32, u64)> = HashMap::new();
    for line in lines.iter().filter(|line| !line.ended) {
        let Line { schedule, run, attempt, fence, .. } = line;
        let told = format!("{schedule} {run} attempt {attempt} fence {fence}");
        match facts.attempts.get(&(run.clone(), *fence)) {
            Some(claimed) if claimed.attempt == *attempt => {}
            Some(claimed) => faults.push(format!("{told}: the store has it as attempt {}", claimed.attempt)),
            None => faults.push(format!("{told}: the store knows of no such attempt")),
        }
        if !facts.runs.contains_key(run) {
            faults.push(format!("{told}: the store knows of no such run"));
        }
        let kind = KINDS.iter().find(|kind| schedule.trim_end_matches(char::is_numeric) == kind.name).unwrap();
        if *attempt > kind.attempts {
            faults.push(format!("{told}: only {} are allowed", kind.attempts));
        }
        if let Some((earlier, before)) = last.insert(run, (*attempt, *fence)) {
            let drained = facts.attempts.get(&(run.clone(), before)).is_some_and(Attempt::was_drained);
            if *fence <= before {
                faults.push(format!("{told}: it came after fence {before}"));
            }
            if *attempt < earlier || (*attempt == earlier && !drained) {
                faults.push(format!("{told}: attempt {earlier} had begun already, under fence {before}"));
            }
            if kind.name == "once" {
                faults.push(format!("{told}: it had begun already, and at most once was promised"));
            }
        }
    }
    faults
}

fn successes_without_an_end(lines: &[Line], facts: &Facts) -> Vec<String> {
    let ends = lines.iter().filter(|line| line.ended).map(|line| (line.run.as_str(), line.fence));
    let ends: HashSet<_> = ends.collect();
    let without =
        facts.runs.iter().filter(|(id, run)| run.state == "succeeded" && !ends.contains(&(id.as_str(), run.fence)));
    without
        .map(|(id, run)| format!("run {id} is succeeded, but no process of fence {} wrote its end", run.fence))
        .collect()
}

/// Where overlap is not allowed, no attempt begins between the start and the end that another one wrote. One that was
/// killed wrote no end.
fn overlaps(lines: &[Line]) -> Vec<String> {
    let mut ends = HashMap::new();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.ended) {
        ends.insert((line.run.as_str(), line.fence), place);
    }
    let mut faults = Vec::new();
    let mut busy: HashMap<&str, (usize, &Line)> = HashMap::new();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| !line.ended) {
        if line.schedule.starts_with("beside") || line.schedule.starts_with("manual") {
            continue;
        }
        if let Some((until, other)) = busy.get(line.schedule.as_str()).filter(|(until, _)| *until > place) {
            let (schedule, run) = (&line.schedule, &line.run);
            faults.push(format!("{schedule} {run} began at line {place}, {} ended at {until}", other.run));
        }
        if let Some(end) = ends.get(&(line.run.as_str(), line.fence)) {
            busy.insert(&line.schedule, (*end, line));
        }
    }
    faults
}

/// Each committed event stands in the log; after a crash it may stand there twice.
fn gaps_in_the_log(world: &World, last: u64) -> Option<String> {
    let told: HashSet<u64> = world.log().iter().filter_map(|line| line["seq"].as_u64()).collect();
    let missing: Vec<u64> = (1..=last).filter(|seq| !told.contains(seq)).collect();
    let beyond = told.iter().filter(|seq| **seq > last).count();
    (!missing.is_empty() || beyond > 0)
        .then(|| format!("of {last} events the log lacks {missing:?}, and has {beyond} that the store lacks"))
}

/// A copy that was called finished is whole, and its own ledger is complete.
fn bad_copies(backups: &[PathBuf]) -> Vec<String> {
    let mut faults = Vec::new();
    for path in backups {
        let check = || -> Result<(), String> {
            let reader = SqliteReader::open(path).map_err(|error| error.to_string())?;
            let problems = reader.integrity().map_err(|error| error.to_string())?;
            let audit = sched_core::audit(&reader, None).map_err(|error| error.to_string())?;
            if problems.is_empty() && audit.ok { Ok(()) } else { Err(format!("{problems:?} {audit:?}")) }
        };
        if let Err(error) = check() {
            faults.push(format!("{}: {error}", path.display()));
        }
    }
    faults
}
