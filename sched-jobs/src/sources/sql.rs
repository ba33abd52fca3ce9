//! A source that is a question to a database: a SQLite file, which is opened to read only, or PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};
use sched_core::ParamError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{JobEnv, secret};

/// More rows are no table for people.
pub(super) const MOST_ROWS: usize = 10_000;
/// All values together.
pub(super) const LARGEST: usize = 1 << 20;
/// As long is waited for a writer of the file.
const BUSY: Duration = Duration::from_secs(1);
/// After so many steps of a question it is looked whether anybody waits for it still.
const STEPS: i32 = 1000;

/// A question to a database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sql {
    /// A SQLite file. It is opened to read only.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A PostgreSQL database, as "env:NAME" or "file:PATH" of its URL, "postgres://user:password@host/name". The question
    /// is asked in a transaction that can only read.
    #[serde(default)]
    postgres: Option<String>,
    /// One SELECT. Rows become a table; a single row without `columns` becomes figures, named by its columns.
    query: String,
}

impl Sql {
    pub(super) fn check(&self, at: &str) -> Result<(), ParamError> {
        let word = first_word(&self.query);
        match (&self.file, &self.postgres) {
            (Some(_), None) => {}
            (None, Some(_)) if !cfg!(feature = "postgres") => {
                let message = "this program was built without PostgreSQL: build it with `--features postgres`";
                return Err(ParamError::new(format!("{at}postgres"), message));
            }
            (None, Some(url)) if secret::is_reference(url) => {}
            (None, Some(_)) => {
                let message = "write \"env:NAME\" or \"file:PATH\", not the URL itself: it may hold a password";
                return Err(ParamError::new(format!("{at}postgres"), message));
            }
            _ => return Err(ParamError::new(at.trim_end_matches('.'), "needs exactly one of `file` and `postgres`")),
        }
        if ["select", "with", "values"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return Ok(());
        }
        Err(ParamError::new(format!("{at}query"), "must be one SELECT (it may begin with WITH or VALUES)"))
    }

    /// The rows as a list of objects; a single one as itself.
    pub(super) async fn ask(&self, env: &JobEnv, limit: Duration) -> Result<Value, String> {
        let rows = match (&self.file, &self.postgres) {
            (Some(file), _) => self.ask_file(env.path(file), limit).await?,
            (None, Some(reference)) => self.ask_postgres(&secret::resolve(reference, &env.base_dir)?, limit).await?,
            (None, None) => return Err("needs `file` or `postgres`".into()),
        };
        if rows.len() > MOST_ROWS {
            return Err(format!("more than {MOST_ROWS} rows: add a LIMIT to the query"));
        }
        let mut rows = rows;
        Ok(if rows.len() == 1 { rows.remove(0) } else { Value::Array(rows) })
    }

    #[cfg(feature = "postgres")]
    async fn ask_postgres(&self, url: &str, limit: Duration) -> Result<Vec<Value>, String> {
        super::postgres::ask(url, &self.query, limit).await
    }

    #[cfg(not(feature = "postgres"))]
    async fn ask_postgres(&self, _: &str, _: Duration) -> Result<Vec<Value>, String> {
        Err("this program was built without PostgreSQL".into())
    }

    async fn ask_file(&self, path: PathBuf, limit: Duration) -> Result<Vec<Value>, String> {
        let query = self.query.clone();
        let stop = Stop::default();
        let stopped = stop.0.clone();
        let asking = tokio::task::spawn_blocking(move || ask(&path, &query, BUSY.min(limit), stopped));
        asking.await.map_err(|error| error.to_string())?
    }
}

/// Ends the question when nobody waits for its answer any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn first_word(query: &str) -> &str {
    let mut rest = query.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        };
        rest = after.trim_start();
    }
}

fn ask(path: &Path, query: &str, busy: Duration, stopped: Arc<AtomicBool>) -> Result<Vec<Value>, String> {
    let fault = |error: Error| match error {
        Error::MultipleStatement => "the query is more than one statement".to_owned(),
        error if error.sqlite_error_code() == Some(ErrorCode::TooBig) => too_large(),
        error => format!("{}: {error}", path.display()),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(busy).map_err(fault)?;
    connection.progress_handler(STEPS, Some(move || stopped.load(Ordering::Relaxed))).map_err(fault)?;
    // No more is told than this in all, so no value on the way there need be larger.
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LARGEST as i32).map_err(fault)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map_err(fault)?;
    // A file from elsewhere may have views and triggers that call functions.
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF").map_err(fault)?;
    let mut statement = connection.prepare(query).map_err(fault)?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err("the query would write: only a SELECT is asked".into());
    }
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = Vec::new();
    let mut size = 0;
    let mut found = statement.query([]).map_err(fault)?;
    while let Some(row) = found.next().map_err(fault)? {
        if rows.len() > MOST_ROWS {
            break;
        }
        let mut object = Map::new();
        for (index, name) in names.iter().enumerate() {
            let value = row.get_ref(index).map_err(fault)?;
            size += name.len() + length(value);
            if size > LARGEST {
                return Err(too_large());
            }
            object.insert(name.clone(), plain(value));
        }
        rows.push(Value::Object(object));
    }
    Ok(rows)
}

pub(super) fn too_large() -> String {
    format!("more than {LARGEST} bytes: select less")
}

const fn length(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => json!(format!("{} bytes", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_is_accepted() {
        let check = |query: &str| Sql { file: Some("x".into()), postgres: None, query: query.into() }.check("").is_ok();
        for query in ["SELECT 1", " select 1", "-- why\n/* so */ WITH a AS (SELECT 1) SELECT * FROM a", "values (1)"] {
            assert!(check(query), "{query}");
        }
        for query in
            ["", "DELETE FROM a", "PRAGMA user_version", "selection", "-- select", "/* select", "ATTACH 'x' AS y"]
        {
            assert!(!check(query), "{query}");
        }
    }
}
