//! The store in memory: for tests, simulations and embedders who need no history across restarts.

mod query;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    Admin, Ahead, Committed, Ending, Health, Intent, Pruned, PrunedFires, Query, Receipt, ScheduleRow, Snapshot, Store,
    StoreError, Tried, VersionRow, Write,
};
use crate::context::PruneRule;
use crate::event::Recorded;
use crate::id::{Fence, OutboxId, RangeId, RunId, ScheduleName, Seq};
use crate::notice::{NoticeKind, OutboxRow, OutboxState};
use crate::query::Hold;
use crate::run::{Origin, RangeRecord, RunRecord, RunState};

/// A store that lives as long as its last clone. Clones share it, so a restart can be played on one.
#[derive(Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default, Clone)]
struct Inner {
    schedules: BTreeMap<ScheduleName, ScheduleRow>,
    versions: BTreeMap<ScheduleName, Vec<VersionRow>>,
    fires: BTreeMap<(ScheduleName, DateTime<Utc>), RunId>,
    runs: BTreeMap<RunId, RunRecord>,
    keys: HashMap<String, RunId>,
    ranges: BTreeMap<RangeId, RangeRecord>,
    /// The newest ones, without gaps.
    events: VecDeque<Recorded>,
    last_seq: Seq,
    state: HashMap<(ScheduleName, String), Value>,
    marks: HashMap<String, Seq>,
    dispatch: Option<Hold>,
    pruned_before: Option<DateTime<Utc>>,
    pruned: HashMap<ScheduleName, PrunedFires>,
    outbox: BTreeMap<OutboxId, OutboxRow>,
    fence: u64,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn commit(&mut self, writes: &[Write]) -> Committed {
        let mut committed = Committed::default();
        for write in writes {
            let receipt = self.apply(&write.intent);
            if receipt.is_kept() {
                for row in &write.outbox {
                    self.outbox.insert(row.id, row.clone());
                }
                for event in &write.events {
                    self.last_seq = Seq(self.last_seq.0 + 1);
                    let seq = Some(self.last_seq);
                    let recorded = Recorded { ts: write.at, event: event.clone(), seq };
                    self.events.push_back(recorded.clone());
                    committed.events.push(recorded);
                }
            }
            committed.receipts.push(receipt);
        }
        committed
    }

