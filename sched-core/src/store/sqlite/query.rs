//! Each question as a statement. Every one is served by an index.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use super::super::{Disposition, EndedRun, PrunedFires, ScheduleRow, Snapshot, Span, VersionRow};
use super::outbox;
use super::rows::{self, Id, Json, Micros, RANGE_COLUMNS, RUN_COLUMNS};
use crate::event::{Event, Recorded};
use crate::id::{RunId, ScheduleName, Seq};
use crate::query::{HistoryFilter, Hold};
use crate::run::{HistoryRow, RangeRecord, RunRecord, RunState};

type Result<T> = rusqlite::Result<T>;

pub(super) fn snapshot(conn: &Connection) -> Result<Snapshot> {
    let schedules = schedules(conn)?;
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs INDEXED BY runs_open JOIN schedules ON schedules.id = runs.schedule
         WHERE state IN ('queued', 'running') ORDER BY queued_at, run_id"
    );
    let open = conn.prepare(&sql)?.query_map([], rows::run)?.collect::<Result<_>>()?;
    let mut recent = HashMap::new();
    for row in schedules.iter().filter(|row| row.spec.on_start == crate::OnStart::IfDue) {
        let filter = HistoryFilter::of(row.name().clone(), 20);
        recent.insert(row.name().clone(), runs(conn, &filter, None)?);
    }
    let mut ahead: HashMap<ScheduleName, BTreeSet<DateTime<Utc>>> = HashMap::new();
    let mut statement = conn.prepare(
        "SELECT name, nominal_at FROM schedules CROSS JOIN fires ON fires.schedule = schedules.id AND nominal_at > cursor",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let name: String = row.get("name")?;
        if let Ok(name) = name.parse() {
            ahead.entry(name).or_default().insert(rows::at(row, "nominal_at")?);
        }
    }
    let (outbox, told) = (outbox::waiting(conn)?, outbox::told(conn)?);
    Ok(Snapshot { schedules, open, recent, ahead, dispatch: dispatch(conn)?, outbox, told })
}

pub(super) fn schedules(conn: &Connection) -> Result<Vec<ScheduleRow>> {
    conn.prepare_cached("SELECT * FROM schedules ORDER BY name")?.query_map([], rows::schedule)?.collect()
}

pub(super) fn run(conn: &Connection, run_id: RunId) -> Result<Option<RunRecord>> {
    let sql =
        format!("SELECT {RUN_COLUMNS} FROM runs JOIN schedules ON schedules.id = runs.schedule WHERE run_id = ?1");
    conn.prepare_cached(&sql)?.query_row([Id(run_id.as_uuid())], rows::run).optional()
}

pub(super) fn activity(conn: &Connection, schedule: &ScheduleName) -> Result<(Option<RunRecord>, Vec<RunId>)> {
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs JOIN schedules ON schedules.id = runs.schedule
         WHERE schedules.name = ?1 AND started_at IS NOT NULL ORDER BY queued_at DESC, run_id DESC LIMIT 1"
    );
    let last = conn.prepare_cached(&sql)?.query_row([schedule.as_str()], rows::run).optional()?;
    let open = conn
        .prepare_cached(
            "SELECT run_id FROM runs WHERE state IN ('queued', 'running')
             AND schedule = (SELECT id FROM schedules WHERE name = ?1) ORDER BY queued_at, run_id",
        )?
        .query_map([schedule.as_str()], |row| row.get::<_, Id>(0).map(|id| RunId::from_uuid(id.0)))?
        .collect::<Result<_>>()?;
    Ok((last, open))
}

pub(super) fn versions(conn: &Connection, schedule: &ScheduleName) -> Result<Vec<VersionRow>> {
    conn.prepare_cached(
        "SELECT schedule_versions.* FROM schedule_versions JOIN schedules ON schedules.id = schedule
         WHERE name = ?1 ORDER BY schedule_versions.version",
    )?
    .query_map([schedule.as_str()], rows::version)?
    .collect()
}

