//! One or more times of day.

use chrono::{NaiveTime, Timelike};

use super::TriggerError;
use super::civil::{Civil, DAY, Wall, YEARS};
use super::wall::WallTimes;

/// Seconds of the day, in order.
#[derive(Debug)]
pub(super) struct Daily {
    times: Box<[u32]>,
}

impl Daily {
    pub(super) fn new(times: &[NaiveTime]) -> Result<Self, TriggerError> {
        if times.is_empty() {
            return Err(TriggerError::Invalid("`daily` needs at least one time, such as \"08:00\"".into()));
        }
        let mut seconds: Vec<u32> = times.iter().map(NaiveTime::num_seconds_from_midnight).collect();
        seconds.sort_unstable();
        seconds.dedup();
        Ok(Self { times: seconds.into() })
    }

    /// The first time of a day at or after this second of it.
    pub(super) fn at_or_after(&self, second: i64) -> Option<i64> {
        self.times.iter().map(|time| i64::from(*time)).find(|time| *time >= second)
    }
}

impl WallTimes for Daily {
    fn next(&self, from: Wall) -> Option<Wall> {
        let (day, second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
        if Civil::of_day(day).year > *YEARS.end() {
            return None;
        }
        let today = self.at_or_after(second).map(|time| day * DAY + time);
        today.or_else(|| Some((day + 1) * DAY + self.at_or_after(0)?))
    }

    fn fixed(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use chrono_tz::Tz;

    use super::super::wall::{Dst, InZone};
    use super::super::{Trigger as _, instants};
    use super::*;

    fn check(zone: Tz, times: &[&str], after: &str, expected: &[&str]) {
        let times: Vec<NaiveTime> = times.iter().map(|text| text.parse().unwrap()).collect();
        let daily = InZone::new(Daily::new(&times).unwrap(), zone, Dst::default());
        let fires: Vec<_> = instants(&daily, after.parse().unwrap())
            .take(expected.len())
            .map(|at| at.format("%Y-%m-%dT%H:%MZ").to_string())
            .collect();
        assert_eq!(fires, expected, "{zone} {times:?} after {after}");
    }

    #[test]
    fn eight_in_london_moves_in_utc_when_clocks_change() {
        let expected = ["2026-03-28T08:00Z", "2026-03-29T07:00Z", "2026-03-30T07:00Z"];
        check(Tz::Europe__London, &["08:00:00"], "2026-03-27T12:00:00Z", &expected);
    }

    #[test]
    fn a_time_in_the_spring_gap_happens_once_at_its_end() {
        let expected = ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"];
        check(Tz::Europe__London, &["01:30:00"], "2026-03-27T12:00:00Z", &expected);
        let both = ["2026-03-29T01:00Z", "2026-03-30T00:10Z"];
        check(Tz::Europe__London, &["01:10:00", "01:50:00"], "2026-03-28T12:00:00Z", &both);
    }

    #[test]
    fn a_time_in_the_autumn_fold_happens_the_first_time_only() {
        let expected = ["2026-10-25T00:30Z", "2026-10-26T01:30Z"];
        check(Tz::Europe__London, &["01:30:00"], "2026-10-24T12:00:00Z", &expected);
    }

    #[test]
    fn half_an_hour_of_lord_howe_and_the_lost_day_of_apia() {
        // 4 October 2026, 02:00 becomes 02:30.
        let gap = ["2026-10-03T15:30Z", "2026-10-04T15:15Z"];
        check(Tz::Australia__Lord_Howe, &["02:15:00"], "2026-10-03T00:00:00Z", &gap);
        let lost = ["2011-12-29T22:00Z", "2011-12-30T22:00Z"];
        check(Tz::Pacific__Apia, &["12:00:00"], "2011-12-29T12:00:00Z", &lost);
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        let daily = InZone::new(Daily::new(&[NaiveTime::MIN]).unwrap(), Tz::Pacific__Kiritimati, Dst::default());
        assert_eq!(daily.next_after(DateTime::<Utc>::MAX_UTC), None);
        let first = daily.next_after(DateTime::<Utc>::MIN_UTC).unwrap();
        assert!(first < "0001-01-04T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }
}
