//! What is wrong with runs, read off the history. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use glob::Pattern;
use sched_core::{HistoryRow, Origin, Reason, RunId, RunRecord, RunState, ScheduleName};

/// A back-off grows no longer than this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(86_400);
/// A chain of retries is followed no further.
const LONGEST_CHAIN: usize = 1000;

/// A schedule that failed or missed fires.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sick {
    pub(super) schedule: ScheduleName,
    pub(super) ill: Ill,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ill {
    /// The run that failed, how often it has been tried again, and since when it is over.
    Failed { run_id: RunId, retries: u32, at: DateTime<Utc>, error: Option<String> },
    /// The last fire that was missed, and how many were.
    Missed { at: DateTime<Utc>, count: u64 },
    /// The first and the last fire that were missed and have not run since, and how many were; some may be older than what
    /// is looked at.
    Gaps { from: DateTime<Utc>, until: DateTime<Utc>, count: u64 },
}

impl Ill {
    /// Whether another look finds what was found before, and not something new.
    pub(super) fn is_still(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Missed { at, .. }, Self::Missed { at: now, .. }) => at == now,
            (Self::Gaps { from, .. }, Self::Gaps { from: now, .. }) => from == now,
            _ => true,
        }
    }
}

/// Which schedules are looked at: those that match one of the patterns, or all.
pub(super) fn matches(patterns: &[Pattern], name: &ScheduleName) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name.as_str()))
}

fn is_retry(run: &RunRecord) -> bool {
    run.parent.is_some() && run.origin != Origin::Chain
}

/// Whether a line says how a schedule is: a fire that was skipped because a run was open says nothing of how that ended.
fn tells(row: &HistoryRow) -> bool {
    match row {
        HistoryRow::Run(_) => true,
        HistoryRow::Range(range) => !range.superseded && range.reason != Reason::Overlap,
    }
}

/// Reads lines of history, newest first. It keeps a line for each schedule and a little for each repetition.
#[derive(Debug)]
pub(super) struct Reader {
    own: ScheduleName,
    from: DateTime<Utc>,
    newest: BTreeMap<ScheduleName, HistoryRow>,
    /// Retries, each with the run that it repeats.
    retries: BTreeMap<RunId, RunId>,
    /// Runs that were repeated.
    repeated: BTreeSet<RunId>,
    gaps: BTreeMap<ScheduleName, Ill>,
}

impl Reader {
    /// Looks at fires since `from`, and not at its own schedule.
    pub(super) fn new(own: &ScheduleName, from: DateTime<Utc>) -> Self {
        let (newest, retries, repeated, gaps) = Default::default();
        Self { own: own.clone(), from, newest, retries, repeated, gaps }
    }

    /// Takes a line.
    pub(super) fn read(&mut self, row: HistoryRow) {
        if let HistoryRow::Run(run) = &row
            && let Some(parent) = run.parent.filter(|_| is_retry(run))
        {
            self.retries.insert(run.run_id, parent);
            self.repeated.insert(parent);
        }
        if *row.schedule() == self.own {
            return;
        }
        self.gap(&row);
        if tells(&row) && !self.newest.contains_key(row.schedule()) {
            self.newest.insert(row.schedule().clone(), row);
        }
    }

    fn gap(&mut self, row: &HistoryRow) {
        let (first, last, number) = match row {
            HistoryRow::Range(range) if range.state == RunState::Missed && !range.superseded => {
                (range.from.max(self.from), range.until, range.count)
            }
            HistoryRow::Run(run) if run.state == RunState::Missed => {
                let Some(at) = run.nominal_at else { return };
                (at, at, 1)
            }
            _ => return,
        };
        if last < self.from {
            return;
        }
        let ill = self.gaps.entry(row.schedule().clone());
        let ill = ill.or_insert(Ill::Gaps { from: first, until: last, count: 0 });
        if let Ill::Gaps { from, until, count } = ill {
            (*from, *until, *count) = (first.min(*from), last.max(*until), *count + number);
        }
    }

    fn retries(&self, run_id: RunId) -> u32 {
        let parent = |run_id: &RunId| self.retries.get(run_id).copied();
        let chain = std::iter::successors(parent(&run_id), parent).take(LONGEST_CHAIN);
        u32::try_from(chain.count()).unwrap_or(u32::MAX)
    }

