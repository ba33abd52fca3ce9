//! Each intent as statements, inside the batch's transaction.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Ahead, Ending, Follow, Health, Intent, Receipt, ScheduleRow};
use super::rows::{self, Id, Json, Micros, RANGE_COLUMNS};
use crate::event::Event;
use crate::id::{Fence, RunId, ScheduleName};
use crate::run::{Origin, RangeRecord, RunRecord, RunState};
use crate::spec::ScheduleSpec;

type Result<T> = rusqlite::Result<T>;

pub(super) fn append_event(tx: &Connection, at: DateTime<Utc>, event: &Event) -> Result<u64> {
    tx.prepare_cached("INSERT INTO events (ts, body) VALUES (?1, ?2)")?.execute(params![Micros(at), Json(event)])?;
    Ok(tx.last_insert_rowid().unsigned_abs())
}

/// The last fence that was given: read and written once a batch, however many are given in it.
#[derive(Debug, Default)]
pub(super) struct Fences {
    last: Option<u64>,
    given: bool,
}

impl Fences {
    fn next(&mut self, tx: &Connection) -> Result<u64> {
        let last = match self.last {
            Some(last) => last,
            None => last_fence(tx)?,
        };
        self.last = Some(last);
        Ok(last + 1)
    }

    const fn give(&mut self, fence: u64) {
        (self.last, self.given) = (Some(fence), true);
    }

    /// Writes it down, in the transaction of those that have them.
    pub(super) fn keep(&self, tx: &Connection) -> Result<()> {
        match self.last {
            Some(last) if self.given => put_fact(tx, "fence", &last.to_string()),
            _ => Ok(()),
        }
    }
}

