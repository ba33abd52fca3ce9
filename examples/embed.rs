//! Embeds the scheduler with a typed job on SQLite: `cargo run -p sched-examples --bin embed`.
//!
//! Run it twice: the second time it still knows the first run.

use std::time::Duration;

use sched_core::{
    HistoryFilter, Job, JobError, Output, Registry, RunContext, ScheduleSpec, Scheduler, SqliteStore, TriggerRequest,
    TriggerSpec, async_trait,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    /// Who is greeted.
    whom: String,
}

#[async_trait]
impl Job for Greet {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        Ok(Output::summary(format!("hello {}, attempt {}", self.whom, ctx.info().attempt)))
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it did")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register("greet", "Greets someone", |params: Greet| Ok(params));
    let hourly = TriggerSpec::every(Duration::from_secs(3600));
    let schedule = ScheduleSpec::new("greet", "greet", hourly)?.with_param("whom", "world");
    let scheduler = Scheduler::builder(SqliteStore::open("embed.db")?).registry(registry).schedule(schedule).start()?;
    let handle = scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("greet".parse()?, "example")).await?;
    let run = handle.wait(run_id).await?;
    println!("{}: {}", run.state, run.summary.unwrap_or_default());
    println!("{} runs so far", handle.history(HistoryFilter::newest(100)).await?.len());
    scheduler.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
