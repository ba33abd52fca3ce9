//! Plays a scenario: the production machine and a real store, with clock, jobs, crashes and commands from the
//! scenario. What can be judged at once is judged here, from what the world itself has seen; the rest is `model`'s.

mod acts;
mod jobs;
mod mail;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::engine::{
    Assignment, BackfillRequest, Command, Effect, EngineConfig, Firmness, Input, Machine, RangeFires, Reply, ReplyTo,
    Token,
};
use sched_core::store::{Intent, Receipt, Write};
use sched_core::testing::Random;
use sched_core::{
    AlertKind, Event, Fence, HistoryFilter, HistoryRow, JobError, NodeId, Now, Origin, Outcome, Output, Overlap,
    Refusal, RunId, RunRecord, RunState, ScheduleSpec, StartOptions, Store, TriggerKind, TriggerRequest,
};

use crate::bugs::Bug;
use crate::scenario::{Action, HOUR, Plain, Scenario};

pub(crate) const PLACES: usize = 3;
const PAIR: usize = 2;
/// At most so many backfills at once: a quarter of the places.
const BACKFILLS: usize = 1;
const BEGIN: &str = "2026-03-01T00:00:30.5Z";

pub(crate) type Fault = String;

struct Job {
    run_id: RunId,
    fence: Fence,
    schedule: String,
    origin: Origin,
    ends: Option<Duration>,
    outcome: Outcome,
    /// It ignores being told to stop.
    deaf: bool,
    /// Its process is gone; its end may still be heard of.
    ghost: bool,
}

/// A run by what was committed of it.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) schedule: String,
    pub(crate) origin: Origin,
    pub(crate) not_before: DateTime<Utc>,
    pub(crate) state: RunState,
    pub(crate) fence: Fence,
    /// The attempts that were started, with what they were to come to.
    pub(crate) starts: Vec<(u32, DateTime<Utc>, Outcome)>,
    pub(crate) used: u32,
    pub(crate) ready_after: Option<DateTime<Utc>>,
    /// When its last job was really gone.
    pub(crate) gone: Option<DateTime<Utc>>,
}

enum Asked {
    Run,
    Backfill,
    Pause(String, bool),
    Other,
}

/// What was decided of the fires in (`from`, `until`], and never written.
pub(crate) struct Undone {
    pub(crate) schedule: String,
    pub(crate) decided: DateTime<Utc>,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

/// What the world knows when all is over.
pub(crate) struct Seen<S> {
    pub(crate) store: S,
    pub(crate) scenario: Scenario,
    pub(crate) mirror: BTreeMap<RunId, Mirror>,
    /// When the engine could plan, by the wall clock: from, until.
    pub(crate) able: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// Decisions that were lost with their process.
    pub(crate) undone: Vec<Undone>,
    /// When a process ended.
    pub(crate) deaths: BTreeSet<DateTime<Utc>>,
    pub(crate) cancelled: BTreeSet<RunId>,
    /// Whether a process ended that had not drained, or had not written all.
    pub(crate) crashed: bool,
    pub(crate) trace: String,
    pub(crate) starts: usize,
}

pub(crate) struct World<S> {
    scenario: Scenario,
    bug: Option<Bug>,
    random: Random,
    now: Now,
    store: Option<S>,
    reopen: fn(S) -> S,
    machine: Option<Machine>,
    wanted: Vec<Option<Plain>>,
    queue: Vec<(Option<Token>, Write)>,
    failing: Option<Duration>,
    told: bool,
    draining: bool,
    drained: bool,
    jobs: Vec<Job>,
    mail: mail::Mail,
    crash: Option<(u64, u64)>,
    down: u64,
    restart: Option<Duration>,
    asked: HashMap<u64, Asked>,
    replies: u64,
    lives: u64,
    calm: bool,
    last_fence: Fence,
    ended: HashMap<(RunId, Fence), bool>,
    cursors: HashMap<String, DateTime<Utc>>,
    /// Fires that have a run.
    fired: HashSet<(String, DateTime<Utc>)>,
    /// The periods of the schedules that are in force.
    periods: HashMap<String, i64>,
    paused: HashSet<String>,
    stopped: bool,
    able_since: Option<DateTime<Utc>>,
    seen: Seen<()>,
    fault: Option<Fault>,
}

impl<S: Store> World<S> {
    pub(crate) fn new(scenario: Scenario, bug: Option<Bug>, store: S, reopen: fn(S) -> S) -> Self {
        let wanted = scenario.schedules.iter().cloned().map(Some).collect();
        Self {
            random: Random(scenario.seed | 1),
            bug,
            now: Now { utc: BEGIN.parse().unwrap(), mono: Duration::from_secs(1) },
            store: Some(store),
            reopen,
            machine: None,
            wanted,
            queue: Vec::new(),
            failing: None,
            told: false,
            draining: false,
            drained: false,
            jobs: Vec::new(),
            mail: mail::Mail::default(),
            crash: None,
            down: 0,
            restart: None,
            asked: HashMap::new(),
            replies: 0,
            lives: 0,
            calm: false,
            last_fence: Fence(0),
            ended: HashMap::new(),
            cursors: HashMap::new(),
            periods: HashMap::new(),
            fired: HashSet::new(),
            paused: HashSet::new(),
            stopped: false,
            able_since: None,
            seen: Seen {
                store: (),
                scenario: scenario.clone(),
                mirror: BTreeMap::new(),
                able: Vec::new(),
                undone: Vec::new(),
                deaths: BTreeSet::new(),
                cancelled: BTreeSet::new(),
                crashed: false,
                trace: String::new(),
                starts: 0,
            },
            scenario,
            fault: None,
        }
    }

