//! Who goes first when places are few.

use sched_core::testing::Bench;
use sched_core::{MemoryStore, Misfire, MisfirePolicy, Overlap, ScheduleSpec};

use crate::{MINUTE, SECOND, at, audited, every, ok};

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
