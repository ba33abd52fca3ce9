//! Figures computed from the scheduler's own history. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sched_core::{HistoryFilter, HistoryRow, PortError, RunContext, RunState};
use serde::Serialize;

/// A period that has begun at `from` and ends before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Period {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
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
    /// The newest failure's error.
    pub(crate) last_error: Option<String>,
    #[serde(skip)]
    pub(crate) durations: Vec<u64>,
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
                    RunState::Queued | RunState::Running => return,
                }
                self.durations.extend(run.duration_ms);
            }
            HistoryRow::Range(range) if range.superseded => {}
            HistoryRow::Range(range) => {
                let count = if range.state == RunState::Missed { &mut self.missed } else { &mut self.skipped };
                *count += range.count;
                *self.reasons.entry(range.reason.to_string()).or_default() += range.count;
            }
        }
    }

    fn finish(&mut self) {
        self.durations.sort_unstable();
        let rank = |share: f64| {
            let index = (self.durations.len() as f64 * share).ceil() as usize;
            self.durations.get(index.saturating_sub(1)).copied()
        };
        (self.p50_ms, self.p95_ms) = (rank(0.5), rank(0.95));
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
    }
}

/// Counts by schedule, and all together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Statistics {
    pub(crate) schedules: BTreeMap<String, Counts>,
    pub(crate) total: Counts,
}

/// Counts the rows whose time lies in the period; rows come newest first.
pub(crate) fn count(rows: &[HistoryRow], period: Period) -> Statistics {
    let mut statistics = Statistics::default();
    for row in rows {
        let at = row.cursor().at;
        if at >= period.from && at < period.until {
            statistics.schedules.entry(row.schedule().to_string()).or_default().add(row);
        }
    }
    for counts in statistics.schedules.values_mut() {
        counts.finish();
        statistics.total.join(counts);
    }
    statistics.total.finish();
    statistics
}

/// Reads the history since an instant, page by page, newest first.
pub(crate) async fn since(ctx: &RunContext, from: DateTime<Utc>) -> Result<Vec<HistoryRow>, PortError> {
    const PAGE: u32 = 1000;
    let mut filter = HistoryFilter { since: Some(from), ..HistoryFilter::newest(PAGE) };
    let mut rows = Vec::new();
    loop {
        let page = ctx.history(filter.clone()).await?;
        let full = page.len() == PAGE as usize;
        filter.after = page.last().map(HistoryRow::cursor);
        rows.extend(page);
        if !full {
            return Ok(rows);
        }
    }
}
