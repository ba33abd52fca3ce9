//! What runs because the scheduler starts.

use std::time::Duration;

use sched_core::engine::{Command, EngineConfig, Machine};
use sched_core::testing::Bench;
use sched_core::{MemoryStore, Misfire, MisfirePolicy, NodeId, Now, OnStart, ScheduleSpec, StartOptions, Store as _};

use crate::{HOUR, MINUTE, at, daily, every, fail, ok, once_only, start};

fn brief() -> ScheduleSpec {
    let skip = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
    daily("brief", "08:00").with_on_start(OnStart::IfDue).with_misfire(skip).with_retry(once_only())
}

#[test]
fn given_if_due_when_its_period_has_no_run_yet_then_it_runs_once_at_the_start() {
    let mut bench = start("2026-01-01T10:00:00Z", &[brief()]);
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["brief startup"]);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T11:00:00Z"), &[brief()]);
    bench.advance(MINUTE);
    assert!(bench.started().is_empty(), "the period has its run");
    let mut bench = Bench::start(bench.crash(), at("2026-01-02T08:10:00Z"), &[brief()]);
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["brief startup"], "another period, whose fire was missed");
}

#[test]
fn given_if_due_when_the_run_of_its_period_failed_then_one_start_tries_again_and_no_more() {
    let mut store = MemoryStore::new();
    let mut started = Vec::new();
    for minute in 0..5 {
        let at = at("2026-01-01T10:00:00Z") + Duration::from_secs(600 * minute);
        let mut bench = Bench::start_with(store, at, &[brief()], fail);
        bench.advance(MINUTE);
        started.push(bench.started().len());
        store = bench.crash();
    }
    assert_eq!(started, [1, 1, 0, 0, 0]);
}

#[test]
fn given_if_due_when_a_late_fire_of_its_period_runs_anyway_then_it_does_not_run_beside_it() {
    let spec = || brief().with_misfire(Misfire::default());
    let bench = start("2026-01-01T07:00:00Z", &[spec()]);
    let mut store = bench.crash();
    let mut started = Vec::new();
    for hour in ["09", "10"] {
        let mut bench = Bench::start(store, at(&format!("2026-01-01T{hour}:00:00Z")), &[spec()]);
        bench.advance(MINUTE);
        started.extend(bench.started().to_vec());
        store = bench.crash();
    }
    assert_eq!(started, ["brief startup", "brief 2026-01-01T08:00:00Z"][1..].to_vec());
}

#[test]
fn given_always_then_each_start_runs_it_but_not_the_restart_of_a_crashed_engine() {
    let spec = || every("clean", HOUR).with_on_start(OnStart::Always);
    let mut bench = start("2026-01-01T00:10:00Z", &[spec()]);
    bench.advance(MINUTE);
    let mut bench = Bench::start(bench.crash(), at("2026-01-01T00:20:00Z"), &[spec()]);
    bench.advance(MINUTE);
    assert_eq!(bench.started(), ["clean startup"]);
    let mut store = bench.crash();
    let config = || EngineConfig {
        node: NodeId::random(),
        max_concurrent_runs: 8,
        groups: Default::default(),
        channels: Default::default(),
        seed: 1,
    };
    let now = Now { utc: at("2026-01-01T00:30:00Z"), mono: Duration::from_secs(1) };
    let mut asked = |supervised_restart| {
        let options = StartOptions { supervised_restart };
        Machine::start(config(), now, store.load().unwrap(), &[spec()], options).unwrap().1.len()
    };
    assert_eq!((asked(true), asked(false)), (0, 1));
}

#[test]
fn given_a_reload_then_nothing_runs_because_of_it() {
    let spec = || every("clean", HOUR).with_on_start(OnStart::Always);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:10:00Z"), &[spec()], |_| ok(MINUTE));
    bench.advance(5 * MINUTE);
    let schedules = vec![spec(), every("new", HOUR).with_on_start(OnStart::Always)];
    let apply = Command::Apply {
        schedules,
        groups: Default::default(),
        channels: Default::default(),
        max_concurrent_runs: 64,
        by: "t".into(),
    };
    bench.command(apply).unwrap();
    bench.advance(5 * MINUTE);
    assert_eq!(bench.started(), ["clean startup"]);
}
