//! Plays a scenario: the production machine and a real store, with clock, jobs, crashes and commands from the
//! scenario. What can be judged at once is judged here, from what the world itself has seen; the rest is `model`'s.

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

/// What the world knows when all is over.
pub(crate) struct Seen<S> {
    pub(crate) store: S,
    pub(crate) scenario: Scenario,
    pub(crate) mirror: BTreeMap<RunId, Mirror>,
    /// When the engine could plan, by the wall clock: from, until.
    pub(crate) able: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// Decisions that were lost with their process: schedule, when decided.
    pub(crate) undone: HashSet<(String, DateTime<Utc>)>,
    /// When a process ended.
    pub(crate) deaths: BTreeSet<DateTime<Utc>>,
    pub(crate) cancelled: BTreeSet<RunId>,
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
    paused: HashSet<String>,
    stopped: bool,
    able_since: Option<DateTime<Utc>>,
    pub(crate) loud: bool,
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
            paused: HashSet::new(),
            stopped: false,
            able_since: None,
            loud: false,
            seen: Seen {
                store: (),
                scenario: scenario.clone(),
                mirror: BTreeMap::new(),
                able: Vec::new(),
                undone: HashSet::new(),
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

    /// Plays it to the end, then lets everything calm down.
    pub(crate) fn play(mut self) -> Result<Seen<S>, Fault> {
        let begin = self.now.mono;
        let mut actions = std::mem::take(&mut self.scenario.actions).into_iter().peekable();
        self.boot();
        while let Some((at, action)) = actions.next() {
            let at = begin + Duration::from_millis(at);
            self.pass_until(at.max(self.now.mono))?;
            self.act(action);
            self.wake();
        }
        self.pass_until(begin + Duration::from_secs(self.scenario.hours * HOUR))?;
        self.calm_down(begin)?;
        self.able(false);
        match self.fault.take() {
            Some(fault) => Err(fault),
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
            let next = [wake, job, self.failing, self.restart].into_iter().flatten().min();
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
                            Effect::Write(_, write) => Some(write),
                            _ => None,
                        })
                        .collect();
                    return self.die(lost, down);
                }
                self.crash = Some((left - 1, down));
            }
            match effect {
                Effect::Write(token, write) => self.queue.push((token, write)),
                Effect::Start(assignment) => self.start(assignment),
                Effect::Stop(run_id, firmness) => self.stop(run_id, firmness),
                Effect::Reply(to, answer) => self.answered(to, answer),
                Effect::Drained => self.drained = true,
            }
        }
        if self.drained {
            self.commit();
            self.end_life(self.down);
        }
    }

    /// The process dies: a part of what waits to be written may have been.
    fn die(&mut self, lost: Vec<Write>, down: u64) {
        self.seen.crashed = true;
        self.seen.trace.push_str("died\n");
        self.crash = None;
        let written = self.random.below(self.queue.len() as u64 + 1) as usize;
        let mut waiting = std::mem::take(&mut self.queue);
        let rest = waiting.split_off(if self.failing.is_some() { 0 } else { written });
        let batch: Vec<Write> = waiting.into_iter().map(|(_, write)| write).collect();
        self.store_batch(&batch);
        for write in rest.into_iter().map(|(_, write)| write).chain(lost) {
            if let Intent::Plan { schedule, .. } = &write.intent {
                self.seen.undone.insert((schedule.to_string(), write.at));
            }
        }
        self.end_life(down);
    }

    fn end_life(&mut self, down: u64) {
        self.machine = None;
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
            }
        }
        for recorded in committed.events {
            use std::fmt::Write as _;
            if self.loud {
                println!("{} {:?}", recorded.ts, recorded.event);
            }
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

    /// Keeps what was committed in the world's own terms.
    fn note(&mut self, intent: &Intent, receipt: &Receipt) {
        match intent {
            Intent::Declare(row) | Intent::Reopen { row, .. } => self.moved(row.name().as_str(), row.cursor),
            Intent::Plan { schedule, cursor, runs, .. } => {
                self.moved(schedule.as_str(), *cursor);
                runs.iter().for_each(|run| self.queued(run));
            }
            Intent::Enqueue(run) => self.queued(run),
            Intent::Recover { runs, .. } => runs.iter().for_each(|run| self.queued(run)),
            Intent::Claim { run_id, .. } => {
                if let (Some(mirror), Receipt::Claimed(fence)) = (self.seen.mirror.get_mut(run_id), receipt) {
                    (mirror.state, mirror.fence) = (RunState::Running, *fence);
                }
            }
            Intent::Finish { run_id, fence, ending, follow } => {
                let really = self.ended.get(&(*run_id, *fence)).copied();
                if ending.state == RunState::Succeeded && really != Some(true) {
                    self.fail(format!("{run_id} succeeded without its job"));
                }
                if let Some(mirror) = self.seen.mirror.get_mut(run_id) {
                    if mirror.state.is_final() {
                        self.fail(format!("{run_id} ended twice"));
                    } else {
                        mirror.state = ending.state;
                    }
                }
                follow.chained.iter().for_each(|run| self.queued(run));
            }
            Intent::Requeue { run_id, attempt, not_before, .. } => {
                if let Some(mirror) = self.seen.mirror.get_mut(run_id) {
                    (mirror.state, mirror.used) = (RunState::Queued, *attempt);
                    mirror.not_before = *not_before;
                }
            }
            Intent::Pause { schedule, hold } => {
                self.paused.remove(schedule.as_str());
                if hold.is_some() {
                    self.paused.insert(schedule.to_string());
                }
            }
            Intent::Dispatch(hold) => self.stopped = hold.is_some(),
            _ => {}
        }
    }

    fn moved(&mut self, name: &str, cursor: DateTime<Utc>) {
        let before = self.cursors.insert(name.to_owned(), cursor);
        if before.is_some_and(|before| cursor < before) {
            self.fail(format!("the cursor of {name} went back to {cursor}"));
        }
    }

    fn queued(&mut self, run: &RunRecord) {
        let mirror = Mirror {
            schedule: run.schedule.to_string(),
            origin: run.origin,
            not_before: run.not_before,
            state: run.state,
            fence: run.fence,
            starts: Vec::new(),
            used: 0,
            ready_after: None,
            gone: None,
        };
        if self.seen.mirror.insert(run.run_id, mirror).is_some() {
            self.fail(format!("{} was made twice", run.run_id));
        }
    }

    fn plain(&self, name: &str) -> Option<&Plain> {
        let now = self.wanted.iter().flatten().find(|plain| plain.name == name);
        now.or_else(|| self.seen.scenario.schedules.iter().find(|plain| plain.name == name))
    }

    /// What a job does is decided by its run and attempt alone.
    fn behaviour(&self, run_id: RunId, attempt: u32) -> (Option<Duration>, Outcome, bool) {
        let salt = (run_id.as_uuid().as_u128() as u64) ^ (u64::from(attempt) << 17) ^ self.scenario.seed;
        let mut random = Random(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let ok = || Outcome::Succeeded(Output::default());
        if self.calm {
            return (Some(Duration::ZERO), ok(), false);
        }
        let takes = random.pick(&[3, 1_137, 20_251, 95_403, 700_003]);
        let outcome = match random.below(10) {
            0 | 1 => Outcome::Failed(JobError::new("no")),
            2 => Outcome::Failed(JobError::permanent("never")),
            3 => Outcome::Panicked("oh".into()),
            _ => ok(),
        };
        let deaf = random.below(25) == 0;
        ((random.below(30) > 0).then(|| Duration::from_millis(takes)), outcome, deaf)
    }

    fn start(&mut self, assignment: Assignment) {
        let info = assignment.info;
        self.seen.starts += 1;
        let name = info.schedule.to_string();
        let (ends, outcome, deaf) = self.behaviour(info.run_id, info.attempt);
        let Some(plain) = self.plain(&name).cloned() else { return self.fail(format!("{name} is unknown and starts")) };
        if info.fence <= self.last_fence {
            self.fail(format!("fence {} after {}", info.fence, self.last_fence));
        }
        self.last_fence = info.fence;
        let alive = self.jobs.iter().filter(|job| !job.ghost);
        let same = alive.clone().filter(|job| job.schedule == name).count();
        let grouped = alive.clone().filter(|job| self.plain(&job.schedule).is_some_and(|plain| plain.grouped)).count();
        let all = alive.count();
        if same > 0 && plain.overlap != Overlap::Allow {
            self.fail(format!("two runs of {name} overlap"));
        }
        if all >= PLACES || (plain.grouped && grouped >= PAIR) {
            self.fail(format!("{name} starts without a place: {all} run, {grouped} of the group"));
        }
        let now = self.now.utc;
        let Some(mirror) = self.seen.mirror.get_mut(&info.run_id) else {
            return self.fail(format!("{name} starts before its run is durable"));
        };
        let durable = mirror.state == RunState::Running && mirror.fence == info.fence;
        let again = mirror.starts.iter().any(|(attempt, ..)| *attempt == info.attempt) && mirror.used >= info.attempt;
        let early = mirror.ready_after.is_some_and(|at| now < at);
        mirror.starts.push((info.attempt, now, outcome.clone()));
        let starts = mirror.starts.len();
        if !durable {
            self.fail(format!("{name} starts before its claim is durable"));
        }
        if again || info.attempt > plain.attempts {
            self.fail(format!("{name}: attempt {} of {} is one too many", info.attempt, plain.attempts));
        }
        if plain.at_most_once && starts > 1 {
            self.fail(format!("{name} started twice, though at most once"));
        }
        if early && !self.scenario.goes_back() {
            self.fail(format!("{name} was tried again before its wait was over"));
        }
        let ends = ends.map(|takes| self.now.mono + takes);
        let (run_id, fence, origin) = (info.run_id, info.fence, info.origin);
        self.jobs.push(Job { run_id, fence, schedule: name, origin, ends, outcome, deaf, ghost: false });
    }

    fn stop(&mut self, run_id: RunId, firmness: Firmness) {
        let now = self.now.mono;
        for job in self.jobs.iter_mut().filter(|job| job.run_id == run_id && !job.ghost) {
            job.outcome = Outcome::Stopped(JobError::new("told to stop"));
            if !job.deaf {
                job.ends = Some(now);
            } else if firmness == Firmness::Drop {
                // It really ends long after it was given up.
                job.ends = Some(now + Duration::from_secs(400));
            }
        }
    }

    fn end_jobs(&mut self) {
        let now = self.now.mono;
        while let Some(index) = self.jobs.iter().position(|job| job.ends.is_some_and(|ends| ends <= now)) {
            let job = self.jobs.swap_remove(index);
            let mut fence = job.fence;
            if !job.ghost {
                if let Some(mirror) = self.seen.mirror.get_mut(&job.run_id) {
                    mirror.gone = Some(self.now.utc);
                }
                let well = matches!(job.outcome, Outcome::Succeeded(_));
                self.ended.insert((job.run_id, job.fence), well);
                if let Some(plain) = self.plain(&job.schedule).cloned()
                    && let Some(mirror) = self.seen.mirror.get_mut(&job.run_id)
                {
                    let fails = matches!(job.outcome, Outcome::Failed(_) | Outcome::Panicked(_));
                    let wait = TimeDelta::seconds(plain.wait as i64);
                    mirror.ready_after = (fails && !self.draining).then(|| self.now.utc + wait);
                }
            } else if self.bug == Some(Bug::NoFence) {
                fence = self.seen.mirror.get(&job.run_id).map_or(fence, |mirror| mirror.fence);
            }
            let (run_id, outcome) = (job.run_id, job.outcome);
            self.step(Input::Ended { run_id, fence, outcome, artifacts: Vec::new() });
        }
    }

    fn command(&mut self, asked: Asked, command: Command) {
        self.replies += 1;
        self.asked.insert(self.replies, asked);
        self.step(Input::Command(ReplyTo(self.replies), command));
    }

    /// What is acknowledged is durable.
    fn answered(&mut self, to: ReplyTo, answer: Result<Reply, Refusal>) {
        let Some(asked) = self.asked.remove(&to.0) else { return self.fail("an answer that nobody asked for") };
        let known = |run_id: &RunId| self.seen.mirror.contains_key(run_id);
        let lost = match (&asked, &answer) {
            (Asked::Run, Ok(Reply::Run(run_id))) => !known(run_id),
            (Asked::Backfill, Ok(Reply::Runs(runs))) => !runs.iter().all(known),
            (Asked::Pause(name, on), Ok(_)) => self.paused.contains(name) != *on,
            (Asked::Run, Err(Refusal::Busy { blocker })) => {
                self.seen.mirror.get(blocker).is_some_and(|mirror| mirror.state.is_final())
            }
            _ => false,
        };
        if lost {
            self.fail(format!("acknowledged, but not so in the store: {answer:?}"));
        }
    }

    fn act(&mut self, action: Action) {
        let name = |of: usize| self.scenario.schedules[of % self.scenario.schedules.len()].name.clone();
        let by = || "world".to_owned();
        match action {
            Action::Crash { effects, down } => self.crash = self.machine.as_ref().map(|_| (effects, down)),
            Action::Shutdown { grace, down } => {
                if self.machine.is_some() && !self.draining {
                    (self.draining, self.down) = (true, down);
                    self.able(false);
                    self.step(Input::Drain(Duration::from_secs(grace)));
                }
            }
            Action::Step(by) => {
                let able = self.able_since.is_some();
                self.able(false);
                self.now.utc += TimeDelta::seconds(by);
                self.able(able);
            }
            Action::StoreFails(seconds) => {
                if self.machine.is_some() {
                    self.failing = Some(self.now.mono + Duration::from_secs(seconds));
                }
            }
            Action::Pause(of) => {
                let name = name(of);
                let schedule = name.parse().unwrap();
                self.command(Asked::Pause(name, true), Command::Pause { schedule, by: by(), reason: "test".into() });
            }
            Action::Resume(of) => {
                let name = name(of);
                let schedule = name.parse().unwrap();
                self.command(Asked::Pause(name, false), Command::Resume { schedule, by: by() });
            }
            Action::Dispatch(run) => self.command(Asked::Other, Command::Dispatch { run, by: by() }),
            Action::Trigger { of, queue, key } => {
                let request = TriggerRequest::new(name(of).parse().unwrap(), "world");
                let idempotency_key = key.map(|key| format!("{}-{key}", name(of)));
                self.command(Asked::Run, Command::Trigger(TriggerRequest { queue, idempotency_key, ..request }));
            }
            Action::Retry(of) => {
                let filter = HistoryFilter::of(name(of).parse().unwrap(), 5);
                let rows = self.store.as_ref().unwrap().reader().history(&filter).unwrap();
                let run = rows.into_iter().find_map(|row| match row {
                    HistoryRow::Run(run) if run.state.is_final() && run.started_at.is_some() => Some(run),
                    _ => None,
                });
                if let Some(run) = run {
                    self.command(Asked::Run, Command::Retry { run, by: by() });
                }
            }
            Action::Cancel(of) => {
                let name = name(of);
                let open = self.seen.mirror.iter().find(|(_, m)| m.schedule == name && !m.state.is_final());
                if let Some((run_id, _)) = open.map(|(run_id, mirror)| (*run_id, mirror)) {
                    self.seen.cancelled.insert(run_id);
                    self.command(Asked::Other, Command::Cancel { run_id });
                }
            }
            Action::Backfill { of, hours } => {
                if let Some(request) = self.past(&name(of), hours) {
                    self.command(Asked::Backfill, Command::Backfill(request));
                }
            }
            Action::Change { of, period } => {
                let of = of % self.wanted.len();
                let plain = Plain { period: Some(period), after: None, ..self.scenario.schedules[of].clone() };
                self.wanted[of] = Some(plain);
                self.apply();
            }
            Action::Remove(of) => {
                let of = of % self.wanted.len();
                self.wanted[of] = None;
                self.apply();
            }
        }
    }

    fn apply(&mut self) {
        let groups = BTreeMap::from([("pair".to_owned(), PAIR)]);
        let (schedules, by) = (self.specs(), "world".to_owned());
        self.command(Asked::Other, Command::Apply { schedules, groups, max_concurrent_runs: PLACES, by });
    }

    fn past(&self, name: &str, hours: u64) -> Option<BackfillRequest> {
        let query = self.store.as_ref().unwrap().reader();
        let schedule: sched_core::ScheduleName = name.parse().unwrap();
        let from = self.now.utc - TimeDelta::hours(hours as i64);
        let versions = query.versions(&schedule).unwrap();
        let mut parts = Vec::new();
        for range in query.ranges_in(&schedule, from, self.now.utc).unwrap() {
            let planned_by = versions.iter().find(|v| v.version == range.version)?.spec.trigger.clone();
            let TriggerKind::Every { period, .. } = planned_by.kind else { return None };
            let step = TimeDelta::from_std(period).unwrap();
            let fires = std::iter::successors(Some(range.from), |at| Some(*at + step));
            let fires: BTreeSet<_> = fires.take_while(|at| *at <= range.until).filter(|at| *at >= from).collect();
            if !fires.is_empty() {
                parts.push(RangeFires { range, planned_by, fires });
            }
        }
        let chains = hours % 2 == 0;
        (!parts.is_empty()).then(|| BackfillRequest { schedule, parts, again: vec![], chains, by: "world".into() })
    }

    /// Nothing is under way but jobs and time: whatever could have been done has been.
    fn quiet(&mut self) {
        if self.machine.is_none() || self.draining || self.told || !self.queue.is_empty() || self.fault.is_some() {
            return;
        }
        let now = self.now.utc;
        let alive: Vec<(&str, Origin)> =
            self.jobs.iter().filter(|job| !job.ghost).map(|job| (job.schedule.as_str(), job.origin)).collect();
        let grouped = alive.iter().filter(|(name, _)| self.plain(name).is_some_and(|plain| plain.grouped)).count();
        let backfills = alive.iter().filter(|(_, origin)| *origin == Origin::Backfill).count();
        let mut idle = None;
        for (run_id, mirror) in self.seen.mirror.iter().filter(|(_, m)| m.state == RunState::Queued) {
            let Some(plain) = self.plain(&mirror.schedule) else { continue };
            let waits = mirror.not_before > now
                || self.stopped
                || alive.len() >= PLACES
                || (plain.grouped && grouped >= PAIR)
                || (plain.overlap != Overlap::Allow && alive.iter().any(|(name, _)| *name == mirror.schedule))
                || (mirror.origin == Origin::Backfill && backfills >= (PLACES / 4).max(1))
                || self.scenario.goes_back();
            if !waits {
                idle = Some(format!("{run_id} of {} waits for nothing", mirror.schedule));
            }
        }
        for plain in self.wanted.iter().flatten() {
            let Some(period) = plain.period else { continue };
            let held = self.stopped || self.paused.contains(&plain.name);
            let Some(cursor) = self.cursors.get(&plain.name).filter(|_| !held) else { continue };
            let period = period as i64 * 1_000_000;
            let next = (cursor.timestamp_micros().div_euclid(period) + 1) * period;
            if next <= now.timestamp_micros() {
                idle = Some(format!("{} has a fire that is due and not accounted for", plain.name));
            }
        }
        if let Some(fault) = idle {
            self.fail(fault);
        }
    }
}
