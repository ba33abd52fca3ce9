//! What readers ask of the store in memory.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::{Disposition, EndedRun, PrunedFires, Query, ScheduleRow, Span, StoreError, VersionRow};
use super::MemoryStore;
use crate::event::Recorded;
use crate::id::{RunId, ScheduleName, Seq};
use crate::notice::OutboxRow;
use crate::query::{HistoryFilter, Hold, OutboxFilter};
use crate::run::{HistoryRow, Origin, RangeRecord, RunRecord};

impl Query for MemoryStore {
    fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryRow>, StoreError> {
        let inner = self.lock();
        let runs = inner.runs.values().cloned().map(HistoryRow::Run);
        let ranges = inner.ranges.values().cloned().map(HistoryRow::Range);
        let mut rows: Vec<_> = runs
            .chain(ranges)
            .filter(|row| filter.schedule.as_ref().is_none_or(|name| row.schedule() == name))
            .filter(|row| filter.states.is_empty() || filter.states.contains(&row.state()))
            .filter(|row| filter.since.is_none_or(|since| row.cursor().at >= since))
            .filter(|row| filter.after.is_none_or(|after| row.cursor() < after))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.cursor()));
        rows.truncate(filter.limit as usize);
        Ok(rows)
    }

    fn run(&self, run_id: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.lock().runs.get(&run_id).cloned())
    }

    fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        Ok(self.lock().schedules.values().cloned().collect())
    }

    fn activity(&self, schedule: &ScheduleName) -> Result<(Option<RunRecord>, Vec<RunId>), StoreError> {
        let inner = self.lock();
        let of = || inner.runs.values().filter(|run| run.schedule == *schedule);
        let last = of().filter(|run| run.started_at.is_some()).max_by_key(|run| run.started_at).cloned();
        Ok((last, of().filter(|run| !run.state.is_final()).map(|run| run.run_id).collect()))
    }

    fn versions(&self, schedule: &ScheduleName) -> Result<Vec<VersionRow>, StoreError> {
        Ok(self.lock().versions.get(schedule).cloned().unwrap_or_default())
    }

    fn spans(&self, schedule: &ScheduleName) -> Result<Vec<Span>, StoreError> {
        let inner = self.lock();
        let mut spans: Vec<_> = inner
            .runs
            .values()
            .filter(|run| run.schedule == *schedule)
            .map(|run| Span { nominal_at: run.nominal_at, queued_at: run.queued_at, finished_at: run.finished_at })
            .collect();
        spans.sort_by_key(|span| (span.queued_at, span.nominal_at.is_none()));
        Ok(spans)
    }

    fn dispositions(&self, schedule: &ScheduleName, since: DateTime<Utc>) -> Result<Vec<Disposition>, StoreError> {
        let inner = self.lock();
        let fires = inner
            .fires
            .keys()
            .filter(|(name, at)| name == schedule && *at > since)
            .map(|(_, at)| Disposition { from: *at, until: *at, count: 1 });
        let ranges = inner.ranges.values().filter(|r| r.schedule == *schedule && r.until > since && !r.superseded);
        let ranges = ranges.map(|r| Disposition { from: r.from, until: r.until, count: r.count });
        let mut all: Vec<_> = fires.chain(ranges).collect();
        all.sort_by_key(|d| d.from);
        Ok(all)
    }

    fn pruned_before(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.lock().pruned_before)
    }

    fn events_after(&self, seq: Seq, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let inner = self.lock();
        let start = inner.events.partition_point(|event| event.seq <= Some(seq));
        Ok(inner.events.iter().skip(start).take(limit as usize).cloned().collect())
    }

    fn last_seq(&self) -> Result<Seq, StoreError> {
        Ok(self.lock().last_seq)
    }

    fn mark(&self, sink: &str) -> Result<Option<Seq>, StoreError> {
        Ok(self.lock().marks.get(sink).copied())
    }

    fn state(&self, schedule: &ScheduleName, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.lock().state.get(&(schedule.clone(), key.to_owned())).cloned())
    }

    fn ranges_in(
        &self,
        schedule: &ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<RangeRecord>, StoreError> {
        let inner = self.lock();
        let covers = |r: &&RangeRecord| r.schedule == *schedule && !r.superseded && r.from <= until && from <= r.until;
        let mut ranges: Vec<_> = inner.ranges.values().filter(covers).cloned().collect();
        ranges.sort_by_key(|range| range.from);
        Ok(ranges)
    }

    fn fires_in(
        &self,
        schedule: &ScheduleName,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let inner = self.lock();
        let fires = inner.fires.range((schedule.clone(), from)..=(schedule.clone(), until));
        Ok(fires.filter_map(|(_, run_id)| inner.runs.get(run_id).cloned()).collect())
    }

    fn pruned_fires(&self, schedule: &ScheduleName) -> Result<Option<PrunedFires>, StoreError> {
        Ok(self.lock().pruned.get(schedule).copied())
    }

    fn chained(&self, schedule: &ScheduleName) -> Result<Vec<RunId>, StoreError> {
        let inner = self.lock();
        let runs = inner.runs.values().filter(|run| run.schedule == *schedule && run.origin == Origin::Chain);
        Ok(runs.filter_map(|run| run.parent).collect())
    }

    fn ended(&self, schedule: &ScheduleName, since: DateTime<Utc>) -> Result<Vec<EndedRun>, StoreError> {
        let inner = self.lock();
        let runs = inner.runs.values().filter(|run| run.schedule == *schedule);
        let ended = runs.filter_map(|run| {
            let at = run.finished_at.filter(|at| *at > since)?;
            let repeats = run.origin == Origin::Manual && run.parent.is_some();
            Some(EndedRun { run_id: run.run_id, state: run.state, at, chains: run.chains, repeats })
        });
        Ok(ended.collect())
    }

    fn contradictions(&self) -> Result<Vec<String>, StoreError> {
        let inner = self.lock();
        let wrong = inner.fires.iter().filter(|((name, at), run_id)| {
            inner.runs.get(run_id).is_none_or(|run| run.schedule != *name || run.nominal_at != Some(*at))
        });
        Ok(wrong.map(|((name, at), _)| format!("the fire of {name} at {at} names a run that is not its own")).collect())
    }

    fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, StoreError> {
        let inner = self.lock();
        let rows = inner.outbox.values().rev();
        let rows = rows.filter(|row| filter.state.is_none_or(|state| row.state == state));
        let rows = rows.filter(|row| filter.after.is_none_or(|after| row.id < after));
        Ok(rows.take(filter.limit as usize).cloned().collect())
    }

    fn dispatch(&self) -> Result<Option<Hold>, StoreError> {
        Ok(self.lock().dispatch.clone())
    }
}
