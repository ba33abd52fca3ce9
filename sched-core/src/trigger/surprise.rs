//! The days on which a clock change shifts, skips or repeats a fire.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Timelike as _, Utc};
use chrono_tz::Tz;

use super::civil::Wall;
use super::wall::{Fold, Gap, InZone, WallTimes};

/// What a clock change does to the times that it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// They do not exist, and happen once at the end of the gap.
    RunAfter,
    /// They do not exist, and do not happen.
    Skipped,
    /// They do not exist, and happen later by the length of the gap.
    Shifted,
    /// They exist twice, and happen the first time.
    First,
    /// They exist twice, and happen the second time.
    Second,
    /// They exist twice, and happen both times.
    Twice,
}

/// One clock change that touches a trigger's times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surprise {
    /// When the clock changes.
    pub at: DateTime<Utc>,
    /// In which zone.
    pub zone: Tz,
    /// What the wall shows before and after the change.
    pub from: NaiveDateTime,
    /// What the wall shows at the change.
    pub to: NaiveDateTime,
    /// The first time on the wall that is touched.
    pub first: NaiveDateTime,
    /// How many are touched.
    pub count: usize,
    /// What happens to them.
    pub effect: Effect,
    /// Whether the trigger names minute and hour. A rhythm, such as every 15 minutes, is touched by each change.
    pub fixed: bool,
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: NaiveDateTime| at.format(if at.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string();
        let (first, to) = (time(self.first), time(self.to));
        let what = if self.count == 1 { first } else { format!("{first} and {} more", self.count - 1) };
        let (does, comes) = if self.count == 1 { ("does", "comes") } else { ("do", "come") };
        write!(f, "{}: the clock goes from {} to {to}; ", self.from.date(), time(self.from))?;
        match self.effect {
            Effect::RunAfter => write!(f, "{what} {does} not exist and runs once, at {to}"),
            Effect::Skipped => write!(f, "{what} {does} not exist and does not run"),
            Effect::Shifted => write!(f, "{what} {does} not exist and runs later by the length of the gap"),
            Effect::First => write!(f, "{what} {comes} twice and runs the first time only"),
            Effect::Second => write!(f, "{what} {comes} twice and runs the second time only"),
            Effect::Twice => write!(f, "{what} {comes} twice and runs both times"),
        }
    }
}

impl<W: WallTimes> InZone<W> {
    /// The clock changes in (after, until] that touch a time of the trigger.
    pub(super) fn touched(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Surprise> {
        let mut found = Vec::new();
        let mut at = after.timestamp();
        while at < until.timestamp() {
            let segment = self.zone().segment(at);
            at = segment.end;
            if segment.offset == segment.after || at > until.timestamp() {
                continue;
            }
            let (before, behind) = (at + segment.offset, at + segment.after);
            let (effect, low, high) = if behind > before {
                let effect = match self.gap(behind - before) {
                    Gap::RunAfter => Effect::RunAfter,
                    Gap::Shift => Effect::Shifted,
                    Gap::Skip | Gap::Auto => Effect::Skipped,
                };
                (effect, before, behind)
            } else {
                let effect = match self.fold(before - behind) {
                    Fold::First => Effect::First,
                    Fold::Last => Effect::Second,
                    Fold::Both | Fold::Auto => Effect::Twice,
                };
                (effect, behind, before)
            };
            let (first, count) = self.count(low, high);
            let (Some(first), Some(change)) = (first, DateTime::from_timestamp(at, 0)) else { continue };
            let wall = |wall: Wall| DateTime::from_timestamp(wall, 0).unwrap_or_default().naive_utc();
            let (from, to, first, zone) = (wall(before), wall(behind), wall(first), self.zone().tz());
            let fixed = self.times().fixed();
            found.push(Surprise { at: change, zone, from, to, first, count, effect, fixed });
        }
        found
    }

    /// The times on the wall in [low, high).
    fn count(&self, low: Wall, high: Wall) -> (Option<Wall>, usize) {
        let within = |wall: Wall| self.times().next(wall).filter(|wall| *wall < high);
        let all = std::iter::successors(within(low), |wall| within(wall + 1));
        let mut all = all.peekable();
        (all.peek().copied(), all.count())
    }
}
