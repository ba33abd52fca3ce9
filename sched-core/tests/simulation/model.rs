//! The rules, once more and plainly: from the inputs and the jobs' lengths alone, what must have become of each fire.
//! Shares no code with the engine: its own arithmetic, its own policies, row by row.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sched_core::{
    Event, HistoryFilter, HistoryRow, MisfirePolicy, On, Origin, Outcome, Overlap, Query, RangeRecord, Reason, RetryOn,
    RunId, RunRecord, RunState, ScheduleChange, Seq, Store, TriggerKind,
};

use crate::scenario::Plain;
use crate::world::{Fault, Seen};

type Micros = i64;

const SECOND: Micros = 1_000_000;

fn micros(at: DateTime<Utc>) -> Micros {
    at.timestamp_micros()
}

/// From when to when something held the fires of a schedule back, and as what.
struct Held {
    from: Micros,
    until: Micros,
    reason: Reason,
}

/// One version of a schedule that names instants.
struct Version {
    number: u32,
    period: Micros,
    from: Micros,
    until: Micros,
}

/// What the rules give a fire.
enum Expected {
    /// It does not run, for one of these reasons.
    Not(RunState, Vec<Reason>),
    /// It is planned at this instant, as this.
    Candidate(Micros, Origin),
}

struct Ledger<'a> {
    plain: &'a Plain,
    runs: Vec<&'a RunRecord>,
    current: BTreeMap<Micros, &'a RunRecord>,
    ranges: Vec<&'a RangeRecord>,
    versions: Vec<Version>,
    held: Vec<Held>,
    retired: Vec<Micros>,
}

/// Judges the ledger; gives the state, reason and origin of everything in it.
pub(crate) fn check<S: Store>(seen: &Seen<S>) -> Result<BTreeSet<[String; 3]>, Fault> {
    let query = seen.store.reader();
    let rows = query.history(&HistoryFilter::newest(1_000_000)).unwrap();
    let (mut runs, mut ranges) = (Vec::new(), Vec::new());
    for row in &rows {
        match row {
            HistoryRow::Run(run) => runs.push(run),
            HistoryRow::Range(range) => ranges.push(range),
        }
    }
    let events: Vec<_> = query.events_after(Seq(0), 1_000_000).unwrap();
    for (index, event) in events.iter().enumerate() {
        if event.seq != Some(Seq(index as u64 + 1)) {
            return Err(format!("event {:?} is out of order", event.seq));
        }
    }
    each_run(seen, &runs)?;
    chains(seen, &runs, &*query)?;
    for plain in &seen.scenario.schedules {
        let name = &plain.name;
        let of = |run: &&&RunRecord| run.schedule.as_str() == name;
        let mine: Vec<&RunRecord> = runs.iter().filter(of).copied().collect();
        let ledger = Ledger {
            current: current(&*query, name),
            runs: mine,
            ranges: ranges.iter().filter(|range| range.schedule.as_str() == name).copied().collect(),
            versions: versions(&*query, name),
            held: held(&events, name),
            retired: retirements(&events, name),
            plain,
        };
        ledger.each_fire_once()?;
        if !seen.scenario.goes_back() {
            ledger.as_the_rules_say(seen)?;
        }
    }
    let report = sched_core::audit(&*query, None).unwrap();
    if report.ok { Ok(rows.iter().map(disposition).collect()) } else { Err(format!("the audit disagrees: {report:?}")) }
}

fn disposition(row: &HistoryRow) -> [String; 3] {
    match row {
        HistoryRow::Run(run) => {
            let reason = run.reason.map_or("-".to_owned(), |reason| reason.to_string());
            [run.state.to_string(), reason, run.origin.to_string()]
        }
        HistoryRow::Range(range) => [range.state.to_string(), range.reason.to_string(), "-".to_owned()],
    }
}

fn current<'a>(query: &dyn Query, name: &str) -> BTreeMap<Micros, &'a RunRecord> {
    let all = query.fires_in(&name.parse().unwrap(), DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC).unwrap();
    // Kept for the length of the check; scenarios are small.
    all.into_iter().map(|run| (micros(run.nominal_at.unwrap()), &*Box::leak(Box::new(run)))).collect()
}

