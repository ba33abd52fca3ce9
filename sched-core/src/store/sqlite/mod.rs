//! The store in one SQLite file: WAL, `synchronous=FULL`, one writer, readers beside it.
//!
//! Facts live in typed columns; what only people and programs outside read (parameters, figures,
//! specifications) is JSON. Must not know: the engine.

mod copy;
mod lock;
mod outbox;
#[cfg(test)]
mod plans;
mod prune;
mod query;
mod rescue;
mod rows;
mod schema;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{Admin, Committed, Query, Receipt, Snapshot, Store, StoreError, Write};
use crate::event::Recorded;
use crate::id::Seq;
use crate::query::HistoryFilter;

pub use lock::StoreLock;
use watch::{Found, Watch};

/// The only writer of a SQLite store, by the lock file beside it.
#[derive(Debug)]
pub struct SqliteStore {
    conn: Connection,
    path: PathBuf,
    watch: Watch,
    /// Where everything was saved when the files were found to be others.
    saved: Option<PathBuf>,
    _locks: Vec<StoreLock>,
}

/// Reads a SQLite store beside its writer, from this or another process.
#[derive(Clone)]
pub struct SqliteReader {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

const OLDEST_SQLITE: i32 = 3_051_003;
const MAX_IDLE_READERS: usize = 4;

impl SqliteStore {
    /// Takes the lock beside `path`, opens or creates the store there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Locked`] names the process that has it open. [`StoreError::Newer`] and
    /// [`StoreError::Corrupt`] leave the file untouched.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let lock = StoreLock::take(&StoreLock::path_for(path.as_ref()))?;
        Self::open_held(path, lock)
    }

    /// As [`SqliteStore::open`], for who holds a lock already; it is kept as long as the store. A lock that is not
    /// the one beside `path` does not replace it.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_held(path: impl AsRef<Path>, lock: StoreLock) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let beside = StoreLock::path_for(&path);
        let mut locks = vec![lock];
        if locks[0].path() != beside {
            locks.push(StoreLock::take(&beside)?);
        }
        let fail = |error| failure(&path, &error);
        if rusqlite::version_number() < OLDEST_SQLITE {
            let detail = format!("this program was built with SQLite {}, needs 3.51.3", rusqlite::version());
            return Err(StoreError::Io { place: path.display().to_string(), detail });
        }
        schema::inspect_for_writing(&path)?;
        rescue::refuse_to_begin_anew(&path)?;
        let mut conn = Connection::open(&path).map_err(fail)?;
        conn.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
        conn.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        conn.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        conn.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        conn.set_prepared_statement_cache_capacity(64);
        schema::migrate(&mut conn, &path)?;
        let watch = Watch::over(&path);
        Ok(Self { conn, path, watch, saved: None, _locks: locks })
    }

    /// The versions of the schema from and to which [`SqliteStore::open`] would bring the file: it may take its time.
    /// None when there is nothing to do, and when the file cannot be read; opening it says why.
    #[must_use]
    pub fn migration(path: impl AsRef<Path>) -> Option<(i64, i64)> {
        schema::pending(path.as_ref())
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Applies each write, or, with `apart`, those that contradict nothing that is stored.
fn apply_all(tx: &mut Transaction<'_>, writes: &[Write], apart: bool) -> rusqlite::Result<Committed> {
    let (mut committed, mut fences) = (Committed::default(), write::Fences::default());
    for write in writes {
        let receipt =
            if apart { apply_apart(tx, write, &mut fences)? } else { write::apply(tx, &write.intent, &mut fences)? };
        if receipt.is_kept() {
            for row in &write.outbox {
                outbox::put(tx, row)?;
            }
            for event in &write.events {
                let seq = Seq(write::append_event(tx, write.at, event)?);
                committed.events.push(Recorded { ts: write.at, event: event.clone(), seq: Some(seq) });
            }
        }
        committed.receipts.push(receipt);
    }
    fences.keep(tx)?;
    Ok(committed)
}

/// Applies one write; one that contradicts what is stored, by someone else's hand, changes nothing.
fn apply_apart(tx: &mut Transaction<'_>, write: &Write, fences: &mut write::Fences) -> rusqlite::Result<Receipt> {
    let point = tx.savepoint()?;
    match write::apply(&point, &write.intent, fences) {
        Err(error) if is_contradiction(&error) => Ok(Receipt::Conflict),
        receipt => {
            let receipt = receipt?;
            point.commit()?;
            Ok(receipt)
        }
    }
}

fn is_contradiction(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
        || matches!(error, rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::FromSqlConversionFailure(..))
}

impl Drop for SqliteStore {
    /// Moves the log into the file, so that a copy of the file alone is whole after an orderly end.
    fn drop(&mut self) {
        if let Err(error) = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the write-ahead log stays for the next start");
        }
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        query::snapshot(&self.conn).map_err(|error| failure(&self.path, &error))
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        let fail = |error| failure(&self.path, &error);
        let mut tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let mut applied = apply_all(&mut tx, writes, false);
        if applied.as_ref().is_err_and(is_contradiction) {
            // One bad row must not hold up the rest: once more, each write by itself.
            tx.rollback().map_err(fail)?;
            tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
            applied = apply_all(&mut tx, writes, true);
        }
        let committed = applied.map_err(fail)?;
        // The last moment: what is committed into a file that is gone is not durable.
        match self.watch.look() {
            Found::Same => {
                tx.commit().map_err(fail)?;
                self.saved = None;
            }
            found => {
                drop(tx);
                self.rescue(found)?;
                return self.commit(writes);
            }
        }
        Ok(committed)
    }

    fn verify(&mut self) -> Result<(), StoreError> {
        schema::refuse_empty(&self.path)?;
        // Another connection: this one may hold in memory what the file no longer has.
        schema::inspect(&self.path)?;
        schema::verify(&self.path)
    }

    fn reader(&self) -> Arc<dyn Query> {
        Arc::new(SqliteReader::at(&self.path))
    }
}

