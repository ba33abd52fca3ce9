//! tokio-cron-scheduler 0.15: one list of jobs, looked through twice a second. It tells a job no nominal time, so the
//! last full second is taken.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Timelike as _, Utc};
use tokio_cron_scheduler::{Job, JobScheduler};

use super::Started;
use crate::world::{self, Starts};
use crate::{burst, lateness};

pub(crate) fn lateness(others: usize, seconds: usize) -> anyhow::Result<Vec<i64>> {
    let runtime = world::runtime()?;
    let (sender, receiver) = channel();
    let mut scheduler = runtime.block_on(async {
        let scheduler = JobScheduler::new_with_channel_size(1000).await?;
        let far = format!("0 0 0 1 {} *", world::far_month());
        for _ in 0..others {
            scheduler.add(Job::new_async(far.as_str(), |_, _| Box::pin(async {}))?).await?;
        }
        let probe = Job::new_async("* * * * * *", move |_, _| {
            let sender = sender.clone();
            Box::pin(async move {
                let now = Utc::now();
                // The measurement may be over.
                let _ = sender.send(world::micros_since(now.trunc_subsecs(0), now));
            })
        })?;
        scheduler.add(probe).await?;
        scheduler.start().await?;
        Ok::<_, anyhow::Error>(scheduler)
    })?;
    let late = lateness::collect(&receiver, seconds);
    runtime.block_on(scheduler.shutdown())?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    late
}

pub(crate) fn burst(fires: usize) -> anyhow::Result<Started> {
    let runtime = world::runtime()?;
    let starts = Arc::new(Starts::default());
    let due: DateTime<Utc> = burst::soon(30);
    let at = format!("{} {} {} * * *", due.second(), due.minute(), due.hour());
    let mut scheduler = runtime.block_on(async {
        let scheduler = JobScheduler::new_with_channel_size(1000).await?;
        for _ in 0..fires {
            let starts = starts.clone();
            let job = Job::new_async(at.as_str(), move |_, _| {
                let starts = starts.clone();
                Box::pin(async move { starts.tell(world::micros_since(due, Utc::now())) })
            })?;
            scheduler.add(job).await?;
        }
        scheduler.start().await?;
        Ok::<_, anyhow::Error>(scheduler)
    })?;
    anyhow::ensure!(Utc::now() < due, "tokio-cron-scheduler took over 30 s to accept its jobs");
    burst::wait_for(&starts, fires, due);
    runtime.block_on(scheduler.shutdown())?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(Started { of: fires, count: starts.count(), last: starts.last() as f64 / 1000.0 })
}