    /// The schedules whose newest line is a failure or a miss, in the order of their names. Whatever has succeeded since,
    /// or is under way, is not.
    pub(super) fn sick(&self) -> Vec<Sick> {
        let ill = |row: &HistoryRow| match row {
            HistoryRow::Run(run)
                if run.state.is_failure() && !run.abandoned && !self.repeated.contains(&run.run_id) =>
            {
                let at = run.finished_at.unwrap_or(run.queued_at);
                let retries = self.retries(run.run_id);
                Some(Ill::Failed { run_id: run.run_id, retries, at, error: run.error.clone() })
            }
            // It waited for a free place until its window had passed.
            HistoryRow::Run(run) if run.state == RunState::Missed => {
                Some(Ill::Missed { at: run.nominal_at?, count: 1 })
            }
            HistoryRow::Range(range) if range.state == RunState::Missed => {
                Some(Ill::Missed { at: range.until, count: range.count })
            }
            _ => None,
        };
        let newest = self.newest.iter();
        newest.filter_map(|(name, row)| Some(Sick { schedule: name.clone(), ill: ill(row)? })).collect()
    }

    /// The schedules with fires that were missed and have not run since, in the order of their names.
    pub(super) fn gaps(&self) -> Vec<Sick> {
        let sick = |(name, ill): (&ScheduleName, &Ill)| Sick { schedule: name.clone(), ill: ill.clone() };
        self.gaps.iter().map(sick).collect()
    }
}

/// Whether a failed run may be tried again.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Retry {
    Now,
    Wait(DateTime<Utc>),
    /// It has been tried again as often as may be.
    Exhausted,
}

/// From a failure that was tried again so often to the next retry.
pub(super) fn wait(retries: u32, backoff: Duration) -> Duration {
    backoff.saturating_mul(2u32.saturating_pow(retries)).min(LONGEST_BACKOFF)
}

/// Decides it: at most so many retries, each waiting twice as long as the one before.
pub(super) fn retry(retries: u32, at: DateTime<Utc>, now: DateTime<Utc>, most: u32, backoff: Duration) -> Retry {
    if retries >= most {
        return Retry::Exhausted;
    }
    let until =
        TimeDelta::from_std(wait(retries, backoff)).ok().and_then(|wait| at.checked_add_signed(wait)).unwrap_or(at);
    // A failure that lies ahead, after the clock went back, has waited long enough.
    if until > now && at <= now { Retry::Wait(until) } else { Retry::Now }
}

