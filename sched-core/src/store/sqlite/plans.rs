//! Every statement is served by an index, whatever a store holds: SQLite's own plans say so.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::{SqliteStore, outbox, query};
use crate::context::PruneRule;
use crate::engine::Command;
use crate::notice::{ChannelPolicy, OutboxState};
use crate::query::{HistoryCursor, HistoryFilter, OutboxFilter};
use crate::run::{Outcome, RunState};
use crate::spec::ScheduleSpec;
use crate::store::Store;
use crate::testing::Bench;
use crate::trigger::TriggerSpec;
use crate::{Event, JobError, On, Overlap, Seq};

thread_local! {
    static SEEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn listen(conn: &mut Connection) {
    let traced = conn.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(|event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(_, sql) = event {
                SEEN.with_borrow_mut(|seen| seen.insert(sql.to_owned()));
            }
        }),
    );
    traced.unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

/// A store in which everything has happened that writes.
fn busy_life(store: SqliteStore) {
    let ops = || "ops".parse().unwrap();
    let every = |name: &str| ScheduleSpec::new(name, "job", TriggerSpec::every(HOUR)).unwrap().with_notify([ops()]);
    let after = TriggerSpec::of(crate::TriggerKind::After { schedule: "a".parse().unwrap(), on: On::Any }, None);
    let specs = [every("a"), every("b").with_overlap(Overlap::QueueAll), ScheduleSpec::new("c", "job", after).unwrap()];
    let mut calls = 0;
    let begin = "2026-01-01T00:30:00Z".parse().unwrap();
    let channels = BTreeMap::from([("ops".parse().unwrap(), ChannelPolicy::default())]);
    let mut bench = Bench::start_telling(store, begin, &specs, channels, move |_| {
        calls += 1;
        let takes = Duration::from_secs(if calls % 5 == 0 { 9000 } else { 5 });
        Some((takes, Outcome::Failed(JobError::new("no"))))
    });
    bench.advance(24 * HOUR);
    let a = || "a".parse().unwrap();
    let hold = |reason: &str| Command::Pause { schedule: a(), by: "t".into(), reason: reason.into() };
    bench.command(hold("r")).unwrap();
    bench.advance(3 * HOUR);
    bench.command(Command::Resume { schedule: a(), by: "t".into() }).unwrap();
    let keyed = crate::TriggerRequest { idempotency_key: Some("k".into()), ..crate::TriggerRequest::new(a(), "t") };
    bench.command(Command::Trigger(keyed)).unwrap();
    bench.command(Command::PutState { schedule: a(), key: "k".into(), value: 1.into() }).unwrap();
    bench.command(Command::Mark { sink: "s".into(), seq: Seq(1) }).unwrap();
    bench.command(Command::Note(Event::Stalled { millis: 1 })).unwrap();
    bench.set_clock("2026-01-02T02:10:00Z".parse().unwrap());
    bench.advance(HOUR);
    let range = bench.query().ranges_in(&a(), DateTime::UNIX_EPOCH, bench.now()).unwrap().remove(0);
    let fires = [range.from].into();
    let parts = vec![crate::engine::RangeFires::split(range, &TriggerSpec::every(HOUR), fires).unwrap()];
    let request = crate::engine::BackfillRequest { schedule: a(), parts, again: vec![], chains: false, by: "t".into() };
    bench.command(Command::Backfill(request)).unwrap();
    bench.advance(HOUR);
    let before = bench.now();
    for dry_run in [true, false] {
        let rule = PruneRule { before, failures_before: before, keep_newest: 1, dry_run };
        bench.command(Command::Prune { rule, from: None }).unwrap();
    }
}

fn ask_everything(conn: &Connection) {
    let name = || "a".parse().unwrap();
    let (ever, now) = (DateTime::<Utc>::UNIX_EPOCH, "2027-01-01T00:00:00Z".parse().unwrap());
    let cursor = HistoryCursor { at: now, id: uuid::Uuid::nil() };
    for schedule in [None, Some(name())] {
        for states in std::iter::once(vec![]).chain(RunState::ALL.iter().map(|state| vec![*state])) {
            for (since, after) in [(None, None), (Some(ever), None), (None, Some(cursor))] {
                let filter = HistoryFilter {
                    schedule: schedule.clone(),
                    states: states.clone(),
                    since,
                    after,
                    limit: 5,
                    bare: false,
                };
                query::history(conn, &filter).unwrap();
            }
        }
    }
    query::snapshot(conn).unwrap();
    query::run(conn, crate::RunId::from_uuid(uuid::Uuid::nil())).unwrap();
    query::activity(conn, &name()).unwrap();
    query::versions(conn, &name()).unwrap();
    query::dispositions(conn, &name(), ever).unwrap();
    query::spans(conn, &name()).unwrap();
    query::pruned_before(conn).unwrap();
    query::pruned_fires(conn, &name()).unwrap();
    query::events_after(conn, Seq(0), 10).unwrap();
    query::last_seq(conn).unwrap();
    query::mark(conn, "s").unwrap();
    query::state(conn, &name(), "k").unwrap();
    query::ranges_in(conn, &name(), ever, now).unwrap();
    query::fires_in(conn, &name(), ever, now).unwrap();
    query::chained(conn, &name()).unwrap();
    query::ended(conn, &name(), ever).unwrap();
    query::dispatch(conn).unwrap();
    for state in [None, Some(OutboxState::Dead)] {
        outbox::list(conn, &OutboxFilter { state, after: None, limit: 5 }).unwrap();
    }
}

/// Tables that grow with time. Those of schedules, and of facts, are read whole where all of them are wanted.
const GROWING: &[&str] = &["runs", "fires", "ranges", "attempts", "events", "outbox"];

#[test]
fn no_statement_reads_a_table_that_grows_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(folder.path().join("sched.db")).unwrap();
    listen(&mut store.conn);
    busy_life(store);
    let mut store = SqliteStore::open(folder.path().join("sched.db")).unwrap();
    listen(&mut store.conn);
    store.load().unwrap();
    ask_everything(&store.conn);
    let statements = SEEN.with_borrow(|seen| seen.clone());
    let mut whole: BTreeMap<String, String> = BTreeMap::new();
    let mut explained = 0;
    let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
    for sql in statements.iter().filter(|sql| verbs.iter().any(|verb| sql.trim_start().starts_with(verb))) {
        explained += 1;
        let mut plan = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> = plan.raw_query().mapped(|row| row.get("detail")).map(Result::unwrap).collect();
        // Reading in the order of an index, up to a limit, ends early.
        let ends_early = sql.contains("LIMIT") && !steps.iter().any(|step| step.contains("TEMP B-TREE"));
        // What is open, or was told of a while ago: little, and once a start.
        let little = |step: &&String| !step.contains("INDEX runs_open") && !step.contains("INDEX outbox_told");
        for step in steps.iter().filter(|_| !ends_early).filter(little) {
            let table = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            if table.is_some_and(|table| GROWING.contains(&table)) {
                whole.insert(sql.clone(), step.clone());
            }
        }
    }
    assert!(explained > 60, "only {explained} statements were seen");
    assert!(whole.is_empty(), "{whole:#?}");
}
