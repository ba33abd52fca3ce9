//! Times of day on some days of the week.

use chrono::{NaiveTime, Weekday};

use super::TriggerError;
use super::civil::{Civil, DAY, Wall, YEARS, weekday};
use super::daily::Daily;
use super::wall::WallTimes;

#[derive(Debug)]
pub(super) struct Weekly {
    /// Bit 0 is Sunday.
    days: u8,
    times: Daily,
}

impl Weekly {
    pub(super) fn new(on: &[Weekday], at: &[NaiveTime]) -> Result<Self, TriggerError> {
        if on.is_empty() {
            let message = "`weekly.on` needs at least one day, such as { on = [\"mon\"], at = \"02:00\" }";
            return Err(TriggerError::Invalid(message.into()));
        }
        let days = on.iter().fold(0, |days, day| days | 1 << day.num_days_from_sunday());
        Ok(Self { days, times: Daily::new(at)? })
    }
}

impl WallTimes for Weekly {
    fn next(&self, from: Wall) -> Option<Wall> {
        let (mut day, mut second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
        if Civil::of_day(day).year > *YEARS.end() {
            return None;
        }
        loop {
            if self.days & (1 << weekday(day)) != 0
                && let Some(time) = self.times.at_or_after(second)
            {
                return Some(day * DAY + time);
            }
            (day, second) = (day + 1, 0);
        }
    }

    fn fixed(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::super::instants;
    use super::super::wall::{Dst, InZone};
    use super::*;

    #[test]
    fn some_days_at_some_times_and_a_gap_runs_at_its_end() {
        let times = ["02:30:00".parse().unwrap(), "18:00:00".parse().unwrap()];
        let weekly = Weekly::new(&[Weekday::Sun, Weekday::Wed], &times).unwrap();
        let weekly = InZone::new(weekly, Tz::Europe__Berlin, Dst::default());
        let after = "2026-03-25T12:00:00Z".parse().unwrap();
        let fires: Vec<_> = instants(&weekly, after).take(4).map(|at| at.format("%dT%H:%MZ").to_string()).collect();
        assert_eq!(fires, ["25T17:00Z", "29T01:00Z", "29T16:00Z", "01T00:30Z"]);
    }
}
