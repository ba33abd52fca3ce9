//! Between Rust values and columns.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::super::{ScheduleRow, VersionRow};
use crate::id::{Fence, NodeId, RangeId, RunId};
use crate::notice::{NoticeKind, OutboxState};
use crate::run::{Origin, RangeRecord, Reason, RunRecord, RunState};
use crate::spec::ScheduleSpec;

/// An instant as microseconds since the epoch.
pub(super) struct Micros(pub(super) DateTime<Utc>);

impl ToSql for Micros {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.timestamp_micros().into())
    }
}

impl FromSql for Micros {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        DateTime::from_timestamp_micros(micros).map(Self).ok_or(FromSqlError::OutOfRange(micros))
    }
}

/// A UUID as 16 bytes.
pub(super) struct Id(pub(super) Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Uuid::from_slice(value.as_blob()?).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// Anything as JSON text.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text =
            serde_json::to_string(&self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

macro_rules! word_columns {
    ($($name:ty),*) => { $(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.word().into())
            }
        }
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(|error| FromSqlError::Other(Box::new(error)))
            }
        }
    )* };
}

word_columns!(RunState, Origin, Reason, NoticeKind, OutboxState);

pub(super) fn at(row: &Row<'_>, column: &str) -> rusqlite::Result<DateTime<Utc>> {
    row.get::<_, Micros>(column).map(|at| at.0)
}

pub(super) fn maybe_at(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<DateTime<Utc>>> {
    Ok(row.get::<_, Option<Micros>>(column)?.map(|at| at.0))
}

/// The columns that [`run`] reads.
pub(super) const RUN_COLUMNS: &str = "runs.*, schedules.name AS schedule_name";

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        run_id: RunId::from_uuid(row.get::<_, Id>("run_id")?.0),
        schedule: name(row, "schedule_name")?,
        job: row.get("job")?,
        version: row.get("version")?,
        nominal_at: maybe_at(row, "nominal_at")?,
        origin: row.get("origin")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        attempt: row.get("attempt")?,
        not_before: at(row, "not_before")?,
        queued_at: at(row, "queued_at")?,
        started_at: maybe_at(row, "started_at")?,
        finished_at: maybe_at(row, "finished_at")?,
        duration_ms: row.get("duration_ms")?,
        node: row.get::<_, Option<Id>>("node")?.map(|id| NodeId::from_uuid(id.0)),
        fence: Fence(row.get("fence")?),
        params: row.get::<_, Json<_>>("params")?.0,
        summary: row.get("summary")?,
        data: row.get::<_, Json<_>>("data")?.0,
        error: row.get("error")?,
        abandoned: row.get("abandoned")?,
        artifacts: row.get::<_, Json<_>>("artifacts")?.0,
        parent: row.get::<_, Option<Id>>("parent")?.map(|id| RunId::from_uuid(id.0)),
        chains: row.get("chains")?,
        requested_by: row.get("requested_by")?,
        idempotency_key: row.get("idempotency")?,
    })
}

/// The columns that [`range`] reads.
pub(super) const RANGE_COLUMNS: &str = "ranges.*, schedules.name AS schedule_name";

pub(super) fn range(row: &Row<'_>) -> rusqlite::Result<RangeRecord> {
    Ok(RangeRecord {
        range_id: RangeId::from_uuid(row.get::<_, Id>("range_id")?.0),
        schedule: name(row, "schedule_name")?,
        version: row.get("version")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        blocker: row.get::<_, Option<Id>>("blocker")?.map(|id| RunId::from_uuid(id.0)),
        from: at(row, "from_at")?,
        until: at(row, "until_at")?,
        count: row.get("count")?,
        superseded: row.get("superseded")?,
    })
}

pub(super) fn schedule(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow {
        spec: Arc::new(row.get::<_, Json<ScheduleSpec>>("spec")?.0.compact()),
        version: row.get("version")?,
        effective_from: at(row, "effective_from")?,
        cursor: at(row, "cursor")?,
        paused: row.get::<_, Option<Json<_>>>("paused")?.map(|json| json.0),
        retired: row.get("retired")?,
        failing_since: maybe_at(row, "failing_since")?,
        zones: row.get("zones")?,
    })
}

pub(super) fn version(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        version: row.get("version")?,
        spec: row.get::<_, Json<_>>("spec")?.0,
        from: at(row, "effective_from")?,
        until: maybe_at(row, "effective_until")?,
        zones: row.get("zones")?,
    })
}

pub(super) fn name<T: FromStr<Err = crate::InvalidName>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    parse(&row.get::<_, String>(column)?)
}

pub(super) fn maybe_name<T: FromStr<Err = crate::InvalidName>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| parse(&text)).transpose()
}

fn parse<T: FromStr<Err = crate::InvalidName>>(text: &str) -> rusqlite::Result<T> {
    text.parse().map_err(|error: crate::InvalidName| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
