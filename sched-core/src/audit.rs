//! Recomputes every nominal time from the stored versions and matches it to the ledger.
//!
//! Must not know: the engine, stores' SQL.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::id::{RunId, ScheduleName};
use crate::store::{Disposition, Query, ScheduleRow, Span, StoreError, VersionRow};
use crate::trigger::{On, Trigger, TriggerKind};

/// At most so many instants are listed for each schedule; all are counted.
const LISTED: usize = 100;

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditReport {
    /// Whether every nominal time has exactly one disposition, and no row contradicts another.
    pub ok: bool,
    /// From when on it vouches.
    pub since: Option<DateTime<Utc>>,
    /// Nominal times recomputed.
    pub expected: u64,
    /// Dispositions recorded; a range counts its fires.
    pub recorded: u64,
    /// Those of them that were planned by other time zone rules than this program has: taken as recorded.
    pub not_recomputed: u64,
    /// Nominal times without a disposition.
    pub missing: Vec<AuditFault>,
    /// Nominal times with more than one, or recorded instants that are none.
    pub duplicates: Vec<AuditFault>,
    /// Rows that contradict each other: what only someone else's hand can have done.
    pub contradictions: Vec<String>,
    /// The figures of each schedule.
    pub schedules: Vec<ScheduleAudit>,
}

/// One instant that is wrong in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AuditFault {
    /// The schedule.
    pub schedule: ScheduleName,
    /// The instant.
    pub nominal_at: DateTime<Utc>,
}

/// The figures of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ScheduleAudit {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Nominal times recomputed.
    pub expected: u64,
    /// Dispositions recorded.
    pub recorded: u64,
}

/// Audits every schedule, retired ones included, from `since` (or from where the history begins) up to each cursor.
/// Where history was pruned, the fires are counted: those recomputed against those removed and those left.
///
/// # Errors
/// When the store cannot be read.
pub fn audit(query: &dyn Query, since: Option<DateTime<Utc>>) -> Result<AuditReport, StoreError> {
    let pruned_before = query.pruned_before()?;
    let contradictions = query.contradictions()?;
    let mut report = AuditReport {
        ok: contradictions.is_empty(),
        since: since.max(pruned_before),
        expected: 0,
        recorded: 0,
        not_recomputed: 0,
        missing: Vec::new(),
        duplicates: Vec::new(),
        contradictions,
        schedules: Vec::new(),
    };
    for row in query.schedules()? {
        let found = Ledger::read(query, &row, since)?.compare(query)?;
        let fault = |at: &DateTime<Utc>| AuditFault { schedule: row.name().clone(), nominal_at: *at };
        let (mut missing, mut duplicates) = (found.missing, found.duplicates);
        if row.spec.trigger.after().is_some() {
            let (lost, doubled) = chains(query, row.name(), since.max(pruned_before))?;
            missing.extend(lost);
            duplicates.extend(doubled);
        }
        report.ok &= missing.is_empty() && duplicates.is_empty();
        report.missing.extend(missing.iter().take(LISTED).map(fault));
        report.duplicates.extend(duplicates.iter().take(LISTED).map(fault));
        report.expected += found.expected;
        report.recorded += found.recorded;
        report.not_recomputed += found.not_recomputed;
        let (schedule, expected, recorded) = (row.name().clone(), found.expected, found.recorded);
        report.schedules.push(ScheduleAudit { schedule, expected, recorded });
    }
    Ok(report)
}

/// What is recorded of one schedule.
struct Ledger<'q> {
    row: &'q ScheduleRow,
    versions: Vec<VersionRow>,
    recorded: Vec<Disposition>,
    /// Each fire after this is looked at, those before are counted; none when nothing was pruned.
    exact_after: Option<DateTime<Utc>>,
    /// Fires up to `exact_after` that were pruned, when they are counted.
    pruned: Option<u64>,
}

#[derive(Default)]
struct Compared {
    missing: Vec<DateTime<Utc>>,
    duplicates: Vec<DateTime<Utc>>,
    expected: u64,
    recorded: u64,
    not_recomputed: u64,
}

impl<'q> Ledger<'q> {
    fn read(query: &dyn Query, row: &'q ScheduleRow, since: Option<DateTime<Utc>>) -> Result<Self, StoreError> {
        let pruned = query.pruned_fires(row.name())?;
        let mut exact_after = since.max(pruned.map(|pruned| pruned.until));
        let mut recorded = query.dispositions(row.name(), since.unwrap_or(DateTime::<Utc>::UNIX_EPOCH))?;
        // Fires after the cursor ran before the clock went back.
        recorded.retain(|disposition| disposition.from <= row.cursor);
        for disposition in &recorded {
            if exact_after.is_some_and(|at| disposition.from <= at && at < disposition.until) {
                exact_after = Some(disposition.until);
            }
        }
        let pruned = pruned.filter(|_| since.is_none()).map(|pruned| pruned.count);
        Ok(Self { row, versions: query.versions(row.name())?, recorded, exact_after, pruned })
    }