    fn apply(&mut self, intent: &Intent) -> Receipt {
        match intent {
            Intent::Declare(row) => self.declare(row),
            Intent::Retire { schedule, at } => {
                if let Some(row) = self.schedules.get_mut(schedule) {
                    row.retired = true;
                }
                if let Some(current) = self.versions.get_mut(schedule).and_then(|v| v.last_mut()) {
                    current.until = Some(*at);
                }
                Receipt::Applied
            }
            Intent::Plan { schedule, expected, cursor, ranges, runs } => {
                let taken =
                    |run: &RunRecord| run.nominal_at.is_some_and(|at| self.fires.contains_key(&(schedule.clone(), at)));
                if runs.iter().any(taken) {
                    return Receipt::Conflict;
                }
                match self.schedules.get_mut(schedule) {
                    Some(row) if row.cursor == *expected => row.cursor = *cursor,
                    _ => return Receipt::Conflict,
                }
                for range in ranges {
                    self.ranges.insert(range.range_id, range.clone());
                }
                for run in runs {
                    self.insert(run);
                }
                Receipt::Applied
            }
            Intent::Enqueue(run) => {
                if let Some(existing) = run.idempotency_key.as_ref().and_then(|key| self.keys.get(key)) {
                    return Receipt::Existing(*existing);
                }
                self.insert(run);
                Receipt::Applied
            }
            Intent::FindKey { schedule, key } => match self.keys.get(key).and_then(|run_id| self.runs.get(run_id)) {
                None => Receipt::Applied,
                Some(run) if run.schedule == *schedule => Receipt::Existing(run.run_id),
                Some(_) => Receipt::Conflict,
            },
            Intent::Claim { run_id, attempt, node, at } => {
                let fence = self.fence + 1;
                match self.runs.get_mut(run_id) {
                    Some(run) if run.state == RunState::Queued => {
                        run.state = RunState::Running;
                        run.attempt = *attempt;
                        run.node = Some(*node);
                        run.started_at = Some(*at);
                        run.fence = Fence(fence);
                    }
                    _ => return Receipt::Conflict,
                }
                self.fence = fence;
                Receipt::Claimed(Fence(fence))
            }
            Intent::Finish { run_id, fence, ending, follow } => match self.runs.get_mut(run_id) {
                Some(run) if !run.state.is_final() && run.fence == *fence => {
                    run.state = ending.state;
                    run.finished_at = Some(ending.at);
                    end(run, ending);
                    if let Some(row) = self.schedules.get_mut(&run.schedule) {
                        row.cursor = follow.cursor.unwrap_or(row.cursor);
                        match follow.health {
                            Health::Unchanged => {}
                            Health::Fails(at) => row.failing_since = Some(at),
                            Health::Works => row.failing_since = None,
                        }
                    }
                    for run in &follow.chained {
                        self.insert(run);
                    }
                    Receipt::Applied
                }
                _ => Receipt::Conflict,
            },
            Intent::Requeue { run_id, fence, attempt, not_before, ending } => match self.runs.get_mut(run_id) {
                Some(run) if run.state == RunState::Running && run.fence == *fence => {
                    run.state = RunState::Queued;
                    run.attempt = *attempt;
                    run.not_before = *not_before;
                    end(run, ending);
                    Receipt::Applied
                }
                _ => Receipt::Conflict,
            },
            Intent::Recover { expected, parts, runs } => {
                let replaces = |run: &&RunRecord| {
                    let fire = run.nominal_at.and_then(|at| self.fires.get(&(run.schedule.clone(), at)));
                    fire.copied() == run.parent
                };
                if !runs.iter().all(|run| replaces(&run)) || !self.replace(expected, parts) {
                    return Receipt::Conflict;
                }
                for run in runs {
                    self.insert(run);
                }
                Receipt::Applied
            }
            Intent::Locate { schedule } => match self.schedules.get(schedule).map(|row| row.cursor) {
                Some(cursor) => Receipt::Stands { cursor, ahead: self.fires_after(schedule, cursor).collect() },
                None => Receipt::Conflict,
            },
            Intent::LookAhead { after } => Receipt::Ahead(self.ahead(*after)),
            Intent::Reopen { row, expected, parts } => {
                if !self.replace(expected, parts) {
                    return Receipt::Conflict;
                }
                self.declare(row)
            }
            Intent::Pause { schedule, hold } => match self.schedules.get_mut(schedule) {
                Some(row) => {
                    row.paused.clone_from(hold);
                    Receipt::Applied
                }
                None => Receipt::Conflict,
            },
            Intent::Dispatch(hold) => {
                self.dispatch.clone_from(hold);
                Receipt::Applied
            }
            Intent::PutState { schedule, key, value } => {
                self.state.insert((schedule.clone(), key.clone()), value.clone());
                Receipt::Applied
            }
            Intent::Prune { rule, .. } => self.prune(rule),
            Intent::Mark { sink, seq } => {
                self.marks.insert(sink.clone(), *seq);
                Receipt::Applied
            }
            Intent::Deliver { deliveries, tried, at } => {
                for (id, attempt) in deliveries {
                    if let Some(row) = self.outbox.get_mut(id) {
                        row.attempt = *attempt;
                        match tried {
                            Tried::Delivered => (row.state, row.error) = (OutboxState::Delivered, None),
                            Tried::Again { not_before, error } => {
                                (row.not_before, row.error) = (*not_before, Some(error.clone()));
                            }
                            Tried::Dead { error } => {
                                (row.state, row.error) = (OutboxState::Dead, Some(error.clone()));
                            }
                        }
                        row.ended_at = (row.state != OutboxState::Waiting).then_some(*at);
                    }
                }
                Receipt::Applied
            }
            Intent::Note => Receipt::Applied,
        }
    }

