//! How late a hundred schedules are beside jobs that abort, leak and spin in processes of their own.

use std::sync::mpsc::channel;
use std::time::Duration;

use sched_core::{
    Job, JobError, Limits, MemoryStore, Output, Placement, Registry, RunContext, ScheduleSpec, Scheduler, TriggerSpec,
    async_trait,
};

use crate::{lateness, world};

/// Schedules that are due each second.
const OTHERS: usize = 100;
/// What an isolated job may have.
const MEMORY: u64 = 256 << 20;
const CPU: Duration = Duration::from_secs(2);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Destroy {
    act: String,
}

#[async_trait]
impl Job for Destroy {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        match self.act.as_str() {
            "abort" => std::process::abort(),
            "leak" => {
                let mut leaked: Vec<Vec<u8>> = Vec::new();
                loop {
                    leaked.push(vec![1; 1 << 20]);
                }
            }
            _ => loop {
                std::hint::spin_loop();
            },
        }
    }
}

/// The kinds that a process of an attempt knows.
pub(crate) fn registry() -> Registry {
    let mut registry = world::registry(None, None);
    register(&mut registry);
    registry
}

fn register(registry: &mut Registry) {
    registry.register("destroy", "Destroys its process", |params: Destroy| Ok(params));
}

pub(crate) fn measure(seconds: usize) -> anyhow::Result<()> {
    println!("lateness of {OTHERS} jobs due each second, {seconds} times each; p50, p99, max");
    lateness::tell("alone", &mut beside(&[], seconds)?);
    lateness::tell("beside jobs that abort and leak", &mut beside(&["abort", "leak"], seconds)?);
    lateness::tell("beside jobs that abort, leak and spin", &mut beside(&["abort", "leak", "spin"], seconds)?);
    Ok(())
}

fn beside(acts: &[&str], seconds: usize) -> anyhow::Result<Vec<i64>> {
    let folder = tempfile::tempdir()?;
    let runtime = world::runtime()?;
    let (sender, receiver) = channel();
    let mut registry = world::registry(Some(sender), None);
    register(&mut registry);
    let each_second = || TriggerSpec::every(Duration::from_secs(1));
    let mut builder = Scheduler::builder(MemoryStore::new()).registry(registry).data_dir(folder.path());
    for number in 0..OTHERS {
        builder = builder.schedule(ScheduleSpec::new(&format!("probe-{number}"), "probe", each_second())?);
    }
    for act in acts {
        let mut spec = ScheduleSpec::new(act, "destroy", each_second())?.with_param("act", *act);
        spec.retry.attempts = 1;
        let limits = Limits { memory: Some(MEMORY), cpu: Some(CPU), ..Limits::default() };
        builder = builder.schedule(spec.with_runner(Placement::Process(limits)));
    }
    let scheduler = builder.runtime(runtime.handle().clone()).start()?;
    let late = lateness::collect(&receiver, seconds * OTHERS);
    runtime.block_on(scheduler.shutdown(Duration::from_secs(1)));
    late
}
