//! Misfire, overlap, attempts, start-up, holds, versions.

use std::time::Duration;

use sched_core::engine::{Command, Reply};
use sched_core::testing::Bench;
use sched_core::{
    Delivery, HistoryFilter, HistoryRow, MemoryStore, Misfire, MisfirePolicy, OnStart, Overlap, Refusal, ScheduleSpec,
    TriggerKind, TriggerRequest, TriggerSpec,
};

use crate::{HOUR, MINUTE, at, daily, every, fail, ok, once_only};

/// The built-in default of the command line, as the core sees it.
fn original() -> Vec<ScheduleSpec> {
    vec![
        daily("brief", "08:00").with_on_start(OnStart::IfDue),
        daily("report", "09:00"),
        every("selfheal", 6 * HOUR).with_on_start(OnStart::IfDue),
        daily("retention", "03:00").with_on_start(OnStart::Always),
    ]
}

#[test]
fn a_week_of_the_original_schedules_equals_the_list_written_by_hand() {
    let mut bench = Bench::start(MemoryStore::new(), at("2025-10-20T14:23:00Z"), &original());
    bench.advance(7 * 24 * HOUR);
    let mut expected: Vec<String> =
        ["brief startup", "selfheal startup", "retention startup", "selfheal 2025-10-20T18:00:00Z"]
            .map(String::from)
            .into();
    for day in 21..=27 {
        let fires = [
            ("selfheal", "00"),
            ("retention", "03"),
            ("selfheal", "06"),
            ("brief", "08"),
            ("report", "09"),
            ("selfheal", "12"),
            ("selfheal", "18"),
        ];
        for (name, hour) in fires {
            if day < 27 || hour != "18" {
                expected.push(format!("{name} 2025-10-{day}T{hour}:00:00Z"));
            }
        }
    }
    assert_eq!(bench.started(), expected);
}

#[test]
fn given_a_slow_run_when_the_next_fire_comes_then_it_is_skipped_and_counted_with_its_blocker() {
    let specs = [every("slow", MINUTE).with_timeout(HOUR)];
    let mut bench =
        Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs, |_| ok(150 * MINUTE / 60));
    bench.advance(4 * MINUTE);
    assert_eq!(
        bench.ledger(),
        [
            "slow 2026-01-01T00:01:00Z succeeded",
            "slow 2026-01-01T00:02:00Z..2026-01-01T00:03:00Z 2x skipped (overlap)",
            "slow 2026-01-01T00:04:00Z running",
        ]
    );
    let rows = bench.query().history(&HistoryFilter::newest(10)).unwrap();
    let first = rows.iter().find_map(|row| match row {
        HistoryRow::Run(run) if run.state.is_final() => Some(run.run_id),
        _ => None,
    });
    assert!(rows.iter().any(|row| matches!(row, HistoryRow::Range(range) if range.blocker == first)));
}

#[test]
fn given_queue_all_when_fires_overlap_then_they_run_one_after_another() {
    let specs = [every("q", MINUTE).with_overlap(Overlap::QueueAll).with_timeout(HOUR)];
    let mut bench =
        Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs, |_| ok(100 * MINUTE / 60));
    bench.advance(4 * MINUTE);
    let started = bench.started();
    assert_eq!(started.len(), 3, "{started:?}");
    assert_eq!(started[2], "q 2026-01-01T00:03:00Z");
}

#[test]
fn given_cancel_running_when_the_next_fire_comes_then_the_old_run_is_cancelled_first() {
    let specs = [every("c", MINUTE).with_overlap(Overlap::CancelRunning).with_timeout(HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs, |_| ok(HOUR));
    bench.advance(100 * MINUTE / 60);
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.ledger(), ["c 2026-01-01T00:01:00Z cancelled (replaced)", "c 2026-01-01T00:02:00Z running"]);
}