    /// Plays it to the end, then lets everything calm down. A fault comes with what had happened before.
    pub(crate) fn play(mut self) -> Result<Seen<S>, (Fault, String)> {
        let played = self.play_through();
        match played.err().or(self.fault.take()) {
            Some(fault) => Err((fault, self.seen.trace)),
            None => Ok(Seen {
                store: self.store.take().unwrap(),
                scenario: self.seen.scenario,
                mirror: self.seen.mirror,
                able: self.seen.able,
                undone: self.seen.undone,
                deaths: self.seen.deaths,
                cancelled: self.seen.cancelled,
                crashed: self.seen.crashed,
                trace: self.seen.trace,
                starts: self.seen.starts,
            }),
        }
    }

    fn play_through(&mut self) -> Result<(), Fault> {
        let begin = self.now.mono;
        let actions = self.scenario.actions.clone();
        self.boot();
        for (at, action) in actions {
            let at = begin + Duration::from_millis(at);
            self.pass_until(at.max(self.now.mono))?;
            self.act(action);
            self.wake();
        }
        self.pass_until(begin + Duration::from_secs(self.scenario.hours * HOUR))?;
        self.calm_down(begin)?;
        self.able(false);
        self.all_told();
        Ok(())
    }

    fn calm_down(&mut self, begin: Duration) -> Result<(), Fault> {
        (self.crash, self.calm) = (None, true);
        let hurry = self.now.mono + Duration::from_secs(3 * HOUR);
        self.pass_until(hurry)?;
        for job in &mut self.jobs {
            job.ends = job.ends.or(Some(self.now.mono));
        }
        let names: Vec<String> = self.scenario.schedules.iter().map(|plain| plain.name.clone()).collect();
        self.command(Asked::Other, Command::Dispatch { run: true, by: "world".into() });
        for name in names.iter().filter(|name| self.paused.contains(*name)).cloned().collect::<Vec<_>>() {
            let schedule = name.parse().unwrap();
            self.command(Asked::Pause(name, false), Command::Resume { schedule, by: "world".into() });
        }
        let long = begin + Duration::from_secs((self.scenario.hours + 3) * HOUR);
        self.pass_until(self.now.mono.max(long) + Duration::from_secs(3 * HOUR))
    }

    fn fail(&mut self, text: impl Into<String>) {
        if self.fault.is_none() {
            self.fault = Some(format!("at {}: {}", self.now.utc, text.into()));
        }
    }

