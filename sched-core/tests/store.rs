//! One suite for every store: what the engine writes, readers see, also after the store was closed and opened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::store::{Ending, Follow, Intent, Pruned, Receipt, ScheduleRow, Tried, Write};
use sched_core::testing::Bench;
use sched_core::{
    Admin, AlertKind, Content, Event, Fence, HistoryFilter, HistoryRow, Hold, MemoryStore, NodeId, Notice, NoticeKind,
    Origin, OutboxFilter, OutboxId, OutboxRow, OutboxState, PruneRule, Query, RangeId, RangeRecord, Reason, RunId,
    RunRecord, RunState, ScheduleSpec, Seq, SqliteReader, SqliteStore, Store, StoreError, TriggerSpec,
};
use serde_json::json;
use uuid::Uuid;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::minutes(minute)
}

fn row() -> ScheduleRow {
    let trigger = TriggerSpec::every(std::time::Duration::from_secs(60));
    let spec = ScheduleSpec::new("a", "job", trigger).unwrap().with_param("x", 1);
    ScheduleRow {
        spec: spec.into(),
        version: 1,
        effective_from: at(0),
        cursor: at(0),
        paused: None,
        retired: false,
        failing_since: None,
        zones: Some("2026a".into()),
    }
}

fn run(number: u128, nominal: Option<i64>) -> RunRecord {
    RunRecord {
        run_id: RunId::from_uuid(Uuid::from_u128(number)),
        schedule: "a".parse().unwrap(),
        job: "job".into(),
        version: 1,
        nominal_at: nominal.map(at),
        origin: Origin::Schedule,
        state: RunState::Queued,
        reason: None,
        attempt: 0,
        not_before: at(1),
        queued_at: at(1),
        started_at: None,
        finished_at: None,
        duration_ms: None,
        node: None,
        fence: Fence(0),
        params: json!({ "x": 1 }),
        summary: None,
        data: json!(null),
        error: None,
        abandoned: false,
        artifacts: vec![],
        parent: None,
        chains: true,
        requested_by: Some("ann".into()),
        idempotency_key: None,
    }
}

fn range(number: u128, from: i64, until: i64) -> RangeRecord {
    RangeRecord {
        range_id: RangeId::from_uuid(Uuid::from_u128(number)),
        schedule: "a".parse().unwrap(),
        version: 1,
        state: RunState::Missed,
        reason: Reason::Window,
        blocker: None,
        from: at(from),
        until: at(until),
        count: (until - from + 1).unsigned_abs(),
        superseded: false,
    }
}

fn ending(state: RunState) -> Ending {
    Ending {
        state,
        reason: None,
        at: at(9),
        duration_ms: Some(5),
        summary: Some("done".into()),
        data: json!({ "n": 2 }),
        error: None,
        abandoned: false,
        artifacts: vec![],
    }
}

fn outbox_row(number: u128) -> OutboxRow {
    OutboxRow {
        id: OutboxId::from_uuid(Uuid::from_u128(number)),
        channel: "ops".parse().unwrap(),
        kind: NoticeKind::Failed,
        schedule: Some("a".parse().unwrap()),
        at: at(6),
        not_before: at(6),
        attempt: 0,
        state: OutboxState::Waiting,
        error: None,
        ended_at: None,
        content: Content::Notice(Notice::new(NoticeKind::Failed, at(6), "a has failed")),
    }
}

fn told() -> Event {
    Event::Alert { kind: AlertKind::Held, schedule: None, run_id: None, message: "told".into() }
}

struct Suite<S> {
    store: S,
    reopen: Box<dyn Fn(S) -> S>,
}

impl<S: Store> Suite<S> {
    fn one(&mut self, intent: Intent) -> Receipt {
        let write = Write { at: at(1), intent, events: vec![told()], outbox: vec![] };
        self.store.commit(&[write]).unwrap().receipts.remove(0)
    }

    fn plan(&mut self, expected: i64, cursor: i64, ranges: Vec<RangeRecord>, runs: Vec<RunRecord>) -> Receipt {
        let (schedule, expected, cursor) = ("a".parse().unwrap(), at(expected), at(cursor));
        self.one(Intent::Plan { schedule, expected, cursor, ranges, runs })
    }

