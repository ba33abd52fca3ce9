//! Enqueue, claim and finish on both stores, one run or 64 in a commit: `cargo bench -p sched-benches --bench store`.

use chrono::{DateTime, Utc};
use divan::Bencher;
use divan::counter::ItemsCount;
use sched_core::store::{Ending, Follow, Intent, Receipt, ScheduleRow, Write};
use sched_core::{
    Fence, MemoryStore, NodeId, Origin, RunId, RunRecord, RunState, ScheduleSpec, SqliteStore, Store, TriggerSpec,
};
use serde_json::Value;
use uuid::Uuid;

fn main() {
    divan::main();
}

const BATCHES: &[usize] = &[1, 64];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_000_000, 0).unwrap_or_default()
}

fn write(intent: Intent) -> Write {
    Write { at: now(), intent, events: Vec::new(), outbox: Vec::new() }
}

fn queued(run_id: RunId) -> RunRecord {
    RunRecord {
        run_id,
        schedule: spec().name,
        job: "empty".into(),
        version: 1,
        nominal_at: None,
        origin: Origin::Manual,
        state: RunState::Queued,
        reason: None,
        attempt: 0,
        not_before: now(),
        queued_at: now(),
        started_at: None,
        finished_at: None,
        duration_ms: None,
        node: None,
        fence: Fence(0),
        params: Value::Null,
        summary: None,
        data: Value::Null,
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
        parent: None,
        chains: true,
        requested_by: None,
        idempotency_key: None,
    }
}

fn spec() -> ScheduleSpec {
    let trigger = TriggerSpec::every(std::time::Duration::from_secs(60));
    ScheduleSpec::new("empty", "empty", trigger).unwrap_or_else(|error| panic!("{error}"))
}

fn commit(store: &mut impl Store, writes: &[Write]) -> Vec<Receipt> {
    store.commit(writes).unwrap_or_else(|error| panic!("{error}")).receipts
}

/// Runs pass through the store as the engine sends them, each stage of a batch in one commit.
fn cycle(bencher: Bencher<'_, '_>, mut store: impl Store, batch: usize) {
    let row = ScheduleRow {
        spec: spec().into(),
        version: 1,
        effective_from: now(),
        cursor: now(),
        paused: None,
        retired: false,
        failing_since: None,
        zones: None,
    };
    commit(&mut store, &[write(Intent::Declare(row))]);
    let node = NodeId::random();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let ids: Vec<RunId> = (0..batch).map(|_| RunId::from_uuid(Uuid::now_v7())).collect();
        commit(&mut store, &ids.iter().map(|id| write(Intent::Enqueue(queued(*id)))).collect::<Vec<_>>());
        let claim = |id: &RunId| write(Intent::Claim { run_id: *id, attempt: 1, node, at: now() });
        let receipts = commit(&mut store, &ids.iter().map(claim).collect::<Vec<_>>());
        let finish = |(id, receipt): (&RunId, &Receipt)| {
            let Receipt::Claimed(fence) = receipt else { panic!("not claimed: {receipt:?}") };
            let ending = Ending {
                state: RunState::Succeeded,
                reason: None,
                at: now(),
                duration_ms: Some(0),
                summary: None,
                data: Value::Null,
                error: None,
                abandoned: false,
                artifacts: Vec::new(),
            };
            write(Intent::Finish { run_id: *id, fence: *fence, ending, follow: Follow::default() })
        };
        commit(&mut store, &ids.iter().zip(&receipts).map(finish).collect::<Vec<_>>());
    });
}

#[divan::bench(args = BATCHES)]
fn memory(bencher: Bencher<'_, '_>, batch: usize) {
    cycle(bencher, MemoryStore::new(), batch);
}

#[divan::bench(args = BATCHES)]
fn sqlite(bencher: Bencher<'_, '_>, batch: usize) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let store = SqliteStore::open(folder.path().join("sched.db")).unwrap_or_else(|error| panic!("{error}"));
    cycle(bencher, store, batch);
}
