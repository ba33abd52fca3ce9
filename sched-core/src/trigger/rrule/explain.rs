//! Recurrence rules in English.

use super::super::civil::DAY;
use super::super::explain::{MONTHS, WEEKDAYS, list, ordinal, values, weekdays};
use super::{Frequency, Rule};

/// More times of day than this are counted, not listed.
const LISTED: usize = 6;

impl Rule {
    /// As a person would say it.
    pub(in super::super) fn explain(&self) -> String {
        let unit = match self.frequency {
            Frequency::Yearly => "year",
            Frequency::Monthly => "month",
            Frequency::Weekly => "week",
            Frequency::Daily => "day",
        };
        let mut text = match self.interval {
            1 => format!("Every {unit}"),
            interval => format!("Every {interval} {unit}s"),
        };
        if self.months != 0 {
            text += &format!(" in {}", list(values(self.months.into()).iter().map(|m| MONTHS[*m as usize].to_owned())));
        }
        if !self.weeks.is_empty() {
            text += &format!(" in {} of the year", list(ordered(&self.weeks).map(|week| place(week, "week"))));
        }
        if !self.year_days.is_empty() {
            text += &format!(" on {} of the year", list(ordered(&self.year_days).map(|day| place(day, "day"))));
        }
        let by_weekday = self.weekday_words();
        if !self.month_days.is_empty() {
            let day =
                |day: i32| if day > 0 { format!("the {}", ordinal(day.unsigned_abs())) } else { place(day, "day") };
            text += &format!(" on {}", list(ordered(&self.month_days).map(day)));
            text += if self.frequency == Frequency::Yearly && self.months == 0 { " of each month" } else { "" };
            if !by_weekday.is_empty() {
                text += ", if it falls";
            }
        }
        if !by_weekday.is_empty() {
            text += &format!(" {by_weekday}");
        }
        text += &format!(" at {}", self.time_words());
        if !self.positions.is_empty() {
            let which = list(ordered(&self.positions).map(|position| place(position, "")));
            text += &format!(", of these only {which} in each {unit}");
        }
        if let Some(last) = self.last().and_then(|last| chrono::DateTime::from_timestamp(last, 0)) {
            text += &format!(", for the last time on {}", last.format("%Y-%m-%d at %H:%M:%S"));
        }
        text
    }

    fn weekday_words(&self) -> String {
        let mut words = Vec::new();
        if self.weekdays != 0 && self.weekdays != 0x7f {
            words.push(weekdays(self.weekdays));
        }
        let scope = if self.frequency == Frequency::Yearly && self.months == 0 { " of the year" } else { "" };
        if !self.nth.is_empty() {
            let nth = self.nth.iter().map(|(nth, day)| place(*nth, WEEKDAYS[*day as usize]));
            words.push(format!("on {}{scope}", list(nth)));
        }
        words.join(" and ")
    }

    fn time_words(&self) -> String {
        let time = |seconds: &u32| {
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let text = format!("{hour:02}:{minute:02}");
            if second == 0 { text } else { format!("{text}:{second:02}") }
        };
        debug_assert!(self.times.iter().all(|seconds| i64::from(*seconds) < DAY));
        match &self.times[..] {
            [first, .., last] if self.times.len() > LISTED => {
                format!("{} times from {} through {}", self.times.len(), time(first), time(last))
            }
            few => list(few.iter().map(time)),
        }
    }
}

/// From the beginning on, then those counted from the end.
fn ordered(numbers: &[i32]) -> impl Iterator<Item = i32> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by_key(|number| (*number < 0, *number));
    numbers.into_iter()
}

/// "the 2nd Monday", "the last day", "the 3rd last day".
fn place(number: i32, what: &str) -> String {
    let which = match number {
        -1 => "last".to_owned(),
        ..-1 => format!("{} last", ordinal(number.unsigned_abs())),
        _ => ordinal(number.unsigned_abs()),
    };
    format!("the {which} {what}").trim_end().to_owned()
}
