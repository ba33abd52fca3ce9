//! Another configuration, in the running engine.

use std::collections::BTreeMap;

use sched_core::engine::{Command, Reply};
use sched_core::testing::Bench;
use sched_core::{ChangeKind, MemoryStore, OnStart, Overlap, Refusal, ScheduleSpec, TriggerRequest};

use crate::{HOUR, MINUTE, at, audited, every, ok, start};

pub(crate) fn apply(
    bench: &mut Bench<MemoryStore>,
    schedules: &[ScheduleSpec],
    pair: usize,
) -> Result<Vec<(String, ChangeKind)>, Refusal> {
    let groups = BTreeMap::from([("pair".to_owned(), pair)]);
    let schedules = schedules.to_vec();
    match bench.command(Command::Apply {
        schedules,
        groups,
        channels: Default::default(),
        max_concurrent_runs: 64,
        by: "ann".into(),
    })? {
        Reply::Changed(changes) => {
            Ok(changes.into_iter().map(|change| (change.schedule.to_string(), change.kind)).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn given_a_new_configuration_then_what_differs_changes_and_what_does_not_is_not_touched() {
    let same = every("same", HOUR).with_on_start(OnStart::Always);
    let mut bench = start("2026-01-01T00:30:00Z", &[same.clone(), every("old", HOUR), every("slower", HOUR)]);
    bench.advance(MINUTE);
    let before = bench.query().schedules().unwrap();
    let changes = apply(&mut bench, &[same, every("new", HOUR), every("slower", 2 * HOUR)], 2).unwrap();
    assert_eq!(
        changes,
        [
            ("new".to_owned(), ChangeKind::Added),
            ("old".to_owned(), ChangeKind::Removed),
            ("slower".to_owned(), ChangeKind::Changed)
        ]
    );
    let after = bench.query().schedules().unwrap();
    let of = |rows: &[sched_core::store::ScheduleRow], name: &str| {
        rows.iter().find(|row| row.name().as_str() == name).unwrap().clone()
    };
    assert_eq!(of(&before, "same"), of(&after, "same"), "its next run included");
    assert!(of(&after, "old").retired);
    assert_eq!(of(&after, "slower").version, 2);
    bench.advance(2 * HOUR);
    assert_eq!(
        bench.started(),
        [
            "same startup",
            "new 2026-01-01T01:00:00Z",
            "same 2026-01-01T01:00:00Z",
            "new 2026-01-01T02:00:00Z",
            "same 2026-01-01T02:00:00Z",
            "slower 2026-01-01T02:00:00Z",
        ],
        "on_start is for starts"
    );
    audited(&bench);
    assert_eq!(apply(&mut bench, &[every("new", HOUR), every("slower", 2 * HOUR)], 2).unwrap().len(), 1);
    audited(&bench);
}

#[test]
fn given_a_configuration_that_cannot_work_then_nothing_changes() {
    let mut bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR)]);
    let before = bench.query().schedules().unwrap();
    let refused = apply(&mut bench, &[every("new", HOUR), every("h", std::time::Duration::ZERO)], 2);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    assert_eq!(bench.query().schedules().unwrap(), before);
}

#[test]
fn given_queued_and_running_runs_when_their_schedule_changes_then_they_keep_their_version_and_finish() {
    let spec = |param: u32| every("h", HOUR).with_overlap(Overlap::QueueAll).with_param("n", param);
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[spec(1)], |_| ok(10 * MINUTE));
    let request = || TriggerRequest { queue: true, ..TriggerRequest::new("h".parse().unwrap(), "ann") };
    bench.command(Command::Trigger(request())).unwrap();
    bench.command(Command::Trigger(request())).unwrap();
    apply(&mut bench, &[spec(2)], 2).unwrap();
    bench.advance(25 * MINUTE);
    assert_eq!(bench.ledger(), ["h manual succeeded", "h manual succeeded"]);
    let rows = bench.query().history(&sched_core::HistoryFilter::newest(9)).unwrap();
    let versions: Vec<_> = rows
        .iter()
        .map(|row| match row {
            sched_core::HistoryRow::Run(run) => (run.version, run.params["n"].clone()),
            sched_core::HistoryRow::Range(_) => panic!("a range"),
        })
        .collect();
    assert_eq!(versions, [(1, 1.into()), (1, 1.into())]);
}

