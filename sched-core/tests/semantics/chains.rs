//! Schedules that come after others.

use std::time::Duration;

use sched_core::engine::{Assignment, Command};
use sched_core::testing::Bench;
use sched_core::{
    Delivery, HistoryFilter, HistoryRow, JobError, MemoryStore, On, Origin, Outcome, RunState, ScheduleSpec,
    TriggerKind, TriggerRequest, TriggerSpec, check_chains,
};

use crate::{HOUR, MINUTE, at, audited, every, ok, once_only};

fn after(name: &str, parent: &str, on: On) -> ScheduleSpec {
    let trigger = TriggerSpec::of(TriggerKind::After { schedule: parent.parse().unwrap(), on }, None);
    ScheduleSpec::new(name, "job", trigger).unwrap()
}

fn three() -> [ScheduleSpec; 4] {
    [
        every("load", HOUR).with_retry(once_only()),
        after("sum", "load", On::Success),
        after("tell", "load", On::Failure),
        after("tidy", "load", On::Any),
    ]
}

fn only_load_fails(assignment: &Assignment) -> Option<(Duration, Outcome)> {
    if assignment.info.schedule.as_str() == "load" {
        Some((MINUTE, Outcome::Failed(JobError::new("no"))))
    } else {
        ok(MINUTE)
    }
}

#[test]
fn given_a_chain_when_the_first_succeeds_then_what_waits_for_that_runs_with_its_nominal_time() {
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &three(), |_| ok(MINUTE));
    bench.advance(HOUR);
    assert_eq!(bench.started(), ["load 2026-01-01T01:00:00Z", "sum 2026-01-01T01:00:00Z", "tidy 2026-01-01T01:00:00Z"]);
    audited(&bench);
}

#[test]
fn given_a_chain_when_the_first_fails_for_good_then_only_what_waits_for_that_runs_and_once() {
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &three(), only_load_fails);
    bench.advance(HOUR);
    assert_eq!(
        bench.started(),
        ["load 2026-01-01T01:00:00Z", "tell 2026-01-01T01:00:00Z", "tidy 2026-01-01T01:00:00Z"]
    );
    // The failed run, repeated by hand: it fails again, and nobody is told twice.
    let rows = bench.query().history(&HistoryFilter::of("load".parse().unwrap(), 1)).unwrap();
    let HistoryRow::Run(run) = rows[0].clone() else { panic!("no run") };
    bench.command(Command::Retry { run, by: "ann".into() }).unwrap();
    bench.advance(5 * MINUTE);
    assert_eq!(bench.started()[3..], ["load manual"]);
    audited(&bench);
}

#[test]
fn given_a_failed_run_that_is_repeated_and_succeeds_then_what_waits_for_success_runs() {
    let mut failures = 1;
    let play = move |assignment: &Assignment| {
        if assignment.info.schedule.as_str() == "load" && failures > 0 {
            failures -= 1;
            return Some((MINUTE, Outcome::Failed(JobError::new("no"))));
        }
        ok(MINUTE)
    };
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &three(), play);
    bench.advance(HOUR);
    let rows = bench.query().history(&HistoryFilter::of("load".parse().unwrap(), 1)).unwrap();
    let HistoryRow::Run(run) = rows[0].clone() else { panic!("no run") };
    bench.command(Command::Retry { run, by: "ann".into() }).unwrap();
    bench.advance(5 * MINUTE);
    assert_eq!(bench.started()[3..], ["load manual", "sum chain"]);
    audited(&bench);
}

#[test]
fn given_a_process_that_dies_between_two_links_then_the_chain_goes_on_at_the_next_start() {
    let mut first = every("load", HOUR).with_retry(once_only());
    first.delivery = Delivery::AtMostOnce;
    let specs = [first, after("tell", "load", On::Failure)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs, |_| ok(10 * MINUTE));
    bench.advance(35 * MINUTE);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T01:06:00Z"), &specs);
    bench.advance(MINUTE);
    assert_eq!(bench.ledger(), ["load 2026-01-01T01:00:00Z interrupted (lost)", "tell 2026-01-01T01:00:00Z succeeded"]);
    audited(&bench);
}

#[test]
fn given_a_chained_schedule_that_is_busy_or_paused_then_the_skipped_run_is_on_record_with_the_reason() {
    let specs = [every("load", MINUTE), after("sum", "load", On::Success)];
    let play = |assignment: &Assignment| {
        if assignment.info.schedule.as_str() == "sum" { ok(90 * MINUTE / 60) } else { ok(Duration::ZERO) }
    };
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs, play);
    bench.advance(2 * MINUTE);
    let (schedule, by) = ("sum".parse().unwrap(), "ann".to_owned());
    bench.command(Command::Pause { schedule, by, reason: "deploy".into() }).unwrap();
    bench.advance(MINUTE);
    let rows = bench.query().history(&HistoryFilter::of("sum".parse().unwrap(), 9)).unwrap();
    let told: Vec<_> = rows
        .iter()
        .rev()
        .filter_map(|row| match row {
            HistoryRow::Run(run) => Some((run.origin, run.state, run.summary.clone().unwrap_or_default())),
            HistoryRow::Range(_) => None,
        })
        .collect();
    let HistoryRow::Run(first) = &rows[2] else { panic!("no run") };
    let busy = format!("a run of this schedule was still open: run {}", first.run_id);
    assert_eq!(
        told,
        [
            (Origin::Chain, RunState::Succeeded, String::new()),
            (Origin::Chain, RunState::Skipped, busy),
            (Origin::Chain, RunState::Skipped, "the schedule was paused".to_owned()),
        ]
    );
    audited(&bench);
}

#[test]
fn given_a_chain_when_its_first_is_run_by_hand_then_it_goes_on_too() {
    let specs = [every("load", HOUR), after("sum", "load", On::Success), after("mail", "sum", On::Success)];
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs);
    bench.command(Command::Trigger(TriggerRequest::new("load".parse().unwrap(), "ann"))).unwrap();
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["load manual", "sum chain", "mail chain"]);
}

#[test]
fn a_chain_that_leads_nowhere_or_back_to_itself_is_refused_with_its_way() {
    let said = |specs: &[ScheduleSpec]| check_chains(specs).unwrap_err().1.to_string();
    assert_eq!(
        said(&[every("load", HOUR), after("sum", "laod", On::Any)]),
        "trigger.after.schedule: no schedule `laod`; did you mean `load`?"
    );
    assert_eq!(
        said(&[after("a", "b", On::Any), after("b", "c", On::Any), after("c", "b", On::Any)]),
        "trigger.after.schedule: it comes after itself: b after c after b; give one of them a trigger with times"
    );
    assert!(check_chains(&three()).is_ok());
}
