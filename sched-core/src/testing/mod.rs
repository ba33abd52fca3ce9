//! A virtual clock and a bench on which the production state machine is stepped by hand.
//!
//! ```
//! use std::time::Duration;
//! use sched_core::testing::Bench;
//! use sched_core::{MemoryStore, ScheduleSpec, TriggerSpec};
//!
//! let spec = ScheduleSpec::new("hourly", "any", TriggerSpec::every(Duration::from_secs(3600)))?;
//! let mut bench = Bench::start(MemoryStore::new(), "2026-01-01T00:30:00Z".parse()?, &[spec]);
//! bench.advance(Duration::from_secs(7200));
//! assert_eq!(bench.started(), ["hourly 2026-01-01T01:00:00Z", "hourly 2026-01-01T02:00:00Z"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod oblivious;
mod random;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::channel::DeliveryError;
use crate::clock::{Clock, Now};
use crate::engine::{
    Assignment, Command, Effect, EngineConfig, Firmness, Input, Machine, Refusal, Reply, ReplyTo, StartOptions,
};
use crate::event::{Event, Recorded};
use crate::id::{ChannelName, Fence, NodeId, RunId};
use crate::job::Output;
use crate::notice::{ChannelPolicy, Content, OutboxRow};
use crate::query::HistoryFilter;
use crate::run::{HistoryRow, Outcome};
use crate::spec::ScheduleSpec;
use crate::store::{Query, Store};

pub use oblivious::Oblivious;
pub use random::Random;

/// A clock that moves only when told.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    now: Arc<Mutex<Now>>,
}

impl VirtualClock {
    /// A clock that stands at `utc`.
    #[must_use]
    pub fn at(utc: DateTime<Utc>) -> Self {
        Self { now: Arc::new(Mutex::new(Now { utc, mono: Duration::ZERO })) }
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// When the clock would leave the range of [`DateTime`].
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.mono += by;
        now.utc += TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    }

    /// Sets the wall clock, as an operator or a time server does.
    pub fn set(&self, utc: DateTime<Utc>) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).utc = utc;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the bench's channels behave.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// They take each message.
    #[default]
    Take,
    /// They refuse each message.
    Refuse(DeliveryError),
    /// They never answer.
    Hang,
}

/// How the bench's jobs behave.
type Play = Box<dyn FnMut(&Assignment) -> Option<(Duration, Outcome)> + Send>;

struct Playing {
    ends: Duration,
    run_id: RunId,
    fence: Fence,
    outcome: Outcome,
}

/// The production machine with a store, a virtual clock and jobs that take no real time.
pub struct Bench<S> {
    clock: VirtualClock,
    machine: Machine,
    store: S,
    play: Play,
    playing: Vec<Playing>,
    hanging: Vec<(RunId, Fence)>,
    started: Vec<String>,
    events: Vec<Recorded>,
    answers: Vec<Result<Reply, Refusal>>,
    sent: Vec<Vec<OutboxRow>>,
    answer: Answer,
    drained: bool,
}

impl<S: std::fmt::Debug> std::fmt::Debug for Bench<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<S: Store> Bench<S> {
    /// Starts an engine on `store` at `utc`; every job succeeds at once.
    ///
    /// # Panics
    /// When a specification or the store cannot work.
    pub fn start(store: S, utc: DateTime<Utc>, specs: &[ScheduleSpec]) -> Self {
        Self::start_with(store, utc, specs, |_| Some((Duration::ZERO, Outcome::Succeeded(Output::default()))))
    }

    /// Starts an engine whose jobs do as `play` says: end after a time with an outcome, or (none) never.
    ///
    /// # Panics
    /// When a specification or the store cannot work.
    pub fn start_with(
        store: S,
        utc: DateTime<Utc>,
        specs: &[ScheduleSpec],
        play: impl FnMut(&Assignment) -> Option<(Duration, Outcome)> + Send + 'static,
    ) -> Self {
        Self::start_telling(store, utc, specs, BTreeMap::new(), play)
    }