/// Runs that have been going on for longer.
pub(super) fn stuck<'a>(
    rows: &'a [HistoryRow],
    own: &'a ScheduleName,
    now: DateTime<Utc>,
    longer_than: Duration,
) -> impl Iterator<Item = (&'a ScheduleName, TimeDelta)> {
    let limit = TimeDelta::from_std(longer_than).unwrap_or(TimeDelta::MAX);
    rows.iter().filter_map(move |row| match row {
        HistoryRow::Run(run) if run.state == RunState::Running && run.schedule != *own => {
            let going_on = now - run.started_at?;
            (going_on > limit).then_some((&run.schedule, going_on))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sched_core::{Fence, RangeRecord};
    use serde_json::{Value, json};

    use super::*;

    fn at(minute: u32) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::minutes(i64::from(minute))
    }

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(minute: u32) -> T {
        format!("00000000-0000-7000-8000-{minute:012}").parse().unwrap()
    }

    fn run(schedule: &str, minute: u32, state: RunState, parent: Option<RunId>) -> RunRecord {
        let origin = if parent.is_some() { Origin::Manual } else { Origin::Schedule };
        RunRecord {
            run_id: id(minute),
            schedule: schedule.parse().unwrap(),
            job: "command".into(),
            version: 1,
            nominal_at: parent.is_none().then(|| at(minute)),
            origin,
            state,
            reason: None,
            attempt: 1,
            not_before: at(minute),
            queued_at: at(minute),
            started_at: Some(at(minute)),
            finished_at: state.is_final().then(|| at(minute)),
            duration_ms: None,
            node: None,
            fence: Fence::default(),
            params: json!({}),
            summary: None,
            data: Value::Null,
            error: None,
            abandoned: false,
            artifacts: Vec::new(),
            parent,
            chains: true,
            requested_by: None,
            idempotency_key: None,
        }
    }

    fn range(schedule: &str, minute: u32, state: RunState, reason: Reason) -> HistoryRow {
        HistoryRow::Range(RangeRecord {
            range_id: id(minute),
            schedule: schedule.parse().unwrap(),
            version: 1,
            state,
            reason,
            blocker: None,
            from: at(minute),
            until: at(minute),
            count: 1,
            superseded: false,
        })
    }

    /// Of lines newest first.
    fn reader(rows: &[HistoryRow]) -> Reader {
        let mut reader = Reader::new(&"own".parse().unwrap(), at(0));
        rows.iter().cloned().for_each(|row| reader.read(row));
        reader
    }

    /// Of lines oldest first.
    fn ill(rows: &[HistoryRow]) -> Vec<String> {
        let mut rows = rows.to_vec();
        rows.reverse();
        reader(&rows).sick().into_iter().map(|sick| sick.schedule.to_string()).collect()
    }

    #[test]
    fn the_newest_line_that_tells_decides() {
        let row = |run: RunRecord| HistoryRow::Run(run);
        let failed = || row(run("a", 1, RunState::Failed, None));
        assert_eq!(ill(&[failed()]), ["a"]);
        assert!(ill(&[failed(), row(run("a", 2, RunState::Succeeded, None))]).is_empty());
        assert!(ill(&[failed(), row(run("a", 2, RunState::Running, None))]).is_empty());
        assert!(ill(&[row(run("own", 1, RunState::Failed, None))]).is_empty());
        assert!(ill(&[failed(), range("a", 2, RunState::Skipped, Reason::Paused)]).is_empty());
        assert_eq!(ill(&[failed(), range("a", 2, RunState::Skipped, Reason::Overlap)]), ["a"]);
        assert_eq!(ill(&[range("b", 1, RunState::Missed, Reason::Window)]), ["b"]);
        assert_eq!(ill(&[row(run("c", 1, RunState::Missed, None))]), ["c"]);
        let abandoned = RunRecord { abandoned: true, ..run("a", 1, RunState::TimedOut, None) };
        assert!(ill(&[row(abandoned)]).is_empty(), "it is not over");
        let chained = RunRecord { origin: Origin::Chain, ..run("d", 1, RunState::Failed, Some(id(0))) };
        let found = reader(&[row(chained)]).sick();
        assert!(matches!(found[0].ill, Ill::Failed { retries: 0, .. }), "a chain is no retry");
    }

    proptest! {
        /// A scheduler in small: fires, retries and passes of self-heal in any order, counted apart from the history.
        #[test]
        fn no_run_is_tried_again_too_often_nor_after_a_success(
            steps in prop::collection::vec((prop::bool::ANY, prop::bool::weighted(0.4)), 1..60),
            most in 1u32..4,
        ) {
            let mut rows: Vec<HistoryRow> = Vec::new();
            let (mut tries, mut last_succeeded) = (0, true);
            for (minute, (fires, succeeds)) in (1u32..).zip(steps) {
                let state = if succeeds { RunState::Succeeded } else { RunState::Failed };
                let parent = if fires {
                    tries = 0;
                    None
                } else {
                    let found = reader(&rows).sick();
                    prop_assert_eq!(found.is_empty(), last_succeeded);
                    let Some(Sick { ill: Ill::Failed { run_id, retries, at, .. }, .. }) = found.into_iter().next() else {
                        continue;
                    };
                    let again = retry(retries, at, self::at(minute), most, Duration::ZERO);
                    prop_assert_eq!(again == Retry::Now, tries < most);
                    if again != Retry::Now {
                        continue;
                    }
                    tries += 1;
                    Some(run_id)
                };
                rows.insert(0, HistoryRow::Run(run("a", minute, state, parent)));
                last_succeeded = succeeds;
            }
        }
    }

    #[test]
    fn gaps_are_what_was_missed_within_the_time_and_has_not_run_since() {
        let missed = |minute, count: u32| match range("a", minute, RunState::Missed, Reason::Superseded) {
            HistoryRow::Range(range) => RangeRecord { from: at(minute + 1 - count), count: count.into(), ..range },
            HistoryRow::Run(_) => unreachable!(),
        };
        let waited = |minute| HistoryRow::Run(run("a", minute, RunState::Missed, None));
        let superseded = HistoryRow::Range(RangeRecord { superseded: true, ..missed(70, 5) });
        let rows = [
            HistoryRow::Run(run("a", 80, RunState::Succeeded, None)),
            superseded,
            waited(50),
            HistoryRow::Range(missed(40, 20)),
            HistoryRow::Range(missed(10, 1)),
        ];
        let mut reader = Reader::new(&"own".parse().unwrap(), at(30));
        rows.into_iter().for_each(|row| reader.read(row));
        let expected = Ill::Gaps { from: at(30), until: at(50), count: 21 };
        assert_eq!(reader.gaps(), [Sick { schedule: "a".parse().unwrap(), ill: expected }]);
    }

    #[test]
    fn retries_are_bounded_and_wait_twice_as_long_each_time() {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let after =
            |retries, minutes| retry(retries, at, at + TimeDelta::minutes(minutes), 3, Duration::from_secs(600));
        assert_eq!(after(0, 9), Retry::Wait(at + TimeDelta::minutes(10)));
        assert_eq!((after(0, 10), after(1, 20), after(2, 40)), (Retry::Now, Retry::Now, Retry::Now));
        assert_eq!(after(2, 39), Retry::Wait(at + TimeDelta::minutes(40)));
        assert_eq!(after(3, 1_000_000), Retry::Exhausted);
        assert_eq!(retry(0, at, at - TimeDelta::days(1), 1, Duration::from_secs(600)), Retry::Now);
        assert_eq!(retry(90, at, at + TimeDelta::days(1), 99, Duration::MAX), Retry::Now);
    }
}
