//! Past fires, run after all.

use chrono::{DateTime, Utc};
use sched_core::engine::{BackfillRequest, Command, RangeFires, Reply};
use sched_core::testing::Bench;
use sched_core::{MemoryStore, Overlap, Refusal, TriggerSpec};

use crate::{HOUR, MINUTE, at, audited, every, ok};

/// Every fire that the ranges of `name` count between two instants.
fn missed(bench: &Bench<MemoryStore>, name: &str, from: &str, until: &str) -> BackfillRequest {
    let query = bench.query();
    let schedule: sched_core::ScheduleName = name.parse().unwrap();
    let (from, until) = (at(from), at(until));
    let versions = query.versions(&schedule).unwrap();
    let ranges = query.ranges_in(&schedule, from, until).unwrap();
    let parts = ranges.into_iter().map(|range| {
        let planned_by = versions.iter().find(|v| v.version == range.version).unwrap().spec.trigger.clone();
        let trigger = planned_by.compile().unwrap();
        let fires = std::iter::successors(Some(range.from), |fire| trigger.next_after(*fire));
        let fires = fires.take_while(|fire| *fire <= range.until.min(until)).filter(|fire| *fire >= from).collect();
        RangeFires::split(range, &planned_by, fires).unwrap()
    });
    BackfillRequest { parts: parts.collect(), schedule, again: vec![], chains: false, by: "ann".into() }
}

/// Down from half past midnight until half past four.
fn after_a_stop() -> Bench<MemoryStore> {
    let specs = [every("h", HOUR)];
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &specs).crash();
    let mut bench = Bench::start(store, at("2026-01-01T04:30:00Z"), &specs);
    bench.advance(MINUTE);
    bench
}

#[test]
fn given_a_missed_fire_when_it_is_backfilled_then_its_range_is_split_and_the_old_disposition_is_kept() {
    let mut bench = after_a_stop();
    let one = missed(&bench, "h", "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z");
    bench.command(Command::Backfill(one)).unwrap();
    bench.advance(MINUTE);
    assert_eq!(
        bench.ledger(),
        [
            "h 2026-01-01T01:00:00Z..2026-01-01T01:00:00Z 1x missed (superseded)",
            "h 2026-01-01T02:00:00Z..2026-01-01T02:00:00Z 1x missed (superseded) superseded",
            "h 2026-01-01T03:00:00Z..2026-01-01T03:00:00Z 1x missed (superseded)",
            "h 2026-01-01T04:00:00Z succeeded",
            "h 2026-01-01T02:00:00Z succeeded",
        ]
    );
    audited(&bench);
}

#[test]
fn given_a_fire_that_has_run_when_it_is_run_again_then_the_new_run_is_its_disposition() {
    let mut bench = after_a_stop();
    let (name, fire) = ("h".parse().unwrap(), at("2026-01-01T04:00:00Z"));
    let ran = bench.query().fires_in(&name, fire, fire).unwrap();
    let first = ran[0].run_id;
    let request =
        |again| BackfillRequest { again, ..missed(&bench, "h", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z") };
    let again = request(ran);
    bench.command(Command::Backfill(again.clone())).unwrap();
    bench.advance(MINUTE);
    let now = bench.query().fires_in(&name, fire, fire).unwrap();
    assert_eq!((now.len(), now[0].parent), (1, Some(first)));
    assert_eq!(bench.command(Command::Backfill(again)), Err(Refusal::Conflict), "it was read before");
    audited(&bench);
}

#[test]
fn given_a_long_backfill_when_a_fire_is_due_then_the_fire_goes_first_and_is_not_skipped() {
    let specs = [every("m", MINUTE), every("other", MINUTE)];
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs).crash();
    let mut bench = Bench::start_with(store, at("2026-01-01T00:30:30Z"), &specs, |_| ok(MINUTE / 2));
    bench.advance(MINUTE);
    bench.take_events();
    let all = missed(&bench, "m", "2026-01-01T00:01:00Z", "2026-01-01T00:29:00Z");
    let Ok(Reply::Runs(made)) = bench.command(Command::Backfill(all)) else { panic!("refused") };
    assert_eq!(made.len(), 29);
    bench.advance(5 * MINUTE);
    let fresh = |name: &str| bench.started().iter().filter(|line| line.starts_with(name) && !before(line)).count();
    assert_eq!((fresh("m "), fresh("other ")), (5, 5), "{:?}", bench.started());
    let old = bench.started().iter().filter(|line| before(line)).count();
    assert!(old >= 4, "they run in between: {:?}", bench.started());
    audited(&bench);
}

fn before(line: &str) -> bool {
    let instant: DateTime<Utc> = line.split(' ').nth(1).unwrap().parse().unwrap();
    instant < at("2026-01-01T00:30:00Z")
}

#[test]
fn given_a_backfill_of_a_schedule_that_may_run_beside_itself_then_it_takes_a_quarter_of_the_places() {
    let specs = [every("m", MINUTE).with_overlap(Overlap::Allow)];
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:00:30Z"), &specs).crash();
    let mut bench = Bench::start_with(store, at("2026-01-01T01:30:30Z"), &specs, |_| ok(10 * MINUTE));
    let all = missed(&bench, "m", "2026-01-01T00:01:00Z", "2026-01-01T01:29:00Z");
    bench.command(Command::Backfill(all)).unwrap();
    bench.advance(MINUTE / 4);
    assert_eq!(bench.started().len(), 64 / 4 + 1, "sixteen of them and the catch-up");
}

#[test]
fn given_a_schedule_changed_since_when_a_fire_missed_before_is_backfilled_then_its_own_version_names_it() {
    let store = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[every("h", HOUR)]).crash();
    let mut bench = Bench::start(store, at("2026-01-01T04:30:00Z"), &[every("h", 7 * HOUR)]);
    bench.advance(MINUTE);
    let two = at("2026-01-01T02:00:00Z");
    let range = bench.query().ranges_in(&"h".parse().unwrap(), two, two).unwrap().remove(0);
    let wrong = RangeFires::split(range, &TriggerSpec::every(7 * HOUR), [two].into());
    assert_eq!(wrong, Err(Refusal::NotRecoverable));
    let right = missed(&bench, "h", "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z");
    bench.command(Command::Backfill(right)).unwrap();
    bench.advance(MINUTE);
    assert!(bench.started().contains(&"h 2026-01-01T02:00:00Z".to_owned()), "{:?}", bench.started());
    audited(&bench);
}