    fn claim(&mut self, number: u128) -> Receipt {
        let run_id = RunId::from_uuid(Uuid::from_u128(number));
        self.one(Intent::Claim { run_id, attempt: 1, node: NodeId::from_uuid(Uuid::from_u128(9)), at: at(2) })
    }

    fn finish(&mut self, number: u128, fence: u64, state: RunState) -> Receipt {
        let run_id = RunId::from_uuid(Uuid::from_u128(number));
        self.one(Intent::Finish { run_id, fence: Fence(fence), ending: ending(state), follow: Follow::default() })
    }

    fn check(mut self) {
        assert_eq!(self.one(Intent::Declare(row())), Receipt::Applied);

        // A fire is planned once: the cursor is compared and set.
        assert_eq!(self.plan(0, 3, vec![range(50, 1, 2)], vec![run(1, Some(3))]), Receipt::Applied);
        assert_eq!(self.plan(0, 3, vec![], vec![run(2, Some(3))]), Receipt::Conflict);
        // A range with a known id grows in place.
        assert_eq!(
            self.plan(3, 5, vec![RangeRecord { count: 4, until: at(5), ..range(50, 1, 2) }], vec![]),
            Receipt::Applied
        );

        // A run is claimed once, and the fence only grows.
        assert_eq!(self.claim(1), Receipt::Claimed(Fence(1)));
        assert_eq!(self.claim(1), Receipt::Conflict);
        assert_eq!(self.finish(1, 0, RunState::Failed), Receipt::Conflict, "a stale fence changes nothing");
        let (run_id, fence) = (RunId::from_uuid(Uuid::from_u128(1)), Fence(1));
        let (attempt, not_before) = (1, at(4));
        let failed = ending(RunState::Failed);
        let requeue = Intent::Requeue { run_id, fence, attempt, not_before, ending: failed };
        assert_eq!(self.one(requeue.clone()), Receipt::Applied);
        assert_eq!(self.one(requeue), Receipt::Conflict);
        assert_eq!(self.claim(1), Receipt::Claimed(Fence(2)));
        assert_eq!(self.finish(1, 1, RunState::Succeeded), Receipt::Conflict, "a paused holder changes nothing");

        // What is to be told is kept with what it tells of, or not at all.
        let waiting = |number| outbox_row(number);
        let write = |intent, number| Write { at: at(1), intent, events: vec![], outbox: vec![waiting(number)] };
        let stale = Intent::Plan {
            schedule: "a".parse().unwrap(),
            expected: at(0),
            cursor: at(3),
            ranges: vec![],
            runs: vec![],
        };
        self.store.commit(&[write(stale, 1), write(Intent::Note, 2), write(Intent::Note, 3)]).unwrap();
        let ids = |numbers: &[u128]| numbers.iter().map(|n| (OutboxId::from_uuid(Uuid::from_u128(*n)), 1)).collect();
        let again = Tried::Again { not_before: at(8), error: "down".into() };
        self.one(Intent::Deliver { deliveries: ids(&[2]), tried: again, at: at(7) });
        self.one(Intent::Deliver { deliveries: ids(&[3]), tried: Tried::Dead { error: "no".into() }, at: at(7) });
        self.store = (self.reopen)(self.store);
        let snapshot = self.store.load().unwrap();
        let retried = OutboxRow { attempt: 1, not_before: at(8), error: Some("down".into()), ..waiting(2) };
        assert_eq!(snapshot.outbox, [retried]);
        let key = ("ops".parse().unwrap(), "a".parse().unwrap(), NoticeKind::Failed);
        assert_eq!(snapshot.told, [(key, at(6))].into());
        let list = |store: &S, state| {
            let rows = store.reader().outbox(&OutboxFilter { state, after: None, limit: 9 }).unwrap();
            rows.into_iter().map(|row| row.id.as_uuid().as_u128()).collect::<Vec<_>>()
        };
        assert_eq!((list(&self.store, None), list(&self.store, Some(OutboxState::Dead))), (vec![3, 2], vec![3]));
        self.one(Intent::Deliver { deliveries: ids(&[2]), tried: Tried::Delivered, at: at(9) });
        assert_eq!(list(&self.store, Some(OutboxState::Waiting)), [] as [u128; 0]);

        // What is open is found again, and its fence goes on.
        self.store = (self.reopen)(self.store);
        let snapshot = self.store.load().unwrap();
        assert_eq!(snapshot.schedules, [ScheduleRow { cursor: at(5), ..row() }]);
        assert_eq!(
            snapshot.open.iter().map(|run| (run.state, run.fence)).collect::<Vec<_>>(),
            [(RunState::Running, Fence(2))]
        );
        assert_eq!(self.finish(1, 2, RunState::Succeeded), Receipt::Applied);
        assert_eq!(self.finish(1, 2, RunState::Failed), Receipt::Conflict, "final is final");
        let done = self.store.reader().run(run_id).unwrap().unwrap();
        assert_eq!(
            (done.state, done.summary.as_deref(), &done.data),
            (RunState::Succeeded, Some("done"), &json!({ "n": 2 }))
        );

        // An idempotency key makes one run.
        let keyed = |number| RunRecord { idempotency_key: Some("k".into()), ..run(number, None) };
        assert_eq!(self.one(Intent::Enqueue(keyed(3))), Receipt::Applied);
        assert_eq!(self.one(Intent::Enqueue(keyed(4))), Receipt::Existing(RunId::from_uuid(Uuid::from_u128(3))));

        // A range is split around a recovered fire, once.
        let whole = self.store.reader().ranges_in(&"a".parse().unwrap(), at(2), at(2)).unwrap().remove(0);
        assert_eq!((whole.from, whole.until, whole.count), (at(1), at(5), 4));
        let parts = vec![RangeRecord { superseded: true, ..range(51, 2, 2) }, range(52, 4, 5)];
        let recover = |number| Intent::Recover {
            expected: vec![whole.clone()],
            parts: parts.clone(),
            runs: vec![run(number, Some(2))],
        };
        assert_eq!(self.one(recover(5)), Receipt::Applied);
        assert_eq!(self.one(recover(6)), Receipt::Conflict);
        let fires = self.store.reader().dispositions(&"a".parse().unwrap(), at(0)).unwrap();
        assert_eq!(fires.iter().map(|d| (d.from, d.count)).collect::<Vec<_>>(), [(at(2), 1), (at(3), 1), (at(4), 2)]);

        // Where a cursor is, and what has run after it.
        let Receipt::Stands { cursor, ahead } = self.one(Intent::Locate { schedule: "a".parse().unwrap() }) else {
            panic!("it is not told");
        };
        assert_eq!(cursor, self.store.reader().schedules().unwrap()[0].cursor);
        let after = fires.iter().filter(|d| d.count == 1 && d.from > cursor).map(|d| d.from);
        assert!(ahead.into_iter().eq(after));
        assert_eq!(self.one(Intent::Locate { schedule: "nobody".parse().unwrap() }), Receipt::Conflict);

        // Holds, state and marks last.
        let hold = Hold { by: "ann".into(), at: at(7), reason: "deploy".into() };
        assert_eq!(
            self.one(Intent::Pause { schedule: "a".parse().unwrap(), hold: Some(hold.clone()) }),
            Receipt::Applied
        );
        assert_eq!(self.one(Intent::Dispatch(Some(hold.clone()))), Receipt::Applied);
        let (schedule, key) = ("a".parse().unwrap(), "seen".to_owned());
        assert_eq!(self.one(Intent::PutState { schedule, key, value: json!(3) }), Receipt::Applied);
        assert_eq!(self.one(Intent::Mark { sink: "log".into(), seq: Seq(4) }), Receipt::Applied);
        self.store = (self.reopen)(self.store);
        let reader = self.store.reader();
        assert_eq!(reader.schedules().unwrap()[0].paused, Some(hold.clone()));
        assert_eq!(reader.dispatch().unwrap(), Some(hold));
        assert_eq!(reader.state(&"a".parse().unwrap(), "seen").unwrap(), Some(json!(3)));
        assert_eq!(reader.mark("log").unwrap(), Some(Seq(4)));

        // Events come in order, and only of what applied.
        let last = reader.last_seq().unwrap();
        let events = reader.events_after(Seq(0), 100).unwrap();
        assert_eq!(events.len() as u64, last.0);
        assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        assert_eq!(reader.events_after(Seq(last.0 - 1), 100).unwrap().len(), 1);

        // Pages follow each other without a gap or a repeat.
        let all = reader.history(&HistoryFilter::newest(100)).unwrap();
        assert_eq!(all.len(), 5);
        let mut paged = Vec::new();
        let mut filter = HistoryFilter::newest(2);
        loop {
            let page = reader.history(&filter).unwrap();
            let Some(last) = page.last() else { break };
            filter.after = Some(last.cursor());
            paged.extend(page);
        }
        assert_eq!(paged, all);
        let open = HistoryFilter { states: vec![RunState::Queued], ..HistoryFilter::newest(9) };
        assert_eq!(reader.history(&open).unwrap().len(), 2);

        // Pruning counts before it removes, and says from when on the ledger can vouch.
        let rule = PruneRule { before: at(60), failures_before: at(0), keep_newest: 0, dry_run: true };
        let gone = vec![(RunId::from_uuid(Uuid::from_u128(1)), vec![])];
        let pruned = Receipt::Pruned(Pruned { runs: 1, ranges: 2, gone, next: None });
        assert_eq!(self.one(Intent::Prune { rule: rule.clone(), from: None }), pruned);
        assert_eq!(reader.pruned_before().unwrap(), None);
        assert_eq!(self.one(Intent::Prune { rule: PruneRule { dry_run: false, ..rule }, from: None }), pruned);
        assert_eq!(reader.pruned_before().unwrap(), Some(at(60)));
        // Old events go with it; the newest stays, for the next one comes after it.
        let kept: Vec<_> =
            reader.events_after(Seq(0), 1000).unwrap().into_iter().filter_map(|event| event.seq).collect();
        let last = reader.last_seq().unwrap();
        assert_eq!(kept, [Seq(last.0 - 1), last]);
        assert_eq!(reader.events_after(kept[0], 1000).unwrap().len(), 1);
        let left = reader.history(&HistoryFilter::newest(100)).unwrap();
        assert!(
            left.iter().all(|row| matches!(row, HistoryRow::Run(run) if run.state == RunState::Queued)),
            "{left:?}"
        );

        // A retired schedule keeps its last version's end.
        assert_eq!(self.one(Intent::Retire { schedule: "a".parse().unwrap(), at: at(70) }), Receipt::Applied);
        assert!(reader.schedules().unwrap()[0].retired);
        assert_eq!(reader.versions(&"a".parse().unwrap()).unwrap()[0].until, Some(at(70)));
    }
}

