//! The schema and its versions. A migration is one entry at the end of [`MIGRATIONS`]; entries never change.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use super::failure;
use super::watch::beside;

/// Each entry brings the schema from its index to the next version.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
    include_str!("schema/004.sql"),
];

/// Marks the file as ours ("SCHD").
const APPLICATION_ID: i64 = 0x5343_4844;

/// Refuses a file that has lost everything.
pub(super) fn refuse_empty(path: &Path) -> Result<(), StoreError> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
        return Err(StoreError::Corrupt { place: path.display().to_string(), detail: "it is empty".into() });
    }
    Ok(())
}

/// A file up to this size is read whole at each start; a larger one when there is a doubt.
const READ_WHOLE: u64 = 64 * 1024 * 1024;

/// As [`inspect`], and refuses a file whose pages contradict each other; a large one is taken at its word.
pub(super) fn inspect_for_writing(path: &Path) -> Result<(), StoreError> {
    inspect(path)?;
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() <= READ_WHOLE) { verify(path) } else { Ok(()) }
}

/// Refuses a file whose pages contradict each other; reads all of it.
pub(super) fn verify(path: &Path) -> Result<(), StoreError> {
    let fail = |error| failure(path, &error);
    if std::fs::metadata(path).map_or(true, |meta| meta.len() == 0) {
        return Ok(());
    }
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail)?;
    let check: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if check != "ok" {
        return Err(StoreError::Corrupt { place: path.display().to_string(), detail: check });
    }
    Ok(())
}

/// Refuses a file that is no store of ours, or newer, before anything is written to it.
pub(super) fn inspect(path: &Path) -> Result<(), StoreError> {
    let is_empty = |path: &Path| std::fs::metadata(path).map_or(true, |meta| meta.len() == 0);
    let place = path.display().to_string();
    if is_empty(path) {
        // A store that SQLite makes has its first page before its log. It would throw the log away.
        let log = beside(path, "-wal");
        let detail = || format!("it is missing or empty, and its log {} is not", log.display());
        return if is_empty(&log) { Ok(()) } else { Err(StoreError::Corrupt { place, detail: detail() }) };
    }
    let fail = |error| failure(path, &error);
    // A process that was killed before the store had its log may have left a change to roll back. Only a connection
    // that can write does so.
    let to_roll_back = beside(path, "-journal").exists();
    let flags = if to_roll_back { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let found = number("user_version").map_err(fail)?;
    let application = number("application_id").map_err(fail)?;
    let known = MIGRATIONS.len() as i64;
    if application != APPLICATION_ID && (found != 0 || application != 0) {
        return Err(StoreError::Corrupt { place, detail: "it is a SQLite file of another program".into() });
    }
    if found > known {
        return Err(StoreError::Newer { place, found, known });
    }
    Ok(())
}

/// The version of a file that is older than ours, and ours.
pub(super) fn pending(path: &Path) -> Option<(i64, i64)> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).ok()?;
    let known = MIGRATIONS.len() as i64;
    (0 < found && found < known).then_some((found, known))
}

/// Applies the migrations that the file lacks, each with its version in one transaction.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error| failure(path, &error);
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fail)?;
        tx.execute_batch(sql).map_err(fail)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
        tx.pragma_update(None, "user_version", index as i64 + 1).map_err(fail)?;
        tx.commit().map_err(fail)?;
    }
    Ok(())
}
