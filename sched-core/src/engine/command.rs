//! What people and jobs ask of the running engine.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::backfill::BackfillRequest;
use super::fires::{new_run, queued_event};
use super::settle::StopCause;
use super::{Effect, Machine, Pending, Phase, ReplyTo};
use crate::clock::Now;
use crate::context::PruneRule;
use crate::diff::Change;
use crate::event::{Event, ScheduleChange};
use crate::id::{ChannelName, RunId, ScheduleName};
use crate::notice::{ChannelPolicy, Letter, OutboxRow};
use crate::policy::Overlap;
use crate::query::{Hold, Upcoming};
use crate::run::{Origin, Reason, RunRecord, RunState};
use crate::spec::{ScheduleSpec, SpecError};
use crate::store::{Intent, PruneCursor, Pruned, Receipt};

/// A request to run a schedule now.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerRequest {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Replaces parameters of the same names.
    pub params: Map<String, Value>,
    /// Wait behind an open run instead of being refused.
    pub queue: bool,
    /// Asking again with the same key gives the same run.
    pub idempotency_key: Option<String>,
    /// Who asks.
    pub by: String,
}

impl TriggerRequest {
    /// A plain request.
    #[must_use]
    pub fn new(schedule: ScheduleName, by: impl Into<String>) -> Self {
        Self { schedule, params: Map::new(), queue: false, idempotency_key: None, by: by.into() }
    }
}

/// Anything that is asked of the engine.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "commands are rare and moved once")]
pub enum Command {
    /// Run a schedule now.
    Trigger(TriggerRequest),
    /// Run a finished run again, as a new one.
    Retry {
        /// The finished run, as read.
        run: RunRecord,
        /// Who asks.
        by: String,
    },
    /// Run past fires.
    Backfill(BackfillRequest),
    /// Make the schedules and limits these; what is unchanged is not touched.
    Apply {
        /// Every schedule that is wanted.
        schedules: Vec<ScheduleSpec>,
        /// At most so many runs at once in each concurrency group.
        groups: BTreeMap<String, usize>,
        /// When each channel tells of what.
        channels: BTreeMap<ChannelName, ChannelPolicy>,
        /// At most so many runs at once.
        max_concurrent_runs: usize,
        /// Who asks.
        by: String,
    },
    /// Stop a run.
    Cancel {
        /// The run.
        run_id: RunId,
    },
    /// Pause a schedule.
    Pause {
        /// The schedule.
        schedule: ScheduleName,
        /// Who asks.
        by: String,
        /// Why.
        reason: String,
    },
    /// Resume a schedule.
    Resume {
        /// The schedule.
        schedule: ScheduleName,
        /// Who asks.
        by: String,
    },
    /// Start or stop dispatching.
    Dispatch {
        /// Start, or stop.
        run: bool,
        /// Who asks.
        by: String,
    },
    /// Keep a value for a schedule's jobs.
    PutState {
        /// The schedule.
        schedule: ScheduleName,
        /// The value's name.
        key: String,
        /// The value.
        value: Value,
    },
    /// Remove old history.
    Prune {
        /// What goes.
        rule: PruneRule,
        /// Where the last step ended.
        from: Option<PruneCursor>,
    },
    /// Remember how far a sink has read.
    Mark {
        /// The sink.
        sink: String,
        /// Everything up to here is out.
        seq: crate::id::Seq,
    },
    /// Send what a job has written.
    Send {
        /// Through these.
        channels: Vec<ChannelName>,
        /// The job's schedule.
        schedule: ScheduleName,
        /// What it has written.
        letter: Letter,
    },
    /// Try again to deliver what was given up.
    Redeliver(Vec<OutboxRow>),
    /// Keep an event.
    Note(Event),
    /// Tell how the engine is.
    Status {
        /// The number of coming fires to tell.
        upcoming: usize,
    },
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineStatus {
    /// Set while dispatching is stopped.
    pub dispatch: Option<Hold>,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Whether the store refuses writes.
    pub store_failing: bool,
    /// What is wrong, and what follows from it.
    pub problem: Option<String>,
    /// Runs under way.
    pub running: usize,
    /// Runs that wait.
    pub queued: usize,
    /// The soonest fires, in order.
    pub upcoming: Vec<Upcoming>,
    /// How many schedules have a coming fire.
    pub upcoming_total: usize,
}

/// The engine's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is durable.
    Done,
    /// This run was made (or, for a repeated idempotency key, had been).
    Run(RunId),
    /// These runs were made.
    Runs(Vec<RunId>),
    /// This changed.
    Changed(Vec<Change>),
    /// How the engine is.
    Status(EngineStatus),
    /// So much was removed, or would be.
    Pruned(Pruned),
}

