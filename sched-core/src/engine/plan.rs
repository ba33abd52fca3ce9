//! Which fires in (cursor, now] run, and which do not. Pure.

use std::collections::BTreeSet;
use std::ops::Bound;

use chrono::{DateTime, TimeDelta, Utc};

use crate::policy::{Misfire, MisfirePolicy};
use crate::run::{Reason, RunState};
use crate::trigger::Trigger;

/// A fire planned later than this is late: misfire policies decide on it, and its run is a catch-up.
pub(crate) const LATE: TimeDelta = TimeDelta::seconds(5);

/// No more fires than this are looked at in one plan, so that one step stays short.
const CHUNK: usize = 10_000;

/// What happens to consecutive fires, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// One fire runs, if overlap allows it.
    Run { at: DateTime<Utc>, late: bool },
    /// These do not.
    Gap { from: DateTime<Utc>, until: DateTime<Utc>, count: u64, state: RunState, reason: Reason },
}

impl Step {
    /// The last fire of the step.
    pub(crate) const fn until(&self) -> DateTime<Utc> {
        match self {
            Self::Run { at, .. } => *at,
            Self::Gap { until, .. } => *until,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Every fire up to here is decided.
    pub(crate) cursor: DateTime<Utc>,
    /// Whether fires after `cursor` are due already.
    pub(crate) more: bool,
}

/// By what fires are decided.
pub(crate) struct Rules<'a> {
    pub(crate) misfire: &'a Misfire,
    /// None of them runs, for this reason.
    pub(crate) hold: Option<Reason>,
    /// Fires that have run already.
    pub(crate) ahead: &'a BTreeSet<DateTime<Utc>>,
    /// How long after its nominal time a fire is to start (`jitter`); its lateness counts from there.
    pub(crate) delay: &'a dyn Fn(DateTime<Utc>) -> TimeDelta,
}

/// Decides the fires in (`cursor`, `now`], oldest first.
pub(crate) fn plan(trigger: &dyn Trigger, cursor: DateTime<Utc>, now: DateTime<Utc>, rules: &Rules<'_>) -> Plan {
    let Rules { misfire, hold, ahead, .. } = *rules;
    let mut due = Vec::new();
    let mut at = cursor;
    let mut more = false;
    while let Some(next) = trigger.next_after(at).filter(|next| *next <= now) {
        if due.len() == CHUNK {
            more = true;
            break;
        }
        at = next;
        if !ahead.contains(&next) {
            due.push(next);
        }
    }
    let mut plan = Plan { steps: Vec::new(), cursor: cursor.max(now), more };
    if let Some(reason) = hold {
        for fire in &due {
            plan.gap(*fire, RunState::Skipped, reason, ahead);
        }
    } else {
        let keep_back = if more { misfire.max as usize } else { 0 };
        let decided = due.len() - keep_back.min(due.len());
        due.truncate(decided);
        decide(&mut plan, &due, now, rules);
    }
    if more {
        plan.cursor = due.last().copied().unwrap_or(cursor);
    }
    plan
}

fn decide(plan: &mut Plan, due: &[DateTime<Utc>], now: DateTime<Utc>, rules: &Rules<'_>) {
    let Rules { misfire, ahead, delay, .. } = *rules;
    let window = TimeDelta::from_std(misfire.window).unwrap_or(TimeDelta::MAX);
    let total = due.len();
    for (index, &at) in due.iter().enumerate() {
        let lateness = now - at - delay(at);
        let newer = total - 1 - index + usize::from(plan.more) * misfire.max as usize;
        let missed = if lateness <= LATE {
            None
        } else if lateness > window {
            Some(Reason::Window)
        } else {
            match misfire.policy {
                MisfirePolicy::Skip => Some(Reason::MisfireSkip),
                MisfirePolicy::Latest => (newer > 0).then_some(Reason::Superseded),
                MisfirePolicy::All => (newer >= misfire.max as usize).then_some(Reason::CatchupLimit),
            }
        };
        match missed {
            Some(reason) => plan.gap(at, RunState::Missed, reason, ahead),
            None => plan.steps.push(Step::Run { at, late: lateness > LATE }),
        }
    }
}

/// Whether a fire that has run lies between two others, so that one range cannot count both.
pub(super) fn any_between(ahead: &BTreeSet<DateTime<Utc>>, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    ahead.range((Bound::Excluded(from), Bound::Excluded(until))).next().is_some()
}

impl Plan {
    fn gap(&mut self, at: DateTime<Utc>, state: RunState, reason: Reason, ahead: &BTreeSet<DateTime<Utc>>) {
        match self.steps.last_mut() {
            Some(Step::Gap { until, count, state: s, reason: r, .. })
                if *s == state && *r == reason && !any_between(ahead, *until, at) =>
            {
                *until = at;
                *count += 1;
            }
            _ => self.steps.push(Step::Gap { from: at, until: at, count: 1, state, reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trigger::TriggerSpec;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn minutely(now: i64, misfire: &Misfire) -> Plan {
        let trigger = TriggerSpec::every(Duration::from_secs(60)).compile().unwrap();
        plan(&*trigger, at(0), at(now), &by(misfire, &BTreeSet::new()))
    }

    fn by<'a>(misfire: &'a Misfire, ahead: &'a BTreeSet<DateTime<Utc>>) -> Rules<'a> {
        Rules { misfire, hold: None, ahead, delay: &|_| TimeDelta::zero() }
    }

    fn gap(from: i64, until: i64, count: u64, reason: Reason) -> Step {
        Step::Gap { from: at(from), until: at(until), count, state: RunState::Missed, reason }
    }

    #[test]
    fn a_fire_on_time_runs() {
        let plan = minutely(60, &Misfire::default());
        assert_eq!(plan.steps, [Step::Run { at: at(60), late: false }]);
        assert_eq!(plan.cursor, at(60));
    }

    #[test]
    fn after_an_hour_down_latest_runs_once_and_counts_the_rest() {
        let plan = minutely(3630, &Misfire::default());
        let run = Step::Run { at: at(3600), late: true };
        assert_eq!(plan.steps, [gap(60, 3540, 59, Reason::Superseded), run]);
    }

    #[test]
    fn all_runs_the_newest_up_to_its_limit_oldest_first() {
        let misfire = Misfire { policy: MisfirePolicy::All, max: 2, ..Misfire::default() };
        let plan = minutely(330, &misfire);
        let late = |s| Step::Run { at: at(s), late: true };
        assert_eq!(plan.steps, [gap(60, 180, 3, Reason::CatchupLimit), late(240), late(300)]);
    }

    #[test]
    fn skip_runs_no_late_fire() {
        let misfire = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
        assert_eq!(minutely(90, &misfire).steps, [gap(60, 60, 1, Reason::MisfireSkip)]);
    }

    #[test]
    fn lateness_counts_from_when_a_fire_was_to_start() {
        let misfire = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
        let trigger = TriggerSpec::every(Duration::from_secs(60)).compile().unwrap();
        let steps = |delay: i64| {
            let (ahead, delay) = (BTreeSet::new(), |_| TimeDelta::seconds(delay));
            plan(&*trigger, at(0), at(90), &Rules { delay: &delay, ..by(&misfire, &ahead) }).steps
        };
        assert_eq!(steps(10), [gap(60, 60, 1, Reason::MisfireSkip)]);
        assert_eq!(steps(25), [Step::Run { at: at(60), late: false }]);
        assert_eq!(steps(40), [Step::Run { at: at(60), late: false }]);
    }

    #[test]
    fn nothing_older_than_the_window_runs() {
        let misfire = Misfire { window: Duration::from_secs(20), ..Misfire::default() };
        assert_eq!(minutely(150, &misfire).steps, [gap(60, 120, 2, Reason::Window)]);
    }

    #[test]
    fn a_year_of_minutes_is_accounted_for_in_bounded_chunks() {
        let trigger = TriggerSpec::every(Duration::from_secs(60)).compile().unwrap();
        let now = at(365 * 86_400 + 30);
        let (mut cursor, mut missed, mut runs) = (at(0), 0, Vec::new());
        loop {
            let plan = plan(&*trigger, cursor, now, &by(&Misfire::default(), &BTreeSet::new()));
            for step in plan.steps {
                match step {
                    Step::Gap { count, .. } => missed += count,
                    Step::Run { at, .. } => runs.push(at),
                }
            }
            cursor = plan.cursor;
            if !plan.more {
                break;
            }
        }
        assert_eq!((missed, runs), (365 * 1440 - 1, vec![at(365 * 86_400)]));
    }
}
