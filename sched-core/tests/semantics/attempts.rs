//! What follows a failed attempt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::engine::Command;
use sched_core::testing::Bench;
use sched_core::{Backoff, Event, JobError, MemoryStore, Outcome, Retry, RetryOn, ScheduleSpec};

use crate::{HOUR, MINUTE, SECOND, at, every};

fn with(retry: Retry) -> ScheduleSpec {
    every("h", HOUR).with_retry(Retry { jitter: false, ..retry })
}

/// The seconds between the attempts of the first fire, whose job does as `outcome` says.
fn waits(spec: &ScheduleSpec, outcome: impl Fn(u32) -> Outcome + Send + 'static) -> Vec<i64> {
    let starts: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let seen = starts.clone();
    let specs = std::slice::from_ref(spec);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), specs, move |run| {
        seen.lock().unwrap().push(run.info.started_at);
        Some((Duration::ZERO, outcome(run.info.attempt)))
    });
    bench.advance(HOUR);
    let starts = starts.lock().unwrap();
    starts.windows(2).map(|pair| (pair[1] - pair[0]).num_seconds()).collect()
}

fn failed(_: u32) -> Outcome {
    Outcome::Failed(JobError::new("no"))
}

#[test]
fn given_each_kind_of_back_off_then_the_waits_grow_as_it_says() {
    let retry = |backoff| with(Retry { attempts: 5, backoff, initial: 10 * SECOND, max: MINUTE, ..Retry::default() });
    assert_eq!(waits(&retry(Backoff::Fixed), failed), [10, 10, 10, 10]);
    assert_eq!(waits(&retry(Backoff::Linear), failed), [10, 20, 30, 40]);
    assert_eq!(waits(&retry(Backoff::Exponential), failed), [10, 20, 40, 60]);
}

#[test]
fn given_a_job_that_says_how_long_to_wait_then_that_is_waited() {
    let busy = |_| Outcome::Failed(JobError::new("busy").retry_after(90 * SECOND));
    assert_eq!(waits(&with(Retry { attempts: 3, ..Retry::default() }), busy), [90, 90]);
}

#[test]
fn given_a_job_that_says_it_is_hopeless_then_there_is_no_other_attempt() {
    let hopeless = |_| Outcome::Failed(JobError::permanent("no such table"));
    assert!(waits(&with(Retry { attempts: 5, ..Retry::default() }), hopeless).is_empty());
}

#[test]
fn given_retry_on_time_outs_only_then_a_failure_is_final() {
    let retry = Retry { attempts: 5, retry_on: vec![RetryOn::TimedOut], ..Retry::default() };
    assert!(waits(&with(retry), failed).is_empty());
}

#[test]
fn given_a_run_that_is_tried_again_then_each_attempt_is_told_and_only_the_last_is_the_end() {
    let spec = with(Retry { attempts: 3, ..Retry::default() });
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec], |run| {
        let well = Outcome::Succeeded(sched_core::Output::default());
        Some((SECOND, if run.info.attempt < 3 { failed(0) } else { well }))
    });
    bench.advance(HOUR);
    let told: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::RunStarted { attempt, .. } => Some(format!("start {attempt}")),
            Event::RunRetry { attempt, error, .. } => Some(format!("retry after {attempt}: {error}")),
            Event::RunFinished { attempt, state, .. } => Some(format!("{state} at {attempt}")),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["start 1", "retry after 1: no", "start 2", "retry after 2: no", "start 3", "succeeded at 3"]);
}

#[test]
fn given_a_job_that_asks_for_an_endless_wait_then_the_next_attempt_comes_within_a_year() {
    for asked in [Duration::from_secs(9_000_000_000_000), Duration::MAX] {
        let busy = move |_: &_| Some((Duration::ZERO, Outcome::Failed(JobError::new("busy").retry_after(asked))));
        let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[every("h", HOUR)], busy);
        bench.advance(HOUR);
        assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z queued"]);
        let retried = bench.events().into_iter().find_map(|event| match event {
            Event::RunRetry { not_before, .. } => Some(*not_before),
            _ => None,
        });
        assert_eq!(retried, Some(at("2027-01-02T01:00:00Z")));
    }
}

#[test]
fn given_a_run_that_is_cancelled_while_its_time_limit_stops_it_then_no_other_attempt_follows() {
    let spec = with(Retry { attempts: 3, ..Retry::default() }).with_timeout(MINUTE);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec], |_| None);
    bench.advance(31 * MINUTE + SECOND);
    let open = bench.query().activity(&"h".parse().unwrap()).unwrap().1;
    bench.command(Command::Cancel { run_id: open[0] }).unwrap();
    bench.advance(10 * MINUTE);
    assert_eq!(bench.started().len(), 1);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z cancelled (requested)"]);
}
