//! Rows that someone else wrote into the store of a running engine.

use sched_core::testing::Bench;
use sched_core::{AlertKind, Event, SqliteStore};

use crate::{HOUR, at, every};

#[test]
fn given_a_row_that_stands_in_the_way_of_a_fire_then_its_schedule_is_held_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let specs = [every("altered", HOUR), every("other", HOUR)];
    let mut bench = Bench::start(SqliteStore::open(&path).unwrap(), at("2026-01-01T00:30:00Z"), &specs);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let taken = "INSERT INTO fires SELECT id, ?1, zeroblob(16) FROM schedules WHERE name = 'altered'";
    conn.execute(taken, [at("2026-01-01T01:00:00Z").timestamp_micros()]).unwrap();
    bench.advance(2 * HOUR);
    assert_eq!(bench.started(), ["other 2026-01-01T01:00:00Z", "other 2026-01-01T02:00:00Z"]);
    let held = bench.events().into_iter().find_map(|event| match event {
        Event::Alert { kind: AlertKind::Held, schedule, .. } => schedule.clone(),
        _ => None,
    });
    assert_eq!(held.unwrap().as_str(), "altered");
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(!report.ok && !report.contradictions.is_empty(), "{report:?}");
}
