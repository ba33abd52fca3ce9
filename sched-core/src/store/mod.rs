//! What the engine writes and what readers ask, as intents; one implementation a backend.
//!
//! A batch of [`Write`]s is one transaction: all of it is durable when [`Store::commit`] returns, or none of it
//! is. Events commit with the facts they tell of. Must not know: the engine, job kinds.

mod intent;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Recorded;
use crate::id::{ChannelName, RunId, ScheduleName, Seq};
use crate::notice::{NoticeKind, OutboxRow};
use crate::query::{HistoryFilter, Hold, OutboxFilter};
use crate::run::{HistoryRow, RangeRecord, RunRecord, RunState};
use crate::spec::ScheduleSpec;

pub use intent::{Ahead, Committed, Ending, Follow, Health, Intent, PruneCursor, Pruned, Receipt, Tried, Write};
pub use memory::MemoryStore;

/// One schedule as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// The specification of the current version.
    pub spec: Arc<ScheduleSpec>,
    /// From 1.
    pub version: u32,
    /// The current version owns fires after this instant.
    pub effective_from: DateTime<Utc>,
    /// Every fire up to here is accounted for.
    pub cursor: DateTime<Utc>,
    /// Set while paused.
    pub paused: Option<Hold>,
    /// Set when no configuration names it any more.
    pub retired: bool,
    /// Since when its runs end badly; none once one has succeeded.
    pub failing_since: Option<DateTime<Utc>>,
    /// The time zone rules by which the current version names its instants; none when it needs none.
    pub zones: Option<Arc<str>>,
}

impl ScheduleRow {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ScheduleName {
        &self.spec.name
    }
}

/// One past or present version of a schedule: it owns the fires in (`from`, `until`].
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRow {
    /// From 1.
    pub version: u32,
    /// Its specification.
    pub spec: Arc<ScheduleSpec>,
    /// Exclusive.
    pub from: DateTime<Utc>,
    /// Inclusive; none while it is current.
    pub until: Option<DateTime<Utc>>,
    /// The time zone rules by which it names its instants; none when it needs none.
    pub zones: Option<Arc<str>>,
}

/// The fires of a schedule whose history was pruned, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunedFires {
    /// The first nominal time.
    pub from: DateTime<Utc>,
    /// The last.
    pub until: DateTime<Utc>,
    /// How many.
    pub count: u64,
}

/// What a starting engine reads.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every schedule, retired ones included.
    pub schedules: Vec<ScheduleRow>,
    /// Every run that is not final, oldest first.
    pub open: Vec<RunRecord>,
    /// The newest runs of each schedule, newest first, at most 20: what `on_start = "if_due"` looks at.
    pub recent: std::collections::HashMap<ScheduleName, Vec<RunRecord>>,
    /// Fires after their schedule's cursor that have a run: before the clock went back.
    pub ahead: std::collections::HashMap<ScheduleName, std::collections::BTreeSet<DateTime<Utc>>>,
    /// Set while dispatching is stopped.
    pub dispatch: Option<Hold>,
    /// Every row of the outbox that waits, oldest first.
    pub outbox: Vec<OutboxRow>,
    /// When each channel last told that a schedule fails, or misses fires.
    pub told: std::collections::HashMap<(ChannelName, ScheduleName, NoticeKind), DateTime<Utc>>,
}

/// One recorded disposition, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// The first nominal time.
    pub from: DateTime<Utc>,
    /// The last nominal time, included; the same as `from` for a run.
    pub until: DateTime<Utc>,
    /// How many fires.
    pub count: u64,
}

/// How a run ended, for the audit of runs that come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Its final state.
    pub state: RunState,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Whether runs come after it.
    pub chains: bool,
    /// Whether it repeats another run on request.
    pub repeats: bool,
}

