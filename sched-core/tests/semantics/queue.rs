//! Who goes first when places are few.

use std::time::Duration;

use sched_core::engine::{Effect, EngineConfig, Input, Machine, Token};
use sched_core::store::{Intent, Write};
use sched_core::testing::Bench;
use sched_core::{MemoryStore, Misfire, MisfirePolicy, NodeId, Now, Overlap, ScheduleSpec, StartOptions, Store as _};

use crate::{HOUR, MINUTE, SECOND, at, audited, every, ok};

fn write_of(effect: Effect) -> Option<(Option<Token>, Write)> {
    match effect {
        Effect::Write(token, write) => Some((token, *write)),
        _ => None,
    }
}

fn grouped(mut spec: ScheduleSpec) -> ScheduleSpec {
    spec.group = Some("pair".into());
    spec
}

#[test]
fn given_many_runs_to_catch_up_when_another_schedule_is_due_then_it_does_not_wait_behind_them() {
    let misfire = Misfire { policy: MisfirePolicy::All, max: 30, ..Misfire::default() };
    let crowd = grouped(every("crowd", MINUTE)).with_misfire(misfire).with_overlap(Overlap::Allow);
    let specs = [crowd, grouped(every("fresh", 5 * MINUTE))];
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs).crash();
    let mut bench = Bench::start_with(store, at("2026-01-01T00:40:30Z"), &specs, |_| ok(MINUTE));
    bench.advance(6 * MINUTE);
    let place = bench.started().iter().position(|line| line == "fresh 2026-01-01T00:45:00Z").unwrap();
    let first: Vec<_> =
        bench.started()[..place].iter().filter(|line| line.starts_with("crowd 2026-01-01T00:1")).collect();
    assert!(first.len() < 15, "{:?}", bench.started());
    bench.advance(30 * MINUTE);
    audited(&bench);
}

#[test]
fn given_one_schedule_with_many_waiting_runs_then_others_take_turns_with_it() {
    let greedy = grouped(every("greedy", SECOND)).with_overlap(Overlap::Allow).with_timeout(60 * MINUTE);
    let specs = [greedy, grouped(every("modest", 10 * SECOND)).with_timeout(60 * MINUTE)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:00Z"), &specs, |_| ok(3 * SECOND));
    bench.advance(2 * MINUTE);
    let modest = bench.started().iter().filter(|line| line.starts_with("modest")).count();
    assert!(modest >= 11, "each of its twelve but the last starts: {modest}");
}

#[test]
fn given_a_store_that_is_slow_then_only_so_many_fires_are_planned_ahead_of_it_and_the_rest_as_it_catches_up() {
    let specs: Vec<_> = (0..12_000).map(|n| every(&format!("s{n}"), HOUR)).collect();
    let mut store = MemoryStore::new();
    let now = |seconds: u64| Now {
        utc: at("2026-01-01T00:59:00Z") + Duration::from_secs(seconds),
        mono: Duration::from_secs(seconds),
    };
    let config = EngineConfig {
        node: NodeId::random(),
        max_concurrent_runs: 64,
        groups: Default::default(),
        channels: Default::default(),
        seed: 1,
    };
    let (mut machine, first) =
        Machine::start(config, now(0), store.load().unwrap(), &specs, StartOptions::default()).unwrap();
    for (_, write) in first.into_iter().filter_map(write_of) {
        store.commit(&[write]).unwrap();
    }
    let mut waiting: Vec<_> = Vec::new();
    for _ in 0..200 {
        waiting.extend(machine.step(now(61), Input::Wake).into_iter().filter_map(write_of));
    }
    assert!((4096..4096 + 256 + 64).contains(&waiting.len()), "{}", waiting.len());
    assert!(machine.wake_after(now(61)).is_none_or(|wait| !wait.is_zero()), "it does not spin meanwhile");
    let mut planned = 0;
    while !waiting.is_empty() {
        let batch = std::mem::take(&mut waiting);
        planned += batch.iter().filter(|(_, write)| matches!(write.intent, Intent::Plan { .. })).count();
        for (token, write) in batch {
            let receipt = store.commit(&[write]).unwrap().receipts.remove(0);
            if let Some(token) = token {
                waiting.extend(machine.step(now(61), Input::Written(token, receipt)).into_iter().filter_map(write_of));
            }
        }
        waiting.extend(machine.step(now(61), Input::Wake).into_iter().filter_map(write_of));
    }
    assert_eq!(planned, 12_000);
}

#[test]
fn given_a_group_when_the_next_in_line_must_wait_for_its_own_schedule_then_another_gets_the_place() {
    // Two places; `a` queues behind itself, so the second place is for `b` and `c` in turn.
    let a = grouped(every("a", MINUTE)).with_overlap(Overlap::QueueAll).with_timeout(60 * MINUTE);
    let specs = [a, grouped(every("b", MINUTE)), grouped(every("c", MINUTE))];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs, |run| {
        ok(if run.info.schedule.as_str() == "a" { 10 * MINUTE } else { 20 * SECOND })
    });
    bench.advance(5 * MINUTE);
    let of = |name: &str| bench.started().iter().filter(|line| line.starts_with(name)).count();
    assert_eq!((of("a "), of("b "), of("c ")), (1, 5, 5), "{:?}", bench.started());
}
