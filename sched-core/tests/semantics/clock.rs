//! Steps of the wall clock.

use sched_core::engine::Command;
use sched_core::testing::Bench;
use sched_core::{Event, MemoryStore, Retry, TriggerRequest};

use crate::{HOUR, MINUTE, SECOND, at, audited, every, fail, ok, start};

/// The steps of the clock that were told, in seconds, and whether someone was called.
fn told_steps(bench: &Bench<MemoryStore>) -> (Vec<i64>, bool) {
    let steps = bench.events().into_iter().filter_map(|event| match event {
        Event::ClockJump { millis } => Some(millis / 1000),
        _ => None,
    });
    let called = bench.events().iter().any(|event| matches!(event, Event::Alert { .. }));
    (steps.collect(), called)
}

#[test]
fn given_the_clock_steps_forward_then_it_is_told_and_what_it_passed_over_is_late() {
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[every("h", HOUR)]);
    bench.advance(HOUR);
    assert_eq!(told_steps(&bench), (vec![], false), "time that passes is no step");
    bench.set_clock(at("2026-01-01T04:30:00Z"));
    bench.advance(MINUTE);
    assert_eq!(told_steps(&bench), (vec![3 * 3600], false));
    assert_eq!(
        bench.ledger(),
        [
            "h 2026-01-01T01:00:00Z succeeded",
            "h 2026-01-01T02:00:00Z..2026-01-01T03:00:00Z 2x missed (superseded)",
            "h 2026-01-01T04:00:00Z succeeded",
        ]
    );
}

#[test]
fn given_the_clock_steps_back_then_nothing_fires_twice_and_a_long_step_calls_for_a_person() {
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[every("h", HOUR)]);
    bench.advance(HOUR);
    bench.set_clock(at("2026-01-01T00:50:00Z"));
    bench.advance(2 * HOUR);
    assert_eq!(bench.started(), ["h 2026-01-01T01:00:00Z", "h 2026-01-01T02:00:00Z"]);
    assert_eq!(told_steps(&bench), (vec![-2400], false));
    bench.set_clock(at("2026-01-01T00:50:00Z"));
    bench.advance(3 * HOUR);
    assert_eq!(bench.started()[2..], ["h 2026-01-01T03:00:00Z"]);
    assert_eq!(told_steps(&bench), (vec![-2400, -7200], true));
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(report.ok, "{report:?}");
}

#[test]
fn given_the_clock_went_back_when_the_schedule_changes_or_goes_then_what_ran_before_is_still_accounted() {
    for (back_to, changed) in [("02:20", true), ("02:20", false), ("00:20", true), ("00:20", false)] {
        let mut bench = start("2026-01-01T00:10:00Z", &[every("h", HOUR)]);
        bench.advance(3 * HOUR);
        bench.set_clock(at(&format!("2026-01-01T{back_to}:00Z")));
        let wanted = if changed { vec![every("h", 2 * HOUR)] } else { vec![] };
        crate::reconcile::apply(&mut bench, &wanted, 2).unwrap();
        bench.advance(6 * HOUR);
        crate::reconcile::apply(&mut bench, &[every("h", HOUR)], 2).unwrap();
        bench.advance(2 * HOUR);
        assert_eq!(bench.started()[..3], ["01", "02", "03"].map(|hour| format!("h 2026-01-01T{hour}:00:00Z")));
        audited(&bench);
    }
}

#[test]
fn given_fires_that_ran_before_the_clock_went_back_then_no_range_counts_them_again() {
    let mut bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR)]);
    bench.advance(3 * HOUR);
    bench.set_clock(at("2026-01-01T00:40:00Z"));
    let pause = Command::Pause { schedule: "h".parse().unwrap(), by: "t".into(), reason: "r".into() };
    bench.command(pause).unwrap();
    bench.advance(5 * HOUR);
    bench.command(Command::Resume { schedule: "h".parse().unwrap(), by: "t".into() }).unwrap();
    audited(&bench);
    let paused = |line: &String| line.contains("paused");
    let ranges: Vec<_> = bench.ledger().into_iter().filter(paused).collect();
    assert_eq!(ranges, ["h 2026-01-01T04:00:00Z..2026-01-01T05:00:00Z 2x skipped (paused)"]);
}

