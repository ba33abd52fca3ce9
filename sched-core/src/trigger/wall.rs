//! Times on the wall in a zone whose clocks change: what happens to a time that a day does not have, or has twice.
//!
//! In spring a clock jumps from 02:00 to 03:00: the times between are a *gap*, that day has no 02:30. In autumn it
//! goes from 03:00 back to 02:00: the hour is a *fold*, that day has 02:30 twice. A trigger that names wall-clock
//! times says by [`Gap`] and [`Fold`] what it wants. The default is the rule of Debian's cron (cron(8), cron.c):
//!
//! - *fixed times* (a minute and an hour are named, as in `30 2 * * *` or `daily`) happen once a day: one in a gap
//!   at the gap's end, one in a fold the first time;
//! - a *rhythm* (the minute or the hour begins with `*`, as in `*/15 * * * *`) follows the clock: times in a gap do
//!   not happen, times in a fold happen twice, and the distance between two is what it always is;
//! - a jump of three hours or more is not summer time but a new clock (Casey 2009, Apia's lost 30 December 2011):
//!   what it leaves out does not happen, what it repeats happens again.
//!
//! Two times that land on one instant are one fire.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Trigger;
use super::civil::{Civil, DAY, Wall, YEARS};
use super::surprise::Surprise;
use super::zone::{Segment, Zone};

/// A jump of the clock from which on Debian's cron makes nothing up.
const NEW_CLOCK: i64 = 3 * 3600;

/// What happens to times that a day does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// Fixed times run at the gap's end, rhythms leave the gap out.
    #[default]
    Auto,
    /// They run at the gap's end, once.
    RunAfter,
    /// They do not happen.
    Skip,
    /// They move by the length of the gap: 02:30 becomes 03:30.
    Shift,
}

/// What happens to times that a day has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Fixed times run the first time, rhythms both times.
    #[default]
    Auto,
    /// Only the first time.
    First,
    /// Only the second time.
    Last,
    /// Both times.
    Both,
}

/// What clock changes do to a trigger.
///
/// In Berlin, on 29 March 2026, the clock goes from 02:00 to 03:00: that day has no 02:30, it lies in a *gap*. On 25
/// October it goes from 03:00 back to 02:00: that day has 02:30 twice, it lies in a *fold*. By default a fixed time
/// happens once on each of these days, at the gap's end and at the first of the two:
///
/// ```
/// use sched_core::{Dst, Fold, Gap, Trigger, TriggerSpec};
///
/// let mut spec = TriggerSpec::cron("30 2 * * *", chrono_tz::Europe::Berlin);
/// let (march, october) = ("2026-03-28T12:00:00Z".parse()?, "2026-10-24T12:00:00Z".parse()?);
/// let trigger = spec.compile()?;
/// assert_eq!(trigger.next_after(march), Some("2026-03-29T01:00:00Z".parse()?)); // 03:00 on the wall
/// assert_eq!(trigger.next_after(october), Some("2026-10-25T00:30:00Z".parse()?)); // the first 02:30
///
/// spec.dst = Dst { gap: Gap::Shift, fold: Fold::Last };
/// let trigger = spec.compile()?;
/// assert_eq!(trigger.next_after(march), Some("2026-03-29T01:30:00Z".parse()?)); // 03:30 on the wall
/// assert_eq!(trigger.next_after(october), Some("2026-10-25T01:30:00Z".parse()?)); // the second 02:30
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dst {
    /// What happens to times that a day does not have.
    pub gap: Gap,
    /// What happens to times that a day has twice.
    pub fold: Fold,
}

impl Dst {
    fn gap(self, fixed: bool, length: i64) -> Gap {
        match self.gap {
            Gap::Auto if fixed && length < NEW_CLOCK => Gap::RunAfter,
            Gap::Auto => Gap::Skip,
            chosen => chosen,
        }
    }

    fn fold(self, fixed: bool, length: i64) -> Fold {
        match self.fold {
            Fold::Auto if fixed && length < NEW_CLOCK => Fold::First,
            Fold::Auto => Fold::Both,
            chosen => chosen,
        }
    }
}

