//! Puts an engine together, runs it, and takes it down.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::files::Files;
use super::handle::{Handle, Shared};
use super::inbox::Inbox;
use super::port::EnginePort;
use super::replies::Replies;
use super::writer::{Batch, Writer};
use crate::bus::Bus;
use crate::channel::{Channels, ReadyChannel};
use crate::clock::{Clock, Now, SystemClock};
use crate::context::RunContext;
use crate::engine::{Assignment, Effect, EngineConfig, Firmness, Input, Machine, StartOptions};
use crate::id::{ChannelName, NodeId, RunId};
use crate::placement::Placement;
use crate::registry::Registry;
use crate::runner::{Attempt, Runner, TaskRunner};
use crate::spec::{ScheduleSpec, SpecError};
use crate::store::{Query, Store, StoreError};

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A schedule cannot work.
    #[error("schedule `{schedule}`: {source}")]
    Spec {
        /// The schedule.
        schedule: String,
        /// What is wrong.
        source: SpecError,
    },
    /// A schedule's parameters do not fit its job.
    #[error("schedule `{schedule}`: {source}")]
    Params {
        /// The schedule.
        schedule: String,
        /// What is wrong.
        source: crate::registry::ParamError,
    },
    /// Two schedules have one name.
    #[error("two schedules are named `{0}`; names are identities, choose another for one of them")]
    Duplicate(String),
    /// A schedule is in a group that has no limit.
    #[error("schedule `{schedule}`: no group `{group}`; give it a limit with `group_limit`")]
    Group {
        /// The schedule.
        schedule: String,
        /// The group.
        group: String,
    },
    /// A schedule names a channel that there is not.
    #[error("schedule `{schedule}`: no channel `{channel}`; add it with `channel`")]
    Channel {
        /// The schedule.
        schedule: String,
        /// The channel.
        channel: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread or a file descriptor could not be had.
    #[error("the system refused a thread or a descriptor: {0}")]
    System(#[from] std::io::Error),
    /// A schedule asks for a process of its own, and there is no way to one.
    #[error(
        "schedule `{0}`: runner = \"process\" needs `sched_core::process::init()` first in main, or a runner by `isolated_runner`"
    )]
    NoProcesses(String),
    /// There is no runtime for jobs.
    #[error("no tokio runtime: call `start` inside one, or give one with `runtime`")]
    NoRuntime,
}

/// Describes an engine before it runs.
pub struct SchedulerBuilder {
    store: Box<dyn Store>,
    registry: Registry,
    schedules: Vec<ScheduleSpec>,
    max_concurrent_runs: usize,
    groups: BTreeMap<String, usize>,
    channels: Channels,
    data_dir: Option<PathBuf>,
    runtime: Option<tokio::runtime::Handle>,
    runner: Option<Arc<dyn Runner>>,
    isolated: Option<Arc<dyn Runner>>,
    options: StartOptions,
    past: Option<Arc<dyn Query>>,
    node: NodeId,
}

impl std::fmt::Debug for SchedulerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerBuilder").field("schedules", &self.schedules).finish_non_exhaustive()
    }
}

/// A running engine; dropping it without [`Scheduler::shutdown`] is like a crash: what runs is recorded as lost
/// at the next start.
#[derive(Debug)]
pub struct Scheduler {
    handle: Handle,
    drive: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Scheduler {
    /// Begins to describe an engine on this store.
    pub fn builder(store: impl Store + 'static) -> SchedulerBuilder {
        SchedulerBuilder {
            store: Box::new(store),
            registry: Registry::new(),
            schedules: Vec::new(),
            max_concurrent_runs: 64,
            groups: BTreeMap::new(),
            channels: Channels::new(),
            data_dir: None,
            runtime: None,
            runner: None,
            isolated: None,
            options: StartOptions::default(),
            past: None,
            node: NodeId::random(),
        }
    }

    /// The way to this engine.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Claims nothing more, gives running jobs `grace` to end, and ends. What it drained loses no attempt.
    pub async fn shutdown(self, grace: Duration) {
        self.handle.shared.inbox.push(Input::Drain(grace));
        let (drive, writer) = (self.drive, self.writer);
        let ended = tokio::task::spawn_blocking(move || (drive.join(), writer.join())).await;
        self.handle.shared.bus.close();
        if !matches!(ended, Ok((Ok(()), Ok(())))) {
            tracing::error!("a thread of the scheduler ended by a panic");
        }
    }
}

impl SchedulerBuilder {
    /// The job kinds it can run.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Adds one schedule. Schedules stored earlier and not added now are retired; their history stays.
    #[must_use]
    pub fn schedule(mut self, spec: ScheduleSpec) -> Self {
        self.schedules.push(spec);
        self
    }

    /// Adds many schedules.
    #[must_use]
    pub fn schedules(mut self, specs: impl IntoIterator<Item = ScheduleSpec>) -> Self {
        self.schedules.extend(specs);
        self
    }

