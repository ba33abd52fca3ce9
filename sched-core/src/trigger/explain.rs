//! Triggers in English, as a person would say them.

use chrono::Weekday;

use super::calendar::Calendar;
use super::cron::{Cron, CronWords};
use super::rrule::Rule;
use super::spec::{On, TriggerError, TriggerKind, TriggerSpec, time_text};

pub(super) const MONTHS: &[&str] = &[
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: &[&str] = &["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl TriggerSpec {
    /// The trigger in English.
    ///
    /// ```
    /// use sched_core::TriggerSpec;
    /// let explain = |text: &str| TriggerSpec::cron(text, chrono_tz::UTC).explain();
    /// assert_eq!(explain("30 2 * * 1-5")?, "At 02:30 on weekdays");
    /// assert_eq!(explain("*/15 9-17 * * *")?, "Every 15 minutes from 09:00 through 17:45");
    /// assert_eq!(explain("0 0 13 * 5")?, "At 00:00 on the 13th of the month or on Fridays");
    /// # Ok::<(), sched_core::TriggerError>(())
    /// ```
    ///
    /// # Errors
    /// As [`TriggerSpec::validate`].
    pub fn explain(&self) -> Result<String, TriggerError> {
        self.validate()?;
        let mut text = match &self.kind {
            TriggerKind::Cron { expression, dialect, day_rule } => {
                cron(&Cron::parse(expression, *dialect, *day_rule)?.words())
            }
            TriggerKind::Every { period, .. } => format!("Every {}", humantime::format_duration(*period)),
            TriggerKind::AfterCompletion(delay) => {
                format!("{} after each run ends", humantime::format_duration(*delay))
            }
            TriggerKind::Daily(times) => format!("Every day at {}", list(times.iter().map(|time| time_text(*time)))),
            TriggerKind::After { schedule, on } => match on {
                On::Success => format!("After each run of {schedule} that succeeds"),
                On::Failure => format!("After each run of {schedule} that fails"),
                On::Any => format!("After each run of {schedule}, however it ends"),
            },
            TriggerKind::Weekly { on, at } => {
                let mask = on.iter().fold(0, |mask, day: &Weekday| mask | 1 << day.num_days_from_sunday());
                format!("At {} {}", list(at.iter().map(|time| time_text(*time))), weekdays(mask))
            }
            TriggerKind::Calendar(expression) => {
                let (calendar, zone) = Calendar::parse(expression)?;
                let text = cron(&calendar.words());
                zone.map_or(text.clone(), |zone| format!("{text}, {zone} time"))
            }
            TriggerKind::Rrule(rule) => {
                let (rule, until) = Rule::parse(rule, self.start, self.timezone.unwrap_or(chrono_tz::UTC))?;
                let until = until.map_or(String::new(), |until| format!(", until {until}"));
                rule.explain() + &until
            }
            TriggerKind::Once(at) => format!("Once, at {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            TriggerKind::Union(parts) => {
                let parts = parts.iter().map(Self::explain).collect::<Result<Vec<_>, _>>()?;
                parts.join("; or: ")
            }
        };
        if let Some(start) = self.start {
            text += &format!(", not before {start}");
        }
        if let Some(end) = self.end {
            text += &format!(", not after {end}");
        }
        if !self.except.is_empty() {
            text += &format!(", except on {}", list(self.except.iter().map(ToString::to_string)));
        }
        if let Some(limit) = self.limit {
            text += &format!(", at most {limit} times");
        }
        Ok(text)
    }
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match &items[..] {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn values(mask: u64) -> Vec<u32> {
    (0..64).filter(|bit| mask & (1 << bit) != 0).collect()
}

/// The step of values that go by one distance from the first to the end of their range; none of a single value.
fn step(values: &[u32], end: u32) -> Option<u32> {
    let step = values.get(1)? - values[0];
    let even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
    (even && values[values.len() - 1] + step > end).then_some(step)
}

fn is_range(values: &[u32]) -> bool {
    values.len() > 2 && values.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

pub(super) fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

fn cron(words: &CronWords) -> String {
    let mut text = times(words);
    let days = days(words);
    if !days.is_empty() {
        text += &format!(" {days}");
    }
    let months = values(words.months.into());
    if months.len() < 12 {
        let name = |month: &u32| MONTHS[*month as usize].to_owned();
        let (joint, months) = if is_range(&months) {
            (" from ", format!("{} through {}", name(&months[0]), name(&months[months.len() - 1])))
        } else {
            (" in ", list(months.iter().map(name)))
        };
        // "on the 29th of February" where the days are named by their numbers in a few months.
        match text.strip_suffix(" of the month").filter(|_| joint == " in ") {
            Some(days) => text = format!("{days} of {months}"),
            None => text += &format!("{joint}{months}"),
        }
    }
    if !words.years.is_empty() {
        let years = match words.years[..] {
            [first, .., last] if words.years.len() > 5 => format!("some of the years from {first} to {last}"),
            _ => list(words.years.iter().map(ToString::to_string)),
        };
        text += &format!(" of {years}");
    }
    text
}

fn times(words: &CronWords) -> String {
    let (hours, minutes) = (values(words.hours.into()), values(words.minutes));
    let all_hours = hours.len() == 24;
    let at = |hour: u32, minute: u32| format!("{hour:02}:{minute:02}");
    let (first, last) = (hours[0], hours[hours.len() - 1]);
    let window = |minute_first: u32, minute_last: u32| {
        let whole = is_range(&hours) || hours.len() == 1;
        whole.then(|| format!(" from {} through {}", at(first, minute_first), at(last, minute_last)))
    };
    let last_minute = minutes[minutes.len() - 1];
    let evenly = match (minutes.len(), step(&minutes, 59)) {
        (60, _) => Some("Every minute".to_owned()),
        (count, Some(every)) if count > 2 && minutes[0] == 0 && 60 % every == 0 => {
            Some(format!("Every {every} minutes"))
        }
        _ => None,
    };
    let seconds = values(words.seconds);
    let seconds = if seconds == [0] { String::new() } else { seconds_text(&seconds) };
    let text = if let Some(evenly) = evenly {
        if all_hours {
            evenly
        } else {
            let window = window(minutes[0], last_minute);
            evenly + &window.unwrap_or_else(|| format!(" of the hours {}", list(hours.iter().map(ToString::to_string))))
        }
    } else if let [minute] = minutes[..] {
        match step(&hours, 23) {
            _ if all_hours && minute == 0 => "Every hour, on the hour".into(),
            _ if all_hours => format!("Every hour, at {minute} minutes past"),
            Some(every) if hours.len() > 2 && first == 0 && 24 % every == 0 => {
                format!("Every {every} hours, from {}", at(0, minute))
            }
            _ if hours.len() > 3 && is_range(&hours) => {
                format!("Every hour from {} through {}", at(first, minute), at(last, minute))
            }
            _ => format!("At {}", list(hours.iter().map(|hour| at(*hour, minute)))),
        }
    } else if hours.len() * minutes.len() <= 6 {
        let all = hours.iter().flat_map(|hour| minutes.iter().map(|minute| at(*hour, *minute)));
        format!("At {}", list(all))
    } else {
        let past = list(minutes.iter().map(ToString::to_string));
        let hours = if all_hours {
            "every hour".into()
        } else {
            format!("the hours {}", list(hours.iter().map(ToString::to_string)))
        };
        format!("At {past} minutes past {hours}")
    };
    text + &seconds
}

fn seconds_text(seconds: &[u32]) -> String {
    match step(seconds, 59) {
        _ if seconds.len() == 60 => ", every second".into(),
        Some(every) if seconds.len() > 2 && seconds[0] == 0 => format!(", every {every} seconds"),
        _ => format!(", at {} seconds", list(seconds.iter().map(ToString::to_string))),
    }
}

fn days(words: &CronWords) -> String {
    let by_day = month_days(words);
    let by_weekday = words.weekdays != 0x7f || words.nth != 0 || words.last != 0;
    let weekdays = if by_weekday { weekday_phrases(words) } else { String::new() };
    match (by_day.is_empty(), weekdays.is_empty()) {
        (true, _) => weekdays,
        (_, true) => by_day,
        (false, false) if words.both_days => format!("{by_day}, if it falls {weekdays}"),
        (false, false) => format!("{by_day} or {weekdays}"),
    }
}

fn month_days(words: &CronWords) -> String {
    let named = values(words.days.into());
    let mut phrases = Vec::new();
    if named.len() == 31 {
        return String::new();
    }
    match step(&named, 31) {
        Some(every) if named.len() > 4 && named[0] == 1 => phrases.push(format!("every {} day", ordinal(every))),
        _ if is_range(&named) => {
            phrases.push(format!("the {} through the {}", ordinal(named[0]), ordinal(named[named.len() - 1])));
        }
        _ => phrases.extend(named.iter().map(|day| format!("the {}", ordinal(*day)))),
    }
    match values(words.from_last.into())[..] {
        [0, .., most] if words.from_last.count_ones() == most + 1 => {
            phrases.push(format!("the last {} days", most + 1))
        }
        ref days => phrases.extend(days.iter().map(|back| match back {
            0 => "the last day".into(),
            back => format!("the {} last day", ordinal(back + 1)),
        })),
    }
    phrases
        .extend(values(words.nearest.into()).iter().map(|day| format!("the weekday nearest to the {}", ordinal(*day))));
    if words.last_workday {
        phrases.push("the last weekday".into());
    }
    format!("on {} of the month", list(phrases.into_iter()))
}

pub(super) fn weekdays(mask: u8) -> String {
    match mask {
        0b011_1110 => "on weekdays".into(),
        0b100_0001 => "on weekends".into(),
        _ => format!("on {}", list(values(mask.into()).iter().map(|day| format!("{}s", WEEKDAYS[*day as usize])))),
    }
}

fn weekday_phrases(words: &CronWords) -> String {
    let mut phrases = Vec::new();
    if words.weekdays != 0 {
        phrases.push(weekdays(words.weekdays));
    }
    for bit in values(words.nth) {
        let (nth, day) = (bit / 7 + 1, WEEKDAYS[(bit % 7) as usize]);
        phrases.push(format!("on the {} {day} of the month", ordinal(nth)));
    }
    for day in values(words.last.into()) {
        phrases.push(format!("on the last {} of the month", WEEKDAYS[day as usize]));
    }
    phrases.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::super::{DayRule, Dialect};
    use super::*;

    #[test]
    fn calendar_events_read_like_cron() {
        for (expression, expected) in [
            ("Mon..Fri 02:00", "At 02:00 on weekdays"),
            ("*-*~01 12:00 Europe/Berlin", "At 12:00 on the last day of the month, Europe/Berlin time"),
            ("Mon *-05~07/1", "At 00:00 on the last 7 days of the month, if it falls on Mondays in May"),
            ("hourly", "Every hour, on the hour"),
            ("quarterly", "At 00:00 on the 1st of January, April, July and October"),
        ] {
            let spec = TriggerSpec::of(TriggerKind::Calendar(expression.into()), None);
            assert_eq!(spec.explain().unwrap(), expected, "{expression}");
        }
    }

    #[test]
    fn recurrence_rules_read_as_a_person_would_say_them() {
        for (rule, expected) in [
            ("FREQ=DAILY;BYHOUR=9;BYMINUTE=0", "Every day at 09:00"),
            ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;BYHOUR=9", "Every 2 weeks on Mondays and Wednesdays at 09:00"),
            ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17", "Every month on the last Friday at 17:00"),
            ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "Every month on the 13th, if it falls on Fridays at 00:00"),
            ("FREQ=MONTHLY;BYMONTHDAY=1,-1", "Every month on the 1st and the last day at 00:00"),
            (
                "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
                "Every month on weekdays at 00:00, of these only the last in each month",
            ),
            ("FREQ=YEARLY;BYMONTH=3;BYDAY=2SU;BYHOUR=2", "Every year in March on the 2nd Sunday at 02:00"),
            ("FREQ=YEARLY;BYDAY=20MO", "Every year on the 20th Monday of the year at 00:00"),
            ("FREQ=YEARLY;BYYEARDAY=100,-1", "Every year on the 100th day and the last day of the year at 00:00"),
            ("FREQ=DAILY;COUNT=3", "Every day at 00:00, for the last time on 1970-01-03 at 00:00:00"),
            ("FREQ=DAILY;UNTIL=19700105T000000Z", "Every day at 00:00, until 1970-01-05 00:00:00 UTC"),
        ] {
            let spec = TriggerSpec::of(TriggerKind::Rrule(rule.into()), None);
            assert_eq!(spec.explain().unwrap(), expected, "{rule}");
        }
    }

    #[test]
    fn reads_as_a_person_would_say_it() {
        for (expression, expected) in [
            ("* * * * *", "Every minute"),
            ("*/5 * * * *", "Every 5 minutes"),
            ("0 * * * *", "Every hour, on the hour"),
            ("5 * * * *", "Every hour, at 5 minutes past"),
            ("0 */6 * * *", "Every 6 hours, from 00:00"),
            ("0 8,12,18 * * *", "At 08:00, 12:00 and 18:00"),
            ("30 9-17 * * 1-5", "Every hour from 09:30 through 17:30 on weekdays"),
            ("0 0 1 1 *", "At 00:00 on the 1st of January"),
            ("0 0 L 3,6,9,12 *", "At 00:00 on the last day of March, June, September and December"),
            ("0 9 15W * *", "At 09:00 on the weekday nearest to the 15th of the month"),
            ("0 9 LW * *", "At 09:00 on the last weekday of the month"),
            ("0 9 * * 5#2", "At 09:00 on the 2nd Friday of the month"),
            ("0 9 * * 1L", "At 09:00 on the last Monday of the month"),
            ("0 9 * 6-8 0,6", "At 09:00 on weekends from June through August"),
            ("0 0 */2 * 1", "At 00:00 on every 2nd day of the month, if it falls on Mondays"),
            ("*/10 * * * * *", "Every minute, every 10 seconds"),
            ("7,21 1,3,5,7 * * *", "At 7 and 21 minutes past the hours 1, 3, 5 and 7"),
        ] {
            let kind = TriggerKind::Cron {
                expression: expression.into(),
                dialect: Dialect::Standard,
                day_rule: DayRule::Debian,
            };
            assert_eq!(TriggerSpec::of(kind, None).explain().unwrap(), expected, "{expression}");
        }
    }
}