pub(super) fn apply(tx: &Connection, intent: &Intent, fences: &mut Fences) -> Result<Receipt> {
    match intent {
        Intent::Declare(row) => declare(tx, row),
        Intent::Retire { schedule, at } => {
            tx.prepare_cached("UPDATE schedules SET retired = 1 WHERE name = ?1")?.execute([schedule.as_str()])?;
            tx.prepare_cached(
                "UPDATE schedule_versions SET effective_until = ?2
                 WHERE schedule = (SELECT id FROM schedules WHERE name = ?1) AND effective_until IS NULL",
            )?
            .execute(params![schedule.as_str(), Micros(*at)])?;
            Ok(Receipt::Applied)
        }
        Intent::Plan { schedule, expected, cursor, ranges, runs } => {
            let advanced = tx
                .prepare_cached("UPDATE schedules SET cursor = ?3 WHERE name = ?1 AND cursor = ?2")?
                .execute(params![schedule.as_str(), Micros(*expected), Micros(*cursor)])?;
            if advanced == 0 {
                return Ok(Receipt::Conflict);
            }
            let id = schedule_id(tx, schedule)?;
            for range in ranges {
                put_range(tx, id, range)?;
            }
            for run in runs {
                insert_run(tx, id, run)?;
            }
            Ok(Receipt::Applied)
        }
        Intent::Enqueue(run) => {
            if let Some(key) = &run.idempotency_key {
                let existing = tx
                    .prepare_cached("SELECT run_id FROM runs WHERE idempotency = ?1")?
                    .query_row([key], |row| row.get::<_, Id>(0))
                    .optional()?;
                if let Some(id) = existing {
                    return Ok(Receipt::Existing(RunId::from_uuid(id.0)));
                }
            }
            insert_run(tx, schedule_id(tx, &run.schedule)?, run)?;
            Ok(Receipt::Applied)
        }
        Intent::FindKey { schedule, key } => {
            let found = tx
                .prepare_cached(
                    "SELECT run_id, schedule = (SELECT id FROM schedules WHERE name = ?2) FROM runs WHERE idempotency = ?1",
                )?
                .query_row([key, schedule.as_str()], |row| Ok((row.get::<_, Id>(0)?, row.get::<_, bool>(1)?)))
                .optional()?;
            Ok(match found {
                None => Receipt::Applied,
                Some((id, true)) => Receipt::Existing(RunId::from_uuid(id.0)),
                Some((_, false)) => Receipt::Conflict,
            })
        }
        Intent::Claim { run_id, attempt, node, at } => {
            let fence = fences.next(tx)?;
            let claimed = tx
                .prepare_cached(
                    "UPDATE runs SET state = 'running', attempt = ?2, node = ?3, started_at = ?4, fence = ?5
                     WHERE run_id = ?1 AND state = 'queued'",
                )?
                .execute(params![Id(run_id.as_uuid()), attempt, Id(node.as_uuid()), Micros(*at), fence])?;
            if claimed == 0 {
                return Ok(Receipt::Conflict);
            }
            fences.give(fence);
            Ok(Receipt::Claimed(Fence(fence)))
        }
        Intent::Finish { run_id, fence, ending, follow: what } => {
            let ended = end(tx, *run_id, *fence, ending, None)?;
            if ended {
                follow(tx, *run_id, what)?;
            }
            Ok(if ended { Receipt::Applied } else { Receipt::Conflict })
        }
        Intent::Requeue { run_id, fence, attempt, not_before, ending } => {
            let ended = end(tx, *run_id, *fence, ending, Some((*attempt, *not_before)))?;
            Ok(if ended { Receipt::Applied } else { Receipt::Conflict })
        }
        Intent::Recover { expected, parts, runs } => recover(tx, expected, parts, runs),
        Intent::Locate { schedule } => locate(tx, schedule),
        Intent::LookAhead { after } => look_ahead(tx, *after),
        Intent::Reopen { row, expected, parts } => {
            let replaced = replace(tx, schedule_id(tx, row.name())?, expected, parts)?;
            if replaced { declare(tx, row) } else { Ok(Receipt::Conflict) }
        }
        Intent::Pause { schedule, hold } => {
            let changed = tx
                .prepare_cached("UPDATE schedules SET paused = ?2 WHERE name = ?1")?
                .execute(params![schedule.as_str(), hold.as_ref().map(Json)])?;
            Ok(if changed == 0 { Receipt::Conflict } else { Receipt::Applied })
        }
        Intent::Dispatch(hold) => {
            put_fact(tx, "dispatch", &serde_json::json!(hold).to_string())?;
            Ok(Receipt::Applied)
        }
        Intent::PutState { schedule, key, value } => {
            tx.prepare_cached(
                "INSERT INTO job_state (schedule, key, value)
                 VALUES ((SELECT id FROM schedules WHERE name = ?1), ?2, ?3)
                 ON CONFLICT (schedule, key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![schedule.as_str(), key, Json(value)])?;
            Ok(Receipt::Applied)
        }
        Intent::Prune { rule, from } => super::prune::prune(tx, rule, *from).map(Receipt::Pruned),
        Intent::Mark { sink, seq } => {
            tx.prepare_cached(
                "INSERT INTO sinks (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = ?2",
            )?
            .execute(params![sink, seq.0])?;
            Ok(Receipt::Applied)
        }
        Intent::Deliver { deliveries, tried, at } => {
            super::outbox::tried(tx, deliveries, tried, *at)?;
            Ok(Receipt::Applied)
        }
        Intent::Note => Ok(Receipt::Applied),
    }
}

fn schedule_id(tx: &Connection, name: &ScheduleName) -> Result<i64> {
    tx.prepare_cached("SELECT id FROM schedules WHERE name = ?1")?.query_row([name.as_str()], |row| row.get(0))
}

pub(super) fn put_fact(tx: &Connection, name: &str, value: &str) -> Result<()> {
    tx.prepare_cached("INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
        .execute([name, value])
        .map(drop)
}

fn last_fence(tx: &Connection) -> Result<u64> {
    let sql = "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'fence'), 0)";
    tx.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

fn declare(tx: &Connection, row: &ScheduleRow) -> Result<Receipt> {
    tx.prepare_cached(
        "INSERT INTO schedules (name, spec, version, effective_from, cursor, paused, retired, failing_since, zones)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (name) DO UPDATE SET spec = ?2, version = ?3, effective_from = ?4, cursor = ?5, paused = ?6,
           retired = ?7, failing_since = ?8, zones = ?9",
    )?
    .execute(params![
        row.name().as_str(),
        Json(&row.spec),
        row.version,
        Micros(row.effective_from),
        Micros(row.cursor),
        row.paused.as_ref().map(Json),
        row.retired,
        row.failing_since.map(Micros),
        row.zones,
    ])?;
    let id = schedule_id(tx, row.name())?;
    tx.prepare_cached(
        "UPDATE schedule_versions SET effective_until = ?2
         WHERE schedule = ?1 AND (effective_until IS NULL OR effective_until > ?2)",
    )?
    .execute(params![id, Micros(row.effective_from)])?;
    tx.prepare_cached(
        "INSERT INTO schedule_versions (schedule, version, spec, effective_from, zones) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![id, row.version, Json(&row.spec), Micros(row.effective_from), row.zones])?;
    Ok(Receipt::Applied)
}

fn insert_run(tx: &Connection, schedule: i64, run: &RunRecord) -> Result<()> {
    if let Some(at) = run.nominal_at.filter(|_| run.origin != Origin::Chain) {
        tx.prepare_cached("INSERT INTO fires (schedule, nominal_at, run_id) VALUES (?1, ?2, ?3)")?.execute(params![
            schedule,
            Micros(at),
            Id(run.run_id.as_uuid())
        ])?;
    }
    tx.prepare_cached(
        "INSERT INTO runs (run_id, schedule, job, version, nominal_at, origin, state, reason, attempt, not_before,
           queued_at, started_at, finished_at, duration_ms, node, fence, params, summary, data, error, abandoned,
           artifacts, parent, chains, requested_by, idempotency)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
           ?23, ?24, ?25, ?26)",
    )?
    .execute(params![
        Id(run.run_id.as_uuid()),
        schedule,
        run.job,
        run.version,
        run.nominal_at.map(Micros),
        run.origin,
        run.state,
        run.reason,
        run.attempt,
        Micros(run.not_before),
        Micros(run.queued_at),
        run.started_at.map(Micros),
        run.finished_at.map(Micros),
        run.duration_ms,
        run.node.map(|node| Id(node.as_uuid())),
        run.fence.0,
        Json(&run.params),
        run.summary,
        Json(&run.data),
        run.error,
        run.abandoned,
        Json(&run.artifacts),
        run.parent.map(|id| Id(id.as_uuid())),
        run.chains,
        run.requested_by,
        run.idempotency_key,
    ])?;
    Ok(())
}

/// What comes with the end of a run.
fn follow(tx: &Connection, run_id: RunId, what: &Follow) -> Result<()> {
    let set = |column: &str, value: Option<Micros>| {
        let sql =
            format!("UPDATE schedules SET {column} = ?2 WHERE id = (SELECT schedule FROM runs WHERE run_id = ?1)");
        tx.prepare_cached(&sql)?.execute(params![Id(run_id.as_uuid()), value]).map(drop)
    };
    if let Some(cursor) = what.cursor {
        set("cursor", Some(Micros(cursor)))?;
    }
    match what.health {
        Health::Unchanged => {}
        Health::Fails(at) => set("failing_since", Some(Micros(at)))?,
        Health::Works => set("failing_since", None)?,
    }
    for run in &what.chained {
        insert_run(tx, schedule_id(tx, &run.schedule)?, run)?;
    }
    Ok(())
}

/// Ends an attempt under its fence; with `again`, the run goes back into the queue.
fn end(
    tx: &Connection,
    run_id: RunId,
    fence: Fence,
    ending: &Ending,
    again: Option<(u32, DateTime<Utc>)>,
) -> Result<bool> {
    let state = if again.is_some() { RunState::Queued } else { ending.state };
    // As long as it is under way the run's own row tells of it. Versions before wrote it down when it began.
    tx.prepare_cached(
        "INSERT INTO attempts (run_id, fence, attempt, node, started_at, finished_at, state, error)
         SELECT run_id, fence, attempt, node, started_at, ?3, ?4, ?5 FROM runs
         WHERE run_id = ?1 AND fence = ?2 AND state = 'running'
         ON CONFLICT (run_id, fence) DO UPDATE SET finished_at = ?3, state = ?4, error = ?5",
    )?
    .execute(params![Id(run_id.as_uuid()), fence.0, Micros(ending.at), ending.state, ending.error])?;
    let changed = tx
        .prepare_cached(
            "UPDATE runs SET state = ?3, reason = ?4, finished_at = ?5, duration_ms = ?6, summary = ?7, data = ?8,
               error = ?9, abandoned = ?10, attempt = coalesce(?11, attempt), not_before = coalesce(?12, not_before),
               artifacts = CASE ?13 WHEN '[]' THEN artifacts ELSE ?13 END
             WHERE run_id = ?1 AND fence = ?2 AND (state = 'running' OR (state = 'queued' AND ?14))",
        )?
        .execute(params![
            Id(run_id.as_uuid()),
            fence.0,
            state,
            ending.reason,
            again.is_none().then_some(Micros(ending.at)),
            ending.duration_ms,
            ending.summary,
            Json(&ending.data),
            ending.error,
            ending.abandoned,
            again.map(|(attempt, _)| attempt),
            again.map(|(_, at)| Micros(at)),
            Json(&ending.artifacts),
            again.is_none(),
        ])?;
    Ok(changed > 0)
}

fn put_range(tx: &Connection, schedule: i64, range: &RangeRecord) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO ranges (range_id, schedule, version, state, reason, blocker, from_at, until_at, count, superseded)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (range_id) DO UPDATE SET until_at = ?8, count = ?9",
    )?
    .execute(params![
        Id(range.range_id.as_uuid()),
        schedule,
        range.version,
        range.state,
        range.reason,
        range.blocker.map(|id| Id(id.as_uuid())),
        Micros(range.from),
        Micros(range.until),
        range.count,
        range.superseded,
    ])
    .map(drop)
}