/// From when to when a run was open, for the audit of fires that are counted from the ends of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The fire it was, if it was one.
    pub nominal_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub queued_at: DateTime<Utc>,
    /// When it ended; none while it is open.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was written by a newer version.
    #[error(
        "the store {place} has schema {found}, newer than this program's {known}; use the newer program, or restore a backup"
    )]
    Newer {
        /// Where.
        place: String,
        /// The schema found.
        found: i64,
        /// The newest schema known.
        known: i64,
    },
    /// The file is not a store, or is damaged.
    #[error("the store {place} is damaged ({detail}); nothing was changed: move it away, or restore a backup")]
    Corrupt {
        /// Where.
        place: String,
        /// What was found.
        detail: String,
    },
    /// Another process holds the store.
    #[error("the store {place} is held by another process{}", holder.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// Where.
        place: String,
        /// The holder, when it is known.
        holder: Option<u32>,
    },
    /// The files are not those that were opened.
    #[error("the files of the store {place} were deleted or replaced; {remedy}")]
    Moved {
        /// Where.
        place: String,
        /// What to do now.
        remedy: String,
    },
    /// Reading or writing failed.
    #[error("the store {place} cannot be used: {detail}")]
    Io {
        /// Where.
        place: String,
        /// What failed.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// What the engine writes. One value is the only writer.
pub trait Store: Send {
    /// Reads what a starting engine needs.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Makes a batch durable as one transaction; an empty one shows whether the store can be written.
    ///
    /// # Errors
    /// When nothing of the batch was made durable.
    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError>;

    /// Looks at all of the store, for a reader has found it damaged.
    ///
    /// # Errors
    /// When it is.
    fn verify(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// As [`Store::commit`], for a store that has no disk or network to wait for; none, and nothing has changed, when
    /// it would have to wait all the same, for a reader. The engine's own thread calls it.
    fn try_commit(&mut self, _writes: &[Write]) -> Option<Committed> {
        None
    }

    /// A reader beside this writer.
    fn reader(&self) -> Arc<dyn Query>;
}

/// What keeps a store in health, beside its writer.
pub trait Admin: Send + Sync {
    /// What is wrong with the store by its own checks, a line each; empty when nothing is.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn integrity(&self) -> Result<Vec<String>, StoreError>;

    /// Copies the store, as it is now, into a new file. The writer goes on meanwhile.
    ///
    /// # Errors
    /// When the target exists or cannot be written, or the store is not of a kind that has files.
    fn backup(&self, target: &std::path::Path) -> Result<(), StoreError>;
}

/// What readers ask. Every answer is of committed facts.
pub trait Query: Send + Sync {
    /// Runs and ranges, newest first.
    ///
    /// # Errors
    /// When the store cannot be read; so for every method here.
    fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryRow>, StoreError>;
    /// One run.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn run(&self, run_id: RunId) -> Result<Option<RunRecord>, StoreError>;
    /// Every schedule, retired ones included, in the order of names.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError>;
    /// The newest run of a schedule that started, and its open runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn activity(&self, schedule: &ScheduleName) -> Result<(Option<RunRecord>, Vec<RunId>), StoreError>;
    /// Every version of a schedule, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn versions(&self, schedule: &ScheduleName) -> Result<Vec<VersionRow>, StoreError>;
    /// Every fire of a schedule after `since` with a disposition, in order; superseded ones left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn dispositions(&self, schedule: &ScheduleName, since: DateTime<Utc>) -> Result<Vec<Disposition>, StoreError>;
    /// When the runs of a schedule were open, fires before other runs, in the order in which they were accepted.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn spans(&self, schedule: &ScheduleName) -> Result<Vec<Span>, StoreError>;
    /// The instant before which history has been pruned.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pruned_before(&self) -> Result<Option<DateTime<Utc>>, StoreError>;
    /// Committed events after a place, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn events_after(&self, seq: Seq, limit: u32) -> Result<Vec<Recorded>, StoreError>;
    /// The place of the newest committed event.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn last_seq(&self) -> Result<Seq, StoreError>;
    /// How far a sink has read.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn mark(&self, sink: &str) -> Result<Option<Seq>, StoreError>;
    /// A value kept for a schedule's jobs.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn state(&self, schedule: &ScheduleName, key: &str) -> Result<Option<Value>, StoreError>;
    /// The ranges that count fires from `from` to `until`, both included; superseded ones left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn ranges_in(
        &self,
        schedule: &ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<RangeRecord>, StoreError>;
    /// The current run of each fire from `from` to `until`, both included.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn fires_in(
        &self,
        schedule: &ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, StoreError>;
    /// The fires of a schedule whose history was pruned.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pruned_fires(&self, schedule: &ScheduleName) -> Result<Option<PrunedFires>, StoreError>;
    /// The parents of a schedule's runs that come after other runs (`after`), one a run.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn chained(&self, schedule: &ScheduleName) -> Result<Vec<RunId>, StoreError>;
    /// How the runs of a schedule ended after an instant.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn ended(&self, schedule: &ScheduleName, since: DateTime<Utc>) -> Result<Vec<EndedRun>, StoreError>;
    /// Rows that contradict each other, a line each, at most 100: what only someone else's hand can have done.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn contradictions(&self) -> Result<Vec<String>, StoreError>;
    /// Rows of the outbox, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError>;
    /// Who stopped dispatching.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn dispatch(&self) -> Result<Option<Hold>, StoreError>;
}