#[test]
fn given_three_hours_down_when_it_starts_again_then_the_latest_fire_runs_and_the_rest_is_counted_as_missed() {
    let specs = [every("h", HOUR)];
    let bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs);
    let store = bench.shutdown(Duration::from_secs(5));
    let bench = Bench::start(store, at("2026-01-01T03:30:00Z"), &specs);
    assert_eq!(
        bench.ledger(),
        ["h 2026-01-01T01:00:00Z..2026-01-01T02:00:00Z 2x missed (superseded)", "h 2026-01-01T03:00:00Z running",]
    );
}

#[test]
fn given_the_skip_policy_when_it_was_down_then_no_late_fire_runs() {
    let misfire = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
    let specs = [every("h", HOUR).with_misfire(misfire)];
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs).crash();
    let mut bench = Bench::start(store, at("2026-01-01T02:30:00Z"), &specs);
    bench.advance(HOUR);
    assert_eq!(
        bench.ledger(),
        ["h 2026-01-01T01:00:00Z..2026-01-01T02:00:00Z 2x missed (misfire_skip)", "h 2026-01-01T03:00:00Z succeeded",]
    );
}

#[test]
fn given_a_run_that_succeeded_when_it_restarts_five_times_then_nothing_runs_again() {
    let specs: Vec<_> = original().into_iter().filter(|spec| spec.on_start != OnStart::Always).collect();
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T10:00:00Z"), &specs);
    bench.advance(MINUTE);
    let first = bench.ledger();
    let mut store = bench.shutdown(Duration::from_secs(5));
    for minute in 2..7 {
        let mut bench = Bench::start(store, at(&format!("2026-01-01T10:{minute:02}:00Z")), &specs);
        bench.advance(Duration::from_secs(30));
        assert!(bench.started().is_empty(), "{:?}", bench.started());
        assert_eq!(bench.ledger(), first);
        store = bench.crash();
    }
}

#[test]
fn given_a_crash_while_running_when_it_starts_again_then_the_attempt_counts_and_the_next_one_runs_once() {
    let specs = [every("h", HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(30 * MINUTE));
    bench.advance(2 * MINUTE);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T01:02:00Z"), &specs);
    bench.advance(MINUTE);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z succeeded"]);
    let rows = bench.query().history(&HistoryFilter::newest(1)).unwrap();
    assert!(matches!(&rows[0], HistoryRow::Run(run) if run.attempt == 2), "{rows:?}");
}

#[test]
fn given_at_most_once_when_it_crashes_while_running_then_the_run_is_interrupted_and_never_started_again() {
    let mut spec = every("h", HOUR).with_retry(once_only());
    spec.delivery = Delivery::AtMostOnce;
    let specs = [spec];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| None);
    bench.advance(2 * MINUTE);
    let bench = Bench::start(bench.crash(), at("2026-01-01T01:02:00Z"), &specs);
    assert!(bench.started().is_empty());
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z interrupted (lost)"]);
}

#[test]
fn given_a_failing_job_then_it_is_tried_three_times_with_waits_that_grow() {
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &[every("h", HOUR)], fail);
    bench.advance(2 * MINUTE);
    assert_eq!(bench.started().len(), 3);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z failed"]);
}

#[test]
fn given_a_job_that_ignores_its_time_limit_then_it_is_recorded_as_timed_out_and_keeps_its_place_until_it_ends() {
    let specs = [every("h", MINUTE).with_timeout(Duration::from_secs(10))];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:50Z"), &specs, |_| None);
    bench.advance(Duration::from_secs(30));
    assert_eq!(bench.ledger(), ["h 2026-01-01T00:01:00Z timed_out"]);
    bench.advance(MINUTE);
    assert_eq!(bench.started().len(), 1, "its place is still taken");
    bench.release_hanging();
    bench.advance(MINUTE);
    assert_eq!(bench.started().len(), 2);
}