/// Replaces ranges by others, if they are as they were read.
fn replace(tx: &Connection, schedule: i64, expected: &[RangeRecord], parts: &[RangeRecord]) -> Result<bool> {
    let same = "range_id = ?1 AND from_at = ?2 AND until_at = ?3 AND count = ?4 AND superseded = 0";
    for range in expected {
        let values = params![Id(range.range_id.as_uuid()), Micros(range.from), Micros(range.until), range.count];
        if !tx.prepare_cached(&format!("SELECT 1 FROM ranges WHERE {same}"))?.exists(values)? {
            return Ok(false);
        }
    }
    for range in expected {
        let id = Id(range.range_id.as_uuid());
        tx.prepare_cached("DELETE FROM ranges WHERE range_id = ?1")?.execute([id])?;
    }
    for part in parts {
        put_range(tx, schedule, part)?;
    }
    Ok(true)
}

fn recover(tx: &Connection, expected: &[RangeRecord], parts: &[RangeRecord], runs: &[RunRecord]) -> Result<Receipt> {
    let Some(first) = runs.first() else { return Ok(Receipt::Applied) };
    let id = schedule_id(tx, &first.schedule)?;
    for run in runs {
        let fire = tx
            .prepare_cached("SELECT run_id FROM fires WHERE schedule = ?1 AND nominal_at = ?2")?
            .query_row(params![id, run.nominal_at.map(Micros)], |row| row.get::<_, Id>(0))
            .optional()?;
        if fire.map(|id| RunId::from_uuid(id.0)) != run.parent {
            return Ok(Receipt::Conflict);
        }
    }
    if !replace(tx, id, expected, parts)? {
        return Ok(Receipt::Conflict);
    }
    for run in runs {
        if run.parent.is_some() {
            tx.prepare_cached("DELETE FROM fires WHERE schedule = ?1 AND nominal_at = ?2")?
                .execute(params![id, run.nominal_at.map(Micros)])?;
        }
        insert_run(tx, id, run)?;
    }
    Ok(Receipt::Applied)
}

