//! What a job asks of its scheduler, and what it is answered.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunInfo;
use crate::id::{ChannelName, OutboxId, RunId, ScheduleName};
use crate::job::JobError;
use crate::notice::{Letter, OutboxLine};
use crate::query::{HistoryFilter, ScheduleView};
use crate::run::{Artifact, HistoryRow};

/// What a job asks of its scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PortRequest {
    /// Past runs and ranges, newest first. Answered by [`PortReply::History`].
    History {
        /// Which.
        filter: HistoryFilter,
    },
    /// Every schedule with its next and last run, that without its parameters and data. Answered by
    /// [`PortReply::Schedules`].
    Schedules,
    /// Run a finished run again, as a new run linked to it. Answered by [`PortReply::Run`].
    Retry {
        /// The finished run.
        run_id: RunId,
    },
    /// Run a fire that was missed or skipped. Answered by [`PortReply::Run`].
    Recover {
        /// The schedule.
        schedule: ScheduleName,
        /// The nominal time that did not run.
        nominal_at: DateTime<Utc>,
    },
    /// Run the oldest fires that were missed and have not run since. Answered by [`PortReply::Backfilled`].
    Backfill {
        /// The schedule.
        schedule: ScheduleName,
        /// The first nominal time, included.
        from: DateTime<Utc>,
        /// The last nominal time, included.
        until: DateTime<Utc>,
        /// No more than so many.
        most: u32,
    },
    /// Run a schedule now. Answered by [`PortReply::Run`].
    Trigger {
        /// The schedule.
        schedule: ScheduleName,
        /// Replaces parameters of the same names.
        params: serde_json::Map<String, Value>,
    },
    /// Pause a schedule. Answered by [`PortReply::Done`].
    Pause {
        /// The schedule.
        schedule: ScheduleName,
        /// Why.
        reason: String,
    },
    /// Resume a paused schedule. Answered by [`PortReply::Done`].
    Resume {
        /// The schedule.
        schedule: ScheduleName,
    },
    /// Remove old history. Answered by [`PortReply::Pruned`].
    Prune {
        /// What to keep.
        rule: PruneRule,
    },
    /// Read a value that this schedule's runs keep. Answered by [`PortReply::State`].
    StateGet {
        /// The value's name.
        key: String,
    },
    /// Keep a value for this schedule's later runs. Answered by [`PortReply::Done`].
    StatePut {
        /// The value's name.
        key: String,
        /// The value.
        value: Value,
    },
    /// Send a letter through channels. Answered by [`PortReply::Done`] once that is durable.
    Send {
        /// Through these.
        channels: Vec<ChannelName>,
        /// What the job has written.
        letter: Letter,
    },
    /// What channels have given up, newest first. Answered by [`PortReply::Outbox`].
    Undelivered {
        /// At most so many.
        limit: u32,
    },
    /// Try again to deliver what channels have given up. Answered by [`PortReply::Count`].
    Redeliver {
        /// These alone.
        ids: Vec<OutboxId>,
    },
    /// Say how far the run is. Answered by [`PortReply::Done`].
    Progress {
        /// 0 to 100.
        percent: u8,
        /// In words.
        text: String,
    },
    /// Append a line to the run's output. Answered by [`PortReply::Done`].
    Log {
        /// The line, without its end.
        line: String,
    },
    /// Append many lines to the run's output. Answered by [`PortReply::Done`].
    Print {
        /// The lines, each with its end.
        text: String,
    },
    /// Keep a file with the run. Answered by [`PortReply::Artifact`].
    Artifact {
        /// A plain file name.
        name: String,
        /// The content.
        content: Vec<u8>,
    },
}

/// What history to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneRule {
    /// Final runs and ranges older than this go.
    pub before: DateTime<Utc>,
    /// Failed runs go only when they are older than this.
    pub failures_before: DateTime<Utc>,
    /// The newest runs of each schedule that stay in any case.
    pub keep_newest: u32,
    /// Count, change nothing.
    pub dry_run: bool,
}

/// What pruning removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrunedHistory {
    /// Runs.
    pub runs: u64,
    /// Ranges.
    pub ranges: u64,
    /// Files of the runs: their output and artifacts.
    pub files: u64,
}

/// A fire that was missed and runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredFire {
    /// The nominal time.
    pub nominal_at: DateTime<Utc>,
    /// Its run.
    pub run_id: RunId,
}

/// The scheduler's answer to a [`PortRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PortReply {
    /// Accepted and durable.
    Done,
    /// The run that was made.
    Run {
        /// Its id.
        run_id: RunId,
    },
    /// The fires that run now.
    Backfilled {
        /// In the order of their times.
        fires: Vec<RecoveredFire>,
    },
    /// Past runs and ranges.
    History {
        /// Newest first.
        rows: Vec<HistoryRow>,
    },
    /// Every schedule.
    Schedules {
        /// In the order of their names.
        schedules: Vec<ScheduleView>,
    },
    /// What pruning removed, or would remove.
    Pruned(PrunedHistory),
    /// Rows of the outbox, without what they carry.
    Outbox {
        /// Newest first.
        rows: Vec<OutboxLine>,
    },
    /// So many.
    Count {
        /// How many.
        count: u64,
    },
    /// A kept value.
    State {
        /// None when nothing was kept under that name.
        value: Option<Value>,
    },
    /// A file that was kept.
    Artifact {
        /// Where it is.
        artifact: Artifact,
    },
}

/// Why the scheduler did not do what a job asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// For people.
    pub message: String,
}

impl PortError {
    /// An error with this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<PortError> for JobError {
    fn from(error: PortError) -> Self {
        Self::new(format!("the scheduler refused: {error}"))
    }
}

/// A job's way to its scheduler.
#[async_trait]
pub trait JobPort: Send + Sync {
    /// Answers one request of the run described by `run`.
    ///
    /// # Errors
    /// When the request is refused or the scheduler cannot be reached.
    async fn call(&self, run: &RunInfo, request: PortRequest) -> Result<PortReply, PortError>;
}
