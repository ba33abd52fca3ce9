//! What a job is handed: who it is, until when it may run, and a port to its scheduler.
//!
//! Must not know: stores or engine types. Requests are serialisable, so that a runner may carry them over a pipe.

mod port;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use self::port::{JobPort, PortError, PortReply, PortRequest, PruneRule, PrunedHistory, RecoveredFire};
use crate::clock::Clock;
use crate::id::{ChannelName, Fence, OutboxId, RunId, ScheduleName};
use crate::notice::{Letter, OutboxLine};
use crate::query::{HistoryFilter, ScheduleView};
use crate::run::{HistoryRow, Origin};

/// The facts of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The run.
    pub run_id: RunId,
    /// Its schedule; for a job run without a daemon, the job's kind.
    pub schedule: ScheduleName,
    /// The job's kind.
    pub job: String,
    /// The instant the trigger named.
    pub nominal_at: Option<DateTime<Utc>>,
    /// Why the run exists.
    pub origin: Origin,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The claim's fence: hand it to outside systems that can refuse an older holder.
    pub fence: Fence,
    /// When this attempt started.
    pub started_at: DateTime<Utc>,
    /// When the time limit ends this attempt.
    pub deadline: Option<DateTime<Utc>>,
}

/// What a job knows and may ask while it runs.
#[derive(Clone)]
pub struct RunContext {
    info: Arc<RunInfo>,
    cancel: CancellationToken,
    port: Arc<dyn JobPort>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for RunContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext").field("info", &self.info).finish_non_exhaustive()
    }
}

impl RunContext {
    /// Puts a context together; runners do this.
    #[must_use]
    pub fn new(info: RunInfo, cancel: CancellationToken, port: Arc<dyn JobPort>, clock: Arc<dyn Clock>) -> Self {
        Self { info: Arc::new(info), cancel, port, clock }
    }

    /// The facts of this attempt.
    #[must_use]
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.info.run_id
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &ScheduleName {
        &self.info.schedule
    }