#[test]
fn the_memory_store_conforms() {
    Suite { store: MemoryStore::new(), reopen: Box::new(|store| store) }.check();
}

#[test]
fn the_sqlite_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let store = SqliteStore::open(&path).unwrap();
    let reopen = move |store| {
        drop(store);
        SqliteStore::open(&path).unwrap()
    };
    Suite { store, reopen: Box::new(reopen) }.check();
}

#[test]
fn a_store_checks_itself_and_a_copy_of_one_on_disk_tells_the_same() {
    let spec = ScheduleSpec::new("a", "job", TriggerSpec::every(std::time::Duration::from_secs(60))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("s.db"), folder.path().join("copy.db"));
    let mut bench = Bench::start(SqliteStore::open(&path).unwrap(), at(0), std::slice::from_ref(&spec));
    bench.advance(std::time::Duration::from_secs(600));
    let reader = SqliteReader::open(&path).unwrap();
    assert_eq!(reader.integrity().unwrap(), Vec::<String>::new());
    reader.backup(&copy).unwrap();
    assert!(reader.backup(&copy).is_err(), "a copy replaces nothing");
    let newest = HistoryFilter::newest(100);
    assert_eq!(SqliteReader::open(&copy).unwrap().history(&newest).unwrap(), reader.history(&newest).unwrap());
    std::fs::write(folder.path().join("cut.db.part"), "what a killed backup left").unwrap();
    reader.backup(&folder.path().join("cut.db")).unwrap();
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let refused = SqliteStore::restore(&empty, folder.path().join("other.db")).unwrap_err();
    assert!(refused.to_string().contains("it is empty"), "{refused}");

    let memory = MemoryStore::new();
    let mut bench = Bench::start(memory.clone(), at(0), &[spec]);
    bench.advance(std::time::Duration::from_secs(600));
    assert_eq!(memory.integrity().unwrap(), Vec::<String>::new());
    assert!(memory.backup(&copy).unwrap_err().to_string().contains("use SQLite"));
}

