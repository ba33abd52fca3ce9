//! What happens to fires that could not start on time, and to runs that wait for a place.

use std::time::Duration;

use sched_core::engine::{Command, EngineStatus, Reply};
use sched_core::testing::Bench;
use sched_core::{HistoryFilter, MemoryStore, Misfire, MisfirePolicy, Overlap, ScheduleSpec, TriggerSpec};

use crate::{HOUR, MINUTE, SECOND, at, audited, every, ok, start};

fn misfire(policy: MisfirePolicy, window: Duration, max: u32) -> Misfire {
    Misfire { policy, window, max }
}

/// Five hours pass while no process is there.
fn after_five_hours(spec: &ScheduleSpec) -> Bench<MemoryStore> {
    let bench = start("2026-01-01T00:30:00Z", std::slice::from_ref(spec));
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T05:30:00Z"), std::slice::from_ref(spec));
    bench.advance(MINUTE);
    audited(&bench);
    bench
}

#[test]
fn given_misfire_all_when_it_was_down_then_every_fire_runs_oldest_first() {
    let spec =
        every("h", HOUR).with_misfire(misfire(MisfirePolicy::All, 24 * HOUR, 100)).with_overlap(Overlap::QueueAll);
    let bench = after_five_hours(&spec);
    assert_eq!(bench.started(), ["01", "02", "03", "04", "05"].map(|hour| format!("h 2026-01-01T{hour}:00:00Z")));
}

#[test]
fn given_misfire_all_with_a_maximum_then_only_the_newest_so_many_run_and_the_rest_says_why() {
    let spec = every("h", HOUR).with_misfire(misfire(MisfirePolicy::All, 24 * HOUR, 2)).with_overlap(Overlap::QueueAll);
    let bench = after_five_hours(&spec);
    assert_eq!(
        bench.ledger(),
        [
            "h 2026-01-01T01:00:00Z..2026-01-01T03:00:00Z 3x missed (catchup_limit)",
            "h 2026-01-01T04:00:00Z succeeded",
            "h 2026-01-01T05:00:00Z succeeded",
        ]
    );
}

#[test]
fn given_a_misfire_window_then_what_is_older_does_not_run_whatever_the_policy() {
    for policy in [MisfirePolicy::Latest, MisfirePolicy::All] {
        let spec = every("h", HOUR).with_misfire(misfire(policy, 10 * MINUTE, 100));
        let bench = after_five_hours(&spec);
        assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z..2026-01-01T05:00:00Z 5x missed (window)"], "{policy:?}");
    }
}

#[test]
fn given_no_free_place_for_longer_than_the_window_then_the_run_is_missed_and_never_starts() {
    let specs = [
        every("first", 24 * HOUR).with_timeout(30 * HOUR),
        every("second", 24 * HOUR).with_misfire(misfire(MisfirePolicy::Latest, HOUR, 1)),
    ];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2025-12-31T23:59:00Z"), &specs, |_| ok(20 * HOUR));
    let Ok(Reply::Changed(_)) = bench.command(Command::Apply {
        schedules: specs.to_vec(),
        groups: [("pair".to_owned(), 2)].into(),
        channels: Default::default(),
        max_concurrent_runs: 1,
        by: "t".into(),
    }) else {
        panic!()
    };
    bench.advance(5 * HOUR);
    let EngineStatus { running, queued, .. } = bench.status();
    assert_eq!((running, queued), (1, 0));
    let ended = bench.ledger().into_iter().find(|line| line.contains("missed")).unwrap();
    assert!(ended.ends_with("2026-01-01T00:00:00Z missed (window)"), "{ended}");
    assert_eq!(bench.started().len(), 1);
    let second = HistoryFilter::of("second".parse().unwrap(), 1);
    let row = bench.query().history(&second).unwrap().remove(0);
    assert_eq!(row.note(), "it could not start within its misfire window", "{row:?}");
    audited(&bench);
}

#[test]
fn given_jitter_then_each_fire_is_delayed_by_its_own_amount_the_same_after_a_restart() {
    let spec = || {
        let mut spec = every("h", HOUR);
        spec.jitter = 10 * MINUTE;
        spec
    };
    let starts = |restart: bool| {
        let mut bench = start("2026-01-01T00:30:00Z", &[spec()]);
        bench.advance(HOUR);
        if restart {
            let now = bench.now();
            bench = Bench::start(bench.crash(), now, &[spec()]);
        }
        bench.advance(3 * HOUR);
        let runs = bench.query().fires_in(&"h".parse().unwrap(), at("2026-01-01T00:00:00Z"), bench.now()).unwrap();
        runs.iter().map(|run| (run.started_at.unwrap() - run.nominal_at.unwrap()).num_seconds()).collect::<Vec<_>>()
    };
    let delays = starts(false);
    assert_eq!(delays.len(), 4);
    assert!(delays.iter().all(|delay| (0..600).contains(delay)), "{delays:?}");
    assert!(delays.windows(2).any(|pair| pair[0] != pair[1]), "each fire its own: {delays:?}");
    assert_eq!(starts(true), delays);
}

#[test]
fn given_start_end_and_limit_then_only_the_fires_within_them_come() {
    let mut trigger = TriggerSpec::every(HOUR);
    trigger.start = Some(at("2026-01-01T02:00:00Z"));
    trigger.limit = Some(3);
    let mut ended = TriggerSpec::every(HOUR);
    ended.end = Some(at("2026-01-01T02:00:00Z"));
    let specs =
        [ScheduleSpec::new("limited", "job", trigger).unwrap(), ScheduleSpec::new("ended", "job", ended).unwrap()];
    let mut bench = start("2026-01-01T00:30:00Z", &specs);
    bench.advance(10 * HOUR);
    let of = |name: &str| bench.started().iter().filter(|line| line.starts_with(name)).cloned().collect::<Vec<_>>();
    assert_eq!(of("limited"), ["02", "03", "04"].map(|hour| format!("limited 2026-01-01T{hour}:00:00Z")));
    assert_eq!(of("ended"), ["01", "02"].map(|hour| format!("ended 2026-01-01T{hour}:00:00Z")));
}

#[test]
fn given_overlap_queue_then_one_fire_waits_and_further_ones_are_skipped() {
    let spec = every("h", HOUR).with_overlap(Overlap::Queue).with_timeout(10 * HOUR);
    let mut bench =
        Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec], |_| ok(3 * HOUR + 30 * MINUTE));
    bench.advance(3 * HOUR + 45 * MINUTE);
    assert_eq!(bench.started(), ["h 2026-01-01T01:00:00Z"]);
    bench.advance(HOUR);
    assert_eq!(bench.started(), ["h 2026-01-01T01:00:00Z", "h 2026-01-01T02:00:00Z"]);
    let skipped = bench.ledger().into_iter().find(|line| line.contains("skipped")).unwrap();
    assert_eq!(skipped, "h 2026-01-01T03:00:00Z..2026-01-01T04:00:00Z 2x skipped (overlap)");
    audited(&bench);
}

#[test]
fn given_overlap_allow_then_fires_run_beside_each_other_up_to_the_limit_of_all() {
    let spec = every("s", SECOND).with_overlap(Overlap::Allow);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:00Z"), &[spec], |_| ok(5 * MINUTE));
    bench.advance(2 * MINUTE);
    let EngineStatus { running, queued, .. } = bench.status();
    assert_eq!((running, queued), (64, 120 - 64));
    audited(&bench);
}