    /// As [`Bench::start_with`], with channels.
    ///
    /// # Panics
    /// When a specification or the store cannot work.
    pub fn start_telling(
        mut store: S,
        utc: DateTime<Utc>,
        specs: &[ScheduleSpec],
        channels: BTreeMap<ChannelName, ChannelPolicy>,
        play: impl FnMut(&Assignment) -> Option<(Duration, Outcome)> + Send + 'static,
    ) -> Self {
        let clock = VirtualClock::at(utc);
        let config = EngineConfig {
            node: NodeId::from_uuid(uuid::Uuid::from_u128(1)),
            max_concurrent_runs: 64,
            groups: BTreeMap::from([("pair".to_owned(), 2)]),
            channels,
            seed: utc.timestamp_micros().unsigned_abs(),
        };
        let snapshot = store.load().unwrap_or_else(|error| panic!("the store cannot be loaded: {error}"));
        let (machine, effects) = Machine::start(config, clock.now(), snapshot, specs, StartOptions::default())
            .unwrap_or_else(|error| panic!("the engine cannot start: {error}"));
        let mut bench = Self {
            clock,
            machine,
            store,
            play: Box::new(play),
            playing: Vec::new(),
            hanging: Vec::new(),
            started: Vec::new(),
            events: Vec::new(),
            answers: Vec::new(),
            sent: Vec::new(),
            answer: Answer::Take,
            drained: false,
        };
        bench.perform(effects);
        bench.step(Input::Wake);
        bench
    }

    /// Lets time pass, waking the engine at each moment it asks for.
    pub fn advance(&mut self, by: Duration) {
        let end = self.clock.now().mono + by;
        while !self.drained {
            let now = self.clock.now();
            let job = self.playing.iter().map(|playing| playing.ends.saturating_sub(now.mono)).min();
            let engine = self.machine.wake_after(now);
            let Some(wait) = job.into_iter().chain(engine).min().filter(|wait| now.mono + *wait <= end) else { break };
            // A moment that is past already still has to pass.
            self.clock.advance(wait);
            if !self.end_jobs() {
                self.step(Input::Wake);
            }
            if wait.is_zero() && job.is_none_or(|job| !job.is_zero()) {
                self.clock.advance(Duration::from_micros(1));
            }
        }
        let now = self.clock.now();
        self.clock.advance(end.saturating_sub(now.mono));
        self.step(Input::Wake);
    }

    /// Sets the wall clock and wakes the engine.
    pub fn set_clock(&mut self, utc: DateTime<Utc>) {
        self.clock.set(utc);
        self.step(Input::Wake);
    }

