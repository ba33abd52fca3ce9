//! Figures computed from the scheduler's own history.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::{HistoryFilter, HistoryRow, Origin, PortError, RunContext, RunId, RunState};
use serde::Serialize;

/// A period that has begun at `from` and ends before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Period {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Period {
    pub(crate) fn contains(self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.until
    }
}

/// What became of one schedule's fires in a period.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
    /// Fires that did not run, by reason.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// In milliseconds; none without a finished run.
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p95_ms: Option<u64>,
    /// How long after its time a run's first attempt started, in milliseconds; none where none did.
    pub(crate) late_p50_ms: Option<u64>,
    pub(crate) late_p95_ms: Option<u64>,
    /// The newest failure's error.
    pub(crate) last_error: Option<String>,
    #[serde(skip)]
    pub(crate) durations: Vec<u64>,
    #[serde(skip)]
    pub(crate) latenesses: Vec<u64>,
}

impl Counts {
    /// Succeeded runs of those that ran to an end; none when none did.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        let ran = self.succeeded + self.failed;
        (ran > 0).then(|| self.succeeded as f64 / ran as f64)
    }

    fn add(&mut self, row: &HistoryRow) {
        match row {
            HistoryRow::Run(run) => {
                match run.state {
                    RunState::Succeeded => self.succeeded += 1,
                    RunState::Failed | RunState::TimedOut | RunState::Interrupted => {
                        self.failed += 1;
                        self.last_error = self.last_error.take().or_else(|| run.error.clone());
                    }
                    RunState::Cancelled => self.cancelled += 1,
                    RunState::Skipped => self.skipped += 1,
                    RunState::Missed => self.missed += 1,
                    RunState::Queued | RunState::Running => {}
                }
                if matches!(run.state, RunState::Skipped | RunState::Missed)
                    && let Some(reason) = run.reason
                {
                    *self.reasons.entry(reason.to_string()).or_default() += 1;
                }
                self.durations.extend(run.duration_ms);
                // What a later attempt waited for was asked for.
                let start = run.started_at.filter(|_| run.attempt == 1);
                self.latenesses.extend(start.map(|start| millis(start - run.not_before)));
            }
            HistoryRow::Range(range) => {
                let count = if range.state == RunState::Missed { &mut self.missed } else { &mut self.skipped };
                *count += range.count;
                *self.reasons.entry(range.reason.to_string()).or_default() += range.count;
            }
        }
    }

    fn finish(&mut self) {
        (self.p50_ms, self.p95_ms) = ranks(&mut self.durations);
        (self.late_p50_ms, self.late_p95_ms) = ranks(&mut self.latenesses);
    }

    fn join(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.skipped += other.skipped;
        self.missed += other.missed;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        self.durations.extend(&other.durations);
        self.latenesses.extend(&other.latenesses);
    }
}

fn millis(length: TimeDelta) -> u64 {
    u64::try_from(length.num_milliseconds()).unwrap_or(0)
}

/// The median and the 95th percentile, by the nearest rank.
fn ranks(values: &mut [u64]) -> (Option<u64>, Option<u64>) {
    values.sort_unstable();
    let rank = |share: f64| {
        let index = (values.len() as f64 * share).ceil() as usize;
        values.get(index.saturating_sub(1)).copied()
    };
    (rank(0.5), rank(0.95))
}

/// Counts by schedule, and all together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Statistics {
    pub(crate) schedules: BTreeMap<String, Counts>,
    pub(crate) total: Counts,
}

impl Statistics {
    /// Counts a row whose time lies in the period; what is still open, or was run after all, counts later or elsewhere.
    pub(crate) fn add(&mut self, row: &HistoryRow) {
        if !row.state().is_final() || matches!(row, HistoryRow::Range(range) if range.superseded) {
            return;
        }
        self.schedules.entry(row.schedule().to_string()).or_default().add(row);
    }

    /// Puts percentiles and totals together, once all rows are counted.
    pub(crate) fn finish(mut self) -> Self {
        for counts in self.schedules.values_mut() {
            counts.finish();
            self.total.join(counts);
        }
        self.total.finish();
        self
    }
}

/// The statistics of each period; periods may overlap. A run belongs where it was queued, a range where it ends.
pub(crate) async fn count(ctx: &RunContext, periods: &[Period]) -> Result<Vec<Statistics>, PortError> {
    let mut counted = vec![Statistics::default(); periods.len()];
    if let Some(from) = periods.iter().map(|period| period.from).min() {
        walk(ctx, from, |row| {
            let at = row.cursor().at;
            let within = periods.iter().zip(&mut counted).filter(|(period, _)| period.contains(at));
            within.for_each(|(_, statistics)| statistics.add(&row));
        })
        .await?;
    }
    Ok(counted.into_iter().map(Statistics::finish).collect())
}

/// Fires that did not run when they should, and were run after all. Only the run is told of then.
#[derive(Debug, Default)]
struct RunAfterAll(BTreeSet<RunId>);

impl RunAfterAll {
    /// Whether a line is of such a fire. Lines come newest first, so its run has come before.
    fn tells_twice(&mut self, row: &HistoryRow) -> bool {
        let HistoryRow::Run(run) = row else { return false };
        self.0.extend(run.parent.filter(|_| run.origin == Origin::Backfill));
        matches!(run.state, RunState::Missed | RunState::Skipped) && self.0.contains(&run.run_id)
    }
}

/// Reads the history since an instant, page by page, newest first; without what did not run and was run after all.
pub(crate) async fn walk(
    ctx: &RunContext,
    from: DateTime<Utc>,
    mut each: impl FnMut(HistoryRow),
) -> Result<(), PortError> {
    const PAGE: u32 = 1000;
    let mut filter = HistoryFilter { since: Some(from), bare: true, ..HistoryFilter::newest(PAGE) };
    let mut run_after_all = RunAfterAll::default();
    loop {
        let page = ctx.history(filter.clone()).await?;
        let full = page.len() == PAGE as usize;
        filter.after = page.last().map(HistoryRow::cursor);
        page.into_iter().filter(|row| !run_after_all.tells_twice(row)).for_each(&mut each);
        if !full {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(number: u32, state: &str, origin: &str, parent: Option<u32>) -> HistoryRow {
        let id = |number: u32| format!("00000000-0000-7000-8000-{number:012}");
        let at = "2026-11-25T08:00:00Z";
        let row = json!({
            "run_id": id(number), "schedule": "a", "job": "command", "version": 1, "nominal_at": at, "origin": origin,
            "state": state, "reason": null, "attempt": 1, "not_before": at, "queued_at": at, "started_at": at,
            "finished_at": at, "duration_ms": 40, "node": null, "fence": 1, "params": {}, "summary": null, "data": null,
            "error": null, "abandoned": false, "artifacts": [], "parent": parent.map(id), "requested_by": null,
            "idempotency_key": null,
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_fire_that_was_missed_and_run_after_all_counts_once() {
        let rows = [
            run(9, "failed", "manual", Some(1)),
            run(8, "succeeded", "backfill", Some(3)),
            run(7, "succeeded", "chain", Some(4)),
            run(4, "missed", "schedule", None),
            run(3, "missed", "schedule", None),
            run(2, "succeeded", "backfill", Some(1)),
            run(1, "failed", "schedule", None),
        ];
        let mut run_after_all = RunAfterAll::default();
        let mut statistics = Statistics::default();
        rows.iter().filter(|row| !run_after_all.tells_twice(row)).for_each(|row| statistics.add(row));
        let total = statistics.finish().total;
        assert_eq!((total.missed, total.succeeded, total.failed), (1, 3, 2));
    }
}