pub(super) fn dispositions(
    conn: &Connection,
    schedule: &ScheduleName,
    since: DateTime<Utc>,
) -> Result<Vec<Disposition>> {
    conn.prepare_cached(
        "WITH this AS (SELECT id FROM schedules WHERE name = ?1)
         SELECT nominal_at AS from_at, nominal_at AS until_at, 1 AS count FROM fires
           WHERE schedule = (SELECT id FROM this) AND nominal_at > ?2
           AND EXISTS (SELECT 1 FROM runs WHERE runs.run_id = fires.run_id)
         UNION ALL
         SELECT from_at, until_at, count FROM ranges
           WHERE schedule = (SELECT id FROM this) AND until_at > ?2 AND superseded = 0
         ORDER BY from_at",
    )?
    .query_map(params![schedule.as_str(), Micros(since)], |row| {
        Ok(Disposition { from: rows::at(row, "from_at")?, until: rows::at(row, "until_at")?, count: row.get("count")? })
    })?
    .collect()
}

pub(super) fn spans(conn: &Connection, schedule: &ScheduleName) -> Result<Vec<Span>> {
    conn.prepare_cached(
        "SELECT nominal_at, queued_at, finished_at FROM runs WHERE schedule = (SELECT id FROM schedules WHERE name = ?1)
         ORDER BY queued_at, nominal_at IS NULL",
    )?
    .query_map([schedule.as_str()], |row| {
        Ok(Span {
            nominal_at: rows::maybe_at(row, "nominal_at")?,
            queued_at: rows::at(row, "queued_at")?,
            finished_at: rows::maybe_at(row, "finished_at")?,
        })
    })?
    .collect()
}

/// Builds `WHERE` clauses with their parameters.
#[derive(Default)]
struct Clauses {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Clauses {
    fn push(&mut self, sql: &str, value: impl ToSql + 'static) {
        self.sql.push(sql.to_owned());
        self.values.push(Box::new(value));
    }

    fn of(filter: &HistoryFilter, state: Option<RunState>, time: &str, id: &str) -> Self {
        let mut clauses = Self::default();
        if let Some(state) = state {
            // The conditions of the partial indexes, word for word.
            match state {
                RunState::Queued | RunState::Running => clauses.sql.push("state IN ('queued', 'running')".into()),
                RunState::Succeeded => {}
                _ => clauses.sql.push("state NOT IN ('queued', 'running', 'succeeded')".into()),
            }
            clauses.push("state = ?", state);
        }
        if let Some(name) = &filter.schedule {
            clauses.push("schedule = (SELECT id FROM schedules WHERE name = ?)", name.as_str().to_owned());
        }
        if let Some(since) = filter.since {
            clauses.push(&format!("{time} >= ?"), Micros(since));
        }
        if let Some(after) = filter.after {
            clauses.sql.push(format!("({time}, {id}) < (?, ?)"));
            clauses.values.push(Box::new(Micros(after.at)));
            clauses.values.push(Box::new(Id(after.id)));
        }
        clauses.values.push(Box::new(filter.limit));
        clauses
    }

    fn text(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }
}

fn runs(conn: &Connection, filter: &HistoryFilter, state: Option<RunState>) -> Result<Vec<RunRecord>> {
    let clauses = Clauses::of(filter, state, "queued_at", "run_id");
    // Most runs have succeeded; who asks for others does not want to walk past them.
    let index = match (state, &filter.schedule) {
        (None | Some(RunState::Succeeded), _) => "",
        (Some(RunState::Queued | RunState::Running), _) => "INDEXED BY runs_open",
        (Some(_), None) => "INDEXED BY runs_rare",
        (Some(_), Some(_)) => "INDEXED BY runs_rare_of",
    };
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs {index} JOIN schedules ON schedules.id = runs.schedule {}
         ORDER BY queued_at DESC, run_id DESC LIMIT ?",
        clauses.text()
    );
    conn.prepare_cached(&sql)?.query_map(params_from_iter(clauses.values), rows::run)?.collect()
}

fn ranges(conn: &Connection, filter: &HistoryFilter, state: Option<RunState>) -> Result<Vec<RangeRecord>> {
    let clauses = Clauses::of(filter, state, "until_at", "range_id");
    let sql = format!(
        "SELECT {RANGE_COLUMNS} FROM ranges JOIN schedules ON schedules.id = ranges.schedule {}
         ORDER BY until_at DESC, range_id DESC LIMIT ?",
        clauses.text()
    );
    conn.prepare_cached(&sql)?.query_map(params_from_iter(clauses.values), rows::range)?.collect()
}

