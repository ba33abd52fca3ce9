//! Recurrence rules of RFC 5545, section 3.3.10, from YEARLY to DAILY.
//!
//! Each rule part is a filter on days: a period (a year, month, week or day, every INTERVAL from DTSTART on) has the
//! days that pass all of them, each day the times of BYHOUR, BYMINUTE and BYSECOND; BYSETPOS picks from that list.
//! What a rule leaves out it takes from DTSTART: the month and day, the weekday, the time.

mod explain;
mod parse;

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::TriggerError;
use super::civil::{Civil, DAY, Wall, YEARS, month_length, weekday};
use super::wall::WallTimes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
}

impl Frequency {
    /// After so many periods the calendar repeats, weekdays included: 400 years.
    const fn cycle(self) -> i64 {
        match self {
            Self::Yearly => 400,
            Self::Monthly => 4800,
            Self::Weekly => 20_871,
            Self::Daily => 146_097,
        }
    }
}

/// A compiled rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    frequency: Frequency,
    interval: i64,
    /// Nothing before it; periods are counted from the one it is in.
    start: Wall,
    /// At most so many times.
    count: Option<u32>,
    /// The last time that COUNT allows, found when it is first needed.
    last: OnceLock<Option<Wall>>,
    /// Nothing after it, by an UNTIL on the wall.
    until: Option<Wall>,
    /// 0 is Sunday.
    week_start: u32,
    /// Bit n is month n; all of them when 0.
    months: u16,
    /// Bit 0 is Sunday; any when there are no days at all.
    weekdays: u8,
    /// Ordinal and weekday, as in -1FR.
    nth: Box<[(i32, u32)]>,
    month_days: Box<[i32]>,
    year_days: Box<[i32]>,
    weeks: Box<[i32]>,
    positions: Box<[i32]>,
    /// Seconds of the day, in order.
    times: Box<[u32]>,
}

/// A COUNT is walked once, when the last time is first needed.
const MOST_FIRES: u32 = 10_000;

impl Rule {
    /// Reads a rule that begins at `start`, unless its text has a DTSTART; without either it begins with 1970.
    /// An UNTIL that is an instant is given back.
    pub(super) fn parse(
        text: &str,
        start: Option<DateTime<Utc>>,
        zone: Tz,
    ) -> Result<(Self, Option<DateTime<Utc>>), TriggerError> {
        let start = start.map_or(0, |start| parse::wall_in(start, zone));
        let parsed = parse::parse(text, start, zone);
        let (rule, until) = parsed.map_err(|message| TriggerError::Invalid(format!("rrule: {message}")))?;
        if rule.count.is_some_and(|count| count > MOST_FIRES) {
            return Err(TriggerError::Invalid(format!("rrule: COUNT is a number from 1 to {MOST_FIRES}")));
        }
        Ok((rule, until))
    }

    /// Nothing comes after this.
    fn last(&self) -> Option<Wall> {
        let Some(count) = self.count else { return self.until };
        *self.last.get_or_init(|| {
            let times = std::iter::successors(self.search(self.start, None), |at| self.search(at + 1, None));
            Some(times.take(count as usize).last().unwrap_or(self.start))
        })
    }

    /// The number of the period that a day is in, counted from an arbitrary one.
    fn period_of(&self, day: i64) -> i64 {
        let date = Civil::of_day(day);
        match self.frequency {
            Frequency::Yearly => date.year,
            Frequency::Monthly => date.year * 12 + i64::from(date.month) - 1,
            Frequency::Weekly => (day + 4 - i64::from(self.week_start)).div_euclid(7),
            Frequency::Daily => day,
        }
    }

    /// The first day of a period, and the first after it.
    fn days_of(&self, period: i64) -> (i64, i64) {
        let month = |number: i64| {
            Civil { year: number.div_euclid(12), month: number.rem_euclid(12) as u32 + 1, day: 1 }.to_day()
        };
        match self.frequency {
            Frequency::Yearly => (month(period * 12), month(period * 12 + 12)),
            Frequency::Monthly => (month(period), month(period + 1)),
            Frequency::Weekly => {
                let first = period * 7 - 4 + i64::from(self.week_start);
                (first, first + 7)
            }
            Frequency::Daily => (period, period + 1),
        }
    }

