//! Recomputes every nominal time from the stored versions and matches it to the ledger.
//!
//! Must not know: the engine, stores' SQL.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::ScheduleName;
use crate::store::{Disposition, Query, Span, StoreError};
use crate::trigger::Trigger;

/// At most so many instants are listed for each schedule; all are counted.
const LISTED: usize = 100;

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// Whether every nominal time has exactly one disposition.
    pub ok: bool,
    /// From when on it vouches.
    pub since: Option<DateTime<Utc>>,
    /// Nominal times recomputed.
    pub expected: u64,
    /// Dispositions recorded; a range counts its fires.
    pub recorded: u64,
    /// Nominal times without a disposition.
    pub missing: Vec<AuditFault>,
    /// Nominal times with more than one, or recorded instants that are none.
    pub duplicates: Vec<AuditFault>,
    /// The figures of each schedule.
    pub schedules: Vec<ScheduleAudit>,
}

/// One instant that is wrong in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFault {
    /// The schedule.
    pub schedule: ScheduleName,
    /// The instant.
    pub nominal_at: DateTime<Utc>,
}

/// The figures of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleAudit {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Nominal times recomputed.
    pub expected: u64,
    /// Dispositions recorded.
    pub recorded: u64,
}

/// Audits every schedule, retired ones included, from `since` (or from where the history begins) up to each cursor.
///
/// # Errors
/// When the store cannot be read.
pub fn audit(query: &dyn Query, since: Option<DateTime<Utc>>) -> Result<AuditReport, StoreError> {
    let since = since.max(query.pruned_before()?);
    let mut report = AuditReport {
        ok: true,
        since,
        expected: 0,
        recorded: 0,
        missing: Vec::new(),
        duplicates: Vec::new(),
        schedules: Vec::new(),
    };
    for row in query.schedules()? {
        let after = since.unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
        let recorded = query.dispositions(row.name(), after)?;
        let mut expected = Vec::new();
        for version in query.versions(row.name())? {
            let Ok(trigger) = version.spec.trigger.compile() else { continue };
            let from = since.map_or(version.from, |since| since.max(version.from));
            let until = version.until.map_or(row.cursor, |until| until.min(row.cursor));
            if version.spec.trigger.is_after_completion() {
                // What lies before `since` is not known, so the first fire after it is taken as it is.
                let first = recorded.iter().map(|disposition| disposition.from).find(|at| *at > from);
                let next = if from > version.from { first } else { trigger.next_after(from) };
                expected.extend(after_runs(&*trigger, from, next, until, &query.spans(row.name())?));
            } else {
                expected.extend(crate::trigger::instants(&*trigger, from).take_while(|at| *at <= until));
            }
        }
        let count = recorded.iter().map(|disposition| disposition.count).sum();
        let fault = |at: &DateTime<Utc>| AuditFault { schedule: row.name().clone(), nominal_at: *at };
        let (missing, duplicates) = compare(&expected, &recorded);
        report.ok &= missing.is_empty() && duplicates.is_empty();
        report.missing.extend(missing.iter().take(LISTED).map(fault));
        report.duplicates.extend(duplicates.iter().take(LISTED).map(fault));
        report.expected += expected.len() as u64;
        report.recorded += count;
        let expected = expected.len() as u64;
        report.schedules.push(ScheduleAudit { schedule: row.name().clone(), expected, recorded: count });
    }
    Ok(report)
}

/// The fires in (`idle`, `until`] of a trigger that counts from the ends of runs, from the fire `next` on. A run that
/// is open when a fire would come puts it off until after its own end; a fire that does not run ends at once.
fn after_runs(
    trigger: &dyn Trigger,
    mut idle: DateTime<Utc>,
    mut next: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
    spans: &[Span],
) -> Vec<DateTime<Utc>> {
    let mut expected = Vec::new();
    let mut spans = spans.iter().peekable();
    while let Some(fire) = next.filter(|fire| *fire <= until) {
        let span = spans.next_if(|span| span.nominal_at == Some(fire) || span.queued_at <= fire);
        let mut end = idle;
        if span.is_none_or(|span| span.nominal_at == Some(fire)) {
            expected.push(fire);
            end = fire;
        }
        if let Some(span) = span {
            let Some(finished) = span.finished_at else { break };
            end = end.max(finished);
        }
        if end > idle {
            idle = end;
            next = trigger.next_after(idle);
        }
    }
    expected
}

/// The instants that are missing, and those that are recorded too often or without reason. Both lists are in
/// order of time; ranges do not overlap other dispositions in a true ledger.
fn compare(expected: &[DateTime<Utc>], recorded: &[Disposition]) -> (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    let (mut missing, mut duplicates) = (Vec::new(), Vec::new());
    let mut next = 0;
    for disposition in recorded {
        while next < expected.len() && expected[next] < disposition.from {
            missing.push(expected[next]);
            next += 1;
        }
        let begun = next;
        while next < expected.len() && expected[next] <= disposition.until {
            next += 1;
        }
        let covered = (next - begun) as u64;
        if covered > disposition.count {
            missing.extend(&expected[next - usize::try_from(covered - disposition.count).unwrap_or(0)..next]);
        } else if covered < disposition.count {
            duplicates.push(disposition.until);
        }
    }
    missing.extend(&expected[next..]);
    (missing, duplicates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn check(recorded: &[(i64, i64, u64)], missing: &[i64], duplicates: &[i64]) {
        let expected: Vec<_> = (1..=5).map(at).collect();
        let recorded: Vec<_> = recorded
            .iter()
            .map(|(from, until, count)| Disposition { from: at(*from), until: at(*until), count: *count })
            .collect();
        let (found, again) = compare(&expected, &recorded);
        let times = |list: &[DateTime<Utc>]| list.iter().map(DateTime::timestamp).collect::<Vec<_>>();
        assert_eq!((times(&found), times(&again)), (missing.to_vec(), duplicates.to_vec()), "{recorded:?}");
    }

    #[test]
    fn each_instant_is_wanted_once() {
        check(&[(1, 1, 1), (2, 4, 3), (5, 5, 1)], &[], &[]);
        check(&[(1, 1, 1), (5, 5, 1)], &[2, 3, 4], &[]);
        check(&[(1, 3, 3), (2, 2, 1), (4, 5, 2)], &[], &[2]);
        check(&[(1, 5, 4)], &[5], &[]);
        check(&[(1, 5, 6)], &[], &[5]);
        check(&[(0, 0, 1), (1, 5, 5)], &[], &[0]);
        check(&[], &[1, 2, 3, 4, 5], &[]);
    }
}
