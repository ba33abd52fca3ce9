//! The engine: a synchronous state machine, `step(now, input) -> effects`, and the drivers that perform effects.
//!
//! The machine's memory runs ahead of the store by the writes it has asked for. Writes commit in the order they
//! were asked for, and nothing is started, answered or announced before its write is durable. Must not know:
//! SQL, HTTP, TOML, concrete jobs.

mod alarm;
mod backfill;
mod chain;
mod claim;
mod clock;
mod command;
mod end;
mod fires;
mod notify;
mod outbox;
mod plan;
mod queue;
mod settle;
mod start;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use backfill::{BackfillRequest, MOST_FIRES, RangeFires};
pub use command::{Command, EngineStatus, Refusal, Reply, TriggerRequest};
pub use start::StartOptions;
pub(crate) use start::new_ones;

use crate::channel::DeliveryError;
use crate::clock::Now;
use crate::context::RunInfo;
use crate::event::{AlertKind, Event, ScheduleChange};
use crate::id::{ChannelName, Fence, IdSource, NodeId, RunId, ScheduleName};
use crate::notice::{ChannelPolicy, OutboxRow};
use crate::placement::Placement;
use crate::query::Hold;
use crate::run::{Artifact, Outcome, RangeRecord, RunRecord};
use crate::store::{Intent, Receipt, ScheduleRow, Write};
use crate::trigger::Trigger;
use outbox::Outbox;
use queue::{Class, Turn};
use settle::StopCause;

/// No fires are planned while so many writes, beside those of claims, are not durable yet.
const MOST_UNWRITTEN: usize = 4096;

/// What the engine needs to know of its place.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// This process.
    pub node: NodeId,
    /// At most so many runs at once.
    pub max_concurrent_runs: usize,
    /// At most so many runs at once in each concurrency group.
    pub groups: BTreeMap<String, usize>,
    /// When each channel tells of what.
    pub channels: BTreeMap<ChannelName, ChannelPolicy>,
    /// Makes ids and jitter.
    pub seed: u64,
}

/// Matches an effect with what it led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// Matches a command with its answer; chosen by whoever gives the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyTo(pub u64);

/// What happens to the machine.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "inputs are consumed at once")]
pub enum Input {
    /// Time passed.
    Wake,
    /// A write is durable.
    Written(Token, Receipt),
    /// An attempt ended.
    Ended {
        /// The run.
        run_id: RunId,
        /// The attempt's fence.
        fence: Fence,
        /// How.
        outcome: Outcome,
        /// The files it wrote.
        artifacts: Vec<Artifact>,
    },
    /// A channel has taken a message, or not.
    Delivered(ChannelName, Result<(), DeliveryError>),
    /// Someone asks for something.
    Command(ReplyTo, Command),
    /// The store began to fail, for this reason, or (none) works again.
    StoreFailing(Option<String>),
    /// Shut down: claim nothing more, and be [`Effect::Drained`] within this time.
    Drain(Duration),
}

/// How firmly an attempt is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmness {
    /// Its context says so.
    Ask,
    /// Its task is dropped at the next await.
    Drop,
}

/// One attempt for a runner to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Its facts.
    pub info: RunInfo,
    /// Its parameters.
    pub params: Value,
    /// Where it goes.
    pub runner: Placement,
}

/// What the machine asks of its driver, in order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Make this durable, after all earlier writes; then say [`Input::Written`] if a token is given.
    Write(Option<Token>, Box<Write>),
    /// Make this attempt; then say [`Input::Ended`].
    Start(Assignment),
    /// Tell an attempt to stop.
    Stop(RunId, Firmness),
    /// Send these through a channel as one message; then say [`Input::Delivered`].
    Deliver(ChannelName, Vec<OutboxRow>),
    /// Answer a command.
    Reply(ReplyTo, Result<Reply, Refusal>),
    /// Everything has ended, or the grace is over.
    Drained,
}