    fn declare(&mut self, row: &ScheduleRow) -> Receipt {
        let versions = self.versions.entry(row.name().clone()).or_default();
        for old in versions.iter_mut() {
            old.until = Some(old.until.map_or(row.effective_from, |until| until.min(row.effective_from)));
        }
        versions.push(VersionRow {
            version: row.version,
            spec: row.spec.clone(),
            from: row.effective_from,
            until: None,
            zones: row.zones.clone(),
        });
        self.schedules.insert(row.name().clone(), row.clone());
        Receipt::Applied
    }

    fn insert(&mut self, run: &RunRecord) {
        if let Some(at) = run.nominal_at.filter(|_| run.origin != Origin::Chain) {
            self.fires.insert((run.schedule.clone(), at), run.run_id);
        }
        if let Some(key) = &run.idempotency_key {
            self.keys.insert(key.clone(), run.run_id);
        }
        self.runs.insert(run.run_id, run.clone());
    }

    /// Replaces ranges by others, if they are as they were read.
    fn replace(&mut self, expected: &[RangeRecord], parts: &[RangeRecord]) -> bool {
        if expected.iter().any(|range| self.ranges.get(&range.range_id) != Some(range)) {
            return false;
        }
        for range in expected {
            self.ranges.remove(&range.range_id);
        }
        self.ranges.extend(parts.iter().map(|part| (part.range_id, part.clone())));
        true
    }

    fn fires_after(&self, name: &ScheduleName, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let later = (Bound::Excluded((name.clone(), after)), Bound::Unbounded);
        self.fires.range(later).take_while(move |((of, _), _)| of == name).map(|((_, at), _)| *at)
    }

    fn ahead(&self, after: DateTime<Utc>) -> Vec<Ahead> {
        let rows = self.schedules.values().filter(|row| row.cursor > after && !row.retired);
        let look = |row: &ScheduleRow| {
            let name = row.name();
            let versions = self.versions.get(name).map_or(&[][..], Vec::as_slice);
            let planned_by = |range: &RangeRecord| {
                let version = versions.iter().find(|version| version.version == range.version);
                version.map(|version| version.spec.trigger.clone())
            };
            let ranges = self.ranges.values().filter(|r| r.schedule == *name && r.until > after && !r.superseded);
            let fires = self.fires_after(name, after);
            Ahead {
                schedule: name.clone(),
                ranges: ranges.filter_map(|range| Some((range.clone(), planned_by(range)?))).collect(),
                fires: fires.collect(),
            }
        };
        rows.map(look).collect()
    }