fn versions(query: &dyn Query, name: &str) -> Vec<Version> {
    let schedule = name.parse().unwrap();
    let rows = query.schedules().unwrap();
    let Some(row) = rows.iter().find(|row| row.name().as_str() == name) else { return Vec::new() };
    let versions = query.versions(&schedule).unwrap().into_iter();
    versions
        .filter_map(|version| {
            let TriggerKind::Every { period, .. } = version.spec.trigger.kind else { return None };
            let until = version.until.map_or(row.cursor, |until| until.min(row.cursor));
            let period = period.as_micros() as Micros;
            Some(Version { number: version.version, period, from: micros(version.from), until: micros(until) })
        })
        .collect()
}

/// When the schedule was paused, and when nothing was dispatched.
fn held(events: &[sched_core::Recorded], name: &str) -> Vec<Held> {
    let mut held = Vec::new();
    let (mut paused, mut stopped) = (None, None);
    let mut close = |since: &mut Option<Micros>, until: Micros, reason| {
        if let Some(from) = since.take() {
            held.push(Held { from, until, reason });
        }
    };
    for event in events {
        let at = micros(event.ts);
        match &event.event {
            Event::ScheduleChanged { schedule, change, .. } if schedule.as_str() == name => match change {
                ScheduleChange::Paused => paused = paused.or(Some(at)),
                ScheduleChange::Resumed => close(&mut paused, at, Reason::Paused),
                _ => {}
            },
            Event::DispatchChanged { running: false, .. } => stopped = stopped.or(Some(at)),
            Event::DispatchChanged { .. } => close(&mut stopped, at, Reason::DispatchStopped),
            _ => {}
        }
    }
    close(&mut paused, Micros::MAX, Reason::Paused);
    close(&mut stopped, Micros::MAX, Reason::DispatchStopped);
    held
}

fn retirements(events: &[sched_core::Recorded], name: &str) -> Vec<Micros> {
    let retired = events.iter().filter(|recorded| {
        matches!(&recorded.event, Event::ScheduleChanged { schedule, change: ScheduleChange::Retired, .. }
            if schedule.as_str() == name)
    });
    retired.map(|recorded| micros(recorded.ts)).collect()
}

/// The instants of a range, by its version's period.
fn instants(range: &RangeRecord, versions: &[Version]) -> Result<Vec<Micros>, Fault> {
    let version = versions.iter().find(|version| version.number == range.version);
    let Some(version) = version else { return Err(format!("{range:?} is of no version")) };
    let (from, until) = (micros(range.from), micros(range.until));
    let all: Vec<Micros> = (0..).map(|n| from + n * version.period).take_while(|at| *at <= until).collect();
    if all.len() as u64 != range.count || from % version.period != 0 || all.last() != Some(&until) {
        return Err(format!("{range:?} does not count its fires"));
    }
    Ok(all)
}