#[derive(Debug)]
enum Pending {
    Claim(RunId),
    Key(ReplyTo, TriggerRequest),
    Reply(ReplyTo, Reply),
    Plan(ScheduleName),
    Locate(ScheduleName),
    Ahead,
    Reopen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Claiming,
    Running,
    /// Recorded as ended, but its task still holds a place.
    Abandoned,
}

#[derive(Debug)]
struct OpenRun {
    record: RunRecord,
    phase: Phase,
    started: Duration,
    deadline: Option<Duration>,
    /// When it is too late to start.
    expires: Option<DateTime<Utc>>,
    /// Its place in the order, once its time has come.
    turn: Option<Turn>,
    /// The group whose place it holds.
    group: Option<String>,
    /// When someone is told that it has not started, or has not ended.
    late: Option<DateTime<Utc>>,
    overrun: Option<Duration>,
    stop: Option<(StopCause, Option<Firmness>)>,
}

#[derive(Debug)]
struct Schedule {
    row: ScheduleRow,
    trigger: Arc<dyn Trigger>,
    next: Option<DateTime<Utc>>,
    open: BTreeSet<RunId>,
    /// Runs that hold a place: claiming, running or abandoned.
    busy: usize,
    /// Queued runs that wait for this schedule's running one.
    waiting: BTreeSet<Turn>,
    range: Option<Box<OpenRange>>,
    /// The last round given in each class.
    rounds: [u64; Class::COUNT],
    /// Fires after the cursor that have run already, before the clock went back.
    ahead: BTreeSet<DateTime<Utc>>,
}

impl Schedule {
    /// Whether its next fire is counted from the end of its last run, and there is none while one is open.
    fn follows_runs(&self) -> bool {
        self.row.spec.trigger.is_after_completion()
    }
}

#[derive(Debug)]
struct OpenRange {
    record: RangeRecord,
    announced: bool,
}

/// The engine's state. Pure: it reads no clock and performs nothing.
#[derive(Debug)]
pub struct Machine {
    config: EngineConfig,
    /// The last moment that was seen.
    seen: Now,
    ids: IdSource,
    /// Boxed, for a table keeps room for more than it holds.
    schedules: HashMap<ScheduleName, Box<Schedule>>,
    runs: HashMap<RunId, OpenRun>,
    /// Open runs by the keys of who asked for them.
    keys: HashMap<String, RunId>,
    due: BTreeSet<(DateTime<Utc>, ScheduleName)>,
    later: BTreeSet<(DateTime<Utc>, RunId)>,
    ready: BTreeSet<Turn>,
    rounds: [u64; Class::COUNT],
    /// Backfilled runs that hold a place.
    backfilling: usize,
    expiries: BTreeSet<(DateTime<Utc>, RunId)>,
    deadlines: BTreeSet<(Duration, RunId)>,
    late: BTreeSet<(DateTime<Utc>, RunId)>,
    overruns: BTreeSet<(Duration, RunId)>,
    /// Who comes after whom.
    followers: HashMap<ScheduleName, BTreeSet<ScheduleName>>,
    places: usize,
    groups: HashMap<String, Group>,
    dispatch: Option<Hold>,
    draining: Option<Drain>,
    drained: bool,
    store_failing: Option<String>,
    /// Until when a long step back of the clock is shown.
    stepped_back: Option<Duration>,
    outbox: Outbox,
    pending: HashMap<Token, (Option<Pending>, Vec<OutboxRow>)>,
    next_token: u64,
    effects: Vec<Effect>,
}

/// A shutdown under way.
#[derive(Debug, Clone, Copy)]
struct Drain {
    /// When those that still run are asked to stop.
    ask: Duration,
    /// When the process ends.
    end: Duration,
}

#[derive(Debug, Default)]
struct Group {
    limit: usize,
    busy: usize,
    waiting: BTreeSet<Turn>,
}