#[test]
fn given_an_open_run_when_it_is_triggered_by_hand_then_it_is_refused_naming_the_blocker_unless_queued() {
    let specs = [every("h", HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:10:00Z"), &specs, |_| ok(5 * MINUTE));
    let request = || TriggerRequest::new("h".parse().unwrap(), "test");
    let Ok(Reply::Run(first)) = bench.command(Command::Trigger(request())) else { panic!("refused") };
    assert_eq!(bench.command(Command::Trigger(request())), Err(Refusal::Busy { blocker: first }));
    let queued = TriggerRequest { queue: true, ..request() };
    assert!(matches!(bench.command(Command::Trigger(queued)), Ok(Reply::Run(_))));
    bench.advance(11 * MINUTE);
    assert_eq!(bench.ledger(), ["h manual succeeded", "h manual succeeded"]);
}

#[test]
fn given_an_idempotency_key_when_asked_twice_then_there_is_one_run() {
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:10:00Z"), &[every("h", HOUR)]);
    let request =
        || TriggerRequest { idempotency_key: Some("k".into()), ..TriggerRequest::new("h".parse().unwrap(), "t") };
    let first = bench.command(Command::Trigger(request()));
    bench.advance(MINUTE);
    assert_eq!(bench.command(Command::Trigger(request())), first);
    bench.advance(MINUTE);
    assert_eq!(bench.ledger(), ["h manual succeeded"]);
}

#[test]
fn given_a_key_whose_run_goes_on_when_asked_again_then_it_is_that_run_and_it_is_not_cancelled_for_itself() {
    for overlap in [Overlap::Skip, Overlap::CancelRunning, Overlap::Allow] {
        let specs = [every("h", HOUR).with_overlap(overlap), every("other", HOUR)];
        let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:10:00Z"), &specs, |_| ok(MINUTE));
        let request = |name: &str| TriggerRequest {
            idempotency_key: Some("k".into()),
            ..TriggerRequest::new(name.parse().unwrap(), "t")
        };
        let first = bench.command(Command::Trigger(request("h")));
        assert!(matches!(first, Ok(Reply::Run(_))));
        assert_eq!(bench.command(Command::Trigger(request("h"))), first);
        assert_eq!(bench.command(Command::Trigger(request("other"))), Err(Refusal::KeyTaken));
        bench.advance(2 * MINUTE);
        assert_eq!(bench.ledger(), ["h manual succeeded"], "{overlap:?}");
        bench.advance(HOUR);
        assert_eq!(bench.started().len(), 3, "the place of the run is free again: {:?}", bench.started());
    }
}

#[test]
fn given_an_unknown_schedule_then_the_refusal_names_a_near_one() {
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:10:00Z"), &[every("brief", HOUR)]);
    let refusal = bench.command(Command::Trigger(TriggerRequest::new("breif".parse().unwrap(), "t"))).unwrap_err();
    assert_eq!(refusal.to_string(), "no schedule `breif`; did you mean `brief`?");
}

#[test]
fn given_dispatch_stopped_over_a_restart_then_fires_meanwhile_are_skipped_with_that_reason() {
    let specs = [every("h", HOUR)];
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs);
    bench.command(Command::Dispatch { run: false, by: "ann".into() }).unwrap();
    bench.advance(HOUR);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T02:30:00Z"), &specs);
    bench.advance(MINUTE);
    assert!(bench.started().is_empty());
    bench.command(Command::Dispatch { run: true, by: "ann".into() }).unwrap();
    bench.advance(HOUR);
    assert_eq!(
        bench.ledger(),
        [
            "h 2026-01-01T01:00:00Z..2026-01-01T02:00:00Z 2x skipped (dispatch_stopped)",
            "h 2026-01-01T03:00:00Z succeeded",
        ]
    );
}

#[test]
fn given_a_paused_schedule_then_manual_runs_work_and_resuming_accounts_for_the_pause() {
    let specs = [every("h", HOUR)];
    let mut bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs);
    let name = || "h".parse().unwrap();
    bench.command(Command::Pause { schedule: name(), by: "ann".into(), reason: "deploy".into() }).unwrap();
    bench.advance(HOUR);
    bench.command(Command::Trigger(TriggerRequest::new(name(), "ann"))).unwrap();
    bench.advance(MINUTE);
    bench.command(Command::Resume { schedule: name(), by: "ann".into() }).unwrap();
    assert_eq!(
        bench.ledger(),
        ["h 2026-01-01T01:00:00Z..2026-01-01T01:00:00Z 1x skipped (paused)", "h manual succeeded"]
    );
}

