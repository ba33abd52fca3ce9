//! What readers ask and get: filters, pages and views over the ledger. Plain data; stores answer it.
//!
//! Must not know: SQL, the engine.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{OutboxId, RunId, ScheduleName};
use crate::notice::OutboxState;
use crate::run::{RunRecord, RunState};
use crate::spec::ScheduleSpec;

/// Which lines of history to read, newest first.
///
/// ```
/// use sched_core::{HistoryFilter, RunState};
/// let failures = HistoryFilter { states: vec![RunState::Failed, RunState::TimedOut], ..HistoryFilter::newest(20) };
/// assert_eq!(failures.limit, 20);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryFilter {
    /// Only this schedule.
    pub schedule: Option<ScheduleName>,
    /// Only these states; empty means all.
    #[serde(default)]
    pub states: Vec<RunState>,
    /// Only what was queued (for ranges: ended) at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Only what comes after this line of an earlier page.
    pub after: Option<HistoryCursor>,
    /// At most so many lines.
    pub limit: u32,
    /// Without the parameters and the data of the runs, which may be many times larger than all the rest. A scheduler
    /// answers so; whoever reads the store gets all of it.
    #[serde(default)]
    pub bare: bool,
}

impl HistoryFilter {
    /// The newest `limit` lines.
    #[must_use]
    pub const fn newest(limit: u32) -> Self {
        Self { schedule: None, states: Vec::new(), since: None, after: None, limit, bare: false }
    }

    /// The newest `limit` lines of one schedule.
    #[must_use]
    pub fn of(schedule: ScheduleName, limit: u32) -> Self {
        Self { schedule: Some(schedule), ..Self::newest(limit) }
    }
}

/// Which rows of the outbox to read, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxFilter {
    /// Only those that are so far.
    pub state: Option<OutboxState>,
    /// Only those that come after this one of an earlier page.
    pub after: Option<OutboxId>,
    /// At most so many.
    pub limit: u32,
}

/// The place of a line of history in the order of pages: its time, then its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HistoryCursor {
    /// When the run was queued, or the last nominal time of the range.
    pub at: DateTime<Utc>,
    /// The run's or range's id.
    pub id: uuid::Uuid,
}

/// Who stopped something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// One schedule as readers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ScheduleView {
    /// Its name.
    pub name: ScheduleName,
    /// Its specification.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub spec: ScheduleSpec,
    /// The version, from 1; grows with each change of the specification.
    pub version: u32,
    /// Every fire up to here is accounted for.
    pub cursor: DateTime<Utc>,
    /// The next nominal time; none while paused, or when the trigger never fires again.
    pub next: Option<DateTime<Utc>>,
    /// The last run that started.
    pub last: Option<RunRecord>,
    /// Set while paused.
    pub paused: Option<Hold>,
    /// Its runs that are queued or running.
    pub open: Vec<RunId>,
}

/// A coming fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Upcoming {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Its nominal time.
    pub nominal_at: DateTime<Utc>,
}
