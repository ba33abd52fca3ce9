//! Where brief and report take outside figures from: JSON over HTTP, and JSON files.
//!
//! A source that fails is shown as failed with its reason, and never stops the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::{RunContext, duration_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::http::{Marks, Request};
use crate::{JobEnv, secret};

/// Files are read up to here.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// One configured source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// What it is called on the page.
    pub(crate) name: String,
    /// A URL that answers JSON; one that begins with `/` is below `BASE_URL`.
    #[serde(default)]
    url: Option<String>,
    /// A JSON file.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A JSON Pointer (RFC 6901) into the document.
    #[serde(default)]
    pointer: Option<String>,
    /// A bearer token, as `env:NAME` or `file:PATH`.
    #[serde(default)]
    bearer: Option<String>,
    /// How long it may take.
    #[serde(default = "ten_seconds", with = "duration_text")]
    #[schemars(with = "String")]
    timeout: Duration,
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// A number that a source gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) source: String,
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) at: DateTime<Utc>,
}

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reading {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) error: Option<String>,
    pub(crate) figures: Vec<Figure>,
}

impl Source {
    /// Why it cannot work, if it cannot.
    pub(crate) fn fault(&self) -> Option<String> {
        match (&self.url, &self.file) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Some(format!("source `{}` needs exactly one of `url` and `file`", self.name)),
        }
        let reference = self.bearer.as_deref().is_none_or(secret::is_reference);
        (!reference).then(|| format!("source `{}`: bearer is \"env:NAME\" or \"file:PATH\"", self.name))
    }

    async fn read(&self, env: &JobEnv, marks: &Marks) -> Result<Value, String> {
        let bytes = match (&self.url, &self.file) {
            (Some(url), _) => self.get(env, url, marks).await?,
            (None, Some(path)) => {
                let path = env.path(path);
                tokio::fs::read(&path).await.map_err(|error| format!("{}: {error}", path.display()))?
            }
            (None, None) => return Err("neither `url` nor `file` is set".into()),
        };
        if bytes.len() > ANSWER_LIMIT {
            return Err(format!("more than {ANSWER_LIMIT} bytes"));
        }
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| format!("not JSON: {error}"))?;
        match &self.pointer {
            Some(pointer) => document.pointer(pointer).cloned().ok_or_else(|| format!("nothing at `{pointer}`")),
            None => Ok(document),
        }
    }

    async fn get(&self, env: &JobEnv, url: &str, marks: &Marks) -> Result<Vec<u8>, String> {
        let request = Request { bearer: self.bearer.clone(), timeout: self.timeout, ..Request::to(url) };
        let answer = request.send(env, marks).await.map_err(|failure| failure.message)?;
        if !answer.status.is_success() {
            return Err(format!("answered {}", answer.status));
        }
        answer.whole().map(<[u8]>::to_vec)
    }
}

/// Reads every source at the same time, each within its own limit, in the order configured.
pub(crate) async fn read_all(ctx: &RunContext, env: &Arc<JobEnv>, sources: &[Source]) -> Vec<Reading> {
    let mut tasks = JoinSet::new();
    for (index, source) in sources.iter().cloned().enumerate() {
        let (env, cancelled, marks) = (env.clone(), ctx.clone(), Marks::of(ctx));
        tasks.spawn(async move {
            let limit = source.timeout;
            let read = tokio::select! {
                read = tokio::time::timeout(limit, source.read(&env, &marks)) => read
                    .unwrap_or_else(|_| Err(format!("no answer within {}s", limit.as_secs_f64()))),
                () = cancelled.cancelled() => Err("cancelled".to_owned()),
            };
            (index, source.name, read)
        });
    }
    let mut readings: Vec<Option<Reading>> = vec![None; sources.len()];
    while let Some(done) = tasks.join_next().await {
        let Ok((index, name, read)) = done else { continue };
        let at = ctx.now();
        let (figures, error) = match read {
            Ok(value) => (figures(&name, &value, at), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        readings[index] = Some(Reading { name, ok: error.is_none(), error, figures });
    }
    readings.into_iter().flatten().collect()
}

/// Every number in a document, named by its path; at most fifty.
fn figures(source: &str, value: &Value, at: DateTime<Utc>) -> Vec<Figure> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Number(number) if found.len() < 50 => {
                let name = if path.is_empty() { source.to_owned() } else { path };
                if let Some(value) = number.as_f64() {
                    found.push(Figure { source: source.to_owned(), name, value, at });
                }
            }
            Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                open.extend(fields.iter().rev().map(|(key, value)| (format!("{path}{dot}{key}"), value)));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_named_by_their_path_and_nothing_else_is_a_figure() {
        let document = serde_json::json!({ "orders": { "open": 3, "note": "x" }, "total": 1.5, "list": [1] });
        let found = figures("shop", &document, DateTime::UNIX_EPOCH);
        let named: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.value)).collect();
        assert_eq!(named, [("orders.open", 3.0), ("total", 1.5)]);
        assert_eq!(figures("n", &serde_json::json!(7), DateTime::UNIX_EPOCH)[0].name, "n");
    }
}
