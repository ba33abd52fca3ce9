//! When schedules fire: one file a kind, all pure.
//!
//! A [`Trigger`] answers one question: which instant comes next after this one. [`TriggerSpec`] is its
//! written form. A new kind is one file here, one variant of [`TriggerKind`] and one line in `compile`.
//!
//! Times on the wall in a zone, what clock changes do to them, and the source of each rule: `docs/time.md`; in the
//! code: `wall`, and [`Dst`].
//!
//! Must not know: clocks, I/O, jobs.

mod after;
mod after_completion;
mod bounds;
mod calendar;
mod civil;
mod cron;
mod daily;
#[cfg(test)]
mod differential;
mod every;
mod explain;
mod masks;
mod once;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
mod rrule;
mod spec;
mod surprise;
mod wall;
mod weekly;
mod written;
mod zone;

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};

pub use cron::{CronError, DayRule, Dialect};
pub use spec::{On, TriggerError, TriggerKind, TriggerSpec};
pub use surprise::{Effect, Surprise};
pub use wall::{Dst, Fold, Gap};
pub(crate) use written::parse_zone;

/// Names the instants at which a schedule is due.
///
/// ```
/// use chrono::{DateTime, Utc};
/// use sched_core::{Trigger, TriggerSpec};
///
/// // 08:00 in London: in winter 08:00 UTC, in summer 07:00 UTC.
/// let trigger = TriggerSpec::daily("08:00".parse()?, chrono_tz::Europe::London).compile()?;
/// let after: DateTime<Utc> = "2026-03-28T12:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(after), Some("2026-03-29T07:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Trigger: Send + Sync + Debug {
    /// The first instant strictly after `after`, or none when it never fires again.
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;

    /// The instants in (after, until], in order.
    fn between(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let first = self.next_after(after);
        let all = std::iter::successors(first, |at| self.next_after(*at));
        all.take_while(|at| *at <= until).collect()
    }

    /// Whether it never fires, proved over the calendar's cycle.
    fn is_never(&self) -> bool {
        self.next_after(DateTime::<Utc>::MIN_UTC).is_none()
    }

    /// The clock changes in (after, until] that shift, skip or repeat a fire, in order.
    fn surprises(&self, _after: DateTime<Utc>, _until: DateTime<Utc>) -> Vec<Surprise> {
        Vec::new()
    }

    /// The last instant at or before `now`, looking back at most ten years.
    fn last_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut back = TimeDelta::minutes(1);
        let start = loop {
            let start = now.checked_sub_signed(back)?;
            if self.next_after(start).is_some_and(|first| first <= now) {
                break start;
            }
            if back > TimeDelta::days(3653) {
                return None;
            }
            back = back * 2;
        };
        let mut last = None;
        let mut at = start;
        while let Some(next) = self.next_after(at).filter(|next| *next <= now) {
            last = Some(next);
            at = next;
        }
        last
    }
}

/// The instants of a trigger strictly after `after`, in order.
///
/// ```
/// use std::time::Duration;
/// use sched_core::{TriggerSpec, instants};
/// let trigger = TriggerSpec::every(Duration::from_secs(6 * 3600)).compile()?;
/// let hours: Vec<_> = instants(&*trigger, "2026-01-01T00:00:00Z".parse()?).take(2).map(|t| t.to_rfc3339()).collect();
/// assert_eq!(hours, ["2026-01-01T06:00:00+00:00", "2026-01-01T12:00:00+00:00"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn instants(trigger: &dyn Trigger, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
    std::iter::successors(trigger.next_after(after), |at| trigger.next_after(*at))
}
