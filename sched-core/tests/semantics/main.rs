//! What happens to fires and runs, told on the virtual clock: given, when, then. One file a subject.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod alarms;
mod altered;
mod attempts;
mod backfill;
mod chains;
mod clock;
mod field;
mod lateness;
mod notify;
mod policies;
mod queue;
mod reconcile;
mod retention;
mod shutdown;
mod starts;

use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};
use sched_core::engine::Assignment;
use sched_core::testing::Bench;
use sched_core::{JobError, MemoryStore, Outcome, Output, Retry, ScheduleSpec, Store, TriggerSpec};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn every(name: &str, period: Duration) -> ScheduleSpec {
    ScheduleSpec::new(name, "job", TriggerSpec::every(period)).unwrap()
}

fn daily(name: &str, time: &str) -> ScheduleSpec {
    let time: NaiveTime = format!("{time}:00").parse().unwrap();
    ScheduleSpec::new(name, "job", TriggerSpec::daily(time, chrono_tz::UTC)).unwrap()
}

fn once_only() -> Retry {
    Retry { attempts: 1, ..Retry::default() }
}

fn ok(takes: Duration) -> Option<(Duration, Outcome)> {
    Some((takes, Outcome::Succeeded(Output::default())))
}

fn fail(_: &Assignment) -> Option<(Duration, Outcome)> {
    Some((Duration::ZERO, Outcome::Failed(JobError::new("no"))))
}

/// The whole ledger agrees with what the triggers name.
fn audited<S: Store>(bench: &Bench<S>) {
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(report.ok, "{report:?}\n{:#?}", bench.ledger());
}

fn start(from: &str, specs: &[ScheduleSpec]) -> Bench<MemoryStore> {
    Bench::start(MemoryStore::new(), at(from), specs)
}