    fn compare(mut self, query: &dyn Query) -> Result<Compared, StoreError> {
        let boundary = self.exact_after.unwrap_or(DateTime::<Utc>::MIN_UTC);
        let mut exact = self.recorded.split_off(self.recorded.partition_point(|d| d.until <= boundary));
        let (mut expected, mut before, mut not_recomputed) = (Vec::new(), 0, 0);
        for version in &self.versions {
            let Ok(trigger) = version.spec.trigger.compile() else { continue };
            let from = version.from.max(boundary);
            let until = version.until.map_or(self.row.cursor, |until| until.min(self.row.cursor));
            if version.zones.is_some() && version.zones.as_deref() != version.spec.trigger.zone_data() {
                let theirs = |recorded: &Disposition| from < recorded.from && recorded.from <= until;
                not_recomputed += count(&exact, theirs);
                exact.retain(|recorded| !theirs(recorded));
                self.pruned = None;
                continue;
            }
            if version.spec.trigger.is_after_completion() {
                // What lies before is not known, so the first fire after it is taken as it is.
                let first = exact.iter().map(|disposition| disposition.from).find(|at| *at > from);
                let next = if from > version.from { first } else { trigger.next_after(from) };
                expected.extend(after_runs(&*trigger, from, next, until, &query.spans(self.row.name())?));
                self.pruned = None;
            } else {
                expected.extend(crate::trigger::instants(&*trigger, from).take_while(|at| *at <= until));
                if self.pruned.is_some() {
                    let all = crate::trigger::instants(&*trigger, version.from);
                    before += all.take_while(|at| *at <= until.min(boundary)).count() as u64;
                }
            }
        }
        exact.retain(|recorded| expected.binary_search(&recorded.from).is_ok() || !self.ran_ahead(recorded));
        let (missing, duplicates) = compare(&expected, &exact);
        let mut found = Compared {
            missing,
            duplicates,
            expected: expected.len() as u64 + not_recomputed,
            recorded: count(&exact, |_| true) + not_recomputed,
            not_recomputed,
        };
        if let Some(pruned) = self.pruned {
            let left = pruned + count(&self.recorded, |_| true);
            found.expected += before;
            found.recorded += left;
            if left < before {
                found.missing.push(boundary);
            } else if left > before {
                found.duplicates.push(boundary);
            }
        }
        Ok(found)
    }
}

impl Ledger<'_> {
    /// Whether this is a fire that ran before the clock went back: a version named it that ends where the schedule was
    /// reopened (a version that is the same as the one before it).
    fn ran_ahead(&self, recorded: &Disposition) -> bool {
        let at = recorded.from;
        let named = |version: &VersionRow| {
            let trigger = version.spec.trigger.compile().ok();
            trigger.is_some_and(|trigger| trigger.next_after(at - TimeDelta::microseconds(1)) == Some(at))
        };
        let pairs = self.versions.windows(2).filter(|pair| pair[0].spec == pair[1].spec);
        let mut reopened = pairs.map(|pair| pair[1].from).filter(|reopened| *reopened < at);
        recorded.until == at
            && reopened.any(|from| self.versions.iter().any(|version| version.until == Some(from) && named(version)))
    }
}

/// The fires that some dispositions account for.
fn count(list: &[Disposition], which: impl Fn(&Disposition) -> bool) -> u64 {
    list.iter().filter(|disposition| which(disposition)).map(|disposition| disposition.count).sum()
}

type Instants = Vec<DateTime<Utc>>;

/// The ends of runs that a schedule should have come after and did not, and those it came after more than once.
fn chains(
    query: &dyn Query,
    name: &ScheduleName,
    since: Option<DateTime<Utc>>,
) -> Result<(Instants, Instants), StoreError> {
    let mut times: HashMap<RunId, usize> = HashMap::new();
    for parent in query.chained(name)? {
        *times.entry(parent).or_default() += 1;
    }
    let (mut missing, mut duplicates) = (Vec::new(), Vec::new());
    for version in query.versions(name)? {
        let TriggerKind::After { schedule: parent, on } = &version.spec.trigger.kind else { continue };
        for ended in query.ended(parent, version.from.max(since.unwrap_or(version.from)))? {
            // At the very instant of a change either version may have been asked.
            let owned = version.until.is_none_or(|until| ended.at < until);
            let due = ended.chains && on.matches(ended.state) && (!ended.repeats || *on == On::Success);
            match times.get(&ended.run_id).copied().unwrap_or(0) {
                0 if owned && due => missing.push(ended.at),
                0 | 1 => {}
                _ => duplicates.push(ended.at),
            }
        }
    }
    Ok((missing, duplicates))
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
