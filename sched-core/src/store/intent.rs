//! What the engine asks of a store, and what came of it: plain data.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::ScheduleRow;
use crate::context::PruneRule;
use crate::event::{Event, Recorded};
use crate::id::{Fence, NodeId, OutboxId, RunId, ScheduleName, Seq};
use crate::notice::OutboxRow;
use crate::query::Hold;
use crate::run::{Artifact, RangeRecord, Reason, RunRecord, RunState};
use crate::trigger::TriggerSpec;

/// How an attempt or a queued run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The final state.
    pub state: RunState,
    /// Why.
    pub reason: Option<Reason>,
    /// When.
    pub at: DateTime<Utc>,
    /// The attempt's length in milliseconds.
    pub duration_ms: Option<u64>,
    /// One line for people.
    pub summary: Option<String>,
    /// Figures for programs.
    pub data: Value,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether the job ignored cancellation.
    pub abandoned: bool,
    /// The files it wrote.
    pub artifacts: Vec<Artifact>,
}

/// One change that the engine asks of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// Adds a schedule, or replaces its current version by a newer one.
    Declare(ScheduleRow),
    /// Marks a schedule as no longer configured; its history stays.
    Retire {
        /// The schedule.
        schedule: ScheduleName,
        /// When.
        at: DateTime<Utc>,
    },
    /// Enqueues due fires and advances the cursor, if the cursor still is where it was.
    Plan {
        /// The schedule.
        schedule: ScheduleName,
        /// Where the cursor must be.
        expected: DateTime<Utc>,
        /// Where it goes.
        cursor: DateTime<Utc>,
        /// Fires that do not run; a known id replaces (extends) that range.
        ranges: Vec<RangeRecord>,
        /// Fires that run.
        runs: Vec<RunRecord>,
    },
    /// Enqueues a run that is no fire. An idempotency key already used gives [`Receipt::Existing`].
    Enqueue(RunRecord),
    /// Changes nothing; [`Receipt::Existing`] names the run made under an idempotency key, [`Receipt::Conflict`] says
    /// that it is another schedule's.
    FindKey {
        /// The schedule.
        schedule: ScheduleName,
        /// The key.
        key: String,
    },
    /// Starts an attempt of a queued run under a new fence.
    Claim {
        /// The run.
        run_id: RunId,
        /// The attempt, from 1.
        attempt: u32,
        /// The claiming process.
        node: NodeId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Ends a run: a running one under its fence, a queued one under the fence it was queued with.
    Finish {
        /// The run.
        run_id: RunId,
        /// The fence it must have.
        fence: Fence,
        /// How it ended.
        ending: Ending,
        /// What comes with it.
        follow: Follow,
    },
    /// Puts a running run back into the queue under its fence.
    Requeue {
        /// The run.
        run_id: RunId,
        /// The fence it must have.
        fence: Fence,
        /// The attempts that count.
        attempt: u32,
        /// Not started before this.
        not_before: DateTime<Utc>,
        /// How the attempt ended.
        ending: Ending,
    },
    /// Replaces ranges by their parts around past fires, and enqueues the fires' runs. A run with a parent takes the
    /// place of that run as its fire's disposition.
    Recover {
        /// The ranges as they were read.
        expected: Vec<RangeRecord>,
        /// What stays of them, and the superseded fires.
        parts: Vec<RangeRecord>,
        /// The fires' runs.
        runs: Vec<RunRecord>,
    },
    /// Changes nothing; tells where a schedule's cursor is ([`Receipt::Stands`]).
    Locate {
        /// The schedule.
        schedule: ScheduleName,
    },
    /// Changes nothing; tells of each schedule whose cursor lies after an instant what is recorded after it.
    LookAhead {
        /// The instant.
        after: DateTime<Utc>,
    },
    /// Replaces ranges by what stays of them, and moves the cursor back with a new version.
    Reopen {
        /// The schedule's new row.
        row: ScheduleRow,
        /// The ranges as they were read.
        expected: Vec<RangeRecord>,
        /// What stays of them.
        parts: Vec<RangeRecord>,
    },
    /// Pauses a schedule, or resumes it.
    Pause {
        /// The schedule.
        schedule: ScheduleName,
        /// None resumes.
        hold: Option<Hold>,
    },
    /// Stops dispatching, or starts it.
    Dispatch(Option<Hold>),
    /// Keeps a value for a schedule's jobs.
    PutState {
        /// The schedule.
        schedule: ScheduleName,
        /// The value's name.
        key: String,
        /// The value.
        value: Value,
    },
    /// Removes old history, a bounded piece at a time.
    Prune {
        /// What goes.
        rule: PruneRule,
        /// Where the last piece ended.
        from: Option<PruneCursor>,
    },
    /// Remembers how far a sink has read.
    Mark {
        /// The sink.
        sink: String,
        /// Everything up to here is out.
        seq: Seq,
    },
    /// Records a try to deliver rows of the outbox, each with the number of its tries.
    Deliver {
        /// Which.
        deliveries: Vec<(OutboxId, u32)>,
        /// What came of it.
        tried: Tried,
        /// When.
        at: DateTime<Utc>,
    },
    /// Only the events.
    Note,
}