    fn prune(&mut self, rule: &PruneRule) -> Receipt {
        let mut kept: HashMap<&ScheduleName, u32> = HashMap::new();
        let mut runs = Vec::new();
        for run in self.runs.values().rev() {
            let rank = kept.entry(&run.schedule).or_default();
            *rank += 1;
            let limit = if run.state.is_failure() { rule.failures_before } else { rule.before };
            if *rank > rule.keep_newest && run.finished_at.is_some_and(|at| at < limit) {
                runs.push((run.run_id, run.artifacts.clone()));
            }
        }
        let ranges: Vec<_> = self.ranges.values().filter(|r| r.until < rule.before).map(|r| r.range_id).collect();
        if !rule.dry_run {
            for (id, _) in &runs {
                self.runs.remove(id);
            }
            let gone: Vec<_> = self.fires.iter().filter(|(_, id)| !self.runs.contains_key(id)).collect();
            let gone = gone.into_iter().map(|((name, at), _)| (name.clone(), *at, *at, 1));
            let ranged = ranges.iter().filter_map(|id| self.ranges.get(id)).filter(|range| !range.superseded);
            let ranged = ranged.map(|range| (range.schedule.clone(), range.from, range.until, range.count));
            for (name, from, until, count) in gone.chain(ranged).collect::<Vec<_>>() {
                let fires = self.pruned.entry(name).or_insert(PrunedFires { from, until, count: 0 });
                fires.from = fires.from.min(from);
                fires.until = fires.until.max(until);
                fires.count += count;
            }
            self.fires.retain(|_, id| self.runs.contains_key(id));
            self.keys.retain(|_, id| self.runs.contains_key(id));
            for id in &ranges {
                self.ranges.remove(id);
            }
            self.outbox.retain(|_, row| row.ended_at.is_none_or(|at| at >= rule.before));
            while self.events.len() > 1 && self.events.front().is_some_and(|event| event.ts < rule.before) {
                self.events.pop_front();
            }
            if !runs.is_empty() || !ranges.is_empty() {
                self.pruned_before = self.pruned_before.max(Some(rule.before));
            }
        }
        Receipt::Pruned(Pruned { runs: runs.len() as u64, ranges: ranges.len() as u64, gone: runs, next: None })
    }
}

fn end(run: &mut RunRecord, ending: &Ending) {
    run.reason = ending.reason;
    run.duration_ms = ending.duration_ms;
    run.summary.clone_from(&ending.summary);
    run.data.clone_from(&ending.data);
    run.error.clone_from(&ending.error);
    run.abandoned = ending.abandoned;
    run.artifacts.extend(ending.artifacts.iter().cloned());
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let inner = self.lock();
        let mut snapshot = Snapshot {
            schedules: inner.schedules.values().cloned().collect(),
            dispatch: inner.dispatch.clone(),
            ..Snapshot::default()
        };
        snapshot.outbox = inner.outbox.values().filter(|row| row.state == OutboxState::Waiting).cloned().collect();
        for row in inner.outbox.values().filter(|row| matches!(row.kind, NoticeKind::Failed | NoticeKind::Missed)) {
            if let Some(schedule) = &row.schedule {
                let told = snapshot.told.entry((row.channel.clone(), schedule.clone(), row.kind)).or_insert(row.at);
                *told = row.at.max(*told);
            }
        }
        for run in inner.runs.values().filter(|run| !run.state.is_final()) {
            snapshot.open.push(run.clone());
        }
        for (name, at) in inner.fires.keys() {
            if inner.schedules.get(name).is_some_and(|row| *at > row.cursor) {
                snapshot.ahead.entry(name.clone()).or_default().insert(*at);
            }
        }
        for run in inner.runs.values().rev() {
            let recent = snapshot.recent.entry(run.schedule.clone()).or_default();
            if recent.len() < 20 {
                recent.push(run.clone());
            }
        }
        Ok(snapshot)
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        Ok(self.lock().commit(writes))
    }

    fn try_commit(&mut self, writes: &[Write]) -> Option<Committed> {
        match self.inner.try_lock() {
            Ok(mut inner) => Some(inner.commit(writes)),
            Err(TryLockError::Poisoned(inner)) => Some(inner.into_inner().commit(writes)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn reader(&self) -> Arc<dyn Query> {
        Arc::new(self.clone())
    }
}

impl Admin for MemoryStore {
    fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let inner = self.lock();
        let lost = inner.fires.iter().filter(|(_, run_id)| !inner.runs.contains_key(run_id));
        Ok(lost
            .map(|((schedule, at), _)| format!("the fire of {schedule} at {at} names a run that is not there"))
            .collect())
    }

    fn backup(&self, target: &Path) -> Result<(), StoreError> {
        let detail = format!("a store in memory is not copied to {}; use SQLite", target.display());
        Err(StoreError::Io { place: "in memory".into(), detail })
    }
}
