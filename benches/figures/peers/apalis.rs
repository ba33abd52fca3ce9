//! apalis-cron 1.0: a worker for each schedule, with a timer of its own.

use std::convert::Infallible;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use apalis_core::worker::builder::WorkerBuilder;
use apalis_cron::{CronScheduler, Tick};
use chrono::{DateTime, Timelike as _, Utc};
use tokio::runtime::Runtime;

use super::Started;
use crate::world::{self, Starts};
use crate::{burst, lateness};

fn spawn(
    runtime: &Runtime,
    expression: &str,
    job: impl Fn(DateTime<Utc>) + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let schedule = cron::Schedule::from_str(expression)?;
    let handler = move |tick: Tick| {
        let job = job.clone();
        async move {
            let seconds = i64::try_from(tick.get_timestamp()).unwrap_or(0);
            job(DateTime::from_timestamp(seconds, 0).unwrap_or_default());
            Ok::<_, Infallible>(())
        }
    };
    runtime.spawn(async move {
        let worker = WorkerBuilder::new("figures").backend(CronScheduler::new(schedule)).build(handler);
        if let Err(error) = worker.run().await {
            println!("  a worker of apalis-cron ended: {error}");
        }
    });
    Ok(())
}

pub(crate) fn lateness(others: usize, seconds: usize) -> anyhow::Result<Vec<i64>> {
    let runtime = world::runtime()?;
    let (sender, receiver) = channel();
    let far = format!("0 0 0 1 {} *", world::far_month());
    for _ in 0..others {
        spawn(&runtime, &far, |_| ())?;
    }
    spawn(&runtime, "* * * * * *", move |nominal| {
        // The measurement may be over.
        let _ = sender.send(world::micros_since(nominal, Utc::now()));
    })?;
    let late = lateness::collect(&receiver, seconds);
    runtime.shutdown_timeout(Duration::from_secs(1));
    late
}

pub(crate) fn burst(fires: usize) -> anyhow::Result<Started> {
    let runtime = world::runtime()?;
    let starts = Arc::new(Starts::default());
    let due = burst::soon(10);
    let at = format!("{} {} {} * * *", due.second(), due.minute(), due.hour());
    for _ in 0..fires {
        let starts = starts.clone();
        spawn(&runtime, &at, move |nominal| starts.tell(world::micros_since(nominal, Utc::now())))?;
    }
    burst::wait_for(&starts, fires, due);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(Started { of: fires, count: starts.count(), last: starts.last() as f64 / 1000.0 })
}