/// One question a state, each in the order of an index, and the newest of all answers.
pub(super) fn history(conn: &Connection, filter: &HistoryFilter) -> Result<Vec<HistoryRow>> {
    let asked: BTreeSet<_> = filter.states.iter().copied().collect();
    let states = if asked.is_empty() { vec![None] } else { asked.into_iter().map(Some).collect() };
    let mut all = Vec::new();
    for state in states {
        all.extend(runs(conn, filter, state)?.into_iter().map(HistoryRow::Run));
        all.extend(ranges(conn, filter, state)?.into_iter().map(HistoryRow::Range));
    }
    all.sort_by_key(|row| std::cmp::Reverse(row.cursor()));
    all.truncate(filter.limit as usize);
    Ok(all)
}

pub(super) fn events_after(conn: &Connection, seq: Seq, limit: u32) -> Result<Vec<Recorded>> {
    conn.prepare_cached("SELECT seq, ts, body FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![seq.0, limit], |row| {
            let event = row.get::<_, Json<Event>>("body")?.0;
            Ok(Recorded { ts: rows::at(row, "ts")?, event, seq: Some(Seq(row.get("seq")?)) })
        })?
        .collect()
}

pub(super) fn last_seq(conn: &Connection) -> Result<Seq> {
    conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?.query_row([], |row| row.get(0)).map(Seq)
}

pub(super) fn mark(conn: &Connection, sink: &str) -> Result<Option<Seq>> {
    conn.prepare_cached("SELECT seq FROM sinks WHERE name = ?1")?
        .query_row([sink], |row| row.get(0).map(Seq))
        .optional()
}

pub(super) fn state(conn: &Connection, schedule: &ScheduleName, key: &str) -> Result<Option<Value>> {
    conn.prepare_cached(
        "SELECT value FROM job_state WHERE schedule = (SELECT id FROM schedules WHERE name = ?1) AND key = ?2",
    )?
    .query_row([schedule.as_str(), key], |row| row.get::<_, Json<Value>>(0).map(|json| json.0))
    .optional()
}