impl SqliteReader {
    fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), idle: Arc::default() }
    }

    /// Opens an existing store for reading only.
    ///
    /// # Errors
    /// When there is none, or it is damaged, or of a newer schema.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let reader = Self::at(path.as_ref());
        schema::inspect(&reader.path)?;
        reader.with(|_| Ok(()))?;
        Ok(reader)
    }

    fn with<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let answer = match kept {
            Some(conn) => Ok(conn),
            None => open_reader(&self.path),
        }
        .and_then(|conn| ask(&conn).map(|answer| (conn, answer)));
        let (conn, answer) = answer.map_err(|error| failure(&self.path, &error))?;
        let mut idle = idle();
        if idle.len() < MAX_IDLE_READERS {
            idle.push(conn);
        }
        Ok(answer)
    }
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    Ok(conn)
}

fn failure(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, NotADatabase};
    let place = path.display().to_string();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Corrupt { place, detail },
        Some(DatabaseBusy) => StoreError::Locked { place, holder: None },
        _ => StoreError::Io { place, detail },
    }
}

impl Admin for SqliteReader {
    fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare("PRAGMA integrity_check")?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            let mut problems: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
            let mut statement = conn.prepare("SELECT \"table\", parent FROM pragma_foreign_key_check")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (table, parent): (String, String) = (row.get(0)?, row.get(1)?);
                problems.push(format!("a row of {table} names a row of {parent} that is not there"));
            }
            Ok(problems)
        })
    }

    fn backup(&self, target: &Path) -> Result<(), StoreError> {
        let mut copied = Ok(());
        self.with(|conn| {
            copied = copy::copy_into(conn, &self.path, target);
            Ok(())
        })?;
        copied
    }
}