/// Why the engine does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such schedule.
    #[error("no schedule `{name}`{near}")]
    UnknownSchedule {
        /// The name asked for.
        name: ScheduleName,
        /// A near name, as a clause.
        near: String,
    },
    /// There is no such channel.
    #[error("no channel `{name}`{near}; write it as a [[channel]]")]
    UnknownChannel {
        /// The name asked for.
        name: ChannelName,
        /// A near name, as a clause.
        near: String,
    },
    /// A run of the schedule is open.
    #[error(
        "run {blocker} of this schedule is still open; wait for it, cancel it, or queue behind it (`--queue`, \"queue\": true)"
    )]
    Busy {
        /// The open run.
        blocker: RunId,
    },
    /// The idempotency key belongs to a run of another schedule.
    #[error("this idempotency key was used for another schedule; choose one for each request")]
    KeyTaken,
    /// The run is not open.
    #[error("the run is not queued or running")]
    NotOpen,
    /// The run has not ended.
    #[error("the run has not ended; only a finished run can be run again")]
    StillOpen,
    /// The fire is not counted as missed or skipped.
    #[error("this fire is not recorded as missed or skipped")]
    NotRecoverable,
    /// There are too many fires in the range.
    #[error("more than {} fires lie in the range; make it shorter", super::MOST_FIRES)]
    TooMany,
    /// A schedule cannot work.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// The stored facts changed meanwhile.
    #[error("it changed meanwhile; look again and repeat")]
    Conflict,
    /// The engine is shutting down.
    #[error("the scheduler is shutting down")]
    Draining,
    /// The store refuses writes.
    #[error("the store cannot be written; see `sched status`")]
    StoreFailing,
}

impl Machine {
    pub(super) fn command(&mut self, now: Now, to: ReplyTo, command: Command) {
        let refusal = match self.serve(now, to, command) {
            Ok(()) => return,
            Err(refusal) => refusal,
        };
        self.effects.push(Effect::Reply(to, Err(refusal)));
    }

    fn serve(&mut self, now: Now, to: ReplyTo, command: Command) -> Result<(), Refusal> {
        if let Command::Status { upcoming } = command {
            let status = self.status(upcoming);
            self.effects.push(Effect::Reply(to, Ok(Reply::Status(status))));
            return Ok(());
        }
        if self.store_failing.is_some() {
            return Err(Refusal::StoreFailing);
        }
        let done = Pending::Reply(to, Reply::Done);
        match command {
            Command::Trigger(request) => self.trigger(now, to, request)?,
            Command::Retry { run, by } => self.retry(now, to, &run, by)?,
            Command::Backfill(request) => self.backfill(now, to, request)?,
            Command::Apply { schedules, groups, channels, max_concurrent_runs, by } => {
                let changes = self.apply(now, &schedules, groups, channels, max_concurrent_runs, &by)?;
                self.write_then(now, Intent::Note, Vec::new(), Pending::Reply(to, Reply::Changed(changes)));
            }
            Command::Cancel { run_id } => {
                let open = self.runs.get(&run_id).is_some_and(|run| run.phase != Phase::Abandoned);
                if !open {
                    return Err(Refusal::NotOpen);
                }
                self.stop(now, run_id, StopCause::Requested);
                self.write_then(now, Intent::Note, Vec::new(), done);
            }
            Command::Pause { schedule, by, reason } => {
                self.known(&schedule)?;
                // A pause that begins within another hold leaves that hold's fires to it.
                self.account(now, &schedule, self.held_for(&schedule));
                self.hold(now, to, schedule, Some(Hold { by, at: now.utc, reason }), "paused");
            }
            Command::Resume { schedule, by } => {
                self.known(&schedule)?;
                let paused = self.schedules.get(&schedule).is_some_and(|s| s.row.paused.is_some());
                if paused {
                    self.account(now, &schedule, Some(Reason::Paused));
                }
                self.hold(now, to, schedule, None, &by);
            }
            Command::Dispatch { run, by } => self.set_dispatch(now, to, run, by),
            Command::PutState { schedule, key, value } => {
                self.known(&schedule)?;
                self.write_then(now, Intent::PutState { schedule, key, value }, Vec::new(), done);
            }
            Command::Prune { rule, from } => {
                self.write_then(now, Intent::Prune { rule, from }, Vec::new(), done);
            }
            Command::Mark { sink, seq } => self.write_then(now, Intent::Mark { sink, seq }, Vec::new(), done),
            Command::Send { channels, schedule, letter } => self.send(now, &channels, &schedule, &letter, done)?,
            Command::Redeliver(rows) => self.redeliver(now, rows, done),
            Command::Note(event) => self.write_then(now, Intent::Note, vec![event], done),
            Command::Status { .. } => {}
        }
        Ok(())
    }