#[test]
fn the_engine_tells_the_same_story_on_both_stores() {
    let spec = ScheduleSpec::new("a", "job", TriggerSpec::every(std::time::Duration::from_secs(60))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Bench::start(MemoryStore::new(), at(0), std::slice::from_ref(&spec));
    let mut sqlite = Bench::start(SqliteStore::open(folder.path().join("s.db")).unwrap(), at(0), &[spec]);
    let day = std::time::Duration::from_secs(6 * 3600);
    memory.advance(day);
    sqlite.advance(day);
    assert_eq!(memory.ledger().len(), 360);
    assert_eq!(memory.ledger(), sqlite.ledger());
}

#[test]
fn a_damaged_foreign_or_newer_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");

    std::fs::write(&path, "this is no database, but it is long enough to look like one at first sight").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Corrupt { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    drop(SqliteStore::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("schema 99, newer than this program's 4"), "{error}");

    let other = folder.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("PRAGMA user_version = 3; CREATE TABLE t (x)").unwrap();
    assert!(SqliteStore::open(&other).unwrap_err().to_string().contains("another program"));
}

#[test]
fn a_reader_sees_a_store_that_another_process_could_be_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let mut store = SqliteStore::open(&path).unwrap();
    let reader = SqliteReader::open(&path).unwrap();
    let write = Write { at: at(0), intent: Intent::Declare(row()), events: vec![], outbox: vec![] };
    store.commit(&[write]).unwrap();
    assert_eq!(sched_core::Query::schedules(&reader).unwrap(), [row()]);
    assert_eq!(reader.integrity().unwrap(), Vec::<String>::new());
}