/// What came of a try to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The channel has taken it.
    Delivered,
    /// It is tried again.
    Again {
        /// Not before this.
        not_before: DateTime<Utc>,
        /// What went wrong.
        error: String,
    },
    /// It is given up.
    Dead {
        /// What went wrong.
        error: String,
    },
}

/// An intent with the events that tell of it, and whom it is told; they are kept only if it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The change.
    pub intent: Intent,
    /// What to tell.
    pub events: Vec<Event>,
    /// What to tell people, through channels; a row that is there already is replaced.
    pub outbox: Vec<OutboxRow>,
}

/// What became of one intent.
#[derive(Debug, Clone, PartialEq)]
pub enum Receipt {
    /// It is durable.
    Applied,
    /// The attempt is claimed under this fence.
    Claimed(Fence),
    /// The idempotency key belongs to this earlier run.
    Existing(RunId),
    /// So much was removed, or would be.
    Pruned(Pruned),
    /// Where the cursor is.
    Stands {
        /// Every fire up to here is accounted for.
        cursor: DateTime<Utc>,
        /// Fires after it that have a run.
        ahead: BTreeSet<DateTime<Utc>>,
    },
    /// What is recorded after the instant.
    Ahead(Vec<Ahead>),
    /// The stored facts were not as expected; nothing changed.
    Conflict,
}

impl Receipt {
    /// Whether what came with the intent was kept.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        !matches!(self, Self::Conflict | Self::Existing(_))
    }
}

/// What the end of a run brings with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Follow {
    /// Where the schedule's cursor goes, when its next fire is counted from this end.
    pub cursor: Option<DateTime<Utc>>,
    /// Whether the schedule works again, or no more.
    pub health: Health,
    /// The runs of schedules that come after it: queued, or skipped with a reason.
    pub chained: Vec<RunRecord>,
}

/// How a run changes what is known of its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// It does not.
    #[default]
    Unchanged,
    /// It is the first to end badly.
    Fails(DateTime<Utc>),
    /// It succeeded after others had not.
    Works,
}

/// What is recorded of a schedule after an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Ahead {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Ranges that end after it, with the trigger of the version that planned them; superseded ones left out.
    pub ranges: Vec<(RangeRecord, TriggerSpec)>,
    /// Fires after it that have a run.
    pub fires: Vec<DateTime<Utc>>,
}

/// Where a piece of pruning ended: everything that ended before this has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneCursor {
    /// When the last run ended.
    pub at: DateTime<Utc>,
    /// The last run.
    pub run_id: RunId,
}

/// What one piece of pruning removed, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// These runs, with the files that they have kept.
    pub gone: Vec<(RunId, Vec<Artifact>)>,
    /// Ranges.
    pub ranges: u64,
    /// Where the next piece begins; none after the last.
    pub next: Option<PruneCursor>,
}

/// A committed batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Committed {
    /// One a write, in order.
    pub receipts: Vec<Receipt>,
    /// The events that were kept, with their places.
    pub events: Vec<Recorded>,
}