impl Ledger<'_> {
    fn nominal(&self) -> impl Iterator<Item = (Micros, &Version)> {
        self.versions.iter().flat_map(|version| {
            let first = (version.from.div_euclid(version.period) + 1) * version.period;
            (0..)
                .map(move |n| first + n * version.period)
                .take_while(|at| *at <= version.until)
                .map(move |at| (at, version))
        })
    }

    /// Each nominal time has one disposition, and nothing else has.
    fn each_fire_once(&self) -> Result<(), Fault> {
        let mut found: BTreeMap<Micros, u32> = BTreeMap::new();
        for at in self.current.keys() {
            *found.entry(*at).or_default() += 1;
        }
        for range in self.ranges.iter().filter(|range| !range.superseded) {
            for at in instants(range, &self.versions)? {
                *found.entry(at).or_default() += 1;
            }
        }
        for (at, version) in self.nominal() {
            match found.remove(&at) {
                Some(1) => {}
                other => {
                    let count = other.unwrap_or(0);
                    let name = &self.plain.name;
                    return Err(format!("{name} v{}: {} has {count} dispositions", version.number, text(at)));
                }
            }
        }
        // What ran before the clock went back belongs to the version that was reopened.
        let pairs = self.versions.windows(2).filter(|pair| pair[0].period == pair[1].period);
        let reopened: Vec<Micros> = pairs.map(|pair| pair[1].from).collect();
        found.retain(|at, _| {
            let named = |version: &Version| reopened.contains(&version.until) && version.until < *at;
            !self.versions.iter().any(|version| named(version) && at % version.period == 0)
        });
        if let Some((at, _)) = found.first_key_value() {
            return Err(format!("{}: {} is recorded and was never due", self.plain.name, text(*at)));
        }
        let mut origin: BTreeMap<Micros, u32> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| !matches!(run.origin, Origin::Backfill | Origin::Chain)) {
            if let Some(at) = run.nominal_at {
                *origin.entry(micros(at)).or_default() += 1;
            }
        }
        match origin.into_iter().find(|(_, count)| *count > 1) {
            Some((at, count)) => Err(format!("{}: {} was enqueued {count} times", self.plain.name, text(at))),
            None => Ok(()),
        }
    }

    /// When the engine must have decided a fire: at its time, or as soon as it could again.
    fn decided<S>(&self, at: Micros, seen: &Seen<S>) -> Option<Micros> {
        let mut from = at;
        for (begin, end) in &seen.able {
            let (begin, end) = (micros(*begin), micros(*end));
            if from > end {
                continue;
            }
            let decided = from.max(begin);
            let lost = seen.undone.iter().any(|undone| {
                let of_it = undone.schedule == self.plain.name && micros(undone.decided) == decided;
                of_it && micros(undone.from) < at && at <= micros(undone.until)
            });
            if !lost {
                // What happened at the instant of a death, instants do not tell.
                return (decided != end || !seen.deaths.iter().any(|at| micros(*at) == end)).then_some(decided);
            }
            from = end;
        }
        None
    }

    fn as_the_rules_say<S>(&self, seen: &Seen<S>) -> Result<(), Fault> {
        // Fires that nothing held back, and when they are decided; by version.
        let mut free: BTreeMap<u32, Vec<(Micros, Micros)>> = BTreeMap::new();
        let mut expected: BTreeMap<Micros, Expected> = BTreeMap::new();
        for (at, version) in self.nominal() {
            let holds: Vec<&Held> = self.held.iter().filter(|held| held.from < at && at <= held.until).collect();
            if !holds.is_empty() {
                let mut reasons: Vec<Reason> = holds.iter().map(|held| held.reason).collect();
                let removed = |when: &Micros| holds.iter().any(|held| *when >= at && *when <= held.until);
                if self.retired.iter().any(removed) {
                    reasons.push(Reason::Retired);
                }
                expected.insert(at, Expected::Not(RunState::Skipped, reasons));
                continue;
            }
            let Some(decided) = self.decided(at, seen) else { continue };
            if self.retired.contains(&decided) {
                expected.insert(at, Expected::Not(RunState::Skipped, vec![Reason::Retired]));
                continue;
            }
            free.entry(version.number).or_default().push((at, decided));
        }
        for fires in free.values() {
            self.misfires(fires, &mut expected);
        }
        for (at, expected) in expected {
            self.compare(at, &expected, seen)
                .map_err(|fault| format!("{} at {}: {fault}", self.plain.name, text(at)))?;
        }
        Ok(())
    }

    /// The misfire policy: each fire by its lateness, and by those after it that are due when it is decided.
    fn misfires(&self, fires: &[(Micros, Micros)], expected: &mut BTreeMap<Micros, Expected>) {
        for (index, (at, decided)) in fires.iter().enumerate() {
            let (at, decided) = (at, *decided);
            let newer = fires[index + 1..].iter().take_while(|(at, _)| *at <= decided).count();
            let late = decided - at > 5 * SECOND;
            let missed = if !late {
                None
            } else if decided - at > self.plain.window as Micros * SECOND {
                Some(Reason::Window)
            } else {
                match self.plain.misfire {
                    MisfirePolicy::Skip => Some(Reason::MisfireSkip),
                    MisfirePolicy::Latest if newer > 0 => Some(Reason::Superseded),
                    MisfirePolicy::All if newer >= self.plain.max as usize => Some(Reason::CatchupLimit),
                    _ => None,
                }
            };
            let origin = if late { Origin::Catchup } else { Origin::Schedule };
            expected.insert(
                *at,
                match missed {
                    Some(reason) => Expected::Not(RunState::Missed, vec![reason]),
                    None => Expected::Candidate(decided, origin),
                },
            );
        }
    }

    fn compare<S>(&self, at: Micros, expected: &Expected, seen: &Seen<S>) -> Result<(), Fault> {
        // What it was before any backfill.
        let range = self.ranges.iter().find(|range| micros(range.from) <= at && at <= micros(range.until));
        let run = self.runs.iter().find(|run| {
            run.nominal_at.map(micros) == Some(at) && !matches!(run.origin, Origin::Backfill | Origin::Chain)
        });
        match (expected, range, run) {
            (Expected::Not(state, reasons), Some(range), None)
                if range.state == *state && reasons.contains(&range.reason) =>
            {
                Ok(())
            }
            (Expected::Candidate(decided, origin), None, Some(run)) => {
                if (micros(run.queued_at), run.origin) != (*decided, *origin) {
                    return Err(format!(
                        "enqueued at {} as {}, not at {} as {origin}",
                        run.queued_at,
                        run.origin,
                        text(*decided)
                    ));
                }
                match self.blockers(*decided, at, seen) {
                    Some(blockers) if !blockers.is_empty() => Err(format!("it runs although {blockers:?} was open")),
                    _ => Ok(()),
                }
            }
            (Expected::Candidate(decided, _), Some(range), None) if range.reason == Reason::Overlap => {
                match self.blockers(*decided, at, seen) {
                    Some(blockers) if !range.blocker.is_some_and(|blocker| blockers.contains(&blocker)) => {
                        Err(format!("skipped for {:?}, but open were {blockers:?}", range.blocker))
                    }
                    _ => Ok(()),
                }
            }
            (Expected::Not(state, reasons), range, run) => Err(format!(
                "expected {state} for {reasons:?}, found {:?} {:?}",
                range.map(|range| (range.state, range.reason)),
                run.map(|run| (run.state, run.origin))
            )),
            (Expected::Candidate(..), range, _) => {
                Err(format!("expected a run, found {:?}", range.map(|range| (range.state, range.reason))))
            }
        }
    }

    /// The runs that stand in the way of a fire decided then; none when instants do not tell.
    fn blockers<S>(&self, decided: Micros, at: Micros, seen: &Seen<S>) -> Option<BTreeSet<RunId>> {
        match self.plain.overlap {
            Overlap::Allow | Overlap::QueueAll | Overlap::CancelRunning => return Some(BTreeSet::new()),
            Overlap::Skip => {}
            // Which of the open runs were waiting then, instants do not tell.
            Overlap::Queue => return None,
        }
        let mut open = BTreeSet::new();
        for run in &self.runs {
            let (queued, mut ended) = (micros(run.queued_at), run.finished_at.map_or(Micros::MAX, micros));
            // One that ignored its end stands in the way until it is gone.
            if let Some(gone) = seen.mirror.get(&run.run_id).and_then(|mirror| mirror.gone).filter(|_| run.abandoned) {
                ended = ended.max(micros(gone));
            }
            let earlier = run.nominal_at.is_some_and(|nominal| micros(nominal) < at) && run.origin != Origin::Backfill;
            let begun = queued < decided || (queued == decided && earlier);
            if run.nominal_at.map(micros) == Some(at) && run.origin != Origin::Backfill {
                continue;
            }
            let touches = queued <= decided && decided <= ended;
            if touches && (run.origin == Origin::Backfill || (queued == decided && !earlier) || ended == decided) {
                return None;
            }
            if begun && decided < ended {
                open.insert(run.run_id);
            }
        }
        Some(open)
    }
}

