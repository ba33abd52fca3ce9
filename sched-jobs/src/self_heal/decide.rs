//! Whether a remedy may be used now: cool-down, so many an hour, and a circuit breaker. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

const HOUR: TimeDelta = TimeDelta::hours(1);

/// The limits of one check's remedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// From one use to the next.
    pub(super) cooldown: Duration,
    /// Uses within any hour.
    pub(super) per_hour: usize,
    /// So many uses in a row that did not help open the breaker.
    pub(super) breaker_after: u32,
    /// An open breaker lets one use through after this.
    pub(super) breaker_reopen: Duration,
}

/// What is remembered of a check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Past {
    /// When its remedy was used, oldest first; no more than the limits look at.
    used: Vec<DateTime<Utc>>,
    /// Uses in a row that did not help.
    failed: u32,
    /// When the breaker opened, or when it last let one use through.
    opened: Option<DateTime<Utc>>,
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    Act,
    /// Not before then, for this reason.
    Wait(DateTime<Utc>, &'static str),
    /// The breaker is open until then.
    GiveUp(DateTime<Utc>),
}

fn later(at: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Past {
    /// What to do about a finding now. After the clock went back, what lies ahead counts as just done.
    pub(super) fn decide(&mut self, now: DateTime<Utc>, limits: &Limits) -> Decision {
        self.used.iter_mut().chain(&mut self.opened).for_each(|at| *at = (*at).min(now));
        if let Some(until) = self.opened.map(|at| later(at, limits.breaker_reopen)).filter(|until| *until > now) {
            return Decision::GiveUp(until);
        }
        if let Some(until) = self.used.last().map(|at| later(*at, limits.cooldown)).filter(|until| *until > now) {
            return Decision::Wait(until, "its cool-down");
        }
        let within_an_hour: Vec<_> = self.used.iter().filter(|at| **at + HOUR > now).collect();
        match within_an_hour.len().checked_sub(limits.per_hour) {
            Some(over) => {
                Decision::Wait(within_an_hour.get(over).map_or(now + HOUR, |at| **at + HOUR), "its limit an hour")
            }
            None => Decision::Act,
        }
    }

    /// The remedy is about to be used. Noted before it is, so that a crash does not make it free.
    pub(super) fn act(&mut self, now: DateTime<Utc>, limits: &Limits) {
        self.used.retain(|at| *at + HOUR > now);
        self.used.push(now);
        let more = self.used.len().saturating_sub(limits.per_hour.max(1));
        self.used.drain(..more);
        if self.opened.is_some() {
            self.opened = Some(now);
        }
    }

    /// The remedy was used and did not help; true when the breaker is open now.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, limits: &Limits) -> bool {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= limits.breaker_after {
            self.opened = Some(now);
        }
        self.opened.is_some()
    }

    /// The check finds nothing: the breaker closes. Uses still count for the cool-down.
    pub(super) fn well(&mut self) {
        self.failed = 0;
        self.opened = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Step {
        seconds: i64,
        sick: bool,
        helps: bool,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0i64..2000, prop::bool::weighted(0.9), prop::bool::weighted(0.2));
        prop::collection::vec(step.prop_map(|(seconds, sick, helps)| Step { seconds, sick, helps }), 1..200)
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (0u64..3000, 1usize..6, 1u32..5, 1u64..20_000).prop_map(|(cooldown, per_hour, breaker_after, reopen)| Limits {
            cooldown: Duration::from_secs(cooldown),
            per_hour,
            breaker_after,
            breaker_reopen: Duration::from_secs(reopen),
        })
    }

    proptest! {
        /// Against the whole log of what was done, which the state does not have.
        #[test]
        fn no_limit_is_exceeded_and_nothing_is_held_back_without_one(limits in limits(), steps in steps()) {
            let mut now = DateTime::<Utc>::UNIX_EPOCH;
            let mut past = Past::default();
            let mut log: Vec<DateTime<Utc>> = Vec::new();
            let mut in_a_row = 0;
            let mut opened: Option<DateTime<Utc>> = None;
            for step in steps {
                now += TimeDelta::seconds(step.seconds);
                // State survives a restart as JSON.
                past = serde_json::from_value(serde_json::to_value(&past).unwrap()).unwrap();
                if !step.sick {
                    past.well();
                    (in_a_row, opened) = (0, None);
                    continue;
                }
                let cool = log.last().is_none_or(|last| now - *last >= TimeDelta::from_std(limits.cooldown).unwrap());
                let recent = log.iter().filter(|at| now - **at < HOUR).count();
                let closed = opened.is_none_or(|at| now - at >= TimeDelta::from_std(limits.breaker_reopen).unwrap());
                let decision = past.decide(now, &limits);
                prop_assert_eq!(decision == Decision::Act, cool && recent < limits.per_hour && closed, "{:?}", &decision);
                match decision {
                    Decision::Act => {
                        past.act(now, &limits);
                        log.push(now);
                        if step.helps {
                            past.well();
                            (in_a_row, opened) = (0, None);
                        } else {
                            in_a_row += 1;
                            if in_a_row >= limits.breaker_after || opened.is_some() {
                                opened = Some(now);
                            }
                            prop_assert_eq!(past.failed(now, &limits), opened.is_some());
                        }
                    }
                    Decision::Wait(until, _) | Decision::GiveUp(until) => {
                        prop_assert!(until > now);
                        prop_assert_ne!(past.decide(until - TimeDelta::nanoseconds(1), &limits), Decision::Act);
                    }
                }
                prop_assert!(past.used.len() <= limits.per_hour);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_blocks_nothing_for_ever() {
        let limits = Limits {
            cooldown: Duration::from_secs(600),
            per_hour: 3,
            breaker_after: 2,
            breaker_reopen: Duration::from_secs(3600),
        };
        let (future, now) = (DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(400), DateTime::<Utc>::UNIX_EPOCH);
        let mut past = Past::default();
        past.act(future, &limits);
        assert_eq!(past.decide(now, &limits), Decision::Wait(now + TimeDelta::seconds(600), "its cool-down"));
        assert_eq!(past.decide(now + TimeDelta::seconds(600), &limits), Decision::Act);
        past.failed(future, &limits);
        past.failed(future, &limits);
        assert_eq!(past.decide(now, &limits), Decision::GiveUp(now + TimeDelta::hours(1)));
        assert_eq!(past.decide(now + TimeDelta::hours(1), &limits), Decision::Act);
    }
}
