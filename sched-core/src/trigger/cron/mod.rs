//! Cron expressions, searched on bit masks: one bit for each allowed value, no stepping from minute to minute.
//!
//! The standard dialect has five fields, or six with leading seconds, by the rules of Debian's cron (crontab(5)),
//! and takes `L`, `LW`, `nW`, `n#k` and `nL` as Quartz writes them. The Quartz dialect has six fields, or seven with
//! a year, counts weekdays from Sunday = 1, and wants `?` in one of the day fields.

mod parse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::civil::{Civil, DAY, Wall, YEARS, month_length, weekday};
use super::masks::{DayMask, TimeMask, days_on, days_up_to, next_wall};
use super::wall::WallTimes;

/// Why a text is no cron expression, with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n  {expression}\n  {:>column$}", "^")]
pub struct CronError {
    expression: String,
    column: usize,
    message: String,
}

/// Whose cron an expression is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Five fields, or six with leading seconds; Sunday is 0 and 7.
    #[default]
    Standard,
    /// Six fields with leading seconds, or seven with a year; Sunday is 1, one day field is `?`.
    Quartz,
}

/// When both day fields must match, and when one is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DayRule {
    /// Both, where either field begins with `*`, so also with `*/2` (Debian's cron.c); otherwise one is enough.
    #[default]
    Debian,
    /// Both, only where either field is a bare `*` (Open Cron Pattern Specification); otherwise one is enough.
    Ocps,
}

/// The begin of the last day of the last year.
const LAST_DAY: Wall = Civil { year: *YEARS.end(), month: 12, day: 31 }.to_day() * DAY;

/// A day field: days that are named, and days that depend on the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct MonthDays {
    /// Bit n is day n.
    named: u32,
    /// Bit k is the day k before the last (`L`, `L-3`).
    from_last: u32,
    /// Bit n is the weekday nearest to day n (`15W`).
    nearest: u32,
    /// The last day from Monday to Friday (`LW`).
    last_workday: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct WeekDays {
    /// Bit 0 is Sunday.
    named: u8,
    /// Bit 0 is the last Sunday of the month (`0L`).
    last: u8,
    /// Bit (k - 1) * 7 + n is the k-th weekday n of the month (`n#k`).
    nth: u64,
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    times: TimeMask,
    month_days: MonthDays,
    week_days: WeekDays,
    months: u16,
    both_days: bool,
    fixed_time: bool,
    never: bool,
    /// Whether the day fields leave no day out, so that the calendar need not be asked.
    every_day: bool,
    /// Whether days are named by their numbers alone, so that no month needs its first weekday.
    plain_days: bool,
    /// Years in order; all of them when there is no list.
    years: Option<Box<[u16]>>,
}

impl Cron {
    pub(super) fn parse(expression: &str, dialect: Dialect, rule: DayRule) -> Result<Self, CronError> {
        let mut cron = parse::parse(expression, dialect, rule)?;
        cron.every_day = cron.years.is_none()
            && cron.months == 0x1ffe
            && (cron.month_days.named | 1) == u32::MAX
            && (cron.week_days.named == 0x7f || !cron.both_days);
        cron.never = !cron.every_day && !cron.is_possible();
        let numbers = MonthDays { named: cron.month_days.named, ..MonthDays::default() };
        cron.plain_days = cron.both_days && cron.week_days.named == 0x7f && cron.month_days == numbers;
        Ok(cron)
    }

    /// What it allows, for who puts it into words.
    pub(super) fn words(&self) -> CronWords {
        CronWords {
            seconds: self.times.seconds,
            minutes: self.times.minutes,
            hours: self.times.hours,
            days: self.month_days.named,
            from_last: self.month_days.from_last,
            nearest: self.month_days.nearest,
            last_workday: self.month_days.last_workday,
            weekdays: self.week_days.named,
            nth: self.week_days.nth,
            last: self.week_days.last,
            months: self.months,
            both_days: self.both_days,
            years: self.years.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

/// The masks of an expression, as the fields of [`MonthDays`], [`WeekDays`] and [`Cron`].
pub(super) struct CronWords {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) days: u32,
    pub(super) from_last: u32,
    pub(super) nearest: u32,
    pub(super) last_workday: bool,
    pub(super) weekdays: u8,
    pub(super) nth: u64,
    pub(super) last: u8,
    pub(super) months: u16,
    pub(super) both_days: bool,
    pub(super) years: Vec<u16>,
}

impl DayMask for Cron {
    fn months(&self) -> u32 {
        self.months.into()
    }

    fn year(&self, from: i64) -> Option<i64> {
        let year = match &self.years {
            Some(years) => years.iter().map(|year| i64::from(*year)).find(|year| *year >= from)?,
            None => from,
        };
        YEARS.contains(&year).then_some(year)
    }

    fn days(&self, year: i64, month: u32) -> u32 {
        let length = month_length(year, month);
        if self.plain_days {
            return days_up_to(length) & self.month_days.named;
        }
        let first = weekday(Civil { year, month, day: 1 }.to_day());
        let days = self.month_days.of(length, first);
        let weekdays = self.week_days.of(length, first);
        days_up_to(length) & if self.both_days { days & weekdays } else { days | weekdays }
    }
}

impl WallTimes for Cron {
    fn next(&self, from: Wall) -> Option<Wall> {
        if self.never {
            return None;
        }
        if self.every_day && from < LAST_DAY {
            let (day, second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
            return match self.times.at_or_after(second) {
                Some(time) => Some(day * DAY + time),
                None => Some((day + 1) * DAY + self.times.at_or_after(0)?),
            };
        }
        next_wall(self, &self.times, from)
    }

    fn fixed(&self) -> bool {
        self.fixed_time
    }
}

impl MonthDays {
    /// The days of a month of this length whose first day is this weekday.
    fn of(&self, length: u32, first: u32) -> u32 {
        let mut days = self.named;
        let mut last = self.from_last;
        while last != 0 {
            days |= (1u32 << length) >> last.trailing_zeros() & !1;
            last &= last - 1;
        }
        let mut nearest = self.nearest & days_up_to(length);
        while nearest != 0 {
            days |= 1 << nearest_workday(nearest.trailing_zeros(), length, first);
            nearest &= nearest - 1;
        }
        if self.last_workday {
            let back = match (first + length - 1) % 7 {
                0 => 2,
                6 => 1,
                _ => 0,
            };
            days |= 1 << (length - back);
        }
        days
    }
}

/// The day from Monday to Friday that is nearest to a day, in the same month.
const fn nearest_workday(day: u32, length: u32, first: u32) -> u32 {
    match (first + day - 1) % 7 {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

impl WeekDays {
    fn of(&self, length: u32, first: u32) -> u32 {
        let mut days = days_on(self.named, first);
        let mut nth = self.nth;
        while nth != 0 {
            let bit = nth.trailing_zeros();
            let day = 1 + (bit % 7 + 7 - first) % 7 + bit / 7 * 7;
            if day <= length {
                days |= 1 << day;
            }
            nth &= nth - 1;
        }
        let mut last = self.last;
        while last != 0 {
            let last_weekday = (first + length - 1) % 7;
            days |= 1 << (length - (last_weekday + 7 - last.trailing_zeros()) % 7);
            last &= last - 1;
        }
        days
    }
}

#[cfg(test)]
mod tests;