    /// Why a schedule's fires do not run now.
    fn held_for(&self, name: &ScheduleName) -> Option<Reason> {
        let paused = self.schedules.get(name).is_some_and(|schedule| schedule.row.paused.is_some());
        let stopped = self.dispatch.as_ref().map(|_| Reason::DispatchStopped);
        if paused { Some(Reason::Paused) } else { stopped }
    }

    pub(super) fn known(&self, name: &ScheduleName) -> Result<(), Refusal> {
        if self.schedules.get(name).is_some_and(|schedule| !schedule.row.retired) {
            return Ok(());
        }
        let mut names: Vec<&str> =
            self.schedules.values().filter(|s| !s.row.retired).map(|s| s.row.name().as_str()).collect();
        names.sort_unstable();
        names.truncate(50);
        Err(Refusal::UnknownSchedule {
            name: name.clone(),
            near: crate::suggest::near(name.as_str(), names.into_iter()),
        })
    }

    /// Whether a run may be made by hand now, beside or behind the open ones.
    fn admit(&mut self, now: Now, name: &ScheduleName, queue: bool) -> Result<(), Refusal> {
        self.known(name)?;
        if self.draining.is_some() {
            return Err(Refusal::Draining);
        }
        let Some(schedule) = self.schedules.get(name) else { return Ok(()) };
        let mut open = schedule.open.iter().copied().filter(|run_id| self.blocks(*run_id));
        match schedule.row.spec.overlap {
            Overlap::Skip | Overlap::Queue if !queue => {
                if let Some(blocker) = open.next() {
                    return Err(Refusal::Busy { blocker });
                }
            }
            Overlap::CancelRunning => {
                for run_id in open.collect::<Vec<_>>() {
                    self.stop(now, run_id, StopCause::Replaced);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes the run, unless one was made under the same key: then nothing happens, and its id is the answer.
    fn trigger(&mut self, now: Now, to: ReplyTo, request: TriggerRequest) -> Result<(), Refusal> {
        self.known(&request.schedule)?;
        let Some(key) = request.idempotency_key.clone() else { return self.trigger_new(now, to, request) };
        let find = Intent::FindKey { schedule: request.schedule.clone(), key };
        self.write_then(now, find, Vec::new(), Pending::Key(to, request));
        Ok(())
    }

    pub(super) fn looked_up(&mut self, now: Now, to: ReplyTo, request: TriggerRequest, receipt: &Receipt) {
        // Another request with the key may have been taken since.
        let open = request.idempotency_key.as_ref().and_then(|key| self.keys.get(key)).copied();
        let made = match (receipt, open) {
            (Receipt::Existing(run_id), _) => {
                self.effects.push(Effect::Reply(to, Ok(Reply::Run(*run_id))));
                return;
            }
            (Receipt::Conflict, _) => Err(Refusal::KeyTaken),
            (_, Some(run_id)) if self.runs.get(&run_id).is_some_and(|run| run.record.schedule == request.schedule) => {
                self.write_then(now, Intent::Note, Vec::new(), Pending::Reply(to, Reply::Run(run_id)));
                return;
            }
            (_, Some(_)) => Err(Refusal::KeyTaken),
            (_, None) => self.trigger_new(now, to, request),
        };
        if let Err(refusal) = made {
            self.effects.push(Effect::Reply(to, Err(refusal)));
        }
    }

    fn trigger_new(&mut self, now: Now, to: ReplyTo, request: TriggerRequest) -> Result<(), Refusal> {
        self.admit(now, &request.schedule, request.queue)?;
        let run_id = self.ids.run_id(now.utc);
        let Some(schedule) = self.schedules.get(&request.schedule) else { return Err(Refusal::Conflict) };
        let mut run = new_run(run_id, &schedule.row, Origin::Manual, now.utc);
        let mut params = schedule.row.spec.params.clone();
        params.extend(request.params);
        run.params = params.into();
        run.requested_by = Some(request.by);
        run.idempotency_key = request.idempotency_key;
        self.make(now, to, run);
        Ok(())
    }

    fn retry(&mut self, now: Now, to: ReplyTo, past: &RunRecord, by: String) -> Result<(), Refusal> {
        if !past.state.is_final() {
            return Err(Refusal::StillOpen);
        }
        self.admit(now, &past.schedule, false)?;
        let run_id = self.ids.run_id(now.utc);
        let Some(schedule) = self.schedules.get(&past.schedule) else { return Err(Refusal::Conflict) };
        let mut run = new_run(run_id, &schedule.row, Origin::Manual, now.utc);
        run.params = past.params.clone();
        run.parent = Some(past.run_id);
        run.chains = past.chains && past.state != RunState::Succeeded;
        run.requested_by = Some(by);
        self.make(now, to, run);
        Ok(())
    }

    fn make(&mut self, now: Now, to: ReplyTo, run: RunRecord) {
        let event = queued_event(&run);
        let reply = Pending::Reply(to, Reply::Run(run.run_id));
        self.write_then(now, Intent::Enqueue(run.clone()), vec![event], reply);
        self.enqueue(run);
    }

    fn hold(&mut self, now: Now, to: ReplyTo, name: ScheduleName, hold: Option<Hold>, by: &str) {
        let Some(schedule) = self.schedules.get_mut(&name) else { return };
        let changed = schedule.row.paused.is_some() != hold.is_some();
        schedule.row.paused.clone_from(&hold);
        let event = Event::ScheduleChanged {
            schedule: name.clone(),
            change: if hold.is_some() { ScheduleChange::Paused } else { ScheduleChange::Resumed },
            version: schedule.row.version,
            by: hold.as_ref().map_or_else(|| by.to_owned(), |hold| hold.by.clone()),
            reason: hold.as_ref().map(|hold| hold.reason.clone()),
        };
        self.reindex(&name);
        let events = if changed { vec![event] } else { Vec::new() };
        self.write_then(now, Intent::Pause { schedule: name, hold }, events, Pending::Reply(to, Reply::Done));
    }

    fn set_dispatch(&mut self, now: Now, to: ReplyTo, run: bool, by: String) {
        let done = Pending::Reply(to, Reply::Done);
        if self.dispatch.is_none() == run {
            self.write_then(now, Intent::Note, Vec::new(), done);
            return;
        }
        let mut names: Vec<_> = self.schedules.keys().cloned().collect();
        names.sort();
        let reason = run.then_some(Reason::DispatchStopped);
        for name in &names {
            let held = self.schedules.get(name).is_none_or(|s| s.row.paused.is_some() || s.row.retired);
            if !held {
                self.account(now, name, reason);
            }
        }
        self.dispatch = (!run).then(|| Hold { by: by.clone(), at: now.utc, reason: "stopped on request".into() });
        for name in &names {
            self.reindex(name);
        }
        let event = Event::DispatchChanged { running: run, by };
        self.write_then(now, Intent::Dispatch(self.dispatch.clone()), vec![event], done);
    }

    fn problem(&self) -> Option<String> {
        let store = self.store_failing.as_ref().map(|reason| {
            format!("the store cannot be written ({reason}): nothing new starts, and it is tried again until it can")
        });
        store.or_else(|| self.clock_problem())
    }

    fn status(&self, upcoming: usize) -> EngineStatus {
        let soonest = self.due.iter().take(upcoming);
        EngineStatus {
            dispatch: self.dispatch.clone(),
            draining: self.draining.is_some(),
            store_failing: self.store_failing.is_some(),
            problem: self.problem(),
            running: self.places,
            queued: self.runs.values().filter(|run| run.phase == Phase::Queued).count(),
            upcoming: soonest.map(|(at, name)| Upcoming { schedule: name.clone(), nominal_at: *at }).collect(),
            upcoming_total: self.due.len(),
        }
    }
}