#[test]
fn a_store_has_one_writer_and_the_second_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let first = SqliteStore::open(&path).unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    let elsewhere = sched_core::StoreLock::take(&folder.path().join("daemon.lock")).unwrap();
    assert!(SqliteStore::open_held(&path, elsewhere).is_err(), "another lock is no way around");
    drop(first);
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_store_whose_files_go_away_takes_nothing_more_and_saves_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let (path, aside) = (folder.path().join("sched.db"), folder.path().join("aside"));
    let mut store = SqliteStore::open(&path).unwrap();
    let take = |store: &mut SqliteStore, intent| {
        store
            .commit(&[Write { at: at(0), intent, events: vec![], outbox: vec![] }])
            .map(drop)
            .map_err(|error| error.to_string())
    };
    take(&mut store, Intent::Declare(row())).unwrap();

    std::fs::rename(&path, &aside).unwrap();
    let refused = take(&mut store, Intent::Enqueue(run(1, None))).unwrap_err();
    assert!(
        refused.contains("everything acknowledged is saved in") && refused.contains("sched.saved-1.db"),
        "{refused}"
    );
    std::fs::rename(&aside, &path).unwrap();
    take(&mut store, Intent::Enqueue(run(1, None))).unwrap();

    std::fs::remove_file(&path).unwrap();
    let refused = take(&mut store, Intent::Enqueue(run(2, None))).unwrap_err();
    assert!(refused.contains("sched.saved-2.db"), "the first copy is old: {refused}");
    assert_eq!(take(&mut store, Intent::Enqueue(run(2, None))).unwrap_err(), refused, "one copy is enough");
    drop(store);
    for log in ["sched.db-wal", "sched.db-shm"] {
        drop(std::fs::remove_file(folder.path().join(log)));
    }
    assert_eq!(SqliteStore::open(&path).unwrap_err().to_string(), refused, "it does not begin anew in silence");
    SqliteStore::restore(folder.path().join("sched.saved-2.db"), &path).unwrap();
    let reader = SqliteStore::open(&path).unwrap().reader();
    assert_eq!(reader.schedules().unwrap(), [row()]);
    assert!(reader.run(RunId::from_uuid(Uuid::from_u128(1))).unwrap().is_some());
}

#[test]
fn a_store_that_lost_its_pages_but_not_its_log_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sched.db");
    let mut store = SqliteStore::open(&path).unwrap();
    store.commit(&[Write { at: at(0), intent: Intent::Declare(row()), events: vec![], outbox: vec![] }]).unwrap();
    let log = folder.path().join("sched.db-wal");
    let kept = std::fs::read(&log).unwrap();
    drop(store);
    std::fs::write(&log, kept).unwrap();
    std::fs::write(&path, "").unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("it is missing or empty, and its log"), "{error}");
}
