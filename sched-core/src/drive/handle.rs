//! The way to a running engine for programs: commands, questions and the stream of events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::files::Files;
use super::inbox::Inbox;
use super::replies::Replies;
use super::writer::Writer;
use crate::audit::AuditReport;
use crate::bus::{Bus, Subscription};
use crate::channel::Channels;
use crate::clock::Clock;
use crate::context::{PruneRule, PrunedHistory};
use crate::engine::{Command, EngineStatus, Input, Refusal, Reply, TriggerRequest};
use crate::event::{Event, Recorded};
use crate::id::{NodeId, RunId, ScheduleName, Seq};
use crate::query::{HistoryFilter, ScheduleView};
use crate::registry::{ParamError, Registry};
use crate::run::{HistoryRow, RunRecord};
use crate::store::{PruneCursor, Pruned, Query, StoreError};

/// Why a request to the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The parameters do not fit the job's kind.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// The schedules cannot work.
    #[error(transparent)]
    Invalid(Box<super::StartError>),
    /// There is no such run.
    #[error("no run {0}")]
    UnknownRun(RunId),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine has ended.
    #[error("the scheduler has stopped")]
    Stopped,
}

pub(super) struct Shared {
    pub(super) inbox: Arc<Inbox>,
    pub(super) writer: Arc<Writer>,
    pub(super) replies: Replies,
    pub(super) bus: Bus,
    pub(super) query: Arc<dyn Query>,
    pub(super) registry: Arc<Registry>,
    /// Another runner than the engine's own may run kinds that are not registered here.
    pub(super) foreign_runner: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) files: Option<Files>,
    /// Whether runs can have a process of their own.
    pub(super) isolates: bool,
    pub(super) past: Option<Arc<dyn Query>>,
    pub(super) node: NodeId,
    pub(super) channels: Mutex<Channels>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) died: CancellationToken,
}

impl Shared {
    /// Held by each thread of the engine: when one panics, nobody waits for the engine any more.
    pub(super) fn mourner(self: &Arc<Self>) -> Mourner {
        Mourner(self.clone())
    }
}

pub(super) struct Mourner(Arc<Shared>);

impl Drop for Mourner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.died.cancel();
            self.0.inbox.push(Input::StoreFailing(Some("its writer ended by a panic".into())));
            self.0.replies.close();
            self.0.bus.close();
        }
    }
}

