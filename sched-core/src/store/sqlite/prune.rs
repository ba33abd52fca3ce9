//! Removes old history in pieces that are short, and counts the fires that go with it.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{PruneCursor, Pruned};
use super::rows::{self, Id, Json, Micros};
use super::write::put_fact;
use crate::context::PruneRule;
use crate::id::RunId;
use crate::run::{Artifact, RunState};

type Result<T> = rusqlite::Result<T>;

/// So many rows of a kind are looked at in one transaction.
const PIECE: u32 = 1000;

struct Ended {
    run_id: RunId,
    schedule: i64,
    state: RunState,
    queued_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    artifacts: Vec<Artifact>,
}

/// Removes, or with `dry_run` counts, what is old among the next rows; the cursor says where it ended.
pub(super) fn prune(tx: &Connection, rule: &PruneRule, from: Option<PruneCursor>) -> Result<Pruned> {
    let ended = ended(tx, rule, from)?;
    let next = (ended.len() == PIECE as usize).then(|| ended.last()).flatten();
    let next = next.map(|run| PruneCursor { at: run.finished_at, run_id: run.run_id });
    let last = ended.last().map(|run| PruneCursor { at: run.finished_at, run_id: run.run_id });
    let mut pruned = Pruned { next, ..Pruned::default() };
    for run in ended {
        let limit = if run.state.is_failure() { rule.failures_before } else { rule.before };
        if run.finished_at < limit && !is_kept(tx, &run, rule.keep_newest)? {
            pruned.runs += 1;
            if !rule.dry_run {
                remove_run(tx, &run)?;
            }
            pruned.gone.push((run.run_id, run.artifacts));
        }
    }
    if next.is_none() {
        pruned.ranges = ranges(tx, rule)?;
        // Without a dry run, the rest of a long list is for the next piece.
        if !rule.dry_run && pruned.ranges == u64::from(PIECE) {
            pruned.next = last.or(from);
            pruned.next = pruned
                .next
                .or(Some(PruneCursor { at: DateTime::<Utc>::UNIX_EPOCH, run_id: RunId::from_uuid(uuid::Uuid::nil()) }));
        }
    }
    if !rule.dry_run {
        events(tx, rule)?;
        super::outbox::prune(tx, rule.before, PIECE)?;
        if pruned.runs + pruned.ranges > 0 {
            put_fact(tx, "pruned_before", &rule.before.timestamp_micros().to_string())?;
        }
    }
    Ok(pruned)
}

fn ended(tx: &Connection, rule: &PruneRule, from: Option<PruneCursor>) -> Result<Vec<Ended>> {
    let (at, id) =
        from.map_or((i64::MIN, uuid::Uuid::nil()), |from| (from.at.timestamp_micros(), from.run_id.as_uuid()));
    let before = rule.before.max(rule.failures_before);
    tx.prepare_cached(
        "SELECT run_id, schedule, state, queued_at, finished_at, artifacts FROM runs
         WHERE (finished_at, run_id) > (?1, ?2) AND finished_at < ?3 ORDER BY finished_at, run_id LIMIT ?4",
    )?
    .query_map(params![at, Id(id), Micros(before), PIECE], |row| {
        Ok(Ended {
            run_id: RunId::from_uuid(row.get::<_, Id>("run_id")?.0),
            schedule: row.get("schedule")?,
            state: row.get("state")?,
            queued_at: rows::at(row, "queued_at")?,
            finished_at: rows::at(row, "finished_at")?,
            artifacts: row.get::<_, Json<_>>("artifacts")?.0,
        })
    })?
    .collect()
}

/// Whether the run is among the newest of its schedule.
fn is_kept(tx: &Connection, run: &Ended, keep_newest: u32) -> Result<bool> {
    let newer: u32 = tx
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM runs
               WHERE schedule = ?1 AND (queued_at, run_id) > (?2, ?3) ORDER BY queued_at, run_id LIMIT ?4)",
        )?
        .query_row(params![run.schedule, Micros(run.queued_at), Id(run.run_id.as_uuid()), keep_newest], |row| {
            row.get(0)
        })?;
    Ok(newer < keep_newest)
}

fn remove_run(tx: &Connection, run: &Ended) -> Result<()> {
    let id = || Id(run.run_id.as_uuid());
    let nominal = tx
        .prepare_cached("SELECT nominal_at FROM runs WHERE run_id = ?1")?
        .query_row([id()], |row| rows::maybe_at(row, "nominal_at"))
        .optional()?
        .flatten();
    if let Some(at) = nominal {
        let gone = tx
            .prepare_cached("DELETE FROM fires WHERE schedule = ?1 AND nominal_at = ?2 AND run_id = ?3")?
            .execute(params![run.schedule, Micros(at), id()])?;
        if gone > 0 {
            count(tx, run.schedule, at, at, 1)?;
        }
    }
    tx.prepare_cached("DELETE FROM attempts WHERE run_id = ?1")?.execute([id()])?;
    tx.prepare_cached("DELETE FROM runs WHERE run_id = ?1")?.execute([id()])?;
    Ok(())
}

fn ranges(tx: &Connection, rule: &PruneRule) -> Result<u64> {
    if rule.dry_run {
        let sql = "SELECT count(*) FROM ranges WHERE until_at < ?1";
        return tx.prepare_cached(sql)?.query_row([Micros(rule.before)], |row| row.get(0));
    }
    let old: Vec<(Id, i64, Micros, Micros, u64, bool)> = tx
        .prepare_cached(
            "SELECT range_id, schedule, from_at, until_at, count, superseded FROM ranges
             WHERE until_at < ?1 ORDER BY until_at, range_id LIMIT ?2",
        )?
        .query_map(params![Micros(rule.before), PIECE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?
        .collect::<Result<_>>()?;
    for (id, schedule, from, until, fires, superseded) in &old {
        tx.prepare_cached("DELETE FROM ranges WHERE range_id = ?1")?.execute([id])?;
        if !superseded {
            count(tx, *schedule, from.0, until.0, *fires)?;
        }
    }
    Ok(old.len() as u64)
}

fn count(tx: &Connection, schedule: i64, from: DateTime<Utc>, until: DateTime<Utc>, fires: u64) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO pruned (schedule, from_at, until_at, count) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (schedule) DO UPDATE
         SET from_at = min(from_at, ?2), until_at = max(until_at, ?3), count = count + ?4",
    )?
    .execute(params![schedule, Micros(from), Micros(until), fires])
    .map(drop)
}

/// Events go in order of their places, up to the first that is young, and never the newest.
fn events(tx: &Connection, rule: &PruneRule) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM events WHERE seq <= (SELECT max(seq) FROM (SELECT seq, ts FROM events ORDER BY seq LIMIT ?2)
           WHERE ts < ?1) AND ts < ?1 AND seq < (SELECT max(seq) FROM events)",
    )?
    .execute(params![Micros(rule.before), 4 * PIECE])
    .map(drop)
}