pub(super) fn ranges_in(
    conn: &Connection,
    schedule: &ScheduleName,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<RangeRecord>> {
    let sql = format!(
        "SELECT {RANGE_COLUMNS} FROM ranges JOIN schedules ON schedules.id = ranges.schedule
         WHERE ranges.schedule = (SELECT id FROM schedules WHERE name = ?1)
           AND until_at >= ?2 AND from_at <= ?3 AND superseded = 0 ORDER BY until_at"
    );
    conn.prepare_cached(&sql)?
        .query_map(params![schedule.as_str(), Micros(from), Micros(until)], rows::range)?
        .collect()
}

pub(super) fn fires_in(
    conn: &Connection,
    schedule: &ScheduleName,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<RunRecord>> {
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM fires JOIN runs ON runs.run_id = fires.run_id
         JOIN schedules ON schedules.id = fires.schedule
         WHERE fires.schedule = (SELECT id FROM schedules WHERE name = ?1)
           AND fires.nominal_at >= ?2 AND fires.nominal_at <= ?3 ORDER BY fires.nominal_at"
    );
    conn.prepare_cached(&sql)?.query_map(params![schedule.as_str(), Micros(from), Micros(until)], rows::run)?.collect()
}

pub(super) fn pruned_fires(conn: &Connection, schedule: &ScheduleName) -> Result<Option<PrunedFires>> {
    conn.prepare_cached("SELECT * FROM pruned WHERE schedule = (SELECT id FROM schedules WHERE name = ?1)")?
        .query_row([schedule.as_str()], |row| {
            let (from, until) = (rows::at(row, "from_at")?, rows::at(row, "until_at")?);
            Ok(PrunedFires { from, until, count: row.get("count")? })
        })
        .optional()
}

pub(super) fn chained(conn: &Connection, schedule: &ScheduleName) -> Result<Vec<RunId>> {
    conn.prepare_cached(
        "SELECT parent FROM runs
         WHERE origin = 'chain' AND schedule = (SELECT id FROM schedules WHERE name = ?1) AND parent IS NOT NULL",
    )?
    .query_map([schedule.as_str()], |row| row.get::<_, Id>(0).map(|id| RunId::from_uuid(id.0)))?
    .collect()
}

pub(super) fn ended(conn: &Connection, schedule: &ScheduleName, since: DateTime<Utc>) -> Result<Vec<EndedRun>> {
    conn.prepare_cached(
        "SELECT run_id, state, finished_at, chains, origin = 'manual' AND parent IS NOT NULL AS repeats FROM runs
         WHERE schedule = (SELECT id FROM schedules WHERE name = ?1) AND finished_at > ?2",
    )?
    .query_map(params![schedule.as_str(), Micros(since)], |row| {
        Ok(EndedRun {
            run_id: RunId::from_uuid(row.get::<_, Id>("run_id")?.0),
            state: row.get("state")?,
            at: rows::at(row, "finished_at")?,
            chains: row.get("chains")?,
            repeats: row.get("repeats")?,
        })
    })?
    .collect()
}

/// Each question finds rows that contradict others, for a line for people: what stands before the run's id, the id, and
/// what stands after it.
const CONTRADICTIONS: &[&str] = &[
    "SELECT 'a fire of ' || coalesce(name, 'no schedule') || ' names a run that is not its own: ', fires.run_id, ''
     FROM fires LEFT JOIN runs ON runs.run_id = fires.run_id LEFT JOIN schedules ON schedules.id = fires.schedule
     WHERE runs.run_id IS NULL OR runs.schedule <> fires.schedule OR runs.nominal_at IS NOT fires.nominal_at",
    "SELECT 'run ', run_id, ' has a nominal time, but no fire' FROM runs
     WHERE nominal_at IS NOT NULL AND origin <> 'chain'
       AND NOT EXISTS (SELECT 1 FROM fires WHERE fires.schedule = runs.schedule AND fires.nominal_at = runs.nominal_at)",
    "SELECT 'run ', runs.run_id, ' doubles the run of its fire' FROM runs
     JOIN fires ON fires.schedule = runs.schedule AND fires.nominal_at = runs.nominal_at
     WHERE origin <> 'chain' AND fires.run_id <> runs.run_id
       AND NOT EXISTS (SELECT 1 FROM runs AS later WHERE later.schedule = runs.schedule AND later.origin = 'backfill'
         AND later.nominal_at = runs.nominal_at AND later.queued_at >= runs.queued_at AND later.run_id <> runs.run_id)",
    "SELECT 'run ', runs.run_id, ' is ' || runs.state || ', but its last attempt ended as ' || attempts.state
     FROM runs JOIN attempts ON attempts.run_id = runs.run_id AND attempts.fence = runs.fence
     WHERE attempts.state IS NOT NULL AND runs.state NOT IN ('queued', 'running', 'cancelled', 'missed')
       AND attempts.state <> runs.state",
    "SELECT 'run ', run_id, ' is ' || state || ' without an end' FROM runs
     WHERE finished_at IS NULL AND state NOT IN ('queued', 'running')",
];

pub(super) fn contradictions(conn: &Connection) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for question in CONTRADICTIONS {
        let mut statement = conn.prepare_cached(&format!("{question} LIMIT 100"))?;
        let line = |row: &Row<'_>| {
            let id = row.get_ref(1)?.as_blob().ok().and_then(|bytes| uuid::Uuid::from_slice(bytes).ok());
            // Someone else's hand may have written what is no id.
            let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
            Ok(format!("{}{id}{}", row.get::<_, String>(0)?, row.get::<_, String>(2)?))
        };
        lines.extend(statement.query_map([], line)?.collect::<Result<Vec<_>>>()?);
    }
    lines.truncate(100);
    Ok(lines)
}

fn fact(conn: &Connection, name: &str) -> Result<Option<String>> {
    conn.prepare_cached("SELECT value FROM facts WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn dispatch(conn: &Connection) -> Result<Option<Hold>> {
    Ok(conn
        .prepare_cached("SELECT value FROM facts WHERE name = 'dispatch'")?
        .query_row([], |row| row.get::<_, Json<Option<Hold>>>(0).map(|json| json.0))
        .optional()?
        .flatten())
}

pub(super) fn pruned_before(conn: &Connection) -> Result<Option<DateTime<Utc>>> {
    let micros = fact(conn, "pruned_before")?.and_then(|text| text.parse().ok());
    Ok(micros.and_then(DateTime::from_timestamp_micros))
}