    fn allows(&self, day: i64) -> bool {
        let date = Civil::of_day(day);
        let length = month_length(date.year, date.month) as i32;
        let from_either_end = |list: &[i32], at: i32, length: i32| {
            list.is_empty() || list.iter().any(|wanted| *wanted == at || *wanted == at - length - 1)
        };
        (self.months == 0 || self.months & (1 << date.month) != 0)
            && from_either_end(&self.month_days, date.day as i32, length)
            && self.allows_weekday(day, date, length)
            && (self.year_days.is_empty() || {
                let first = Civil { month: 1, day: 1, ..date }.to_day();
                let next = Civil { year: date.year + 1, month: 1, day: 1 }.to_day();
                from_either_end(&self.year_days, (day - first + 1) as i32, (next - first) as i32)
            })
            && (self.weeks.is_empty() || self.allows_week(day))
    }

    fn allows_weekday(&self, day: i64, date: Civil, month_length: i32) -> bool {
        if self.weekdays == 0 && self.nth.is_empty() {
            return true;
        }
        let on = weekday(day);
        if self.weekdays & (1 << on) != 0 {
            return true;
        }
        // Ordinals count in the month, or, in a rule by years without months, in the year.
        let (at, length) = if self.frequency == Frequency::Yearly && self.months == 0 {
            let first = Civil { month: 1, day: 1, ..date }.to_day();
            let next = Civil { year: date.year + 1, month: 1, day: 1 }.to_day();
            ((day - first) as i32, (next - first) as i32)
        } else {
            (date.day as i32 - 1, month_length)
        };
        let (nth, nth_last) = (at / 7 + 1, -((length - 1 - at) / 7 + 1));
        self.nth.iter().any(|(wanted, of)| *of == on && (*wanted == nth || *wanted == nth_last))
    }

    /// By the week's number, which is that of ISO 8601 for weeks that begin on Monday: week 1 is the first with at
    /// least four days in the year.
    fn allows_week(&self, day: i64) -> bool {
        let back = i64::from((weekday(day) + 7 - self.week_start) % 7);
        let middle = day - back + 3;
        let year = Civil::of_day(middle).year;
        let first = Civil { year, month: 1, day: 1 }.to_day();
        let next = Civil { year: year + 1, month: 1, day: 1 }.to_day();
        let number = (middle - first) / 7 + 1;
        let weeks = number + (next - 1 - middle) / 7;
        self.weeks.iter().any(|week| i64::from(*week) == number || i64::from(*week) == number - weeks - 1)
    }

    /// The first time of a period at or after `from`.
    fn in_period(&self, period: i64, from: Wall) -> Option<Wall> {
        let (first, end) = self.days_of(period);
        let allowed = || (first..end).filter(|day| self.allows(*day));
        if self.positions.is_empty() {
            let today = from.div_euclid(DAY);
            return allowed().skip_while(|day| *day < today).find_map(|day| {
                let time = self.times.iter().map(|time| day * DAY + i64::from(*time));
                time.into_iter().find(|at| *at >= from)
            });
        }
        let per_day = self.times.len() as i64;
        let all = allowed().count() as i64 * per_day;
        let at = |position: i32| {
            let index = if position > 0 { i64::from(position) - 1 } else { all + i64::from(position) };
            let index = Some(index).filter(|index| (0..all).contains(index))?;
            let day = allowed().nth((index / per_day) as usize)?;
            Some(day * DAY + i64::from(self.times[(index % per_day) as usize]))
        };
        self.positions.iter().filter_map(|position| at(*position)).filter(|at| *at >= from).min()
    }
}

impl WallTimes for Rule {
    fn next(&self, from: Wall) -> Option<Wall> {
        self.search(from, self.last())
    }

    fn fixed(&self) -> bool {
        true
    }
}

impl Rule {
    /// The first time at or after `from`, none after `last`.
    fn search(&self, from: Wall, last: Option<Wall>) -> Option<Wall> {
        let from = from.max(self.start);
        let begin = self.period_of(self.start.div_euclid(DAY));
        let behind = (self.period_of(from.div_euclid(DAY)) - begin).rem_euclid(self.interval);
        let mut period = self.period_of(from.div_euclid(DAY)) - behind;
        let last_year = Civil { year: *YEARS.end() + 1, month: 1, day: 1 }.to_day() * DAY;
        let until = last.unwrap_or(last_year - 1).min(last_year - 1);
        // The rule repeats itself after a cycle: nothing in one is nothing ever.
        for _ in 0..=self.frequency.cycle() {
            if self.days_of(period).0 * DAY > until {
                return None;
            }
            if let Some(at) = self.in_period(period, from) {
                return Some(at).filter(|at| *at <= until);
            }
            period += self.interval;
        }
        None
    }
}

#[cfg(test)]
mod tests;