    fn pass_until(&mut self, end: Duration) -> Result<(), Fault> {
        for _ in 0..200_000 {
            self.quiet();
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            let mono = self.now.mono;
            let machine = self.machine.as_ref().and_then(|machine| machine.wake_after(self.now));
            let machine = machine.map(|wait| match self.bug {
                Some(Bug::Oversleeps) if wait > Duration::from_secs(60) => wait + Duration::from_secs(120),
                _ => wait,
            });
            let wake = machine.map(|wait| mono + wait.max(Duration::from_micros(1)));
            let job = self.jobs.iter().filter_map(|job| job.ends).min();
            let next = [wake, job, self.next_mail(), self.failing, self.restart].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.advance(end.max(mono));
                return Ok(());
            };
            self.advance(next.max(mono));
            if self.failing.is_some_and(|until| until <= self.now.mono) {
                self.failing = None;
                self.commit();
            }
            self.end_jobs();
            self.end_mail();
            if self.restart.is_some_and(|at| at <= self.now.mono) {
                self.restart = None;
                self.boot();
            }
            self.wake();
        }
        Err("it never comes to rest".into())
    }

    fn advance(&mut self, mono: Duration) {
        let by = mono - self.now.mono;
        self.now = Now { utc: self.now.utc + TimeDelta::from_std(by).unwrap(), mono };
    }

    /// Notes from when to when the engine can plan.
    fn able(&mut self, able: bool) {
        match (self.able_since, able) {
            (None, true) => self.able_since = Some(self.now.utc),
            (Some(since), false) => {
                self.seen.able.push((since, self.now.utc));
                self.able_since = None;
            }
            _ => {}
        }
    }

    fn specs(&self) -> Vec<ScheduleSpec> {
        let mut specs: Vec<_> = self.wanted.iter().flatten().map(Plain::spec).collect();
        if let Some(bug) = self.bug {
            bug.spoil_specs(&mut specs);
        }
        specs
    }

    fn boot(&mut self) {
        self.lives += 1;
        let config = EngineConfig {
            node: NodeId::from_uuid(uuid::Uuid::from_u128(self.lives.into())),
            max_concurrent_runs: PLACES,
            groups: BTreeMap::from([("pair".to_owned(), PAIR)]),
            channels: self.channels(),
            seed: self.scenario.seed ^ (self.lives << 40),
        };
        (self.told, self.draining, self.drained) = (false, false, false);
        let store = (self.reopen)(self.store.take().unwrap());
        let snapshot = self.store.insert(store).load().unwrap();
        let specs = self.specs();
        match Machine::start(config, self.now, snapshot, &specs, StartOptions::default()) {
            Ok((machine, effects)) => {
                self.machine = Some(machine);
                self.able(true);
                self.perform(effects);
                self.commit();
                self.wake();
            }
            Err(error) => self.fail(format!("the engine does not start: {error}")),
        }
    }

    fn step(&mut self, input: Input) {
        let Some(machine) = self.machine.as_mut() else { return };
        let effects = machine.step(self.now, input);
        let effects = match self.bug {
            Some(bug) => bug.spoil(effects),
            None => effects,
        };
        self.perform(effects);
        self.commit();
    }

