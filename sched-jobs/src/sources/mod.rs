//! Where brief and report take outside figures from: HTTP, files, SQL, programs, and the scheduler's own history.
//!
//! Each source is read within its own limit, all at the same time. Whatever it gives becomes one JSON document, of which
//! `reading` makes named figures or a table. One that fails is shown as failed with its reason, and never stops the others.

mod document;
mod history;
mod http;
#[cfg(feature = "postgres")]
mod postgres;
mod program;
mod reading;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sched_core::{ParamError, RunContext, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use self::document::Format;
use self::history::History;
pub(crate) use self::history::own_figures;
use self::reading::Metric;
pub(crate) use self::reading::{Column, Figure, Reading, Table};
use self::sql::Sql;
use crate::history::Statistics;
use crate::http::{Basic, Network};
use crate::{JobEnv, command, file};

/// More sources than this are no page any more.
const MOST: usize = 50;
/// As much of a file, or of what a program prints, is read.
const LARGEST: u64 = 1 << 20;
/// The source of the scheduler's own figures.
pub(crate) const OWN: &str = "runs";

/// One configured source: exactly one of `url`, `file`, `sql`, `command` and `history`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// What it is called on the page.
    pub(crate) name: String,
    /// A URL that answers JSON, CSV or text; one that begins with `/` is below `BASE_URL`. One that is a secret is written
    /// "env:NAME" or "file:PATH".
    #[serde(default)]
    url: Option<String>,
    /// For `url`: the method, GET unless set.
    #[serde(default)]
    method: Option<String>,
    /// For `url`: headers; a value that is a secret is written "env:NAME" or "file:PATH".
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// For `url`: a text to send, or anything else as JSON.
    #[serde(default)]
    body: Option<Value>,
    /// For `url`: a bearer token, as "env:NAME" or "file:PATH".
    #[serde(default)]
    bearer: Option<String>,
    /// For `url`: a user and a password.
    #[serde(default)]
    basic: Option<Basic>,
    /// For `url`: how the request goes out, and how much comes back.
    #[serde(default)]
    network: Option<Network>,
    /// For `url` with GET or HEAD: how often it is asked again within `timeout` when it gives no answer or a 5xx; 1 unless
    /// set, 5 at most.
    #[serde(default)]
    retries: Option<u8>,
    /// A file: JSON, CSV with a head line, or text.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A question to a database.
    #[serde(default)]
    sql: Option<Sql>,
    /// A program whose standard output is read; its keys are those of the kind `command`.
    #[serde(default)]
    command: Option<command::Params>,
    /// The scheduler's own runs.
    #[serde(default)]
    history: Option<History>,
    /// What `url`, `file` and `command` give: "json", "csv" or "text". Unless set, files tell by their ending, and the
    /// rest is JSON.
    #[serde(default)]
    format: Option<Format>,
    /// A JSON Pointer (RFC 6901) to the part that counts. Rows of CSV and SQL count from 0: "/0/total".
    #[serde(default)]
    pointer: Option<String>,
    /// Figures to take: a name for each JSON Pointer, or `{ at = "/pointer", unit = "€", label = "Open orders" }`. Unless
    /// set, every number is one; a list of objects is a table.
    #[serde(default)]
    metrics: BTreeMap<String, Metric>,
    /// Columns of the table, in their order; unless set, all.
    #[serde(default)]
    columns: Vec<Column>,
    /// How long it may take.
    #[serde(default = "ten_seconds", with = "duration_text")]
    #[schemars(with = "String")]
    timeout: Duration,
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Refuses sources that cannot work.
pub(crate) fn check(sources: &[Source], env: &JobEnv) -> Result<(), ParamError> {
    if sources.len() > MOST {
        return Err(ParamError::new("sources", format!("at most {MOST} are read")));
    }
    let mut names = BTreeSet::from([OWN]);
    for (index, source) in sources.iter().enumerate() {
        let at = format!("sources[{index}].");
        source.check(&at, env)?;
        if !names.insert(&source.name) {
            return Err(ParamError::new(format!("{at}name"), "is taken: give each source a name of its own"));
        }
    }
    Ok(())
}

impl Source {
    fn check(&self, at: &str, env: &JobEnv) -> Result<(), ParamError> {
        let fault = |key: &str, message: String| Err(ParamError::new(format!("{at}{key}"), message));
        if self.name.trim().is_empty() || self.name.len() > 100 || self.name.contains(char::is_control) {
            return fault("name", "needs 1 to 100 characters on one line".into());
        }
        let kinds = [
            self.url.is_some(),
            self.file.is_some(),
            self.sql.is_some(),
            self.command.is_some(),
            self.history.is_some(),
        ];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            let message = format!("`{}` needs exactly one of `url`, `file`, `sql`, `command` and `history`", self.name);
            return Err(ParamError::new(at.trim_end_matches('.'), message));
        }
        self.check_request(at, env)?;
        if let Some(command) = &self.command {
            command.check(&format!("{at}command."))?;
        }
        if let Some(sql) = &self.sql {
            sql.check(&format!("{at}sql."))?;
        }
        if self.format.is_some() && (self.sql.is_some() || self.history.is_some()) {
            return fault("format", "is for `url`, `file` and `command`".into());
        }
        if self.timeout.is_zero() {
            return fault("timeout", "must be longer than nothing".into());
        }
        if !self.metrics.is_empty() && !self.columns.is_empty() {
            return fault("columns", "a source gives figures or a table: write `metrics` or `columns`".into());
        }
        reading::check(at, self.pointer.as_deref(), &self.metrics, &self.columns)
    }

