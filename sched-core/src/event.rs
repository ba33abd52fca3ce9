//! Everything that happens, as one typed enum. Events are committed with the history they tell of.
//!
//! Must not know: sinks, SQL.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Fence, RangeId, RunId, ScheduleName, Seq};
use crate::run::{Origin, Reason, RunState};

/// One thing that happened. In JSON `event` names the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run was accepted.
    RunQueued {
        /// The schedule.
        schedule: ScheduleName,
        /// The run.
        run_id: RunId,
        /// The instant the trigger named.
        nominal_at: Option<DateTime<Utc>>,
        /// Why the run exists.
        origin: Origin,
        /// Not started before this.
        not_before: DateTime<Utc>,
        /// Who asked for it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<String>,
    },
    /// An attempt started.
    RunStarted {
        /// The schedule.
        schedule: ScheduleName,
        /// The job's kind.
        job: String,
        /// The run.
        run_id: RunId,
        /// The instant the trigger named.
        nominal_at: Option<DateTime<Utc>>,
        /// Why the run exists.
        origin: Origin,
        /// From 1.
        attempt: u32,
    },
    /// A run reached a final state.
    RunFinished {
        /// The schedule.
        schedule: ScheduleName,
        /// The job's kind.
        job: String,
        /// The run.
        run_id: RunId,
        /// The instant the trigger named.
        nominal_at: Option<DateTime<Utc>>,
        /// Why the run exists.
        origin: Origin,
        /// The last attempt; 0 when none was made.
        attempt: u32,
        /// How it ended.
        state: RunState,
        /// Whether it succeeded.
        ok: bool,
        /// The last attempt's duration, in milliseconds.
        duration_ms: u64,
        /// Why it ended so.
        reason: Option<Reason>,
        /// One line for people.
        summary: Option<String>,
        /// What went wrong.
        error: Option<String>,
        /// Whether the job ignored cancellation.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        abandoned: bool,
    },
    /// An attempt failed and another follows.
    RunRetry {
        /// The schedule.
        schedule: ScheduleName,
        /// The run.
        run_id: RunId,
        /// The attempt that failed.
        attempt: u32,
        /// What went wrong.
        error: String,
        /// When the next attempt may start.
        not_before: DateTime<Utc>,
    },
    /// Fires did not run because of a policy: the range begins, or ends with its count.
    FireSkipped {
        /// The schedule.
        schedule: ScheduleName,
        /// The range.
        range_id: RangeId,
        /// The first nominal time.
        from: DateTime<Utc>,
        /// The last nominal time so far.
        until: DateTime<Utc>,
        /// How many so far.
        count: u64,
        /// Why.
        reason: Reason,
        /// The run that stood in the way.
        blocker: Option<RunId>,
        /// Whether the range has ended.
        ended: bool,
    },
    /// Fires did not run because their time passed: the range begins, or ends with its count.
    FiresMissed {
        /// The schedule.
        schedule: ScheduleName,
        /// The range.
        range_id: RangeId,
        /// The first nominal time.
        from: DateTime<Utc>,
        /// The last nominal time so far.
        until: DateTime<Utc>,
        /// How many so far.
        count: u64,
        /// Why.
        reason: Reason,
        /// Whether the range has ended.
        ended: bool,
    },
    /// A schedule was added, changed, removed, paused or resumed.
    ScheduleChanged {
        /// The schedule.
        schedule: ScheduleName,
        /// What was done.
        change: ScheduleChange,
        /// The version since.
        version: u32,
        /// Who did it.
        by: String,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// Dispatching was started or stopped.
    DispatchChanged {
        /// Whether fires run.
        running: bool,
        /// Who did it.
        by: String,
    },
    /// A run's holder died.
    LeaseLost {
        /// The schedule.
        schedule: ScheduleName,
        /// The run.
        run_id: RunId,
        /// The dead holder's fence.
        fence: Fence,
    },
    /// The wall clock stepped.
    ClockJump {
        /// By how many milliseconds; negative is back.
        millis: i64,
    },
    /// Old history was removed.
    HistoryPruned {
        /// Runs.
        runs: u64,
        /// Ranges.
        ranges: u64,
        /// Nothing before this instant can be vouched for.
        before: DateTime<Utc>,
    },
    /// A job said how far it is. Never committed: the next one replaces it.
    Progress {
        /// The schedule.
        schedule: ScheduleName,
        /// The run.
        run_id: RunId,
        /// 0 to 100.
        percent: u8,
        /// In words.
        text: String,
    },
    /// The process started. Its `config` has the original's keys and ours.
    Startup {
        /// Whether it stands.
        ok: bool,
        /// The process.
        pid: u32,
        /// What it runs with, secrets left out.
        config: Value,
    },
    /// The start-up self-heal ended.
    SelfHealStartup {
        /// Whether it succeeded.
        ok: bool,
        /// 200, or 500 when it failed: what the original's HTTP call gave.
        status: u16,
        /// How many runs it retried.
        retried_count: u64,
    },
    /// The heartbeat.
    Tick {
        /// From 1 at each start.
        tick: u64,
        /// The soonest nominal times, by schedule.
        next: std::collections::BTreeMap<ScheduleName, DateTime<Utc>>,
    },
    /// The engine did not answer the heartbeat.
    Stalled {
        /// For how many milliseconds.
        millis: u64,
    },
    /// Something needs a person.
    Alert {
        /// What for.
        kind: AlertKind,
        /// The schedule it is about.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        schedule: Option<ScheduleName>,
        /// The run it is about.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        run_id: Option<RunId>,
        /// In words.
        message: String,
    },
    /// `sched start` proved the daemon alive.
    SupervisorStart {
        /// The daemon.
        pid: u32,
    },
    /// The supervisor saw the engine's process end, or hang.
    EngineDied {
        /// The process.
        pid: u32,
        /// What ended it, in one word.
        cause: String,
        /// In words.
        message: String,
        /// When it is started again; none when it is not.
        restart_in_ms: Option<u64>,
    },
    /// The supervisor starts the engine no more.
    SupervisorGaveUp {
        /// So many ends, one soon after another.
        deaths: u32,
        /// The last one, and what to do.
        message: String,
    },
    /// The process was told to stop.
    Shutdown {
        /// By this signal; 0 when asked over the control socket.
        signal: i32,
        /// The process.
        pid: u32,
    },
    /// The process removed its PID file; its last line.
    Cleanup {
        /// The process.
        removed_pid: u32,
    },
}

