//! Days and dates of the proleptic Gregorian calendar as plain numbers, without a table or a branch on leap years.
//!
//! The formulas are those of H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2021): years begin in
//! March, so that the leap day is the last, and repeat in eras of 400 years.

/// Seconds on a wall clock since 1970-01-01T00:00:00 on that clock.
pub(super) type Wall = i64;

pub(super) const DAY: i64 = 86_400;
/// The first and last years in which instants are looked for.
pub(super) const YEARS: std::ops::RangeInclusive<i64> = 1..=9999;
/// The calendar repeats, weekdays included, after so many years.
pub(super) const CYCLE: i64 = 400;

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: u32,
    pub(super) day: u32,
}

impl Civil {
    /// The date of a day counted from 1970-01-01.
    pub(super) const fn of_day(day: i64) -> Self {
        let shifted = day + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + (month <= 2) as i64,
            month: month as u32,
            day: (of_year - (153 * from_march + 2) / 5 + 1) as u32,
        }
    }

    /// The day, counted from 1970-01-01.
    pub(super) const fn to_day(self) -> i64 {
        let (month, year) = (self.month as i64, self.year - (self.month <= 2) as i64);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * from_march + 2) / 5 + self.day as i64 - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
    }
}

/// The weekday of a day counted from 1970-01-01 (a Thursday); 0 is Sunday.
pub(super) const fn weekday(day: i64) -> u32 {
    (day + 4).rem_euclid(7) as u32
}

/// How many days a month has.
pub(super) const fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};

    use super::*;

    proptest::proptest! {
        #[test]
        fn days_and_dates_agree_with_chrono(day in -719_162i64..2_932_897) {
            let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::TimeDelta::days(day);
            let civil = Civil::of_day(day);
            proptest::prop_assert_eq!((civil.year, civil.month, civil.day), (date.year().into(), date.month(), date.day()));
            proptest::prop_assert_eq!(civil.to_day(), day);
            proptest::prop_assert_eq!(weekday(day), date.weekday().num_days_from_sunday());
            proptest::prop_assert_eq!(month_length(civil.year, civil.month), u32::from(date.num_days_in_month()));
        }
    }
}
