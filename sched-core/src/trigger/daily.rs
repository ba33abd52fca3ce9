//! Times of day.

use chrono::{DateTime, Days, NaiveTime, Utc};
use chrono_tz::Tz;

use super::wall::{local, resolve};
use super::{Trigger, TriggerError};

/// Fires at each of its times on every day of its zone.
#[derive(Debug, Clone)]
pub(super) struct Daily {
    times: Vec<NaiveTime>,
    zone: Tz,
}

impl Daily {
    pub(super) fn new(times: &[NaiveTime], zone: Tz) -> Result<Self, TriggerError> {
        if times.is_empty() {
            return Err(TriggerError::Invalid("`daily` needs at least one time of day, such as \"08:00\"".into()));
        }
        let mut times = times.to_vec();
        times.sort_unstable();
        times.dedup();
        Ok(Self { times, zone })
    }
}

impl Trigger for Daily {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut day = local(self.zone, after)?.date().checked_sub_days(Days::new(1))?;
        // The day before may end late, and a zone may leave out a whole day.
        for _ in 0..5 {
            let walls = self.times.iter().map(|time| day.and_time(*time));
            let next = walls.filter_map(|wall| resolve(self.zone, wall)).find(|at| *at > after);
            if next.is_some() {
                return next;
            }
            day = day.checked_add_days(Days::new(1))?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: Tz, times: &[&str], after: &str, expected: &[&str]) {
        let times: Vec<NaiveTime> = times.iter().map(|text| text.parse().unwrap()).collect();
        let daily = Daily::new(&times, zone).unwrap();
        let fires: Vec<_> = super::super::instants(&daily, after.parse().unwrap())
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
        let daily = Daily::new(&[NaiveTime::MIN], Tz::Pacific__Kiritimati).unwrap();
        assert_eq!(daily.next_after(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(daily.next_after(DateTime::<Utc>::MIN_UTC), None);
    }
}