#[test]
fn given_a_schedule_edited_while_it_was_down_then_what_came_due_is_caught_up_with_the_new_parameters() {
    let bench = start("2026-01-01T00:30:00Z", &[every("h", HOUR).with_param("to", "old")]);
    let given = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = given.clone();
    let edited = every("h", 2 * HOUR).with_param("to", "new");
    let mut bench = Bench::start_with(bench.crash(), at("2026-01-01T03:30:00Z"), &[edited], move |run| {
        seen.lock().unwrap().push((run.info.nominal_at.unwrap(), run.params["to"].clone()));
        ok(MINUTE)
    });
    bench.advance(HOUR);
    let of = |hour: &str, to: &str| (at(&format!("2026-01-01T{hour}:00:00Z")), serde_json::json!(to));
    assert_eq!(*given.lock().unwrap(), [of("03", "new"), of("04", "new")], "the old version named three o'clock");
    audited(&bench);
}

#[test]
fn given_new_time_zone_rules_then_they_are_a_new_version_and_what_the_old_ones_named_is_taken_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let zone = chrono_tz::Europe::London;
    let spec = || {
        let trigger = sched_core::TriggerSpec::daily("08:00:00".parse().unwrap(), zone);
        ScheduleSpec::new("brief", "job", trigger).unwrap()
    };
    let mut bench = Bench::start(sched_core::SqliteStore::open(&path).unwrap(), at("2026-01-01T00:00:00Z"), &[spec()]);
    bench.advance(48 * HOUR);
    drop(bench.crash());
    // As a program would have left it whose rules said that London is an hour ahead.
    let conn = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        "UPDATE schedules SET zones = '1999x'",
        "UPDATE schedule_versions SET zones = '1999x'",
        "UPDATE fires SET nominal_at = nominal_at - 3600000000",
        "UPDATE runs SET nominal_at = nominal_at - 3600000000",
    ] {
        assert!(conn.execute(sql, []).unwrap() > 0);
    }
    drop(conn);
    let store = sched_core::SqliteStore::open(&path).unwrap();
    let mut bench = Bench::start(store, at("2026-01-03T00:00:00Z"), &[spec()]);
    bench.advance(48 * HOUR);
    assert_eq!(bench.started(), ["brief 2026-01-03T08:00:00Z", "brief 2026-01-04T08:00:00Z"]);
    let versions = bench.query().versions(&"brief".parse().unwrap()).unwrap();
    let rules: Vec<_> = versions.iter().map(|version| version.zones.as_deref().unwrap().to_owned()).collect();
    assert_eq!(rules, ["1999x", chrono_tz::IANA_TZDB_VERSION]);
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!((report.expected, report.recorded, report.not_recomputed), (4, 4, 2));
}

#[test]
fn given_a_running_run_when_its_schedule_is_removed_then_it_finishes_and_its_history_stays() {
    let specs = [every("h", HOUR), every("other", HOUR)];
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(10 * MINUTE));
    bench.advance(2 * MINUTE);
    apply(&mut bench, &[every("other", HOUR)], 2).unwrap();
    bench.advance(20 * MINUTE);
    assert!(bench.ledger().contains(&"h 2026-01-01T01:00:00Z succeeded".to_owned()), "{:?}", bench.ledger());
    audited(&bench);
}

#[test]
fn given_a_group_with_a_new_limit_then_waiting_runs_start_at_once_and_places_are_counted_right() {
    let grouped = |name: &str| {
        let mut spec = every(name, HOUR);
        spec.group = Some("pair".into());
        spec
    };
    let specs: Vec<_> = ["a", "b", "c", "d"].map(grouped).into();
    let mut bench = Bench::start_with(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, |_| ok(10 * MINUTE));
    bench.advance(2 * MINUTE);
    assert_eq!(bench.started().len(), 2);
    apply(&mut bench, &specs, 3).unwrap();
    assert_eq!(bench.started().len(), 3);
    // One leaves the group while it runs: its place in it is free.
    let mut alone = specs.clone();
    alone[0].group = None;
    apply(&mut bench, &alone, 3).unwrap();
    bench.advance(20 * MINUTE);
    assert_eq!(bench.started().len(), 4);
    bench.advance(HOUR);
    assert_eq!(bench.started().len(), 8);
    audited(&bench);
}
