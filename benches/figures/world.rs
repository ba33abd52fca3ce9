//! What the figures share: a job that does nothing, one that tells how late it is, schedules that are far from due.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use chrono::{DateTime, Datelike as _, Utc};
use sched_core::{Job, JobError, Output, Registry, RunContext, ScheduleSpec, TriggerSpec, async_trait};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoParams {}

struct Empty;

#[async_trait]
impl Job for Empty {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Ok(Output::default())
    }
}

/// Tells in its first line by how many microseconds it is late.
struct Probe(Sender<i64>);

#[async_trait]
impl Job for Probe {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let now = Utc::now();
        if let Some(nominal) = ctx.info().nominal_at {
            // The measurement may be over.
            let _ = self.0.send(micros_since(nominal, now));
        }
        Ok(Output::default())
    }
}

/// Counts what starts, and keeps how late the last one was.
#[derive(Default)]
pub(crate) struct Starts {
    count: AtomicUsize,
    last: AtomicI64,
}

impl Starts {
    pub(crate) fn tell(&self, late: i64) {
        self.last.fetch_max(late, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// In microseconds.
    pub(crate) fn last(&self) -> i64 {
        self.last.load(Ordering::Relaxed)
    }
}

struct Counted(Arc<Starts>);

#[async_trait]
impl Job for Counted {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let now = Utc::now();
        self.0.tell(ctx.info().nominal_at.map_or(0, |nominal| micros_since(nominal, now)));
        Ok(Output::default())
    }
}

pub(crate) fn micros_since(nominal: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (now - nominal).num_microseconds().unwrap_or(i64::MAX)
}

/// The kinds `empty` and, with these, `probe` and `counted`.
pub(crate) fn registry(probe: Option<Sender<i64>>, starts: Option<Arc<Starts>>) -> Registry {
    let mut registry = Registry::new();
    registry.register("empty", "Does nothing", |_: NoParams| Ok(Empty));
    if let Some(sender) = probe {
        registry.register("probe", "Tells how late it is", move |_: NoParams| Ok(Probe(sender.clone())));
    }
    if let Some(starts) = starts {
        registry.register("counted", "Is counted", move |_: NoParams| Ok(Counted(starts.clone())));
    }
    registry
}

/// Yearly schedules, half a year from due.
pub(crate) fn far(count: usize) -> anyhow::Result<Vec<ScheduleSpec>> {
    let month = far_month();
    let spec = |number: usize| {
        let (minute, hour, day) = (number % 60, number / 60 % 24, number / 1440 % 28 + 1);
        let trigger = TriggerSpec::cron(&format!("{minute} {hour} {day} {month} *"), chrono_tz::UTC);
        Ok(ScheduleSpec::new(&format!("far-{number}"), "empty", trigger)?)
    };
    (0..count).map(spec).collect()
}

/// The month half a year from now.
pub(crate) fn far_month() -> u32 {
    (Utc::now().month0() + 6) % 12 + 1
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Sorts, and gives the value at this part of the way.
pub(crate) fn quantile<T: Copy + PartialOrd>(values: &mut [T], part: f64) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let index = (values.len() as f64 * part).ceil() as usize;
    values[index.clamp(1, values.len()) - 1]
}

/// A figure of `/proc/self/status` in MiB (proc_pid_status(5)).
pub(crate) fn memory(figure: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let kib: f64 = line.unwrap_or("0 kB").trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