/// Why a person is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A run has not started in time (`alert.late_start`).
    LateStart,
    /// An attempt goes on for longer than it should (`alert.overrun`).
    Overrun,
    /// A schedule that failed works again.
    Recovered,
    /// The wall clock went back by over an hour.
    ClockBack,
    /// A schedule is held, for its stored facts were changed by someone else.
    Held,
    /// A changed configuration could not be taken over.
    Config,
    /// The scheduler before this one ended without stopping.
    Died,
    /// A channel has given up what it was to deliver.
    Undelivered,
}

/// What was done to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleChange {
    /// It is new.
    Added,
    /// Its specification changed.
    Updated,
    /// It is no longer configured.
    Retired,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// The clock went back: what had not run is due again.
    Reopened,
}

impl Event {
    /// The name that JSON and the log use.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunQueued { .. } => "run_queued",
            Self::RunStarted { .. } => "run_started",
            Self::RunFinished { .. } => "run_finished",
            Self::RunRetry { .. } => "run_retry",
            Self::FireSkipped { .. } => "fire_skipped",
            Self::FiresMissed { .. } => "fires_missed",
            Self::ScheduleChanged { .. } => "schedule_changed",
            Self::DispatchChanged { .. } => "dispatch_changed",
            Self::LeaseLost { .. } => "lease_lost",
            Self::ClockJump { .. } => "clock_jump",
            Self::HistoryPruned { .. } => "history_pruned",
            Self::Progress { .. } => "progress",
            Self::Startup { .. } => "startup",
            Self::SelfHealStartup { .. } => "self_heal_startup",
            Self::Tick { .. } => "tick",
            Self::Stalled { .. } => "stalled",
            Self::Alert { .. } => "alert",
            Self::SupervisorStart { .. } => "supervisor_start",
            Self::EngineDied { .. } => "engine_died",
            Self::SupervisorGaveUp { .. } => "supervisor_gave_up",
            Self::Shutdown { .. } => "shutdown",
            Self::Cleanup { .. } => "cleanup",
        }
    }
}

/// An event with its time and, when it is committed, its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it happened.
    pub ts: DateTime<Utc>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Its place among committed events; none for events that are only announced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<Seq>,
}