/// Each run ended as its attempts did, and as often as its policy says.
fn each_run<S>(seen: &Seen<S>, runs: &[&RunRecord]) -> Result<(), Fault> {
    let ids: BTreeSet<RunId> = runs.iter().map(|run| run.run_id).collect();
    if let Some(lost) = seen.mirror.keys().find(|run_id| !ids.contains(run_id)) {
        return Err(format!("{lost} was committed, and is not in the store"));
    }
    for run in runs {
        let name = run.schedule.as_str();
        let Some(plain) = seen.scenario.schedules.iter().find(|plain| plain.name == name) else { continue };
        let Some(mirror) = seen.mirror.get(&run.run_id) else {
            return Err(format!("{} came from nowhere", run.run_id));
        };
        let last = mirror.starts.last().map(|(_, _, outcome)| outcome);
        let retryable = match last {
            Some(Outcome::Failed(error)) => error.is_retryable(),
            Some(Outcome::Panicked(_)) => true,
            _ => false,
        };
        let left = run.attempt < plain.attempts && !plain.at_most_once;
        let wrong = match (run.state, run.reason) {
            (RunState::Queued | RunState::Running, _) => Some("is open after all has calmed down"),
            (RunState::Succeeded, _) if !matches!(last, Some(Outcome::Succeeded(_))) => {
                Some("succeeded, its job did not")
            }
            (RunState::Failed, _) if matches!(last, Some(Outcome::Succeeded(_)) | None) => {
                Some("failed, its job did not")
            }
            (RunState::Failed, _) if retryable && left && plain.retry_on.contains(&RetryOn::Failed) => {
                Some("has attempts left and failed")
            }
            // One that ignored its end is not tried again before it is gone.
            (RunState::TimedOut, _) if left && !run.abandoned && plain.retry_on.contains(&RetryOn::TimedOut) => {
                Some("has attempts left and timed out")
            }
            (RunState::Interrupted, Some(Reason::Lost)) if left && plain.retry_on.contains(&RetryOn::Interrupted) => {
                Some("has attempts left and was lost")
            }
            (RunState::Cancelled, Some(Reason::Requested)) if !seen.cancelled.contains(&run.run_id) => {
                Some("was cancelled, and nobody asked")
            }
            (RunState::Cancelled, Some(Reason::Replaced)) if plain.overlap != Overlap::CancelRunning => {
                Some("was replaced against its policy")
            }
            (RunState::Interrupted, Some(Reason::Lost)) if !seen.crashed => Some("was lost without a crash"),
            (RunState::Missed, _) if !mirror.starts.is_empty() => Some("was missed, and had started"),
            (RunState::Missed, Some(Reason::Window)) if !seen.scenario.goes_back() => {
                let waited = run.finished_at.map(|end| (end - run.not_before).num_seconds());
                (waited < Some(plain.window as i64)).then_some("was missed within its window")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(format!("{name} {:?}: {wrong}: {run:?}", run.nominal_at));
        }
    }
    Ok(())
}

/// What comes after a run came once, where it should have and nowhere else.
fn chains<S>(seen: &Seen<S>, runs: &[&RunRecord], query: &dyn Query) -> Result<(), Fault> {
    let mut after: HashMap<(RunId, &str), u32> = HashMap::new();
    for run in runs.iter().filter(|run| run.origin == Origin::Chain) {
        *after.entry((run.parent.unwrap(), run.schedule.as_str())).or_default() += 1;
    }
    for plain in &seen.scenario.schedules {
        let Some((parent, on)) = &plain.after else { continue };
        let versions = query.versions(&plain.name.parse().unwrap()).unwrap();
        for run in runs.iter().filter(|run| run.schedule.as_str() == parent) {
            let Some(ended) = run.finished_at else { continue };
            let matches = match on {
                On::Success => run.state == RunState::Succeeded,
                On::Failure => matches!(run.state, RunState::Failed | RunState::TimedOut | RunState::Interrupted),
                On::Any => !matches!(run.state, RunState::Skipped | RunState::Missed),
            };
            let repeats = run.origin == Origin::Manual && run.parent.is_some();
            let chained = versions.iter().any(|version| {
                matches!(version.spec.trigger.kind, TriggerKind::After { .. })
                    && version.from < ended
                    && version.until.is_none_or(|until| ended < until)
            });
            let due = chained && matches && run.chains && (!repeats || *on == On::Success);
            let found = after.remove(&(run.run_id, plain.name.as_str())).unwrap_or(0);
            // At the instant of a change, and after the clock went back, instants do not tell the order.
            let edge = seen.scenario.goes_back()
                || versions.iter().any(|version| version.from == ended || version.until == Some(ended));
            if found > 1 || (found != u32::from(due) && !edge) {
                return Err(format!("{} came {found} times after {run:?}", plain.name));
            }
        }
    }
    Ok(())
}

fn text(at: Micros) -> String {
    DateTime::from_timestamp_micros(at).unwrap().to_rfc3339()
}
