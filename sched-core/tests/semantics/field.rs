//! How other schedulers fail, as their users reported it, and what happens here instead.

use std::time::Duration;

use sched_core::engine::Command;
use sched_core::testing::Bench;
use sched_core::{
    Event, MemoryStore, Misfire, MisfirePolicy, Outcome, Overlap, Reason, ScheduleSpec, TriggerRequest, TriggerSpec,
};

use crate::{HOUR, MINUTE, SECOND, at, audited, daily, every, ok, once_only, start};

/// river#791: a restart began each period anew.
#[test]
fn restarts_do_not_reset_a_period() {
    let spec = || every("heal", 6 * HOUR);
    let mut bench = start("2026-01-01T00:10:00Z", &[spec()]);
    let mut started = Vec::new();
    for _ in 0..9 {
        bench.advance(2 * HOUR + 7 * MINUTE);
        started.extend(bench.started().to_vec());
        let now = bench.now();
        bench = Bench::start(bench.crash(), now, &[spec()]);
    }
    assert_eq!(started, ["06", "12", "18"].map(|hour| format!("heal 2026-01-01T{hour}:00:00Z")));
    audited(&bench);
}

/// sidekiq#6804, good_job#1484, oban#630, pg-boss#914: a fire was lost between the old process and the new one.
#[test]
fn a_fire_that_comes_during_a_deploy_runs_when_the_new_process_stands() {
    let mut bench = start("2026-01-01T07:00:00Z", &[daily("brief", "08:00")]);
    bench.advance(59 * MINUTE);
    let store = bench.shutdown(SECOND);
    let mut bench = Bench::start(store, at("2026-01-01T08:00:20Z"), &[daily("brief", "08:00")]);
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["brief 2026-01-01T08:00:00Z"]);
    audited(&bench);
}

/// river#1035: after a long stop the whole backlog ran.
#[test]
fn a_backlog_of_a_month_is_skipped_and_counted_in_two_rows() {
    let skip = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
    let spec = || every("m", MINUTE).with_misfire(skip.clone());
    let bench = start("2026-01-01T00:00:30Z", &[spec()]);
    let mut bench = Bench::start(bench.crash(), at("2026-01-31T00:00:30Z"), &[spec()]);
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["m 2026-01-31T00:01:00Z"]);
    assert_eq!(
        bench.ledger(),
        [
            "m 2026-01-01T00:01:00Z..2026-01-30T00:00:00Z 41760x missed (window)",
            "m 2026-01-30T00:01:00Z..2026-01-31T00:00:00Z 1440x missed (misfire_skip)",
            "m 2026-01-31T00:01:00Z succeeded",
        ]
    );
    audited(&bench);
}

/// temporal#8087: something was skipped, but not said which.
#[test]
fn a_skipped_fire_says_which_schedule_and_which_run_stood_in_its_way() {
    let specs = [every("slow", HOUR).with_timeout(10 * HOUR), every("quick", HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs, |run| {
        ok(if run.info.schedule.as_str() == "slow" { 90 * MINUTE } else { SECOND })
    });
    bench.advance(2 * HOUR);
    let skipped: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::FireSkipped { schedule, reason, blocker, .. } => Some((schedule.to_string(), *reason, *blocker)),
            _ => None,
        })
        .collect();
    let first = bench.events().into_iter().find_map(|event| match event {
        Event::RunStarted { schedule, run_id, .. } if schedule.as_str() == "slow" => Some(*run_id),
        _ => None,
    });
    assert_eq!(skipped, [("slow".to_owned(), Reason::Overlap, first)]);
}

/// dkron#353, dkron#1939: after a crash a run that nobody ran kept the next ones from running for ever.
#[test]
fn a_run_whose_process_died_does_not_block_its_schedule() {
    let spec = || every("h", HOUR).with_retry(once_only()).with_timeout(10 * HOUR);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec()], |_| None);
    bench.advance(HOUR);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T01:31:00Z"), &[spec()]);
    bench.advance(HOUR);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z interrupted (lost)", "h 2026-01-01T02:00:00Z succeeded"],);
    audited(&bench);
}

/// Hangfire#173: a recurring job could not be paused.
#[test]
fn a_pause_lasts_over_a_restart_and_says_who_and_why() {
    let mut bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR)]);
    let pause = Command::Pause { schedule: "h".parse().unwrap(), by: "ann".into(), reason: "the disk is full".into() };
    bench.command(pause).unwrap();
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T03:30:00Z"), &[every("h", HOUR)]);
    bench.advance(HOUR);
    assert!(bench.started().is_empty());
    let hold = bench.query().schedules().unwrap().remove(0).paused.unwrap();
    assert_eq!((hold.by.as_str(), hold.reason.as_str()), ("ann", "the disk is full"));
}