/// A running engine. Clones are cheap and name the same engine.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, EngineError> {
        let (to, answer) = self.shared.replies.open(&command).await.ok_or(EngineError::Stopped)?;
        self.shared.inbox.push(Input::Command(to, command));
        Ok(answer.await.map_err(|_| EngineError::Stopped)??)
    }

    async fn ask_run(&self, command: Command) -> Result<RunId, EngineError> {
        match self.ask(command).await? {
            Reply::Run(run_id) => Ok(run_id),
            _ => Err(EngineError::Stopped),
        }
    }

    /// Ends when a thread of the engine has ended by a panic: it will run nothing more, and its process should end.
    pub async fn died(&self) {
        self.shared.died.cancelled().await;
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Query) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let answer = Self::read_from(self.shared.query.clone(), ask).await;
        if matches!(answer, Err(EngineError::Store(StoreError::Corrupt { .. }))) {
            self.shared.writer.doubt();
        }
        answer
    }

    /// History as jobs see it.
    pub(super) async fn past(&self, filter: HistoryFilter) -> Result<Vec<HistoryRow>, EngineError> {
        let query = self.shared.past.as_ref().unwrap_or(&self.shared.query).clone();
        Self::read_from(query, move |query| history(query, &filter)).await
    }

    /// The schedules as jobs see them.
    pub(super) async fn past_schedules(&self) -> Result<Vec<ScheduleView>, EngineError> {
        let query = self.shared.past.as_ref().unwrap_or(&self.shared.query).clone();
        let mut views = Self::read_from(query, views).await?;
        views.iter_mut().filter_map(|view| view.last.as_mut()).for_each(bare);
        Ok(views)
    }

    async fn read_from<T: Send + 'static>(
        query: Arc<dyn Query>,
        ask: impl FnOnce(&dyn Query) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let answer = tokio::task::spawn_blocking(move || ask(&*query)).await;
        Ok(answer.map_err(|_| EngineError::Stopped)??)
    }

    /// Runs a schedule now. When this returns, the run is durable.
    ///
    /// # Errors
    /// [`Refusal::Busy`] while a run is open, unless the schedule's overlap policy or `queue` allows it;
    /// [`EngineError::Params`] when the changed parameters do not fit.
    pub async fn trigger(&self, request: TriggerRequest) -> Result<RunId, EngineError> {
        if !request.params.is_empty() {
            let name = request.schedule.clone();
            // Only its own rows are read: there may be many schedules. One that is unknown is refused by the engine.
            if let Some(current) = self.read(move |query| query.versions(&name)).await?.pop() {
                let mut params = current.spec.params.clone();
                params.extend(request.params.clone());
                if let Some(registry) = self.checks() {
                    registry.check(&current.spec.job, &params)?;
                }
            }
        }
        self.ask_run(Command::Trigger(request)).await
    }

    /// Runs a finished run again, as a new run linked to it.
    ///
    /// # Errors
    /// When the run is unknown or open, or its schedule has an open run.
    pub async fn retry(&self, run_id: RunId, by: impl Into<String>) -> Result<RunId, EngineError> {
        let run = self.run(run_id).await?;
        self.ask_run(Command::Retry { run, by: by.into() }).await
    }

    /// Stops a run: one that waits ends at once, one that runs is asked, then dropped.
    ///
    /// # Errors
    /// [`Refusal::NotOpen`] when it has ended.
    pub async fn cancel(&self, run_id: RunId) -> Result<(), EngineError> {
        self.ask(Command::Cancel { run_id }).await.map(drop)
    }

    /// Pauses a schedule; manual runs still work.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn pause(
        &self,
        schedule: ScheduleName,
        by: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<(), EngineError> {
        self.ask(Command::Pause { schedule, by: by.into(), reason: reason.into() }).await.map(drop)
    }

    /// Resumes a schedule; the fires meanwhile are recorded as skipped.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn resume(&self, schedule: ScheduleName, by: impl Into<String>) -> Result<(), EngineError> {
        self.ask(Command::Resume { schedule, by: by.into() }).await.map(drop)
    }

    /// Starts or stops dispatching. Lasts over restarts; doing it twice is doing it once.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_dispatch(&self, run: bool, by: impl Into<String>) -> Result<(), EngineError> {
        self.ask(Command::Dispatch { run, by: by.into() }).await.map(drop)
    }

    /// How the engine is, with the soonest `upcoming` fires.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn status(&self, upcoming: usize) -> Result<EngineStatus, EngineError> {
        match self.ask(Command::Status { upcoming }).await? {
            Reply::Status(status) => Ok(status),
            _ => Err(EngineError::Stopped),
        }
    }

    /// Runs and ranges, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<HistoryRow>, EngineError> {
        self.read(move |query| history(query, &filter)).await
    }

    /// One run.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn run(&self, run_id: RunId) -> Result<RunRecord, EngineError> {
        self.read(move |query| query.run(run_id)).await?.ok_or(EngineError::UnknownRun(run_id))
    }

    /// Waits until a run is final.
    ///
    /// # Errors
    /// When there is no such run, or the engine ends first.
    pub async fn wait(&self, run_id: RunId) -> Result<RunRecord, EngineError> {
        let after = self.read(|query| query.last_seq()).await?;
        let mut events = self.subscribe(Some(after));
        let mut record = self.run(run_id).await?;
        while !record.state.is_final() {
            let event = events.next().await.ok_or(EngineError::Stopped)?;
            if matches!(&event.event, Event::RunFinished { run_id: ended, .. } if *ended == run_id) {
                record = self.run(run_id).await?;
            }
        }
        Ok(record)
    }

    /// What became of each fire from `from` to `until`, both included: its current run, or the range that counts it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn ledger(
        &self,
        schedule: ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<HistoryRow>, EngineError> {
        let runs = move |query: &dyn Query| {
            let runs = query.fires_in(&schedule, from, until)?.into_iter();
            let mut rows: Vec<_> = runs.filter_map(|run| Some((run.nominal_at?, HistoryRow::Run(run)))).collect();
            let ranges = query.ranges_in(&schedule, from, until)?.into_iter();
            rows.extend(ranges.map(|range| (range.from, HistoryRow::Range(range))));
            rows.sort_by_key(|(at, _)| *at);
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        };
        self.read(runs).await
    }

    /// Every nominal time recomputed, and matched to the ledger.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self, since: Option<DateTime<Utc>>) -> Result<AuditReport, EngineError> {
        self.read(move |query| crate::audit::audit(query, since)).await
    }

    /// This process, as runs name it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Every configured schedule, in the order of names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, EngineError> {
        self.read(|query| views(query)).await
    }

    /// Committed events after `after`, then what happens; without it, only what happens from now on.
    #[must_use]
    pub fn subscribe(&self, after: Option<Seq>) -> Subscription {
        self.shared.bus.subscribe(self.shared.query.clone(), after)
    }

    /// Announces an event without keeping it.
    pub fn announce(&self, event: Event) {
        let ts = self.shared.clock.now().utc;
        self.shared.bus.announce(Recorded { ts, event, seq: None });
    }

    /// Gives a shutdown that is under way no more than this time; whoever cannot wait hurries.
    pub fn hurry(&self, grace: Duration) {
        self.shared.inbox.push(Input::Drain(grace));
    }

    /// Looks whether the store can be written, although there may be nothing to write.
    pub(crate) fn prove_store(&self) {
        self.shared.writer.touch();
    }

    /// Keeps an event.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn note(&self, event: Event) -> Result<(), EngineError> {
        self.ask(Command::Note(event)).await.map(drop)
    }

    /// Remembers how far a sink has read.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn mark(&self, sink: impl Into<String>, seq: Seq) -> Result<(), EngineError> {
        self.ask(Command::Mark { sink: sink.into(), seq }).await.map(drop)
    }

    /// Removes old history, in short transactions, with the output and artifacts of its runs; says how much.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn prune(&self, rule: PruneRule) -> Result<PrunedHistory, EngineError> {
        let (mut runs, mut ranges, mut files, mut from) = (0, 0, 0, None);
        loop {
            // Files first: those of a run that is no longer recorded would stay for ever.
            if let Some(kept) = self.files().cloned() {
                let ahead = PruneRule { dry_run: true, ..rule.clone() };
                let gone = self.prune_piece(ahead, from).await?.gone;
                let dry_run = rule.dry_run;
                let discard = move || gone.iter().map(|(run, own)| kept.discard(*run, own, dry_run)).sum::<u64>();
                files += tokio::task::spawn_blocking(discard).await.map_err(|_| EngineError::Stopped)?;
            }
            let piece = self.prune_piece(rule.clone(), from).await?;
            runs += piece.runs;
            ranges += piece.ranges;
            from = piece.next;
            if from.is_none() {
                break;
            }
        }
        if !rule.dry_run && runs + ranges > 0 {
            self.note(Event::HistoryPruned { runs, ranges, before: rule.before }).await?;
        }
        Ok(PrunedHistory { runs, ranges, files })
    }

    async fn prune_piece(&self, rule: PruneRule, from: Option<PruneCursor>) -> Result<Pruned, EngineError> {
        match self.ask(Command::Prune { rule, from }).await? {
            Reply::Pruned(piece) => Ok(piece),
            _ => Err(EngineError::Stopped),
        }
    }

    /// Keeps a value for a schedule's jobs.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn put_state(&self, schedule: ScheduleName, key: String, value: Value) -> Result<(), EngineError> {
        self.ask(Command::PutState { schedule, key, value }).await.map(drop)
    }

    /// A value kept for a schedule's jobs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn state(&self, schedule: ScheduleName, key: String) -> Result<Option<Value>, EngineError> {
        self.read(move |query| query.state(&schedule, &key)).await
    }

    /// The job kinds this engine runs.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// The registry, if it knows every kind that may run.
    pub(super) fn checks(&self) -> Option<&Registry> {
        (!self.shared.foreign_runner).then(|| self.registry())
    }

    /// Where runs keep output and artifacts.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        self.shared.files.as_ref()
    }

    /// The engine's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The reader beside the engine's store.
    #[must_use]
    pub fn query(&self) -> &Arc<dyn Query> {
        &self.shared.query
    }

    /// Runs a schedule now with these parameters, for a job.
    pub(super) async fn trigger_for(
        &self,
        schedule: ScheduleName,
        params: Map<String, Value>,
        by: String,
    ) -> Result<RunId, EngineError> {
        self.trigger(TriggerRequest { params, ..TriggerRequest::new(schedule, by) }).await
    }
}