#[test]
fn given_a_clock_a_year_ahead_when_it_is_set_right_then_the_next_fires_are_normal_and_nothing_runs_twice() {
    let mut bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR)]);
    bench.set_clock(at("2027-01-01T00:30:00Z"));
    bench.advance(HOUR);
    assert_eq!(bench.started(), ["h 2027-01-01T00:00:00Z", "h 2027-01-01T01:00:00Z"]);
    bench.set_clock(at("2026-01-01T01:40:00Z"));
    assert!(bench.status().problem.is_some_and(|problem| problem.contains("went back")));
    bench.advance(2 * HOUR);
    assert_eq!(bench.started()[2..], ["h 2026-01-01T02:00:00Z", "h 2026-01-01T03:00:00Z"]);
    assert_eq!(bench.ledger()[0], "h 2026-01-01T01:00:00Z..2026-01-01T01:00:00Z 1x missed (window)");
    assert_eq!(bench.status().problem, None, "after an hour");
    audited(&bench);

    // A restart knows them too: a year later they are passed over.
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T03:50:00Z"), &[every("h", HOUR)]);
    bench.set_clock(at("2026-12-31T23:30:00Z"));
    bench.advance(3 * HOUR);
    let started = bench.started();
    assert_eq!(started, ["h 2026-12-31T23:00:00Z", "h 2027-01-01T02:00:00Z"]);
    audited(&bench);
}

#[test]
fn given_a_schedule_first_seen_with_the_clock_ahead_when_it_is_set_right_then_it_fires_from_then_on() {
    let mut bench = start("2027-01-01T00:30:00Z", &[every("h", HOUR)]);
    bench.set_clock(at("2026-01-01T00:30:00Z"));
    bench.advance(HOUR);
    assert_eq!(bench.started(), ["h 2026-01-01T01:00:00Z"]);
    audited(&bench);
}

#[test]
fn given_a_paused_schedule_when_the_clock_leaps_and_comes_back_then_it_is_still_paused_and_accounted() {
    let mut bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR)]);
    let name = || "h".parse().unwrap();
    bench.command(Command::Pause { schedule: name(), by: "ann".into(), reason: "deploy".into() }).unwrap();
    bench.set_clock(at("2026-02-01T00:30:00Z"));
    bench.advance(MINUTE);
    bench.command(Command::Resume { schedule: name(), by: "ann".into() }).unwrap();
    bench.command(Command::Pause { schedule: name(), by: "ann".into(), reason: "again".into() }).unwrap();
    bench.set_clock(at("2026-01-01T02:30:00Z"));
    bench.advance(HOUR);
    assert!(bench.started().is_empty());
    bench.command(Command::Trigger(TriggerRequest::new(name(), "ann"))).unwrap();
    bench.command(Command::Resume { schedule: name(), by: "ann".into() }).unwrap();
    bench.advance(MINUTE);
    audited(&bench);
    assert_eq!(
        bench.ledger(),
        [
            "h 2026-01-01T01:00:00Z..2026-01-01T02:00:00Z 2x skipped (paused)",
            "h 2026-01-01T03:00:00Z..2026-01-01T03:00:00Z 1x skipped (paused)",
            "h manual succeeded",
        ]
    );
}

#[test]
fn given_a_run_that_waits_for_its_next_attempt_when_the_clock_comes_back_then_it_waits_no_longer_than_before() {
    let retry = Retry { attempts: 2, initial: MINUTE, max: MINUTE, jitter: false, ..Retry::default() };
    let specs = [every("h", HOUR).with_retry(retry)];
    let mut bench =
        Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs, |run| match run.info.attempt {
            1 => fail(run),
            _ => ok(SECOND),
        });
    bench.set_clock(at("2027-01-01T00:30:00Z"));
    bench.advance(SECOND);
    let waits = |bench: &Bench<MemoryStore>| bench.ledger().contains(&"h 2027-01-01T00:00:00Z queued".to_owned());
    assert!(waits(&bench));

    bench.set_clock(at("2026-01-01T00:40:00Z"));
    bench.advance(MINUTE);
    assert!(!waits(&bench));
    assert_eq!(bench.started().len(), 2);
    bench.advance(HOUR);
    assert_eq!(bench.started()[2..], ["h 2026-01-01T01:00:00Z", "h 2026-01-01T01:00:00Z"], "each with two attempts");
    audited(&bench);
}

#[test]
fn given_a_run_that_waits_for_its_next_attempt_when_the_clock_is_set_back_over_a_restart_then_it_runs_at_once() {
    let specs = [every("h", HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2027-01-01T00:30:00Z"), &specs, fail);
    bench.advance(HOUR / 2);
    assert_eq!(bench.ledger(), ["h 2027-01-01T01:00:00Z queued"]);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T00:40:00Z"), &specs);
    bench.advance(SECOND);
    assert_eq!(bench.ledger(), ["h 2027-01-01T01:00:00Z succeeded"]);
}