    /// The attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.info.attempt
    }

    /// The instant the trigger named, or for other runs the start of this attempt.
    #[must_use]
    pub fn effective_time(&self) -> DateTime<Utc> {
        self.info.nominal_at.unwrap_or(self.info.started_at)
    }

    /// Wall-clock time now, from the scheduler's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now().utc
    }

    /// Completes when the run should stop: it was cancelled, its time limit passed, or the scheduler shuts down.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether the run should stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Asks anything of the scheduler; the methods below ask the common things.
    ///
    /// # Errors
    /// When the request is refused.
    pub async fn call(&self, request: PortRequest) -> Result<PortReply, PortError> {
        self.port.call(&self.info, request).await
    }

    /// Past runs and ranges, newest first.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<HistoryRow>, PortError> {
        match self.call(PortRequest::History { filter }).await? {
            PortReply::History { rows } => Ok(rows),
            other => Err(unexpected(&other)),
        }
    }

    /// Every schedule with its next and last run; that without its parameters and data, which the history has.
    ///
    /// # Errors
    /// When the schedules cannot be read.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, PortError> {
        match self.call(PortRequest::Schedules).await? {
            PortReply::Schedules { schedules } => Ok(schedules),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a finished run again, as a new run linked to it.
    ///
    /// # Errors
    /// When the run is open or unknown, or its schedule has an open run.
    pub async fn retry(&self, run_id: RunId) -> Result<RunId, PortError> {
        run_reply(self.call(PortRequest::Retry { run_id }).await?)
    }

    /// Runs a fire that was missed or skipped.
    ///
    /// # Errors
    /// When that fire is not recorded as missed or skipped, or its schedule has an open run.
    pub async fn recover(&self, schedule: ScheduleName, nominal_at: DateTime<Utc>) -> Result<RunId, PortError> {
        run_reply(self.call(PortRequest::Recover { schedule, nominal_at }).await?)
    }

    /// Runs the oldest fires from `from` to `until`, both included, that were missed and have not run since; no more than
    /// `most`. Gives those that it runs, in order.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn backfill(
        &self,
        schedule: ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<RecoveredFire>, PortError> {
        match self.call(PortRequest::Backfill { schedule, from, until, most }).await? {
            PortReply::Backfilled { fires } => Ok(fires),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes old history, with the output and artifacts of its runs; says how much.
    ///
    /// # Errors
    /// When the store cannot do it.
    pub async fn prune(&self, rule: PruneRule) -> Result<PrunedHistory, PortError> {
        match self.call(PortRequest::Prune { rule }).await? {
            PortReply::Pruned(pruned) => Ok(pruned),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a value that this schedule's runs keep.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn state_get(&self, key: &str) -> Result<Option<Value>, PortError> {
        match self.call(PortRequest::StateGet { key: key.to_owned() }).await? {
            PortReply::State { value } => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps a value for this schedule's later runs.
    ///
    /// # Errors
    /// When the store cannot keep it.
    pub async fn state_put(&self, key: &str, value: Value) -> Result<(), PortError> {
        self.call(PortRequest::StatePut { key: key.to_owned(), value }).await.map(drop)
    }

    /// Sends a letter through channels.
    ///
    /// # Errors
    /// When there is no such channel, or the letter is longer than [`Letter::LONGEST`].
    pub async fn send(&self, channels: Vec<ChannelName>, letter: Letter) -> Result<(), PortError> {
        self.call(PortRequest::Send { channels, letter }).await.map(drop)
    }

    /// What channels have given up, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn undelivered(&self, limit: u32) -> Result<Vec<OutboxLine>, PortError> {
        match self.call(PortRequest::Undelivered { limit }).await? {
            PortReply::Outbox { rows } => Ok(rows),
            other => Err(unexpected(&other)),
        }
    }

    /// Tries again to deliver these of what channels have given up; gives how many that is.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn redeliver(&self, ids: Vec<OutboxId>) -> Result<u64, PortError> {
        match self.call(PortRequest::Redeliver { ids }).await? {
            PortReply::Count { count } => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Says how far the run is, 0 to 100. A scheduler that cannot listen is no reason to fail.
    pub async fn progress(&self, percent: u8, text: impl Into<String>) {
        let request = PortRequest::Progress { percent: percent.min(100), text: text.into() };
        if let Err(error) = self.call(request).await {
            tracing::debug!(run_id = %self.run_id(), %error, "progress not delivered");
        }
    }

    /// Appends a line to the run's output. A scheduler that cannot listen is no reason to fail.
    pub async fn log(&self, line: impl Into<String>) {
        if let Err(error) = self.call(PortRequest::Log { line: line.into() }).await {
            tracing::debug!(run_id = %self.run_id(), %error, "output line not kept");
        }
    }

    /// Appends many lines, each with its end, to the run's output. A scheduler that cannot listen is no reason to fail.
    pub async fn print(&self, text: impl Into<String>) {
        if let Err(error) = self.call(PortRequest::Print { text: text.into() }).await {
            tracing::debug!(run_id = %self.run_id(), %error, "output not kept");
        }
    }

    /// Keeps a file with the run and says where it is.
    ///
    /// # Errors
    /// When `name` is not a plain file name, or the file cannot be written.
    pub async fn artifact(&self, name: &str, content: impl Into<Vec<u8>>) -> Result<PathBuf, PortError> {
        let request = PortRequest::Artifact { name: name.to_owned(), content: content.into() };
        match self.call(request).await? {
            PortReply::Artifact { artifact } => Ok(artifact.path),
            other => Err(unexpected(&other)),
        }
    }
}

fn run_reply(reply: PortReply) -> Result<RunId, PortError> {
    match reply {
        PortReply::Run { run_id } => Ok(run_id),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &PortReply) -> PortError {
    PortError::new(format!("the scheduler gave an answer of another kind: {reply:?}"))
}

/// Whether `name` is a plain file name: no separator, no `..`, nothing hidden, no control character.
#[must_use]
pub fn is_plain_file_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| c.is_control() || c == '/' || c == '\\')
        && Path::new(name).file_name().is_some_and(|f| f == name)
}
