//! Rows that someone else wrote into the store of a running engine.

use sched_core::engine::Command;
use sched_core::testing::Bench;
use sched_core::{AlertKind, Event, SqliteStore};

use crate::{HOUR, MINUTE, at, audited, every};

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
    let told = "a fire of altered names a run that is not its own: 00000000-0000-0000-0000-000000000000";
    assert!(!report.ok && report.contradictions == [told], "{report:?}");
}

#[test]
fn given_a_cursor_that_someone_moved_then_the_schedule_is_paused_for_all_to_see_and_goes_on_from_there_once_resumed() {
    for moved in [-2, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sched.db");
        let specs = [every("h", HOUR)];
        let mut bench = Bench::start(SqliteStore::open(&path).unwrap(), at("2026-01-01T00:30:00Z"), &specs);
        bench.advance(3 * HOUR);
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute("UPDATE schedules SET cursor = cursor + ?1 * 3600000000", [moved]).unwrap();
        bench.advance(HOUR);
        let row = bench.query().schedules().unwrap().remove(0);
        assert!(row.paused.is_some_and(|hold| hold.by == "engine" && hold.reason.contains("sched audit")));

        bench.command(Command::Resume { schedule: "h".parse().unwrap(), by: "ann".into() }).unwrap();
        bench.advance(4 * HOUR);
        let started = bench.started().len();
        assert_eq!(started, if moved < 0 { 7 } else { 6 }, "{:#?}", bench.ledger());
        let alerts = bench.events().into_iter().filter(|event| matches!(event, Event::Alert { .. }));
        assert_eq!(alerts.count(), 1);
        // What lies between where a cursor was and where someone moved it to was never decided.
        let report = sched_core::audit(&*bench.query(), None).unwrap();
        assert_eq!(report.ok, moved < 0, "{report:?}");
        drop(bench.shutdown(MINUTE));
        let mut bench = Bench::start(SqliteStore::open(&path).unwrap(), at("2026-01-01T08:40:00Z"), &specs);
        bench.advance(HOUR);
        assert_eq!(bench.started(), ["h 2026-01-01T09:00:00Z"]);
        if moved < 0 {
            audited(&bench);
        }
    }
}
