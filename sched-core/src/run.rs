//! Run records and the words for how runs end.
//!
//! Must not know: how records are stored or shown.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Fence, NodeId, RangeId, RunId, ScheduleName};
use crate::job::{JobError, Output};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used in JSON, logs and on the command line.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::run::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::run::UnknownWord::new(text, &[$($word),*])),
                }
            }
        }
    };
}

pub(crate) use words;

impl UnknownWord {
    pub(crate) fn new(text: &str, known: &'static [&'static str]) -> Self {
        Self { text: text.to_owned(), known }
    }
}

/// A text that is none of the known words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of {}", known.join(", "))]
pub struct UnknownWord {
    text: String,
    known: &'static [&'static str],
}

words! {
    /// Where a run is in its life; a fire's disposition is the state of its run, or of the range that counts it.
    RunState {
        /// Accepted; waits for its time, a free place or its next attempt.
        Queued = "queued",
        /// An attempt is under way.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly, with no attempt left.
        Failed = "failed",
        /// Exceeded its time limit.
        TimedOut = "timed_out",
        /// Stopped on request.
        Cancelled = "cancelled",
        /// Its process died or was stopped; the outcome of the work is unknown.
        Interrupted = "interrupted",
        /// Did not run because of a policy, with the reason.
        Skipped = "skipped",
        /// Did not run because its time passed, with the reason.
        Missed = "missed",
    }
}

impl RunState {
    /// Whether the run can no longer change.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Whether the run ended in a way that someone should look at.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Interrupted)
    }
}

words! {
    /// Why a run exists.
    Origin {
        /// Its nominal time came.
        Schedule = "schedule",
        /// The scheduler started (`on_start`).
        Startup = "startup",
        /// Someone asked for it.
        Manual = "manual",
        /// A past fire, run on request.
        Backfill = "backfill",
        /// A past fire, planned more than five seconds late.
        Catchup = "catchup",
        /// Another schedule's run ended.
        Chain = "chain",
    }
}

words! {
    /// Why a fire did not run, or a run ended as it did.
    Reason {
        /// A run of the same schedule was still open.
        Overlap = "overlap",
        /// A later fire of the same schedule ran in its place (`misfire.policy = "latest"`).
        Superseded = "superseded",
        /// It was late and the policy runs no late fires (`misfire.policy = "skip"`).
        MisfireSkip = "misfire_skip",
        /// More fires were late than `misfire.max` allows to catch up.
        CatchupLimit = "catchup_limit",
        /// It could not start within its misfire window.
        Window = "window",
        /// The schedule was paused.
        Paused = "paused",
        /// Dispatching was stopped.
        DispatchStopped = "dispatch_stopped",
        /// The scheduler died while it ran.
        Lost = "lost",
        /// The scheduler was shut down while it ran.
        Shutdown = "shutdown",
        /// Someone cancelled it.
        Requested = "requested",
        /// A later fire of the same schedule cancelled it (`overlap = "cancel_running"`).
        Replaced = "replaced",
        /// The schedule was removed from the configuration.
        Retired = "retired",
    }
}

impl Reason {
    /// The reason in words, for people.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Overlap => "a run of this schedule was still open",
            Self::Superseded => "a later fire ran in its place",
            Self::MisfireSkip => "it was late, and this schedule skips late fires",
            Self::CatchupLimit => "more fires were late than misfire.max allows to catch up",
            Self::Window => "it could not start within its misfire window",
            Self::Paused => "the schedule was paused",
            Self::DispatchStopped => "dispatching was stopped",
            Self::Lost => "the scheduler died while it ran",
            Self::Shutdown => "the scheduler was shut down while it ran",
            Self::Requested => "it was cancelled on request",
            Self::Replaced => "a later fire replaced it",
            Self::Retired => "the schedule was removed",
        }
    }
}