    /// Gives a command and returns its answer.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.answers.clear();
        self.step(Input::Command(ReplyTo(0), command));
        self.answers.pop().unwrap_or_else(|| panic!("the engine gave no answer"))
    }

    /// How the engine says it is.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub fn status(&mut self) -> crate::EngineStatus {
        match self.command(Command::Status { upcoming: 10 }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("the engine gave no status: {other:?}"),
        }
    }

    /// Shuts down within `grace` of virtual time, and gives the store back.
    pub fn shutdown(mut self, grace: Duration) -> S {
        self.step(Input::Drain(grace));
        self.advance(grace + Duration::from_secs(1));
        self.store
    }

    /// Dies here: what is durable stays, nothing else.
    pub fn crash(self) -> S {
        self.store
    }

    /// Says how channels answer from now on.
    pub fn channels_answer(&mut self, answer: Answer) {
        self.answer = answer;
    }

    /// The messages handed to channels since the last time, each as its channel and what it tells.
    pub fn take_sent(&mut self) -> Vec<String> {
        let text = |row: OutboxRow| match row.content {
            Content::Notice(notice) => format!("{} {}", notice.kind, notice.message),
            Content::Letter(letter) => letter.subject,
        };
        let message = |rows: Vec<OutboxRow>| {
            let channel = rows.first().map(|row| row.channel.to_string()).unwrap_or_default();
            let told: Vec<String> = rows.into_iter().map(text).collect();
            format!("{channel}: {}", told.join(" | "))
        };
        self.sent.drain(..).map(message).collect()
    }

    /// Each attempt that started: its schedule, then its nominal time or its origin.
    #[must_use]
    pub fn started(&self) -> &[String] {
        &self.started
    }

    /// The committed events so far.
    #[must_use]
    pub fn events(&self) -> Vec<&Event> {
        self.events.iter().map(|recorded| &recorded.event).collect()
    }

    /// The committed events since the last time, which are kept no longer; the list of starts begins anew too.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.started.clear();
        self.events.drain(..).map(|recorded| recorded.event).collect()
    }

    /// Everything in the history, oldest first: schedule, nominal time or origin, state and reason; ranges with
    /// their counts.
    ///
    /// # Panics
    /// When the store cannot be read.
    #[must_use]
    pub fn ledger(&self) -> Vec<String> {
        let rows = self.query().history(&HistoryFilter::newest(10_000));
        let mut rows = rows.unwrap_or_else(|error| panic!("the store cannot be read: {error}"));
        rows.reverse();
        rows.iter().map(line).collect()
    }

    /// A reader of the store.
    #[must_use]
    pub fn query(&self) -> Arc<dyn Query> {
        self.store.reader()
    }

    /// Virtual time now.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now().utc
    }

    fn end_jobs(&mut self) -> bool {
        let now = self.clock.now().mono;
        let (ended, playing) = std::mem::take(&mut self.playing).into_iter().partition(|p| p.ends <= now);
        self.playing = playing;
        let ended: Vec<Playing> = ended;
        let any = !ended.is_empty();
        for Playing { run_id, fence, outcome, .. } in ended {
            self.step(Input::Ended { run_id, fence, outcome, artifacts: Vec::new() });
        }
        any
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(self.clock.now(), input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Write(token, write) => {
                    let committed = self.store.commit(&[*write]);
                    let committed = committed.unwrap_or_else(|error| panic!("the store failed: {error}"));
                    self.events.extend(committed.events);
                    if let (Some(token), Some(receipt)) = (token, committed.receipts.into_iter().next()) {
                        effects.extend(self.machine.step(self.clock.now(), Input::Written(token, receipt)));
                    }
                }
                Effect::Start(assignment) => self.begin(&assignment),
                Effect::Stop(run_id, firmness) => self.stop(run_id, firmness),
                Effect::Deliver(channel, rows) => {
                    self.sent.push(rows);
                    let result = match self.answer.clone() {
                        Answer::Take => Ok(()),
                        Answer::Refuse(error) => Err(error),
                        Answer::Hang => continue,
                    };
                    effects.extend(self.machine.step(self.clock.now(), Input::Delivered(channel, result)));
                }
                Effect::Reply(_, answer) => self.answers.push(answer),
                Effect::Drained => self.drained = true,
            }
        }
    }

    fn begin(&mut self, assignment: &Assignment) {
        let info = &assignment.info;
        let what = info.nominal_at.map_or_else(|| info.origin.to_string(), text);
        self.started.push(format!("{} {what}", info.schedule));
        match (self.play)(assignment) {
            Some((takes, outcome)) => {
                let ends = self.clock.now().mono + takes;
                self.playing.push(Playing { ends, run_id: info.run_id, fence: info.fence, outcome });
            }
            None => self.hanging.push((info.run_id, info.fence)),
        }
    }

    /// A playing job obeys at once; a hanging one ignores everything.
    fn stop(&mut self, run_id: RunId, _: Firmness) {
        let now = self.clock.now().mono;
        if let Some(playing) = self.playing.iter_mut().find(|playing| playing.run_id == run_id) {
            playing.ends = now;
            playing.outcome = Outcome::Stopped(crate::JobError::new("told to stop"));
        }
    }

    /// Lets a hanging job end at last.
    pub fn release_hanging(&mut self) {
        for (run_id, fence) in std::mem::take(&mut self.hanging) {
            let outcome = Outcome::Succeeded(Output::default());
            self.step(Input::Ended { run_id, fence, outcome, artifacts: Vec::new() });
        }
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn line(row: &HistoryRow) -> String {
    match row {
        HistoryRow::Run(run) => {
            let what = run.nominal_at.map_or_else(|| run.origin.to_string(), text);
            let reason = run.reason.map_or(String::new(), |reason| format!(" ({reason})"));
            format!("{} {what} {}{reason}", run.schedule, run.state)
        }
        HistoryRow::Range(range) => {
            let superseded = if range.superseded { " superseded" } else { "" };
            let (from, until) = (text(range.from), text(range.until));
            format!(
                "{} {from}..{until} {}x {} ({}){superseded}",
                range.schedule, range.count, range.state, range.reason
            )
        }
    }
}