impl Query for SqliteReader {
    fn history(&self, filter: &HistoryFilter) -> Result<Vec<crate::HistoryRow>, StoreError> {
        self.with(|conn| query::history(conn, filter))
    }
    fn run(&self, run_id: crate::RunId) -> Result<Option<crate::RunRecord>, StoreError> {
        self.with(|conn| query::run(conn, run_id))
    }
    fn schedules(&self) -> Result<Vec<super::ScheduleRow>, StoreError> {
        self.with(query::schedules)
    }
    fn activity(
        &self,
        schedule: &crate::ScheduleName,
    ) -> Result<(Option<crate::RunRecord>, Vec<crate::RunId>), StoreError> {
        self.with(|conn| query::activity(conn, schedule))
    }
    fn versions(&self, schedule: &crate::ScheduleName) -> Result<Vec<super::VersionRow>, StoreError> {
        self.with(|conn| query::versions(conn, schedule))
    }
    fn spans(&self, schedule: &crate::ScheduleName) -> Result<Vec<super::Span>, StoreError> {
        self.with(|conn| query::spans(conn, schedule))
    }

    fn dispositions(
        &self,
        schedule: &crate::ScheduleName,
        since: chrono::DateTime<chrono::Utc>,
    ) -> Result<Vec<super::Disposition>, StoreError> {
        self.with(|conn| query::dispositions(conn, schedule, since))
    }
    fn pruned_before(&self) -> Result<Option<chrono::DateTime<chrono::Utc>>, StoreError> {
        self.with(query::pruned_before)
    }
    fn events_after(&self, seq: Seq, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        self.with(|conn| query::events_after(conn, seq, limit))
    }
    fn last_seq(&self) -> Result<Seq, StoreError> {
        self.with(query::last_seq)
    }
    fn mark(&self, sink: &str) -> Result<Option<Seq>, StoreError> {
        self.with(|conn| query::mark(conn, sink))
    }
    fn state(&self, schedule: &crate::ScheduleName, key: &str) -> Result<Option<serde_json::Value>, StoreError> {
        self.with(|conn| query::state(conn, schedule, key))
    }
    fn ranges_in(
        &self,
        schedule: &crate::ScheduleName,
        from: chrono::DateTime<chrono::Utc>,
        until: chrono::DateTime<chrono::Utc>,
    ) -> Result<Vec<crate::RangeRecord>, StoreError> {
        self.with(|conn| query::ranges_in(conn, schedule, from, until))
    }
    fn fires_in(
        &self,
        schedule: &crate::ScheduleName,
        from: chrono::DateTime<chrono::Utc>,
        until: chrono::DateTime<chrono::Utc>,
    ) -> Result<Vec<crate::RunRecord>, StoreError> {
        self.with(|conn| query::fires_in(conn, schedule, from, until))
    }
    fn pruned_fires(&self, schedule: &crate::ScheduleName) -> Result<Option<super::PrunedFires>, StoreError> {
        self.with(|conn| query::pruned_fires(conn, schedule))
    }
    fn chained(&self, schedule: &crate::ScheduleName) -> Result<Vec<crate::RunId>, StoreError> {
        self.with(|conn| query::chained(conn, schedule))
    }
    fn ended(
        &self,
        schedule: &crate::ScheduleName,
        since: chrono::DateTime<chrono::Utc>,
    ) -> Result<Vec<super::EndedRun>, StoreError> {
        self.with(|conn| query::ended(conn, schedule, since))
    }
    fn contradictions(&self) -> Result<Vec<String>, StoreError> {
        self.with(query::contradictions)
    }
    fn outbox(&self, filter: &crate::OutboxFilter) -> Result<Vec<crate::OutboxRow>, StoreError> {
        self.with(|conn| outbox::list(conn, filter))
    }
    fn dispatch(&self) -> Result<Option<crate::Hold>, StoreError> {
        self.with(query::dispatch)
    }
}