/// One run as every reader sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunRecord {
    /// Its identity.
    pub run_id: RunId,
    /// The schedule it belongs to; for a job run without a daemon, the job's kind.
    pub schedule: ScheduleName,
    /// The job's kind.
    pub job: String,
    /// The version of the schedule that made it.
    pub version: u32,
    /// The instant the trigger named; none for start-up and manual runs.
    pub nominal_at: Option<DateTime<Utc>>,
    /// Why it exists.
    pub origin: Origin,
    /// Where it is in its life.
    pub state: RunState,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// The attempt under way or last made, from 1; 0 before the first.
    pub attempt: u32,
    /// Not started before this instant.
    pub not_before: DateTime<Utc>,
    /// When it was accepted.
    pub queued_at: DateTime<Utc>,
    /// When the last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When the run reached a final state.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long the last attempt took, in milliseconds of monotonic time.
    pub duration_ms: Option<u64>,
    /// The process that ran it.
    pub node: Option<NodeId>,
    /// The fence of its last claim.
    pub fence: Fence,
    /// The parameters it runs with; secrets stay references.
    pub params: Value,
    /// One line for people.
    pub summary: Option<String>,
    /// Figures for programs.
    pub data: Value,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether the job ignored cancellation when this was recorded.
    pub abandoned: bool,
    /// The files it wrote.
    pub artifacts: Vec<Artifact>,
    /// The run that this one repeats, or comes after.
    pub parent: Option<RunId>,
    /// Whether schedules that come after this one run when it has ended.
    #[serde(default = "yes")]
    pub chains: bool,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// The caller's key that makes asking twice the same as asking once.
    pub idempotency_key: Option<String>,
}

const fn yes() -> bool {
    true
}

impl RunRecord {
    /// How long the last attempt took, for people.
    #[must_use]
    pub fn duration_text(&self) -> Option<String> {
        self.duration_ms.map(|ms| match ms {
            0..1000 => format!("{ms} ms"),
            1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
            60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
            3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
            _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
        })
    }
}

/// A file that a run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Artifact {
    /// The name the job gave it.
    pub name: String,
    /// Where it is.
    pub path: std::path::PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Consecutive fires of one schedule that did not run for the same reason, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RangeRecord {
    /// Its identity.
    pub range_id: RangeId,
    /// The schedule.
    pub schedule: ScheduleName,
    /// The version of the schedule that planned the fires.
    pub version: u32,
    /// [`RunState::Skipped`] or [`RunState::Missed`].
    pub state: RunState,
    /// Why.
    pub reason: Reason,
    /// The run that stood in the way.
    pub blocker: Option<RunId>,
    /// The first nominal time.
    pub from: DateTime<Utc>,
    /// The last nominal time, included.
    pub until: DateTime<Utc>,
    /// How many fires it counts.
    pub count: u64,
    /// Whether its fires were run after all; kept beside their new disposition.
    pub superseded: bool,
}

/// One line of history: a run, or a range of fires that did not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "lists hold almost only runs")]
pub enum HistoryRow {
    /// A run.
    Run(RunRecord),
    /// A counted range.
    Range(RangeRecord),
}

impl HistoryRow {
    /// The schedule it belongs to.
    #[must_use]
    pub const fn schedule(&self) -> &ScheduleName {
        match self {
            Self::Run(run) => &run.schedule,
            Self::Range(range) => &range.schedule,
        }
    }

    /// Its place in the order of pages.
    #[must_use]
    pub const fn cursor(&self) -> crate::query::HistoryCursor {
        match self {
            Self::Run(run) => crate::query::HistoryCursor { at: run.queued_at, id: run.run_id.as_uuid() },
            Self::Range(range) => crate::query::HistoryCursor { at: range.until, id: range.range_id.as_uuid() },
        }
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> RunState {
        match self {
            Self::Run(run) => run.state,
            Self::Range(range) => range.state,
        }
    }

    /// In one line, for people: what a run came to, or why fires did not run and which run stood in their way.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::Run(run) => {
                let told = run.error.as_deref().or(run.summary.as_deref()).and_then(|text| text.lines().next());
                let reason = run.reason.map(Reason::explain);
                told.or(reason).unwrap_or_default().to_owned()
            }
            Self::Range(range) => {
                let blocker = range.blocker.map_or(String::new(), |run| format!(": run {run}"));
                let after_all = if range.superseded { "; run later after all" } else { "" };
                format!("{}{blocker}{after_all}", range.reason.explain())
            }
        }
    }
}

/// How one attempt ended, as the runner saw it. A failed run is an outcome, not an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The job returned an output.
    Succeeded(Output),
    /// The job returned an error.
    Failed(JobError),
    /// The job panicked with this message.
    Panicked(String),
    /// The job's task was dropped after it was told to stop, or it stopped and said so.
    Stopped(JobError),
    /// The attempt could not begin (unknown kind, parameters that do not fit).
    Unstartable(String),
    /// The process that held the attempt died.
    Lost,
}