impl Machine {
    /// Takes one input at one moment and gives what is to be done, in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.watch_clock(now);
        match input {
            Input::Wake => {}
            Input::Written(token, receipt) => self.written(now, token, &receipt),
            Input::Ended { run_id, fence, outcome, artifacts } => self.ended(now, run_id, fence, outcome, artifacts),
            Input::Delivered(channel, result) => self.delivered(now, &channel, result),
            Input::Command(to, command) => self.command(now, to, command),
            Input::StoreFailing(reason) => self.store_failing = reason,
            Input::Drain(grace) => self.drain(now, grace),
        }
        self.fire_due(now);
        self.stop_overdue(now);
        self.expire_waiting(now);
        self.claim_ready(now);
        self.sound_alarms(now);
        self.deliver(now);
        if self.draining.is_some() && self.places == 0 && self.pending.is_empty() && !self.outbox.is_sending() {
            self.finish_drain();
        }
        std::mem::take(&mut self.effects)
    }

    /// How long until [`Input::Wake`] is needed; none when nothing waits for time.
    #[must_use]
    pub fn wake_after(&self, now: Now) -> Option<Duration> {
        let until = |at: DateTime<Utc>| (at - now.utc).to_std().unwrap_or(Duration::ZERO);
        let can_claim = self.can_claim();
        let due = self.due.first().filter(|_| self.can_plan()).map(|(at, _)| until(*at));
        let ready = self.later.first().filter(|_| can_claim).map(|(at, _)| until(*at));
        let expiry = self.expiries.first().map(|(at, _)| until(*at));
        let deadline = self.deadlines.first().map(|(at, _)| at.saturating_sub(now.mono));
        let late = self.late.first().map(|(at, _)| until(*at));
        let overrun = self.overruns.first().map(|(at, _)| at.saturating_sub(now.mono));
        let delivery = self.outbox.first_due().filter(|_| self.can_deliver()).map(until);
        [due, ready, expiry, deadline, late, overrun, delivery].into_iter().flatten().min()
    }

    /// The store is slow: what comes due waits for it here, where it costs nothing. It is planned as soon as writes are
    /// durable, and then is as late as it is.
    fn is_behind(&self) -> bool {
        self.pending.len() >= self.places + MOST_UNWRITTEN
    }

    fn write(&mut self, now: Now, intent: Intent, events: Vec<Event>) {
        let told = self.deliveries(now, &events);
        self.write_rows(now, intent, events, told, None);
    }

    fn write_then(&mut self, now: Now, intent: Intent, events: Vec<Event>, pending: Pending) {
        let told = self.deliveries(now, &events);
        self.write_rows(now, intent, events, told, Some(pending));
    }

    /// Writes what is to be told with what it tells of; it goes out once both are durable.
    fn write_rows(
        &mut self,
        now: Now,
        intent: Intent,
        events: Vec<Event>,
        outbox: Vec<OutboxRow>,
        pending: Option<Pending>,
    ) {
        let token = (pending.is_some() || !outbox.is_empty()).then(|| {
            self.next_token += 1;
            let token = Token(self.next_token);
            self.pending.insert(token, (pending, outbox.clone()));
            token
        });
        self.effects.push(Effect::Write(token, Box::new(Write { at: now.utc, intent, events, outbox })));
    }

    fn written(&mut self, now: Now, token: Token, receipt: &Receipt) {
        let Some((pending, outbox)) = self.pending.remove(&token) else { return };
        if receipt.is_kept() {
            self.post(outbox)
        } else {
            self.withdraw(outbox)
        }
        match pending {
            Some(Pending::Claim(run_id)) => self.claimed(now, run_id, receipt),
            Some(Pending::Key(to, request)) => self.looked_up(now, to, request, receipt),
            Some(Pending::Reply(to, reply)) => {
                let answer = match receipt {
                    Receipt::Conflict => {
                        if let Reply::Run(made) = reply {
                            self.forget(made);
                        } else if let Reply::Runs(made) = reply {
                            made.into_iter().for_each(|run_id| self.forget(run_id));
                        }
                        Err(Refusal::Conflict)
                    }
                    Receipt::Existing(run_id) => {
                        if let Reply::Run(made) = reply {
                            self.forget(made);
                        }
                        Ok(Reply::Run(*run_id))
                    }
                    Receipt::Pruned(pruned) => Ok(Reply::Pruned(pruned.clone())),
                    Receipt::Applied | Receipt::Claimed(_) | Receipt::Ahead(_) | Receipt::Stands { .. } => Ok(reply),
                };
                self.effects.push(Effect::Reply(to, answer));
            }
            Some(Pending::Plan(name)) if *receipt == Receipt::Conflict => self.quarantine(now, &name),
            Some(Pending::Locate(name)) => {
                if let Receipt::Stands { cursor, ahead } = receipt {
                    self.stand(&name, *cursor, ahead.clone());
                }
            }
            Some(Pending::Ahead) => {
                if let Receipt::Ahead(ahead) = receipt {
                    self.reopen(now, ahead);
                }
            }
            // A backfill changed a range meanwhile: look again.
            Some(Pending::Reopen) if *receipt == Receipt::Conflict => {
                self.write_then(now, Intent::LookAhead { after: now.utc }, Vec::new(), Pending::Ahead);
            }
            Some(Pending::Plan(_) | Pending::Reopen) | None => {}
        }
    }

    /// Someone else changed what only this engine may change: pause that schedule and say so.
    fn quarantine(&mut self, now: Now, name: &ScheduleName) {
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        if schedule.row.paused.is_none() && !schedule.row.retired {
            let reason =
                "its stored cursor or a fire was changed by someone else; compare with `sched audit`, then resume it";
            let message = format!("schedule {name} is held: {reason}");
            let hold = Hold { by: "engine".into(), at: now.utc, reason: reason.into() };
            schedule.row.paused = Some(hold.clone());
            let version = schedule.row.version;
            let changed = Event::ScheduleChanged {
                schedule: name.clone(),
                change: ScheduleChange::Paused,
                version,
                by: hold.by.clone(),
                reason: Some(hold.reason.clone()),
            };
            let alert = Event::Alert { kind: AlertKind::Held, schedule: Some(name.clone()), run_id: None, message };
            let pause = Intent::Pause { schedule: name.clone(), hold: Some(hold) };
            self.write(now, pause, vec![changed, alert]);
        }
        self.reindex(name);
        self.write_then(now, Intent::Locate { schedule: name.clone() }, Vec::new(), Pending::Locate(name.clone()));
    }

    /// What is stored is where a schedule goes on once it is resumed.
    fn stand(&mut self, name: &ScheduleName, cursor: DateTime<Utc>, ahead: BTreeSet<DateTime<Utc>>) {
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        (schedule.row.cursor, schedule.ahead, schedule.range) = (cursor, ahead, None);
        self.reindex(name);
    }

    /// The end of a run moves the cursor of a schedule that counts from there; gives the cursor for the store.
    fn counted_from(&mut self, name: &ScheduleName, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let schedule = self.schedules.get_mut(name).filter(|schedule| schedule.follows_runs())?;
        schedule.row.cursor = schedule.row.cursor.max(end);
        Some(schedule.row.cursor)
    }

    /// Puts a schedule at its place in the order of due fires.
    fn reindex(&mut self, name: &ScheduleName) {
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        if let Some(next) = schedule.next.take() {
            self.due.remove(&(next, name.clone()));
        }
        let busy = schedule.follows_runs() && !schedule.open.is_empty();
        let held = schedule.row.paused.is_some() || schedule.row.retired || self.dispatch.is_some() || busy;
        if held {
            return;
        }
        let mut next = schedule.trigger.next_after(schedule.row.cursor);
        while let Some(at) = next.filter(|at| schedule.ahead.contains(at)) {
            next = schedule.trigger.next_after(at);
        }
        schedule.next = next;
        self.due.extend(next.map(|at| (at, name.clone())));
    }
}