    fn format(&self) -> Format {
        let by_ending = || self.file.as_deref().and_then(Format::of_file);
        self.format.or_else(by_ending).unwrap_or(Format::Json)
    }

    async fn read(&self, work: &Work) -> Result<Value, String> {
        if let Some(request) = self.request() {
            let bytes = http::fetch(&request, self.retries(), &work.env, &work.ctx).await?;
            return self.format().read(&bytes);
        }
        if let Some(path) = &self.file {
            let path = work.env.path(path);
            let read = file::read_apart(&path, LARGEST).await;
            return self.format().read(&read.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        if let Some(sql) = &self.sql {
            return sql.ask(&work.env, self.timeout).await;
        }
        if let Some(command) = &self.command {
            return self.format().read(&program::output(command, work, LARGEST).await?);
        }
        let history = self.history.as_ref().ok_or("it has nothing to read")?;
        Ok(history.document(&work.statistics))
    }

    fn reading(&self, read: Result<Value, String>, work: &Work) -> Reading {
        let at = work.ctx.now();
        let shaped = read.and_then(|document| {
            let Some(pointer) = &self.pointer else { return Ok(document) };
            document.pointer(pointer).cloned().ok_or_else(|| format!("nothing is at `{pointer}`"))
        });
        let units = if self.history.is_some() { history::units() } else { Map::new() };
        shaped
            .and_then(|document| Reading::shape(&self.name, &document, &self.metrics, &self.columns, &units, at))
            .unwrap_or_else(|error| Reading::failed(&self.name, error, at, &self.metrics))
    }
}

/// What reading needs.
struct Work {
    ctx: RunContext,
    env: Arc<JobEnv>,
    statistics: Arc<Statistics>,
}

/// Reads every source at the same time, each within its own limit, in the order configured. What `history` tells is of
/// the period that `statistics` are of.
pub(crate) async fn read_all(
    ctx: &RunContext,
    env: &Arc<JobEnv>,
    sources: &[Source],
    statistics: Statistics,
) -> Vec<Reading> {
    let work = Arc::new(Work { ctx: ctx.clone(), env: env.clone(), statistics: Arc::new(statistics) });
    let mut tasks = JoinSet::new();
    for (index, source) in sources.iter().cloned().enumerate() {
        let work = work.clone();
        tasks.spawn(async move {
            let read = tokio::select! {
                read = tokio::time::timeout(source.timeout, source.read(&work)) => read
                    .unwrap_or_else(|_| Err(format!("no answer within {}s", source.timeout.as_secs_f64()))),
                () = work.ctx.cancelled() => Err("cancelled".to_owned()),
            };
            (index, source.reading(read, &work))
        });
    }
    let mut readings: Vec<Option<Reading>> = vec![None; sources.len()];
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, reading)) = done {
            readings[index] = Some(reading);
        }
    }
    let lost = |source: &Source| {
        Reading::failed(&source.name, "reading it went wrong within the scheduler".into(), ctx.now(), &source.metrics)
    };
    readings.into_iter().zip(sources).map(|(reading, source)| reading.unwrap_or_else(|| lost(source))).collect()
}
