//! Old history goes; what went is counted.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::engine::{Command, Reply};
use sched_core::testing::Bench;
use sched_core::{MemoryStore, PruneRule, SqliteStore, Store};

use crate::{HOUR, MINUTE, at, audited, every};

/// Removes what ended before, a piece at a time as the scheduler does; gives the number of runs and of pieces.
fn prune<S: Store>(bench: &mut Bench<S>, before: DateTime<Utc>, keep_newest: u32) -> (u64, u32) {
    let rule = PruneRule { before, failures_before: before, keep_newest, dry_run: false };
    let (mut runs, mut pieces, mut from) = (0, 0, None);
    loop {
        let Ok(Reply::Pruned(piece)) = bench.command(Command::Prune { rule: rule.clone(), from }) else { panic!() };
        runs += piece.runs;
        pieces += 1;
        from = piece.next;
        if from.is_none() {
            return (runs, pieces);
        }
    }
}

fn half_is_pruned<S: Store>(store: S) -> (u64, u32) {
    let specs = || [every("m", MINUTE), every("h", HOUR)];
    let mut bench = Bench::start(store, at("2026-01-01T00:00:30Z"), &specs());
    bench.advance(20 * HOUR);
    // A stop, so that ranges go as well.
    let mut bench = Bench::start(bench.crash(), at("2026-01-02T00:00:30Z"), &specs());
    bench.advance(2 * HOUR);
    let done = prune(&mut bench, at("2026-01-02T00:00:00Z"), 5);
    let report = sched_core::audit(&*bench.query(), None).unwrap();
    let minutes = u64::try_from((bench.now() - at("2026-01-01T00:00:30Z")).num_minutes()).unwrap();
    assert_eq!((report.expected, report.recorded), (minutes + minutes / 60, minutes + minutes / 60), "{report:?}");
    audited(&bench);
    bench.advance(Duration::from_secs(7200));
    audited(&bench);
    // From where the history is whole, each fire is vouched for.
    let since = sched_core::audit(&*bench.query(), Some(at("2026-01-02T01:00:00Z"))).unwrap();
    assert!(since.ok && since.expected > 150, "{since:?}");
    done
}

#[test]
fn given_history_that_was_pruned_then_the_audit_counts_what_is_gone_and_vouches_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = half_is_pruned(SqliteStore::open(folder.path().join("sched.db")).unwrap());
    let memory = half_is_pruned(MemoryStore::new());
    assert_eq!(sqlite.0, memory.0, "both stores remove the same runs");
    assert!(sqlite.0 > 1000 && sqlite.1 > 1, "{sqlite:?}: in more than one piece");
}