/// tokio-cron-scheduler#113, apalis#334, solid_queue#763: a tick that came late was the last one.
#[test]
fn an_engine_that_was_held_up_or_slept_goes_on_with_every_schedule() {
    let mut bench = start("2026-01-01T00:00:30Z", &[every("m", MINUTE), every("h", HOUR)]);
    bench.advance(MINUTE);
    bench.set_clock(at("2026-01-01T09:00:40Z"));
    bench.advance(2 * MINUTE);
    let after =
        ["m 2026-01-01T09:00:00Z", "h 2026-01-01T09:00:00Z", "m 2026-01-01T09:01:00Z", "m 2026-01-01T09:02:00Z"];
    let mut found = bench.started()[1..].to_vec();
    found.sort();
    let mut after = after.map(str::to_owned).to_vec();
    after.sort();
    assert_eq!(found, after);
    audited(&bench);
}

/// tokio-cron-scheduler: a job that panicked never ran again, while its end was still announced.
#[test]
fn a_job_that_panics_is_told_as_failed_and_runs_at_its_next_time() {
    let spec = every("h", HOUR).with_retry(once_only());
    let mut calls = 0;
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec], move |_| {
        calls += 1;
        if calls == 1 { Some((SECOND, Outcome::Panicked("oh".into()))) } else { ok(SECOND) }
    });
    bench.advance(2 * HOUR);
    assert_eq!(bench.ledger(), ["h 2026-01-01T01:00:00Z failed", "h 2026-01-01T02:00:00Z succeeded"]);
}

/// tokio-cron-scheduler#107, apscheduler#120: after a change to summer time everything was an hour off.
#[test]
fn eight_in_the_morning_stays_eight_in_the_morning_over_a_change_to_summer_time() {
    let zone = chrono_tz::Europe::London;
    let spec = ScheduleSpec::new("brief", "job", TriggerSpec::daily("08:00:00".parse().unwrap(), zone)).unwrap();
    let mut bench = start("2026-03-28T00:00:00Z", &[spec]);
    bench.advance(48 * HOUR);
    assert_eq!(bench.started(), ["brief 2026-03-28T08:00:00Z", "brief 2026-03-29T07:00:00Z"]);
}

/// tokio-cron-scheduler#73: what was stored did not run after a restart.
#[test]
fn what_was_accepted_before_a_crash_runs_after_it_with_its_own_parameters() {
    let spec = || every("h", HOUR).with_param("n", 1);
    let mut bench = start("2026-01-01T00:10:00Z", &[spec()]);
    bench.command(Command::Dispatch { run: false, by: "t".into() }).unwrap();
    let mut request = TriggerRequest::new("h".parse().unwrap(), "t");
    request.params.insert("n".into(), 7.into());
    bench.command(Command::Trigger(request)).unwrap();
    let given = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = given.clone();
    let mut bench = Bench::start_with(bench.crash(), at("2026-01-01T00:20:00Z"), &[spec()], move |run| {
        seen.lock().unwrap().push(run.params["n"].clone());
        ok(SECOND)
    });
    bench.command(Command::Dispatch { run: true, by: "t".into() }).unwrap();
    bench.advance(MINUTE);
    assert_eq!(*given.lock().unwrap(), [7]);
}

/// The first system compared the minute in the loop that ran the jobs: a slow job made it miss the brief.
#[test]
fn a_job_that_takes_all_morning_makes_no_other_schedule_miss_its_minute() {
    let specs = [every("slow", 6 * HOUR).with_timeout(Duration::from_secs(86_400)), daily("brief", "08:00")];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T05:00:00Z"), &specs, |run| {
        ok(if run.info.schedule.as_str() == "slow" { 5 * HOUR } else { SECOND })
    });
    bench.advance(4 * HOUR);
    assert_eq!(bench.started(), ["slow 2026-01-01T06:00:00Z", "brief 2026-01-01T08:00:00Z"]);
}

/// tokio-cron-scheduler#61: of 5,000 jobs due together some were lost.
#[test]
fn five_thousand_schedules_due_together_fire_once_each() {
    let specs: Vec<_> = (0..5000).map(|n| every(&format!("s{n}"), HOUR).with_overlap(Overlap::Allow)).collect();
    let mut bench = start("2026-01-01T00:59:00Z", &specs);
    bench.advance(2 * MINUTE);
    let mut started = bench.started().to_vec();
    started.sort();
    started.dedup();
    assert_eq!((bench.started().len(), started.len()), (5000, 5000));
}
