//! Who is told of what, when, and what happens when that fails.

use std::collections::BTreeMap;

use sched_core::engine::{Assignment, Command};
use sched_core::testing::{Answer, Bench};
use sched_core::{
    AlertKind, ChannelName, ChannelPolicy, DeliveryError, Event, JobError, Letter, MemoryStore, NoticeKind,
    OutboxFilter, OutboxState, Outcome, ScheduleSpec, SqliteStore, Store,
};

use crate::{HOUR, MINUTE, SECOND, at, every, fail, ok, once_only};

fn name(text: &str) -> ChannelName {
    text.parse().unwrap()
}

fn channels(policies: &[(&str, ChannelPolicy)]) -> BTreeMap<ChannelName, ChannelPolicy> {
    policies.iter().map(|(channel, policy)| (name(channel), policy.clone())).collect()
}

fn hourly(schedule: &str) -> ScheduleSpec {
    every(schedule, HOUR).with_retry(once_only()).with_notify([name("ops")])
}

fn start<S: Store>(store: S, from: &str, specs: &[ScheduleSpec], policy: ChannelPolicy) -> Bench<S> {
    Bench::start_telling(store, at(from), specs, channels(&[("ops", policy)]), fail)
}

fn states<S: Store>(bench: &Bench<S>) -> Vec<(OutboxState, u32)> {
    let rows = bench.query().outbox(&OutboxFilter { state: None, after: None, limit: 100 }).unwrap();
    rows.into_iter().rev().map(|row| (row.state, row.attempt)).collect()
}

#[test]
fn given_runs_that_fail_within_a_moment_then_one_message_tells_of_all_and_only_those_that_name_the_channel() {
    let specs = [hourly("a"), hourly("b"), every("silent", HOUR).with_retry(once_only())];
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:30:00Z", &specs, ChannelPolicy::default());
    bench.advance(31 * MINUTE);
    assert_eq!(bench.take_sent(), ["ops: failed a has failed: no | failed b has failed: no"]);
    assert_eq!(states(&bench), [(OutboxState::Delivered, 1), (OutboxState::Delivered, 1)]);
}

#[test]
fn given_a_schedule_that_goes_on_failing_then_that_is_told_again_only_after_a_while_and_once_that_it_works() {
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:30:00Z", &[hourly("a")], ChannelPolicy::default());
    bench.advance(6 * HOUR);
    // At one and at five.
    assert_eq!(bench.take_sent().len(), 2);
    let policies = channels(&[("ops", ChannelPolicy::default())]);
    let store = bench.crash();
    // A restart does not make it tell again.
    let mut bench = Bench::start_telling(store, at("2026-01-01T06:30:00Z"), &[hourly("a")], policies.clone(), fail);
    bench.advance(2 * HOUR);
    assert_eq!(bench.take_sent(), [] as [&str; 0]);
    let mut bench =
        Bench::start_telling(bench.crash(), at("2026-01-01T08:30:00Z"), &[hourly("a")], policies.clone(), |_| {
            ok(SECOND)
        });
    bench.advance(2 * HOUR);
    assert_eq!(bench.take_sent(), ["ops: recovered a works again; it first failed 8h 1s before"]);
    // Having worked, a failure is news at once.
    let mut bench = Bench::start_telling(bench.crash(), at("2026-01-01T10:30:00Z"), &[hourly("a")], policies, fail);
    bench.advance(HOUR);
    assert_eq!(bench.take_sent(), ["ops: failed a has failed: no"]);
}

#[test]
fn given_attempts_that_are_left_then_nobody_is_told_before_the_last_has_failed() {
    let spec = every("a", HOUR).with_notify([name("ops")]);
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:59:00Z", &[spec], ChannelPolicy::default());
    bench.advance(62 * SECOND);
    assert_eq!(bench.take_sent(), [] as [&str; 0]);
    bench.advance(MINUTE);
    assert_eq!(bench.take_sent().len(), 1);
}

#[test]
fn given_a_crash_between_the_failure_and_its_message_then_the_next_start_tells() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut bench = start(store, "2026-01-01T00:59:59Z", &[hourly("a")], ChannelPolicy::default());
    bench.advance(2 * SECOND);
    assert_eq!((bench.take_sent(), states(&bench)), (vec![], vec![(OutboxState::Waiting, 0)]));
    drop(bench.crash());
    let mut bench =
        start(SqliteStore::open(&path).unwrap(), "2026-01-01T01:00:05Z", &[hourly("a")], ChannelPolicy::default());
    bench.channels_answer(Answer::Hang);
    bench.advance(10 * SECOND);
    assert_eq!(bench.take_sent(), ["ops: failed a has failed: no"]);
    // Nobody knows whether it was taken: the next start tells again.
    drop(bench.crash());
    let mut bench =
        start(SqliteStore::open(&path).unwrap(), "2026-01-01T01:20:00Z", &[hourly("a")], ChannelPolicy::default());
    bench.advance(SECOND);
    assert_eq!(bench.take_sent(), ["ops: failed a has failed: no"]);
    assert_eq!(states(&bench), [(OutboxState::Delivered, 1)]);
}