    /// At most so many runs at once; 64 unless set.
    #[must_use]
    pub const fn max_concurrent_runs(mut self, limit: usize) -> Self {
        self.max_concurrent_runs = limit;
        self
    }

    /// At most so many runs at once in a concurrency group.
    #[must_use]
    pub fn group_limit(mut self, group: impl Into<String>, limit: usize) -> Self {
        self.groups.insert(group.into(), limit);
        self
    }

    /// Adds a channel, by which schedules can say whom to tell.
    #[must_use]
    pub fn channel(mut self, name: ChannelName, channel: ReadyChannel) -> Self {
        self.channels.insert(name, channel);
        self
    }

    /// Adds many channels.
    #[must_use]
    pub fn channels(mut self, channels: Channels) -> Self {
        self.channels.extend(channels);
        self
    }

    /// Where runs keep output and artifacts; without it they keep none.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// The runtime whose timers and sockets jobs use; the current one unless set.
    #[must_use]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Where jobs run; in this process unless set.
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn Runner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Where jobs run whose schedule asks for a process of its own; a [`ProcessRunner`](crate::runner::ProcessRunner)
    /// unless set, where `process::init()` has been called.
    #[must_use]
    pub fn isolated_runner(mut self, runner: Arc<dyn Runner>) -> Self {
        self.isolated = Some(runner);
        self
    }

    /// Lets jobs read history from another store than the engine's: a job that is tried out on a store in memory
    /// then tells of what really ran.
    #[must_use]
    pub fn history_from(mut self, past: Arc<dyn Query>) -> Self {
        self.past = Some(past);
        self
    }

    /// How this start differs from an ordinary one.
    #[must_use]
    pub const fn start_options(mut self, options: StartOptions) -> Self {
        self.options = options;
        self
    }

    /// Takes over the store and begins. When it returns, the downtime is accounted for.
    ///
    /// # Errors
    /// When a schedule or the store cannot work; then nothing was changed.
    pub fn start(mut self) -> Result<Scheduler, StartError> {
        // A process that was started to run one attempt must not become a second scheduler.
        #[cfg(all(feature = "process", target_os = "linux"))]
        crate::runner::serve(&self.registry);
        let registry = self.runner.is_none().then_some(&self.registry);
        let snapshot = self.store.load()?;
        let isolates = self.isolated.is_some() || can_isolate();
        super::apply::check(&self.schedules, &self.groups, &self.channels, registry, isolates, &snapshot.schedules)?;
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Arc::new(self.registry);
        let lost: Vec<RunId> = snapshot.open.iter().filter(|run| run.node.is_some()).map(|run| run.run_id).collect();
        let swept = crate::process::sweep(&lost);
        if swept > 0 {
            tracing::warn!(swept, "processes of runs that lost their scheduler were killed");
        }
        let config = EngineConfig {
            node: self.node,
            max_concurrent_runs: self.max_concurrent_runs,
            groups: self.groups,
            channels: super::apply::policies(&self.channels),
            seed: u64::from_le_bytes(first_eight(self.node)),
        };
        let (mut machine, effects) = Machine::start(config, clock.now(), snapshot, &self.schedules, self.options)
            .map_err(|source| StartError::Spec { schedule: "stored".into(), source })?;
        let inbox = Arc::new(Inbox::new()?);
        let effects = commit_first(&mut *self.store, &mut machine, clock.now(), effects)?;
        let query = self.store.reader();
        let bus = Bus::new(query.last_seq()?);
        let writer = Arc::new(Writer::new(self.store, bus.clone()));
        let shared = Arc::new(Shared {
            inbox: inbox.clone(),
            writer: writer.clone(),
            replies: Replies::new(),
            bus,
            query,
            registry: registry.clone(),
            foreign_runner: self.runner.is_some(),
            clock: clock.clone(),
            files: self.data_dir.map(Files::below),
            past: self.past,
            isolates,
            node: self.node,
            channels: Mutex::new(self.channels),
            runtime: runtime.clone(),
            died: CancellationToken::new(),
        });
        let handle = Handle { shared: shared.clone() };
        let port = Arc::new(EnginePort::default());
        port.connect(handle.clone());
        let isolated = self.isolated.or_else(|| isolated(&runtime));
        let runner = self.runner.unwrap_or_else(|| Arc::new(TaskRunner::new(registry, runtime)));
        let driver = Driver {
            machine,
            shared,
            writer: writer.clone(),
            batch: Batch::default(),
            runner,
            isolated,
            port,
            cancels: Arc::default(),
            drained: false,
        };
        let mourner = handle.shared.mourner();
        let writing = std::thread::Builder::new().name("sched-writer".into()).spawn(move || {
            let _mourner = mourner;
            writer.run(&inbox);
        })?;
        let mourner = handle.shared.mourner();
        let driving = std::thread::Builder::new().name("sched-drive".into()).spawn(move || {
            let _mourner = mourner;
            driver.run(effects);
        })?;
        Ok(Scheduler { handle, drive: driving, writer: writing })
    }
}

#[cfg(all(feature = "process", target_os = "linux"))]
fn can_isolate() -> bool {
    crate::process::is_ready()
}

#[cfg(all(feature = "process", target_os = "linux"))]
fn isolated(runtime: &tokio::runtime::Handle) -> Option<Arc<dyn Runner>> {
    let runner = || -> Arc<dyn Runner> { Arc::new(crate::runner::ProcessRunner::new(runtime.clone())) };
    can_isolate().then(runner)
}

#[cfg(not(all(feature = "process", target_os = "linux")))]
const fn can_isolate() -> bool {
    false
}

#[cfg(not(all(feature = "process", target_os = "linux")))]
const fn isolated(_: &tokio::runtime::Handle) -> Option<Arc<dyn Runner>> {
    None
}

/// Makes the first writes durable before anything else: who reads the store after the start finds its schedules.
fn commit_first(
    store: &mut dyn Store,
    machine: &mut Machine,
    now: Now,
    effects: Vec<Effect>,
) -> Result<Vec<Effect>, StoreError> {
    let (mut tokens, mut writes, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Write(token, write) => {
                tokens.push(token);
                writes.push(*write);
            }
            other => rest.push(other),
        }
    }
    let committed = store.commit(&writes)?;
    for (token, receipt) in tokens.into_iter().zip(committed.receipts) {
        if let Some(token) = token {
            rest.extend(machine.step(now, Input::Written(token, receipt)));
        }
    }
    Ok(rest)
}

