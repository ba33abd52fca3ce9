//! The outbox as statements.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, named_params, params};

use super::super::Tried;
use super::rows::{self, Id, Json, Micros};
use crate::id::{ChannelName, OutboxId, ScheduleName};
use crate::notice::{NoticeKind, OutboxRow, OutboxState};
use crate::query::OutboxFilter;

type Result<T> = rusqlite::Result<T>;

pub(super) fn put(tx: &Connection, row: &OutboxRow) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO outbox
         (id, channel, kind, schedule, at, not_before, attempt, state, error, ended_at, content)
         VALUES (:id, :channel, :kind, :schedule, :at, :not_before, :attempt, :state, :error, :ended_at, :content)",
    )?
    .execute(named_params! {
        ":id": Id(row.id.as_uuid()),
        ":channel": row.channel.as_str(),
        ":kind": row.kind,
        ":schedule": row.schedule.as_ref().map(ScheduleName::as_str),
        ":at": Micros(row.at),
        ":not_before": Micros(row.not_before),
        ":attempt": row.attempt,
        ":state": row.state,
        ":error": row.error,
        ":ended_at": row.ended_at.map(Micros),
        ":content": Json(&row.content),
    })
    .map(drop)
}

pub(super) fn tried(tx: &Connection, rows: &[(OutboxId, u32)], tried: &Tried, at: DateTime<Utc>) -> Result<()> {
    let (state, error, not_before) = match tried {
        Tried::Delivered => (OutboxState::Delivered, None, None),
        Tried::Again { not_before, error } => (OutboxState::Waiting, Some(error), Some(Micros(*not_before))),
        Tried::Dead { error } => (OutboxState::Dead, Some(error), None),
    };
    let ended_at = (state != OutboxState::Waiting).then_some(Micros(at));
    for (id, attempt) in rows {
        tx.prepare_cached(
            "UPDATE outbox SET state = ?2, error = ?3, ended_at = ?4, attempt = ?5, not_before = ifnull(?6, not_before)
             WHERE id = ?1",
        )?
        .execute(params![Id(id.as_uuid()), state, error, ended_at, attempt, not_before])?;
    }
    Ok(())
}

fn row(row: &Row<'_>) -> Result<OutboxRow> {
    Ok(OutboxRow {
        id: OutboxId::from_uuid(row.get::<_, Id>("id")?.0),
        channel: rows::name(row, "channel")?,
        kind: row.get("kind")?,
        schedule: rows::maybe_name(row, "schedule")?,
        at: rows::at(row, "at")?,
        not_before: rows::at(row, "not_before")?,
        attempt: row.get("attempt")?,
        state: row.get("state")?,
        error: row.get("error")?,
        ended_at: rows::maybe_at(row, "ended_at")?,
        content: row.get::<_, Json<_>>("content")?.0,
    })
}

/// Everything that waits, oldest first.
pub(super) fn waiting(conn: &Connection) -> Result<Vec<OutboxRow>> {
    conn.prepare("SELECT * FROM outbox WHERE state = 'waiting' ORDER BY id")?.query_map([], row)?.collect()
}

/// When each channel last told that a schedule fails, or misses fires.
pub(super) fn told(conn: &Connection) -> Result<HashMap<(ChannelName, ScheduleName, NoticeKind), DateTime<Utc>>> {
    let mut statement = conn.prepare(
        "SELECT channel, schedule, kind, max(at) AS at FROM outbox INDEXED BY outbox_told
         WHERE kind IN ('failed', 'missed') AND schedule IS NOT NULL GROUP BY channel, schedule, kind",
    )?;
    statement
        .query_map([], |row| {
            let key = (rows::name(row, "channel")?, rows::name(row, "schedule")?, row.get("kind")?);
            Ok((key, rows::at(row, "at")?))
        })?
        .collect()
}

pub(super) fn list(conn: &Connection, filter: &OutboxFilter) -> Result<Vec<OutboxRow>> {
    let after = filter.after.map_or(uuid::Uuid::max(), |id| id.as_uuid());
    match filter.state {
        Some(state) => conn
            .prepare_cached("SELECT * FROM outbox WHERE state = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3")?
            .query_map(params![state, Id(after), filter.limit], row)?
            .collect(),
        None => conn
            .prepare_cached("SELECT * FROM outbox WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?
            .query_map(params![Id(after), filter.limit], row)?
            .collect(),
    }
}

/// Removes some of what ended before an instant.
pub(super) fn prune(tx: &Connection, before: DateTime<Utc>, most: u32) -> Result<()> {
    tx.prepare_cached(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2)",
    )?
    .execute(params![Micros(before), most])
    .map(drop)
}