#[test]
fn given_a_channel_that_is_down_then_it_is_tried_again_ever_more_rarely_and_given_up_after_its_time() {
    let specs = [hourly("a")];
    let policies = channels(&[("ops", ChannelPolicy::default()), ("boss", ChannelPolicy::default())]);
    let mut bench = Bench::start_telling(MemoryStore::new(), at("2026-01-01T00:59:00Z"), &specs, policies, |run| {
        if run.info.nominal_at == Some(at("2026-01-01T01:00:00Z")) { fail(run) } else { None }
    });
    bench.channels_answer(Answer::Refuse(DeliveryError::new("connection refused")));
    bench.advance(HOUR);
    let tries = bench.take_sent().len();
    assert!((7..=12).contains(&tries), "{tries}");
    bench.advance(24 * HOUR);
    // The other channel, which is asked to tell of it, is down too, and nobody is told of that.
    let (ops, boss): (Vec<_>, Vec<_>) = bench.take_sent().into_iter().partition(|sent| sent.starts_with("ops"));
    assert!((23..=50).contains(&ops.len()), "{}", ops.len());
    assert!(boss[0].starts_with("boss: scheduler channel ops has given up a message: connection refused; see `sched"));
    bench.advance(48 * HOUR);
    let states: Vec<_> = states(&bench).into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, [OutboxState::Dead, OutboxState::Dead]);
    let alerts = bench.events().into_iter();
    let alerts = alerts.filter(|event| matches!(event, Event::Alert { kind: AlertKind::Undelivered, .. }));
    assert_eq!(alerts.count(), 2);
    // Revived by hand, it is delivered as what it was.
    let dead = OutboxFilter { state: Some(OutboxState::Dead), after: None, limit: 10 };
    let rows = bench.query().outbox(&dead).unwrap();
    bench.channels_answer(Answer::Take);
    bench.take_sent();
    bench.command(Command::Redeliver(rows)).unwrap();
    bench.advance(SECOND);
    assert!(bench.take_sent().contains(&"ops: failed a has failed: no".to_owned()));
    assert_eq!(bench.query().outbox(&dead).unwrap(), []);
}

#[test]
fn given_one_message_that_is_refused_for_good_then_those_with_it_are_sent_one_by_one() {
    let specs = [hourly("a"), hourly("b"), hourly("c")];
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:59:59Z", &specs, ChannelPolicy::default());
    bench.channels_answer(Answer::Refuse(DeliveryError::permanent("malformed")));
    bench.advance(MINUTE);
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(sent[3], "ops: failed c has failed: no");
    assert!(states(&bench).iter().all(|(state, _)| *state == OutboxState::Dead));
}

#[test]
fn given_a_wait_that_the_other_side_asks_for_then_nothing_goes_to_it_before() {
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:59:59Z", &[hourly("a")], ChannelPolicy::default());
    bench.channels_answer(Answer::Refuse(DeliveryError::new("busy").retry_after(2 * HOUR)));
    bench.advance(MINUTE);
    assert_eq!(bench.take_sent().len(), 1);
    bench.advance(118 * MINUTE);
    assert_eq!(bench.take_sent(), [] as [&str; 0]);
    bench.advance(3 * MINUTE);
    assert_eq!(bench.take_sent().len(), 1);
}

#[test]
fn given_quiet_hours_then_the_morning_tells_of_the_night_and_only_the_excepted_at_once() {
    let quiet = r#"{ "from": "22:00", "until": "07:00", "timezone": "Europe/London", "except": ["missed"] }"#;
    let policy =
        ChannelPolicy { quiet: Some(serde_json::from_str(quiet).unwrap()), repeat: HOUR, ..ChannelPolicy::default() };
    let mut bench = start(MemoryStore::new(), "2026-01-01T23:30:00Z", &[hourly("a")], policy);
    bench.advance(7 * HOUR);
    assert_eq!(bench.take_sent(), [] as [&str; 0]);
    bench.advance(HOUR);
    let sent = bench.take_sent();
    assert_eq!((sent.len(), sent[0].matches("a has failed").count()), (2, 7), "{sent:?}");
}

#[test]
fn given_quiet_hours_then_nothing_is_told_in_them_in_the_company_of_what_waits_already() {
    let quiet = r#"{ "from": "22:00", "until": "07:00" }"#;
    let policy = ChannelPolicy { quiet: Some(serde_json::from_str(quiet).unwrap()), ..ChannelPolicy::default() };
    let mut bench = start(MemoryStore::new(), "2026-01-01T23:58:00Z", &[hourly("a")], policy);
    bench.channels_answer(Answer::Refuse(DeliveryError::new("busy").retry_after(HOUR)));
    let letter = Letter { subject: "The day".into(), text: "good".into(), html: None };
    bench.command(Command::Send { channels: vec![name("ops")], schedule: "a".parse().unwrap(), letter }).unwrap();
    bench.advance(MINUTE);
    assert_eq!(bench.take_sent().len(), 1);
    bench.channels_answer(Answer::Take);
    bench.advance(7 * HOUR);
    assert_eq!(bench.take_sent(), ["ops: The day"]);
    bench.advance(5 * MINUTE);
    assert_eq!(bench.take_sent().len(), 1);
}

