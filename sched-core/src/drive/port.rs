//! Answers what jobs ask of their scheduler.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::backfill::BackfillFire;
use super::handle::Handle;
use super::output::Outputs;
use crate::async_trait;
use crate::context::{JobPort, PortError, PortReply, PortRequest, RecoveredFire, RunInfo};
use crate::event::Event;
use crate::id::RunId;
use crate::notice::{OutboxLine, OutboxState};
use crate::query::OutboxFilter;
use crate::run::Artifact;

/// The port of every run of one engine.
#[derive(Default)]
pub(super) struct EnginePort {
    handle: OnceLock<Handle>,
    artifacts: Mutex<HashMap<RunId, Vec<Artifact>>>,
    outputs: Arc<Outputs>,
}

impl EnginePort {
    pub(super) fn connect(self: &Arc<Self>, handle: Handle) {
        // Connected once, by the builder.
        let _ = self.handle.set(handle);
    }

    /// An attempt is over: what it printed last is written, and the files that it has kept are given.
    pub(super) fn finish(&self, run_id: RunId) -> Vec<Artifact> {
        if let Some(files) = self.handle.get().and_then(Handle::files)
            && let Err(error) = self.outputs.finish(files, run_id)
        {
            tracing::warn!(%run_id, %error, "the end of the output was not kept");
        }
        self.take_artifacts(run_id)
    }

    fn take_artifacts(&self, run_id: RunId) -> Vec<Artifact> {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).remove(&run_id).unwrap_or_default()
    }
}

impl EnginePort {
    async fn print(&self, handle: &Handle, run_id: RunId, text: String) -> Result<PortReply, PortError> {
        if let Some(files) = handle.files().cloned()
            && !self.outputs.append_in_memory(run_id, &text)
        {
            let outputs = self.outputs.clone();
            blocking(move || outputs.append(&files, run_id, &text)).await?;
        }
        Ok(PortReply::Done)
    }
}

#[async_trait]
impl JobPort for EnginePort {
    async fn call(&self, run: &RunInfo, request: PortRequest) -> Result<PortReply, PortError> {
        let handle = self.handle.get().ok_or_else(|| PortError::new("the scheduler is not up yet"))?;
        let fail = |error: super::EngineError| PortError::new(error.to_string());
        let by = || format!("job:{}", run.schedule);
        Ok(match request {
            PortRequest::History { filter } => PortReply::History { rows: handle.past(filter).await.map_err(fail)? },
            PortRequest::Schedules => PortReply::Schedules { schedules: handle.past_schedules().await.map_err(fail)? },
            PortRequest::Retry { run_id } => PortReply::Run { run_id: handle.retry(run_id, by()).await.map_err(fail)? },
            PortRequest::Recover { schedule, nominal_at } => {
                PortReply::Run { run_id: handle.recover(schedule, nominal_at, by()).await.map_err(fail)? }
            }
            PortRequest::Backfill { schedule, from, until, most } => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let done = handle.backfill_missed(schedule, (from, until), most, by()).await.map_err(fail)?;
                PortReply::Backfilled { fires: done.fires.iter().filter_map(recovered).collect() }
            }
            PortRequest::Trigger { schedule, params } => {
                PortReply::Run { run_id: handle.trigger_for(schedule, params, by()).await.map_err(fail)? }
            }
            PortRequest::Pause { schedule, reason } => {
                handle.pause(schedule, by(), reason).await.map_err(fail)?;
                PortReply::Done
            }
            PortRequest::Resume { schedule } => {
                handle.resume(schedule, by()).await.map_err(fail)?;
                PortReply::Done
            }
            PortRequest::Prune { rule } => PortReply::Pruned(handle.prune(rule).await.map_err(fail)?),
            PortRequest::StateGet { key } => {
                PortReply::State { value: handle.state(run.schedule.clone(), key).await.map_err(fail)? }
            }
            PortRequest::StatePut { key, value } => {
                handle.put_state(run.schedule.clone(), key, value).await.map_err(fail)?;
                PortReply::Done
            }
            PortRequest::Send { channels, letter } => {
                handle.send(channels, run.schedule.clone(), letter).await?;
                PortReply::Done
            }
            PortRequest::Undelivered { limit } => {
                let filter = OutboxFilter { state: Some(OutboxState::Dead), after: None, limit };
                let rows = handle.outbox(filter).await.map_err(fail)?;
                PortReply::Outbox { rows: rows.into_iter().map(OutboxLine::from).collect() }
            }
            PortRequest::Redeliver { ids } => {
                PortReply::Count { count: handle.redeliver_these(ids).await.map_err(fail)? as u64 }
            }
            PortRequest::Progress { percent, text } => {
                let schedule = run.schedule.clone();
                handle.announce(Event::Progress { schedule, run_id: run.run_id, percent, text });
                PortReply::Done
            }
            PortRequest::Log { line } => self.print(handle, run.run_id, line.replace('\n', " ") + "\n").await?,
            PortRequest::Print { text } if text.is_empty() || text.ends_with('\n') => {
                self.print(handle, run.run_id, text).await?
            }
            PortRequest::Print { text } => self.print(handle, run.run_id, text + "\n").await?,
            PortRequest::Artifact { name, content } => {
                let files = handle.files().cloned();
                let files =
                    files.ok_or_else(|| PortError::new("this scheduler keeps no files: give it a data folder"))?;
                let info = run.clone();
                let artifact = blocking(move || files.keep(&info, &name, &content)).await?;
                let mut kept = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
                kept.entry(run.run_id).or_default().push(artifact.clone());
                PortReply::Artifact { artifact }
            }
        })
    }
}

fn recovered(fire: &BackfillFire) -> Option<RecoveredFire> {
    Some(RecoveredFire { nominal_at: fire.nominal_at, run_id: fire.run_id? })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, super::FilesError> + Send + 'static,
) -> Result<T, PortError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| PortError::new(error.to_string()))?;
    done.map_err(|error| PortError::new(error.to_string()))
}
