//! What the scenario was told is durable, and whether it is.

use std::path::Path;

use sched_core::store::{Intent, Receipt, Write};
use sched_core::{Admin as _, RunId, SqliteReader, SqliteStore};

use crate::scenario::path_in;

const MARK: &str = "acknowledged ";

/// One acknowledged fact; those of one thing follow each other, and later ones hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Fact {
    /// The schedule exists in this version.
    Version(String, u32),
    /// Its fires up to here are accounted for (microseconds).
    Cursor(String, i64),
    /// So many fires stand in this range.
    Range(String, u64),
    /// The run exists.
    Run(RunId),
    /// The run has the key.
    Key(String, RunId),
    /// The attempt was claimed under the fence.
    Claim(RunId, u64, u32),
    /// The attempt under the fence has ended.
    Ended(RunId, u64),
    /// The run is final, in this state.
    Final(RunId, String),
    /// The value is kept.
    State(String, String, String),
    /// The event was committed under this number.
    Event(u64),
}

impl Fact {
    pub(crate) fn of(write: &Write, receipt: &Receipt) -> Vec<Self> {
        match (&write.intent, receipt) {
            (_, Receipt::Conflict) => Vec::new(),
            (Intent::Declare(row), _) => vec![
                Self::Version(row.name().to_string(), row.version),
                Self::Cursor(row.name().to_string(), row.cursor.timestamp_micros()),
            ],
            (Intent::Plan { schedule, cursor, ranges, runs, .. }, _) => {
                let cursor = Self::Cursor(schedule.to_string(), cursor.timestamp_micros());
                let ranges = ranges.iter().map(|range| Self::Range(range.range_id.to_string(), range.count));
                let runs = runs.iter().map(|run| Self::Run(run.run_id));
                std::iter::once(cursor).chain(ranges).chain(runs).collect()
            }
            (Intent::Enqueue(run), receipt) => {
                let run_id = if let Receipt::Existing(earlier) = receipt { *earlier } else { run.run_id };
                let key = run.idempotency_key.clone().map(|key| Self::Key(key, run_id));
                std::iter::once(Self::Run(run_id)).chain(key).collect()
            }
            (Intent::Claim { run_id, attempt, .. }, Receipt::Claimed(fence)) => {
                vec![Self::Claim(*run_id, fence.0, *attempt)]
            }
            (Intent::Finish { run_id, fence, ending, follow }, _) => {
                let chained = follow.chained.iter().map(|run| Self::Run(run.run_id));
                [Self::Ended(*run_id, fence.0), Self::Final(*run_id, ending.state.to_string())]
                    .into_iter()
                    .chain(chained)
                    .collect()
            }
            (Intent::Requeue { run_id, fence, .. }, _) => vec![Self::Ended(*run_id, fence.0)],
            (Intent::PutState { schedule, key, value }, _) => {
                vec![Self::State(schedule.to_string(), key.clone(), value.to_string())]
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn tell(&self) {
        // One write, so that a process that dies has said all of it or nothing.
        use std::io::Write as _;
        let line = format!("{MARK}{}\n", serde_json::to_string(self).unwrap());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }

    pub(crate) fn read(output: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(output);
        text.lines()
            .filter_map(|line| line.strip_prefix(MARK))
            .map(|json| serde_json::from_str(json).unwrap())
            .collect()
    }

    /// Whether the store has the fact, or a later one of the same thing.
    fn holds(&self, conn: &rusqlite::Connection) -> rusqlite::Result<bool> {
        let id = |run_id: &RunId| run_id.as_uuid().as_bytes().to_vec();
        let count = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
            conn.query_row(&format!("SELECT count(*) FROM {sql}"), params, |row| row.get::<_, u64>(0))
        };
        let found = match self {
            Self::Version(name, version) => count("schedules WHERE name = ?1 AND version >= ?2", &[name, version]),
            Self::Cursor(name, at) => count("schedules WHERE name = ?1 AND cursor >= ?2", &[name, at]),
            Self::Range(range, fires) => {
                let range = uuid::Uuid::parse_str(range).unwrap().as_bytes().to_vec();
                count("ranges WHERE range_id = ?1 AND count >= ?2", &[&range, fires])
            }
            Self::Run(run) => count("runs WHERE run_id = ?1", &[&id(run)]),
            Self::Key(key, run) => count("runs WHERE run_id = ?2 AND idempotency = ?1", &[key, &id(run)]),
            Self::Claim(run, fence, attempt) => {
                let made = "SELECT run_id, fence, attempt FROM attempts";
                let under_way = "SELECT run_id, fence, attempt FROM runs WHERE state = 'running'";
                let which = format!("({made} UNION {under_way}) WHERE run_id = ?1 AND fence = ?2 AND attempt = ?3");
                count(&which, &[&id(run), fence, attempt])
            }
            Self::Ended(run, fence) => {
                count("runs WHERE run_id = ?1 AND (fence > ?2 OR state <> 'running')", &[&id(run), fence])
            }
            Self::Final(run, state) => count("runs WHERE run_id = ?1 AND state = ?2", &[&id(run), state]),
            Self::State(name, key, value) => count(
                "job_state WHERE schedule = (SELECT id FROM schedules WHERE name = ?1) AND key = ?2 AND value = ?3",
                &[name, key, value],
            ),
            Self::Event(seq) => count("events WHERE seq = ?1", &[seq]),
        };
        found.map(|found| found == 1)
    }
}

/// Opens the store as the next start does, without faults: it is whole, and each fact is there.
pub(crate) fn check(folder: &Path, facts: &[Fact]) -> Result<(), String> {
    let path = path_in(folder);
    drop(SqliteStore::open(&path).map_err(|error| error.to_string())?);
    let reader = SqliteReader::open(&path).map_err(|error| error.to_string())?;
    let problems = reader.integrity().map_err(|error| error.to_string())?;
    let audit = sched_core::audit(&reader, None).map_err(|error| error.to_string())?;
    if !problems.is_empty() || !audit.ok {
        return Err(format!("{problems:?} {audit:?}"));
    }
    let conn = rusqlite::Connection::open(&path).unwrap();
    let missing: Vec<_> = facts.iter().filter(|fact| !fact.holds(&conn).unwrap()).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
}
