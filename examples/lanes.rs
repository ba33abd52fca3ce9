//! A runner of one's own: `cargo run -p sched-examples --bin lanes`.
//!
//! A runner says where jobs run, and nothing else: what a job is and when it runs are not its matter. This one has lanes,
//! threads of its own that take attempts one after another, as for a library that is bound to the thread it was opened
//! on. An attempt that waits for its lane can be taken away; one that runs is asked to stop like any other.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sched_core::runner::{Attempt, Runner};
use sched_core::{
    Job, JobError, MemoryStore, Outcome, Output, Overlap, Registry, RunContext, RunId, ScheduleSpec, Scheduler,
    TriggerRequest, TriggerSpec, async_trait,
};

/// Runs attempts on a fixed number of threads.
struct Lanes {
    attempts: Sender<Attempt>,
    dropped: Arc<Mutex<HashSet<RunId>>>,
}

impl Lanes {
    fn new(lanes: usize, registry: &Arc<Registry>, runtime: &tokio::runtime::Handle) -> std::io::Result<Self> {
        let (attempts, waiting) = channel();
        let (waiting, dropped) = (Arc::new(Mutex::new(waiting)), Arc::default());
        for number in 0..lanes {
            let lane =
                Lane { waiting: Arc::clone(&waiting), dropped: Arc::clone(&dropped), registry: registry.clone() };
            let runtime = runtime.clone();
            std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || lane.work(&runtime))?;
        }
        Ok(Self { attempts, dropped })
    }
}

impl Runner for Lanes {
    fn start(&self, attempt: Attempt) {
        if let Err(refused) = self.attempts.send(attempt) {
            let told = "no lane is left: their threads have ended";
            (refused.0.report)(Outcome::Unstartable(told.into()));
        }
    }

    fn drop_attempt(&self, run_id: RunId) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(run_id);
    }
}

struct Lane {
    waiting: Arc<Mutex<Receiver<Attempt>>>,
    dropped: Arc<Mutex<HashSet<RunId>>>,
    registry: Arc<Registry>,
}

impl Lane {
    /// Takes attempts until the runner is gone. A job that panics would take its lane with it, so it is caught.
    fn work(&self, runtime: &tokio::runtime::Handle) {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Attempt { ctx, params, report, .. }) = next else { return };
            let work = std::panic::AssertUnwindSafe(|| self.attempt(runtime, &ctx, &params));
            report(std::panic::catch_unwind(work).unwrap_or_else(|_| Outcome::Panicked("in its lane".into())));
        }
    }

    fn attempt(&self, runtime: &tokio::runtime::Handle, ctx: &RunContext, params: &serde_json::Value) -> Outcome {
        if self.dropped.lock().unwrap_or_else(PoisonError::into_inner).remove(&ctx.run_id()) {
            return Outcome::Stopped(JobError::new("it was taken away before its lane was free"));
        }
        let params = params.as_object().cloned().unwrap_or_default();
        let job = match self.registry.kind(&ctx.info().job).and_then(|kind| kind.build(&params)) {
            Ok(job) => job,
            Err(error) => return Outcome::Unstartable(error.to_string()),
        };
        match runtime.block_on(job.run(ctx)) {
            Ok(output) => Outcome::Succeeded(output),
            Err(error) if ctx.is_cancelled() => Outcome::Stopped(error),
            Err(error) => Outcome::Failed(error),
        }
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct WhichLane {}

#[async_trait]
impl Job for WhichLane {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        ctx.progress(50, "under way").await;
        let thread = std::thread::current();
        Ok(Output::summary(thread.name().unwrap_or("a thread without a name")))
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it did")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register("which_lane", "Says where it ran", |params: WhichLane| Ok(params));
    let lanes = Lanes::new(2, &Arc::new(registry.clone()), &tokio::runtime::Handle::current())?;
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse()?);
    let spec = ScheduleSpec::new("which", "which_lane", never)?.with_overlap(Overlap::Allow);
    let builder = Scheduler::builder(MemoryStore::new()).registry(registry).schedule(spec.clone());
    let scheduler = builder.runner(Arc::new(lanes)).start()?;
    let handle = scheduler.handle();
    for _ in 0..4 {
        let run_id = handle.trigger(TriggerRequest::new(spec.name.clone(), "example")).await?;
        let run = handle.wait(run_id).await?;
        println!("{} on {}", run.state, run.summary.unwrap_or_default());
    }
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
