//! The search that cron and calendar expressions share: bit masks of allowed values, no stepping from minute to
//! minute.

use super::civil::{CYCLE, Civil, DAY, Wall, YEARS};

/// Allowed seconds, minutes and hours: bit n is value n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeMask {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
}

impl TimeMask {
    /// The first allowed time at or after this second of a day.
    pub(super) fn at_or_after(&self, second: i64) -> Option<i64> {
        let second = second as u32;
        let (mut minute, mut rest) = (second / 60 % 60, second % 60);
        let mut hour = lowest(u64::from(self.hours), second / 3600)?;
        if hour > second / 3600 {
            (minute, rest) = (0, 0);
        }
        loop {
            if let Some(found) = lowest(self.minutes, minute) {
                if found > minute {
                    rest = 0;
                }
                if let Some(seconds) = lowest(self.seconds, rest) {
                    return Some((hour * 3600 + found * 60 + seconds).into());
                }
                // At the first second of the next minute some second is allowed.
                (minute, rest) = (found + 1, 0);
            } else {
                hour = lowest(u64::from(self.hours), hour + 1)?;
                (minute, rest) = (0, 0);
            }
        }
    }
}

/// Allowed days.
pub(super) trait DayMask {
    /// Bit n is month n.
    fn months(&self) -> u32;

    /// The first allowed year at or after this one.
    fn year(&self, from: i64) -> Option<i64>;

    /// The allowed days of an allowed month; bit n is day n.
    fn days(&self, year: i64, month: u32) -> u32;

    /// The first allowed day at or after this one.
    fn day_at_or_after(&self, date: Civil) -> Option<Civil> {
        let Civil { mut year, mut month, day } = date;
        let allowed = self.year(year)? == year && self.months() & (1 << month) != 0;
        let mut left = if allowed { self.days(year, month) >> day << day } else { 0 };
        while left == 0 {
            let later = self.months() >> (month + 1) << (month + 1);
            if later == 0 || self.year(year)? != year {
                year = self.year(year + 1)?;
                month = self.months().trailing_zeros();
            } else {
                month = later.trailing_zeros();
            }
            left = self.days(year, month);
        }
        Some(Civil { year, month, day: left.trailing_zeros() })
    }

    /// Whether there is an allowed day at all: proved over the calendar's cycle of 400 years.
    fn is_possible(&self) -> bool {
        let mut year = self.year(*YEARS.start());
        let first = year.unwrap_or(*YEARS.end());
        while let Some(allowed) = year.filter(|year| *year < first + CYCLE) {
            let months = (1..=12).filter(|month| self.months() & (1 << month) != 0);
            if months.into_iter().any(|month| self.days(allowed, month) != 0) {
                return true;
            }
            year = self.year(allowed + 1);
        }
        false
    }
}

/// The first allowed time on the wall at or after `from`.
pub(super) fn next_wall(days: &impl DayMask, times: &TimeMask, from: Wall) -> Option<Wall> {
    let day = from.div_euclid(DAY);
    let date = Civil::of_day(day);
    let mut found = days.day_at_or_after(date)?;
    if found == date {
        if let Some(time) = times.at_or_after(from.rem_euclid(DAY)) {
            return Some(day * DAY + time);
        }
        found = days.day_at_or_after(Civil::of_day(day + 1))?;
    }
    Some(found.to_day() * DAY + times.at_or_after(0)?)
}

/// The bits of the days from 1 to `length`.
pub(super) const fn days_up_to(length: u32) -> u32 {
    u32::MAX >> (31 - length) & !1
}

/// Every day of a month that falls on one of these weekdays (bit 0 is Sunday), where the first of the month is
/// `first`; days beyond the month's end included.
pub(super) const fn days_on(weekdays: u8, first: u32) -> u32 {
    // Seven bits, those of the month's first week, repeated.
    let week = (weekdays as u64 | (weekdays as u64) << 7) >> first & 0x7f;
    ((week | week << 7 | week << 14 | week << 21 | week << 28) << 1) as u32
}

/// The lowest set bit at or above this one.
const fn lowest(mask: u64, bit: u32) -> Option<u32> {
    let rest = if bit < 64 { mask >> bit } else { 0 };
    if rest == 0 { None } else { Some(bit + rest.trailing_zeros()) }
}