#[test]
fn given_a_concurrency_group_of_two_then_a_third_run_waits() {
    let specs: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let mut spec = every(name, HOUR);
            spec.group = Some("pair".into());
            spec
        })
        .collect();
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(5 * MINUTE));
    bench.advance(2 * MINUTE);
    assert_eq!(bench.started().len(), 2);
    bench.advance(5 * MINUTE);
    assert_eq!(bench.started().len(), 3);
}

#[test]
fn given_a_shutdown_while_running_then_the_run_waits_for_the_next_start_and_loses_no_attempt() {
    let specs = [every("h", HOUR).with_retry(once_only())];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(30 * MINUTE));
    bench.advance(2 * MINUTE);
    let store = bench.shutdown(Duration::from_secs(5));
    let mut bench = Bench::start(store, at("2026-01-01T01:02:00Z"), &specs);
    bench.advance(MINUTE);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z succeeded"]);
}

#[test]
fn given_a_changed_schedule_then_a_new_version_owns_the_fires_from_then_on() {
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[every("h", HOUR)]).crash();
    let mut bench = Bench::start(store, at("2026-01-01T00:45:00Z"), &[every("h", 2 * HOUR)]);
    bench.advance(4 * HOUR);
    assert_eq!(bench.ledger(), ["h 2026-01-01T02:00:00Z succeeded", "h 2026-01-01T04:00:00Z succeeded"]);
    let versions = bench.query().versions(&"h".parse().unwrap()).unwrap();
    let spans: Vec<_> = versions.iter().map(|v| (v.version, v.from, v.until)).collect();
    let change = at("2026-01-01T00:45:00Z");
    assert_eq!(spans, [(1, at("2026-01-01T00:30:00Z"), Some(change)), (2, change, None)]);
}

/// A trigger five minutes after each run ends, with a name.
fn after_runs(name: &str) -> ScheduleSpec {
    let trigger = TriggerSpec::of(TriggerKind::AfterCompletion(5 * MINUTE), None);
    ScheduleSpec::new(name, "job", trigger).unwrap()
}

#[test]
fn given_a_delay_after_completion_then_each_fire_is_counted_from_the_end_of_the_last_run() {
    let specs = [after_runs("poll")];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:00Z"), &specs, |_| ok(2 * MINUTE));
    bench.advance(13 * MINUTE);
    assert_eq!(bench.started(), ["poll 2026-01-01T00:05:00Z", "poll 2026-01-01T00:12:00Z"]);
    // By hand counts too: it ends at 00:18, and puts off the fire that would have come at 00:19.
    bench.advance(3 * MINUTE);
    bench.command(Command::Trigger(TriggerRequest::new("poll".parse().unwrap(), "ann"))).unwrap();
    bench.advance(10 * MINUTE);
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(bench.started()[2..], ["poll manual", "poll 2026-01-01T00:23:00Z"]);

    // While it is down the fire that was due stays due; one run makes up for it.
    let store = bench.crash();
    let mut bench = Bench::start_with(store, at("2026-01-01T00:50:00Z"), &specs, |_| ok(2 * MINUTE));
    bench.advance(10 * MINUTE);
    assert_eq!(bench.started(), ["poll 2026-01-01T00:50:00Z", "poll 2026-01-01T00:57:00Z"]);
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(bench.ledger().len(), 6 + 1, "one range for what the pause would have held: {:?}", bench.ledger());
}

#[test]
fn given_a_delay_after_completion_when_the_process_dies_while_it_runs_then_the_delay_counts_from_the_restart() {
    let specs = [after_runs("poll").with_retry(once_only())];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:00Z"), &specs, |_| ok(2 * MINUTE));
    bench.advance(6 * MINUTE);
    let store = bench.crash();
    let mut bench = Bench::start(store, at("2026-01-01T00:30:00Z"), &specs);
    bench.advance(6 * MINUTE);
    assert_eq!(bench.ledger(), ["poll 2026-01-01T00:05:00Z interrupted (lost)", "poll 2026-01-01T00:35:00Z succeeded"]);
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert_eq!((report.ok, report.expected), (true, 2), "{report:?}");
}