    fn wake(&mut self) {
        self.step(Input::Wake);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            if let Some((left, down)) = self.crash {
                if left == 0 {
                    let lost = std::iter::once(effect).chain(effects);
                    let lost: Vec<Write> = lost
                        .filter_map(|effect| match effect {
                            Effect::Write(_, write) => Some(*write),
                            _ => None,
                        })
                        .collect();
                    return self.die(lost, down);
                }
                self.crash = Some((left - 1, down));
            }
            match effect {
                Effect::Write(token, write) => {
                    self.told_of(&write);
                    self.queue.push((token, *write));
                }
                Effect::Start(assignment) => self.start(assignment),
                Effect::Stop(run_id, firmness) => self.stop(run_id, firmness),
                Effect::Deliver(channel, rows) => self.deliver(channel, rows),
                Effect::Reply(to, answer) => self.answered(to, &answer),
                Effect::Drained => self.drained = true,
            }
        }
        if self.drained {
            self.commit();
            let lost = std::mem::take(&mut self.queue).into_iter().map(|(_, write)| write).collect();
            self.end_life(lost, self.down);
        }
    }

    /// The process dies: a part of what waits to be written may have been.
    fn die(&mut self, lost: Vec<Write>, down: u64) {
        self.seen.trace.push_str("died\n");
        self.crash = None;
        let written = self.random.below(self.queue.len() as u64 + 1) as usize;
        let mut waiting = std::mem::take(&mut self.queue);
        let rest = waiting.split_off(if self.failing.is_some() { 0 } else { written });
        let batch: Vec<Write> = waiting.into_iter().map(|(_, write)| write).collect();
        self.store_batch(&batch);
        self.end_life(rest.into_iter().map(|(_, write)| write).chain(lost).collect(), down);
    }

    fn end_life(&mut self, lost: Vec<Write>, down: u64) {
        self.seen.crashed |= !self.drained || !lost.is_empty();
        for write in lost {
            if let Intent::Plan { schedule, expected, cursor, .. } = write.intent {
                let (schedule, decided) = (schedule.to_string(), write.at);
                self.seen.undone.push(Undone { schedule, decided, from: expected, until: cursor });
            }
        }
        self.machine = None;
        self.cut_off();
        self.able(false);
        self.asked.clear();
        self.queue.clear();
        self.seen.deaths.insert(self.now.utc);
        // What a dead process had not written has not been.
        for mirror in self.seen.mirror.values_mut().filter(|mirror| mirror.state == RunState::Running) {
            mirror.ready_after = None;
        }
        for job in self.jobs.iter_mut().filter(|job| !job.ghost) {
            job.ghost = true;
            if let Some(mirror) = self.seen.mirror.get_mut(&job.run_id) {
                mirror.gone = Some(self.now.utc);
            }
        }
        self.restart = Some(self.now.mono + Duration::from_millis(down));
        // A store that fails while nobody writes harms nobody.
        self.failing = None;
    }

    fn store_batch(&mut self, batch: &[Write]) -> Vec<Receipt> {
        if batch.is_empty() {
            return Vec::new();
        }
        let committed = self.store.as_mut().unwrap().commit(batch).unwrap();
        for (write, receipt) in batch.iter().zip(&committed.receipts) {
            if !matches!(receipt, Receipt::Conflict | Receipt::Existing(_)) {
                self.note(&write.intent, receipt);
                self.posted(write);
            }
        }
        for recorded in committed.events {
            use std::fmt::Write as _;
            let _ = writeln!(self.seen.trace, "{} {:?}", recorded.ts, recorded.event);
            if let Event::Alert { kind: AlertKind::Held, message, .. } = recorded.event {
                self.fail(message);
            }
        }
        committed.receipts
    }

    /// Commits what waits as one batch, and hands the receipts back.
    fn commit(&mut self) {
        while !self.queue.is_empty() {
            if self.failing.is_some() {
                if !self.told {
                    self.told = true;
                    self.able(false);
                    self.step_failing(Some("no space left".into()));
                }
                return;
            }
            let (tokens, batch): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue).into_iter().unzip();
            let receipts = self.store_batch(&batch);
            for (token, receipt) in tokens.into_iter().zip(receipts) {
                if let (Some(token), Some(machine)) = (token, self.machine.as_mut()) {
                    let effects = machine.step(self.now, Input::Written(token, receipt));
                    let effects = match self.bug {
                        Some(bug) => bug.spoil(effects),
                        None => effects,
                    };
                    self.perform(effects);
                }
            }
        }
        if self.told && self.failing.is_none() && self.machine.is_some() {
            self.told = false;
            self.able(true);
            self.step_failing(None);
            self.commit();
        }
    }

    fn step_failing(&mut self, reason: Option<String>) {
        if let Some(machine) = self.machine.as_mut() {
            let effects = machine.step(self.now, Input::StoreFailing(reason));
            self.perform(effects);
        }
    }
}