fn locate(tx: &Connection, schedule: &ScheduleName) -> Result<Receipt> {
    let found = tx
        .prepare_cached("SELECT id, cursor FROM schedules WHERE name = ?1")?
        .query_row([schedule.as_str()], |row| Ok((row.get(0)?, rows::at(row, "cursor")?)))
        .optional()?;
    let Some((id, cursor)) = found else { return Ok(Receipt::Conflict) };
    Ok(Receipt::Stands { cursor, ahead: fires_after(tx, id, cursor)? })
}

fn fires_after<T: FromIterator<DateTime<Utc>>>(tx: &Connection, schedule: i64, after: DateTime<Utc>) -> Result<T> {
    tx.prepare_cached("SELECT nominal_at FROM fires WHERE schedule = ?1 AND nominal_at > ?2 ORDER BY nominal_at")?
        .query_map(params![schedule, Micros(after)], |row| rows::at(row, "nominal_at"))?
        .collect()
}

/// What lies after an instant, of each schedule whose cursor does.
fn look_ahead(tx: &Connection, after: DateTime<Utc>) -> Result<Receipt> {
    let names: Vec<(i64, String)> = tx
        .prepare_cached("SELECT id, name FROM schedules WHERE cursor > ?1 AND retired = 0 ORDER BY name")?
        .query_map([Micros(after)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut all = Vec::with_capacity(names.len());
    for (id, name) in names {
        let sql = format!(
            "SELECT {RANGE_COLUMNS}, (SELECT spec FROM schedule_versions AS v
               WHERE v.schedule = ranges.schedule AND v.version = ranges.version) AS spec
             FROM ranges JOIN schedules ON schedules.id = ranges.schedule
             WHERE ranges.schedule = ?1 AND until_at > ?2 AND superseded = 0 ORDER BY from_at"
        );
        let ranges = tx
            .prepare_cached(&sql)?
            .query_map(params![id, Micros(after)], |row| {
                Ok((rows::range(row)?, row.get::<_, Json<ScheduleSpec>>("spec")?.0.trigger))
            })?
            .collect::<Result<_>>()?;
        let fires = fires_after(tx, id, after)?;
        let Ok(schedule) = name.parse() else { continue };
        all.push(Ahead { schedule, ranges, fires });
    }
    Ok(Receipt::Ahead(all))
}