#[test]
fn given_a_channel_that_is_told_of_each_run_then_it_hears_in_order_and_one_by_one() {
    let policy = ChannelPolicy::each_run();
    let policies = channels(&[("ops", policy)]);
    let mut times = 0;
    let play = move |_: &Assignment| {
        times += 1;
        if times == 2 { Some((SECOND, Outcome::Failed(JobError::new("no")))) } else { ok(SECOND) }
    };
    let mut bench =
        Bench::start_telling(MemoryStore::new(), at("2026-01-01T00:30:00Z"), &[hourly("a")], policies, play);
    bench.advance(2 * HOUR);
    let sent = bench.take_sent();
    let expected = [
        "ops: started a has started",
        "ops: succeeded a has succeeded",
        "ops: started a has started",
        "ops: failed a has failed: no",
    ];
    assert_eq!(sent, expected);
}

#[test]
fn given_fires_missed_while_it_was_down_then_that_is_told_once() {
    let spec = hourly("a").with_misfire(sched_core::Misfire {
        policy: sched_core::MisfirePolicy::Skip,
        ..sched_core::Misfire::default()
    });
    let bench = Bench::start(MemoryStore::new(), at("2026-01-01T00:30:00Z"), std::slice::from_ref(&spec));
    let policies = channels(&[("ops", ChannelPolicy::default())]);
    let mut bench = Bench::start_telling(bench.crash(), at("2026-01-01T05:30:00Z"), &[spec], policies, |_| ok(SECOND));
    bench.advance(MINUTE);
    assert_eq!(bench.take_sent(), ["ops: missed a missed 5 fires: it was late, and this schedule skips late fires"]);
}

#[test]
fn given_a_letter_then_it_goes_out_by_itself_and_an_unknown_channel_is_refused() {
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:30:00Z", &[hourly("a")], ChannelPolicy::default());
    let letter = Letter { subject: "The day".into(), text: "good".into(), html: None };
    let send = |channel: &str| Command::Send {
        channels: vec![name(channel)],
        schedule: "a".parse().unwrap(),
        letter: letter.clone(),
    };
    assert_eq!(
        bench.command(send("opz")).unwrap_err().to_string(),
        "no channel `opz`; did you mean `ops`?; write it as a [[channel]]"
    );
    bench.command(send("ops")).unwrap();
    bench.advance(SECOND);
    assert_eq!(bench.take_sent(), ["ops: The day"]);
}

#[test]
fn given_a_channel_that_is_gone_from_the_configuration_then_what_waited_for_it_is_given_up() {
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:59:59Z", &[hourly("a")], ChannelPolicy::default());
    bench.channels_answer(Answer::Refuse(DeliveryError::new("down")));
    bench.advance(MINUTE);
    let spec = every("a", HOUR);
    let bench = Bench::start(bench.crash(), at("2026-01-01T01:10:00Z"), &[spec]);
    let rows = bench.query().outbox(&OutboxFilter { state: None, after: None, limit: 10 }).unwrap();
    assert_eq!(rows[0].state, OutboxState::Dead);
    assert_eq!(rows[0].error.as_deref(), Some("its channel is configured no longer"));
    assert_eq!(rows[0].kind, NoticeKind::Failed);
}

#[test]
fn given_more_than_a_channel_can_hold_then_what_is_too_much_is_given_up_with_that_reason() {
    let policy = ChannelPolicy { repeat: std::time::Duration::ZERO, ..ChannelPolicy::default() };
    let spec = every("a", SECOND).with_retry(once_only()).with_notify([name("ops")]);
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:00:00Z", &[spec], policy);
    bench.channels_answer(Answer::Refuse(DeliveryError::new("down")));
    bench.advance(20 * MINUTE);
    let count =
        |state| bench.query().outbox(&OutboxFilter { state: Some(state), after: None, limit: 5000 }).unwrap().len();
    assert_eq!((count(OutboxState::Waiting), count(OutboxState::Dead)), (1000, 200));
}

#[test]
fn given_a_clock_that_goes_back_then_what_waits_does_not_wait_for_longer() {
    let mut bench = start(MemoryStore::new(), "2026-01-01T00:59:59Z", &[hourly("a")], ChannelPolicy::default());
    bench.advance(2 * SECOND);
    bench.set_clock(at("2025-12-31T00:00:00Z"));
    bench.advance(11 * SECOND);
    let sent = bench.take_sent();
    assert!(sent.iter().any(|sent| sent.contains("a has failed: no")), "{sent:?}");
    assert!(sent.iter().any(|sent| sent.contains("scheduler the wall clock went back")), "{sent:?}");
}
