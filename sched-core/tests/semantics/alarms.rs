//! Runs that are late or long, and schedules that work again.

use sched_core::engine::Assignment;
use sched_core::testing::Bench;
use sched_core::{AlertKind, Alerting, Event, JobError, MemoryStore, Outcome, ScheduleSpec};

use crate::{HOUR, MINUTE, at, every, ok, once_only};

fn alerts(bench: &Bench<MemoryStore>) -> Vec<(AlertKind, String)> {
    let alerts = bench.events().into_iter().filter_map(|event| match event {
        Event::Alert { kind, message, .. } => Some((*kind, message.clone())),
        _ => None,
    });
    alerts.collect()
}

fn watched(name: &str) -> ScheduleSpec {
    let mut spec = every(name, HOUR);
    spec.group = Some("pair".into());
    spec.alert = Alerting { late_start: Some(MINUTE), overrun: Some(10 * MINUTE) };
    spec.timeout = HOUR;
    spec
}

#[test]
fn given_a_run_that_waits_too_long_for_a_place_or_runs_too_long_then_someone_is_told_once() {
    let specs = [watched("a"), watched("b"), watched("c")];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(15 * MINUTE));
    bench.advance(50 * MINUTE);
    let told = alerts(&bench);
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[0], (AlertKind::LateStart, "c has not started yet, 1m after its time; see `sched show c`".into()));
    assert!(told[1..].iter().all(|(kind, _)| *kind == AlertKind::Overrun), "{told:?}");
    assert_eq!(told[1].1, "a has not ended yet, 10m after its start; see `sched show a`");
}

#[test]
fn given_a_schedule_that_failed_when_it_works_again_then_that_is_told_once_also_over_a_restart() {
    let specs = [every("h", HOUR).with_retry(once_only())];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs, |_: &Assignment| {
        Some((MINUTE, Outcome::Failed(JobError::new("no"))))
    });
    bench.advance(2 * HOUR);
    assert_eq!(alerts(&bench), []);
    assert_eq!(bench.query().schedules().unwrap()[0].failing_since, Some(at("2026-01-01T01:01:00Z")));
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T02:50:00Z"), &specs);
    bench.advance(2 * HOUR);
    assert_eq!(alerts(&bench), [(AlertKind::Recovered, "h works again; it first failed 1h 59m before".into())]);
    assert_eq!(bench.query().schedules().unwrap()[0].failing_since, None);
}