/// Names times on the wall, whatever the zone.
pub(super) trait WallTimes: Send + Sync + std::fmt::Debug {
    /// The first time at or after `from`; none when there is none up to the year 9999. Proves absence at once.
    fn next(&self, from: Wall) -> Option<Wall>;

    /// Whether minute and hour are named.
    fn fixed(&self) -> bool;
}

/// Wall-clock times in a zone: instants.
#[derive(Debug)]
pub(super) struct InZone<W> {
    times: W,
    zone: Arc<Zone>,
    dst: Dst,
}

impl<W: WallTimes> InZone<W> {
    pub(super) fn new(times: W, tz: Tz, dst: Dst) -> Self {
        Self { times, zone: Zone::of(tz), dst }
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    pub(super) const fn times(&self) -> &W {
        &self.times
    }

    /// What happens to times in a gap of this length.
    pub(super) fn gap(&self, length: i64) -> Gap {
        self.dst.gap(self.times.fixed(), length)
    }

    /// What happens to times in a fold of this length.
    pub(super) fn fold(&self, length: i64) -> Fold {
        self.dst.fold(self.times.fixed(), length)
    }

    fn next_instant(&self, mut from: i64) -> Option<i64> {
        if self.zone.tz() == Tz::UTC {
            return self.times.next(from);
        }
        // The next time on the wall stays the next one for every later begin that it does not lie before.
        let mut known: Option<(Wall, Wall)> = None;
        loop {
            let segment = self.zone.segment(from);
            let wall = from.checked_add(segment.offset)?;
            let natural = match known {
                Some((begin, next)) if begin <= wall && wall <= next => Some(next),
                _ => self.times.next(wall),
            };
            known = natural.map(|next| (wall, next));
            if let Some(found) = self.in_segment(&segment, from, natural) {
                return Some(found);
            }
            let wall_end = segment.end.saturating_add(segment.offset.min(segment.after));
            let before_fold = from + segment.offset <= wall_end;
            from = match natural {
                // Nothing on the wall until long after the segment: no clock change on the way matters.
                Some(wall) if before_fold => segment.end.max(wall - segment.offset - 2 * DAY),
                None if before_fold => return None,
                _ => segment.end,
            };
        }
    }

    /// The first instant at or after `from` in the segment that `from` is in; `natural` is the next time on its wall.
    fn in_segment(&self, segment: &Segment, from: i64, natural: Option<Wall>) -> Option<i64> {
        let &Segment { start, end, offset, before, after } = segment;
        let mut first_wall = from + offset;
        let mut made_up = None;
        if offset > before {
            let gap_end = start + offset;
            let left_out = |low: Wall| self.times.next(low).filter(|wall| *wall < gap_end);
            made_up = match self.gap(offset - before) {
                Gap::RunAfter if from <= start => left_out(start + before).map(|_| start),
                Gap::Shift => left_out(from + before).map(|wall| wall - before).filter(|at| *at < end),
                _ => None,
            };
        } else if offset < before && self.fold(before - offset) == Fold::First {
            first_wall = first_wall.max(start + before);
        }
        let mut wall_end = end.saturating_add(offset);
        if after < offset && self.fold(offset - after) == Fold::Last {
            wall_end = end + after;
        }
        let natural = if first_wall == from + offset { natural } else { self.times.next(first_wall) };
        let natural = natural.filter(|wall| *wall < wall_end).map(|wall| wall - offset);
        made_up.into_iter().chain(natural).min()
    }
}

impl<W: WallTimes> Trigger for InZone<W> {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        const BEGIN: i64 = Civil { year: *YEARS.start(), month: 1, day: 2 }.to_day() * DAY;
        let now = after.timestamp();
        let found = self.next_instant((now + 1).max(BEGIN))?;
        match after.timestamp_subsec_nanos() {
            // A short way on from a known date is cheaper than a date from nothing.
            0 => after.checked_add_signed(TimeDelta::seconds(found - now)),
            _ => DateTime::from_timestamp(found, 0),
        }
    }

    fn surprises(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Surprise> {
        self.touched(after, until)
    }
}
