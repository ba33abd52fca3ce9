//! Runs jobs in this process, each attempt on a thread of its own, so that a job that blocks its thread delays no
//! other job, and no reader of the store either.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::pool::Pool;
use super::{Attempt, Runner};
use crate::id::RunId;
use crate::job::JobError;
use crate::registry::Registry;
use crate::run::Outcome;

type Running = Arc<Mutex<HashMap<RunId, CancellationToken>>>;

/// Runs jobs in this process.
pub struct TaskRunner {
    registry: Arc<Registry>,
    runtime: tokio::runtime::Handle,
    running: Running,
    pool: Pool,
}

impl std::fmt::Debug for TaskRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskRunner").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl TaskRunner {
    /// A runner of these kinds, whose jobs use this runtime's timers and sockets.
    #[must_use]
    pub fn new(registry: Arc<Registry>, runtime: tokio::runtime::Handle) -> Self {
        Self { registry, runtime, running: Running::default(), pool: Pool::default() }
    }
}

impl Runner for TaskRunner {
    fn start(&self, attempt: Attempt) {
        let Attempt { ctx, params, report, .. } = attempt;
        let run_id = ctx.run_id();
        let dropped = CancellationToken::new();
        lock(&self.running).insert(run_id, dropped.clone());
        let (registry, runtime, running) = (self.registry.clone(), self.runtime.clone(), self.running.clone());
        self.pool.run(Box::new(move |thread| {
            let work = || -> Outcome {
                if let Err(error) = thread {
                    return Outcome::Failed(JobError::new(format!("the system refused a thread: {error}")));
                }
                let none = serde_json::Map::new();
                let params = params.as_object().unwrap_or(&none);
                let job = match registry.kind(&ctx.info().job).and_then(|kind| kind.build(params)) {
                    Ok(job) => job,
                    Err(error) => return Outcome::Unstartable(error.to_string()),
                };
                runtime.block_on(async {
                    tokio::select! {
                        result = job.run(&ctx) => match result {
                            Ok(output) => Outcome::Succeeded(output),
                            Err(error) if ctx.is_cancelled() => Outcome::Stopped(error),
                            Err(error) => Outcome::Failed(error),
                        },
                        () = dropped.cancelled() => Outcome::Stopped(JobError::new("it was stopped by force")),
                    }
                })
            };
            let outcome =
                catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Outcome::Panicked(message(&*panic)));
            lock(&running).remove(&run_id);
            report(outcome);
        }));
    }

    fn drop_attempt(&self, run_id: RunId) {
        if let Some(dropped) = lock(&self.running).get(&run_id) {
            dropped.cancel();
        }
    }
}

fn lock(running: &Running) -> std::sync::MutexGuard<'_, HashMap<RunId, CancellationToken>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