fn history(query: &dyn Query, filter: &HistoryFilter) -> Result<Vec<HistoryRow>, StoreError> {
    let mut rows = query.history(filter)?;
    let runs = rows.iter_mut().filter_map(|row| match row {
        HistoryRow::Run(run) => Some(run),
        HistoryRow::Range(_) => None,
    });
    runs.filter(|_| filter.bare).for_each(bare);
    Ok(rows)
}

/// Takes off what may be many times larger than all the rest.
fn bare(run: &mut RunRecord) {
    (run.params, run.data) = (Value::Object(Map::new()), Value::Null);
}

/// Every configured schedule as readers see it.
///
/// # Errors
/// When the store cannot be read.
pub fn views(query: &dyn Query) -> Result<Vec<ScheduleView>, StoreError> {
    let stopped = query.dispatch()?.is_some();
    let mut views = Vec::new();
    for row in query.schedules()?.into_iter().filter(|row| !row.retired) {
        let (last, open) = query.activity(row.name())?;
        let held = row.paused.is_some() || stopped;
        let trigger = row.spec.trigger.compile().ok().filter(|_| !held);
        let next = trigger.and_then(|trigger| trigger.next_after(row.cursor));
        let (name, version, cursor) = (row.name().clone(), row.version, row.cursor);
        views.push(ScheduleView {
            name,
            spec: Arc::unwrap_or_clone(row.spec),
            version,
            cursor,
            next,
            last,
            paused: row.paused,
            open,
        });
    }
    Ok(views)
}
