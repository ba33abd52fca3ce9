//! What runs while the disk fails: the production machine on the production store, on the virtual clock.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::engine::{Assignment, Command};
use sched_core::store::{Committed, Snapshot, Write};
use sched_core::testing::Bench;
use sched_core::{
    HistoryFilter, HistoryRow, JobError, On, Outcome, Output, Query, Retry, ScheduleSpec, SqliteStore, Store,
    StoreError, TriggerKind, TriggerRequest, TriggerSpec,
};

use crate::facts::Fact;

/// The folder of the store; the scenario plays only where it is set.
pub(crate) const STORE: &str = "FAULTS_STORE";
/// How often a commit or an opening is tried.
pub(crate) const TRIES: &str = "FAULTS_TRIES";

const MINUTE: Duration = Duration::from_secs(60);

/// Where the store is, in its folder.
pub(crate) fn path_in(folder: &Path) -> PathBuf {
    folder.join("sched.db")
}

/// Tries again as the production writer does, then dies where it stands; says what was acknowledged.
struct Stubborn {
    store: SqliteStore,
    tries: u32,
}

impl Stubborn {
    fn open(path: &Path, tries: u32) -> Self {
        Self { store: persist(tries, || SqliteStore::open(path)), tries }
    }
}

fn persist<T>(tries: u32, mut attempt: impl FnMut() -> Result<T, StoreError>) -> T {
    let mut errors = std::io::stderr();
    for _ in 0..tries {
        match attempt() {
            Ok(done) => return done,
            Err(error) => writeln!(errors, "{error}").unwrap(),
        }
    }
    // As a kill: nothing is tidied up.
    std::process::exit(0);
}

impl Store for Stubborn {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        Ok(persist(self.tries, || self.store.load()))
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        let committed = persist(self.tries, || self.store.commit(writes));
        for (write, receipt) in writes.iter().zip(&committed.receipts) {
            Fact::of(write, receipt).iter().for_each(Fact::tell);
        }
        committed.events.iter().filter_map(|event| event.seq).for_each(|seq| Fact::Event(seq.0).tell());
        Ok(committed)
    }

    fn reader(&self) -> Arc<dyn Query> {
        self.store.reader()
    }
}

/// A schedule of each minute whose runs fail now and then, one that comes after it, and one by hand.
fn specs() -> Vec<ScheduleSpec> {
    let spec = |name: &str, trigger| ScheduleSpec::new(name, "job", trigger).unwrap();
    let retry = Retry { attempts: 2, initial: Duration::from_secs(5), jitter: false, ..Retry::default() };
    let after = TriggerKind::After { schedule: "each".parse().unwrap(), on: On::Any };
    vec![
        spec("each", TriggerSpec::every(MINUTE)).with_retry(retry),
        spec("after", TriggerSpec::of(after, None)),
        spec("hand", TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap())),
    ]
}

fn play(assignment: &Assignment) -> Option<(Duration, Outcome)> {
    let fails = assignment.info.schedule.as_str() == "each" && assignment.info.fence.0.is_multiple_of(3);
    let outcome =
        if fails { Outcome::Failed(JobError::new("no")) } else { Outcome::Succeeded(Output::summary("done")) };
    Some((Duration::from_secs(1), outcome))
}

fn start(path: &Path, tries: u32, at: &str) -> Bench<Stubborn> {
    let at: DateTime<Utc> = at.parse().unwrap();
    Bench::start_with(Stubborn::open(path, tries), at, &specs(), play)
}

fn trigger(bench: &mut Bench<Stubborn>, key: &str) {
    let name = "hand".parse().unwrap();
    let request = TriggerRequest { idempotency_key: Some(key.into()), queue: true, ..TriggerRequest::new(name, "ann") };
    bench.command(Command::Trigger(request)).unwrap();
}

fn whole(path: &Path, tries: u32) {
    let mut bench = start(path, tries, "2026-01-01T00:00:30Z");
    trigger(&mut bench, "one");
    bench.advance(MINUTE * 2);
    let schedule: sched_core::ScheduleName = "each".parse().unwrap();
    let (by, reason) = ("ann".to_owned(), "a look".to_owned());
    bench.command(Command::Pause { schedule: schedule.clone(), by: by.clone(), reason }).unwrap();
    bench.advance(MINUTE * 2);
    bench.command(Command::Resume { schedule: schedule.clone(), by }).unwrap();
    let (key, value) = ("seen".to_owned(), 7.into());
    bench.command(Command::PutState { schedule, key, value }).unwrap();
    // An orderly end moves the log into the file; the next start catches up.
    drop(bench.shutdown(MINUTE));
    let mut bench = start(path, tries, "2026-01-01T00:08:30Z");
    trigger(&mut bench, "one");
    trigger(&mut bench, "two");
    bench.advance(MINUTE * 2);
    drop(bench.shutdown(MINUTE));
}

/// Opens a store that an older program left, and tells of what is in it.
fn upgrade(path: &Path, tries: u32) {
    let mut store = Stubborn::open(path, tries);
    let snapshot = store.load().unwrap();
    for row in &snapshot.schedules {
        Fact::Version(row.name().to_string(), row.version).tell();
        Fact::Cursor(row.name().to_string(), row.cursor.timestamp_micros()).tell();
    }
    let history = persist(tries, || store.reader().history(&HistoryFilter::newest(100)));
    for row in history {
        if let HistoryRow::Run(run) = row {
            Fact::Final(run.run_id, run.state.to_string()).tell();
        }
    }
}

#[test]
fn scenario_within_a_process_of_its_own() {
    let Ok(folder) = std::env::var(STORE) else { return };
    let tries = std::env::var(TRIES).map_or(1, |text| text.parse().unwrap());
    let path = path_in(Path::new(&folder));
    if path.exists() {
        upgrade(&path, tries);
    } else {
        whole(&path, tries);
    }
    std::process::exit(0);
}