fn first_eight(node: NodeId) -> [u8; 8] {
    let uuid = node.as_uuid();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&uuid.as_bytes()[8..]);
    bytes
}

/// No more writes than this are kept back for those that follow at once.
const GATHER: usize = 256;

/// The thread that steps the machine and performs its effects. It waits for nothing but inputs and time.
struct Driver {
    machine: Machine,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    /// Writes of the steps since the last were handed over.
    batch: Batch,
    runner: Arc<dyn Runner>,
    isolated: Option<Arc<dyn Runner>>,
    port: Arc<EnginePort>,
    cancels: Arc<Mutex<HashMap<RunId, CancellationToken>>>,
    drained: bool,
}

impl Driver {
    fn run(mut self, first: Vec<Effect>) {
        self.perform(first);
        while !self.drained {
            let inputs = self.shared.inbox.take();
            let idle = inputs.is_empty();
            for input in inputs.into_iter().chain(idle.then_some(Input::Wake)) {
                self.step(input);
                if self.batch.len() >= GATHER {
                    self.write();
                }
            }
            self.write();
            if !self.drained {
                let wait = self.machine.wake_after(self.shared.clock.now());
                self.shared.inbox.wait(wait);
            }
        }
        self.writer.close();
        self.shared.replies.close();
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(self.shared.clock.now(), input);
        self.perform(effects);
    }

    /// Hands over what is to be written. What is durable at once may ask for more.
    fn write(&mut self) {
        while self.batch.len() > 0 {
            let under_way = lock(&self.cancels).len();
            for written in self.writer.write(&mut self.batch, under_way) {
                self.step(written);
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(token, write) => self.batch.push(token, *write),
                Effect::Start(assignment) => self.start(assignment),
                Effect::Stop(run_id, Firmness::Ask) => {
                    if let Some(cancel) = lock(&self.cancels).get(&run_id) {
                        cancel.cancel();
                    }
                }
                // Whichever has it.
                Effect::Stop(run_id, Firmness::Drop) => {
                    [Some(&self.runner), self.isolated.as_ref()]
                        .into_iter()
                        .flatten()
                        .for_each(|r| r.drop_attempt(run_id));
                }
                Effect::Deliver(channel, rows) => self.shared.deliver(channel, rows),
                Effect::Reply(to, answer) => self.shared.replies.answer(to, answer),
                Effect::Drained => self.drained = true,
            }
        }
    }

    fn start(&self, assignment: Assignment) {
        let Assignment { info, params, runner: placement } = assignment;
        let (run_id, fence) = (info.run_id, info.fence);
        let cancel = CancellationToken::new();
        lock(&self.cancels).insert(run_id, cancel.clone());
        let ctx = RunContext::new(info, cancel, self.port.clone(), self.shared.clock.clone());
        let (inbox, port, cancels) = (self.shared.inbox.clone(), self.port.clone(), self.cancels.clone());
        let report = Box::new(move |outcome| {
            lock(&cancels).remove(&run_id);
            let artifacts = port.finish(run_id);
            inbox.push(Input::Ended { run_id, fence, outcome, artifacts });
        });
        let runner = match (&placement, &self.isolated) {
            (Placement::Process(_), Some(isolated)) => isolated,
            _ => &self.runner,
        };
        runner.start(Attempt { ctx, params, placement, report });
    }
}

fn lock(
    cancels: &Mutex<HashMap<RunId, CancellationToken>>,
) -> std::sync::MutexGuard<'_, HashMap<RunId, CancellationToken>> {
    cancels.lock().unwrap_or_else(PoisonError::into_inner)
}
