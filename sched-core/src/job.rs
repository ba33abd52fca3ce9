//! What a job is: code of a kind, handed a [`RunContext`], giving back an [`Output`] or a [`JobError`].
//!
//! Must not know: stores, engine types, schedules.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::RunContext;

/// Work that can be run. One value serves one run.
///
/// A job should end soon after [`RunContext::cancelled`] completes: it is then given a moment, after which its
/// task is dropped at the next await. A job that never awaits delays nobody, but keeps its slot until it returns.
///
/// ```
/// use sched_core::{Job, JobError, Output, RunContext, async_trait};
///
/// struct Greet;
///
/// #[async_trait]
/// impl Job for Greet {
///     async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
///         Ok(Output::summary(format!("hello from attempt {}", ctx.attempt())))
///     }
/// }
/// ```
#[async_trait]
pub trait Job: Send + Sync {
    /// Does the work once.
    ///
    /// # Errors
    /// A [`JobError`] fails the attempt; the schedule's retry policy decides whether there is another.
    /// A panic fails the attempt too, with the panic's message.
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError>;
}

/// What a successful run leaves in its record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// One line for people.
    pub summary: Option<String>,
    /// Figures for programs.
    #[serde(default)]
    pub data: Value,
}

impl Output {
    /// An output with one line for people.
    #[must_use]
    pub fn summary(text: impl Into<String>) -> Self {
        Self { summary: Some(text.into()), data: Value::Null }
    }

    /// Adds figures for programs.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

/// Why an attempt failed.
///
/// ```
/// use sched_core::JobError;
/// let error = JobError::new("the report server answered 503").retry_after(std::time::Duration::from_secs(30));
/// assert!(error.is_retryable());
/// assert!(!JobError::permanent("no such table").is_retryable());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    message: String,
    retryable: bool,
    retry_after: Option<Duration>,
    #[serde(default)]
    data: Value,
}

impl JobError {
    /// A failure that another attempt may cure.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true, retry_after: None, data: Value::Null }
    }

    /// A failure that no further attempt of the same run can cure.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::new(message) }
    }

    /// Asks that the next attempt wait this long, instead of the policy's back-off; a year at most.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Figures that go into the run's record although it failed (an exit code, what was found so far).
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether another attempt may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The wait that the job asked for.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Figures for the run's record.
    #[must_use]
    pub const fn data(&self) -> &Value {
        &self.data
    }
}

impl From<std::io::Error> for JobError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
