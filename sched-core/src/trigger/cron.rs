//! Five-field cron expressions, by the rules of Debian's cron (crontab(5), cron(8)).
//!
//! Day of month and day of week: where either field begins with `*`, both must match; otherwise one is enough.
//! Clock changes: an expression whose minute and hour fields both begin with something else than `*` names
//! fixed times, which follow the rule of [`super::wall`]; any other names a rhythm, which follows the clock on
//! the wall: what a change leaves out does not happen, and what comes twice happens twice.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::Trigger;
use super::wall::{local, next_change, resolve};

/// Why a text is no cron expression, with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}\n  {expression}\n  {:>column$}", "^")]
pub struct CronError {
    expression: String,
    column: usize,
    message: String,
}

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: MONTHS },
    Field { name: "day of week", low: 0, high: 7, names: WEEKDAYS },
];
const SHORTHANDS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A compiled expression: one bit for each allowed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
    both_days: bool,
    fixed_time: bool,
    zone: Tz,
}

impl Cron {
    pub(super) fn parse(expression: &str, zone: Tz) -> Result<Self, CronError> {
        let fail = |column: usize, message: String| CronError {
            expression: expression.to_owned(),
            column: expression[..column].chars().count() + 1,
            message,
        };
        let trimmed = expression.trim();
        if trimmed.starts_with('@') {
            let full = SHORTHANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed)).ok_or_else(|| {
                fail(
                    0,
                    format!(
                        "no shorthand `{trimmed}`{}",
                        crate::suggest::near(trimmed, SHORTHANDS.iter().map(|s| s.0))
                    ),
                )
            })?;
            return Self::parse(full.1, zone);
        }
        let mut texts = Vec::new();
        for part in expression.split_ascii_whitespace() {
            texts.push((part.as_ptr() as usize - expression.as_ptr() as usize, part));
        }
        if texts.len() != 5 {
            let column = texts.get(5).map_or(expression.len(), |(at, _)| *at);
            let message = "a cron expression has five fields: minute, hour, day of month, month, day of week";
            return Err(fail(column, format!("{message}; this has {}", texts.len())));
        }
        let mut masks = [0; 5];
        for ((mask, field), (at, text)) in masks.iter_mut().zip(&FIELDS).zip(&texts) {
            let parsed = parse_field(field, text);
            *mask = parsed.map_err(|(offset, message)| fail(at + offset, format!("{}: {message}", field.name)))?;
        }
        let star = |index: usize| texts[index].1.starts_with('*');
        let [minutes, hours, days, months, weekdays] = masks;
        Ok(Self {
            minutes,
            hours: hours as u32,
            days: days as u32,
            months: months as u16,
            weekdays: (weekdays | weekdays >> 7) as u8 & 0x7f,
            both_days: star(2) || star(4),
            fixed_time: !star(0) && !star(1),
            zone,
        })
    }

    fn day_matches(&self, date: NaiveDate) -> bool {
        let day = self.days & (1 << date.day()) != 0;
        let weekday = self.weekdays & (1 << date.weekday().num_days_from_sunday()) != 0;
        if self.both_days { day && weekday } else { day || weekday }
    }

    /// The first matching wall-clock minute at or after `from`, proved absent after a whole calendar cycle.
    fn next_wall(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut date = from.date();
        let mut minute_of_day = from.hour() * 60 + from.minute();
        let last_year = date.year() + 400;
        while date.year() <= last_year {
            if self.months & (1 << date.month()) == 0 {
                date = (date.with_day(1)? + chrono::Months::new(1)).max(date.succ_opt()?);
                minute_of_day = 0;
                continue;
            }
            if self.day_matches(date)
                && let Some(minute) = self.next_minute(minute_of_day)
            {
                return date.and_hms_opt(minute / 60, minute % 60, 0);
            }
            date = date.succ_opt().filter(|date| date.year() < 10_000)?;
            minute_of_day = 0;
        }
        None
    }

    fn next_minute(&self, from: u32) -> Option<u32> {
        let mut minute = from % 60;
        for hour in from / 60..24 {
            if self.hours & (1 << hour) != 0 {
                let rest = self.minutes >> minute;
                if rest != 0 {
                    return Some(hour * 60 + minute + rest.trailing_zeros());
                }
            }
            minute = 0;
        }
        None
    }

    fn next_fixed(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut wall = local(self.zone, after)? - TimeDelta::days(1);
        loop {
            wall = self.next_wall(wall)?;
            if let Some(at) = resolve(self.zone, wall).filter(|at| *at > after) {
                return Some(at);
            }
            wall += TimeDelta::minutes(1);
        }
    }

    fn next_rhythm(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Offsets before standard time have seconds: start at the next whole minute on the wall.
        let mut from = after + TimeDelta::nanoseconds(1);
        loop {
            let wall = local(self.zone, from)?;
            let into =
                TimeDelta::seconds(i64::from(wall.second())) + TimeDelta::nanoseconds(i64::from(wall.nanosecond()));
            let start = if into.is_zero() { wall } else { wall - into + TimeDelta::minutes(1) };
            let found = self.next_wall(start)?;
            let candidate = from + (found - wall);
            match next_change(self.zone, from, candidate) {
                // Later offsets are looked at from the change on.
                Some(change) => from = change,
                None => return Some(candidate),
            }
        }
    }
}

impl Trigger for Cron {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.fixed_time { self.next_fixed(after) } else { self.next_rhythm(after) }
    }
}

type Fault = (usize, String);

fn parse_field(field: &Field, text: &str) -> Result<u64, Fault> {
    let mut mask = 0;
    let mut at = 0;
    for item in text.split(',') {
        mask |= parse_item(field, item).map_err(|(offset, message)| (at + offset, message))?;
        at += item.len() + 1;
    }
    Ok(mask)
}

fn parse_item(field: &Field, item: &str) -> Result<u64, Fault> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => {
            let value = step.parse().ok().filter(|n| (1..=field.high).contains(n));
            (range, Some(value.ok_or((range.len() + 1, format!("a step is a number from 1 to {}", field.high)))?))
        }
        None => (item, None),
    };
    let (low, high) = match range.split_once('-') {
        _ if range == "*" => (field.low, if field.high == 7 { 6 } else { field.high }),
        Some((low, high)) => {
            let offset = low.len() + 1;
            let low = parse_value(field, low)?;
            let mut high = parse_value(field, high).map_err(|(at, message)| (offset + at, message))?;
            if field.high == 7 && high == 0 && low > 0 {
                high = 7;
            }
            if low > high {
                let message = format!("a range goes upwards; write {low}-{},{}-{high}", field.high.min(59), field.low);
                return Err((0, message));
            }
            (low, high)
        }
        None => {
            let low = parse_value(field, range)?;
            (low, if step.is_some() { if field.high == 7 { 6.max(low) } else { field.high } } else { low })
        }
    };
    Ok((low..=high).step_by(step.unwrap_or(1) as usize).fold(0, |mask, value| mask | 1 << value))
}

fn parse_value(field: &Field, text: &str) -> Result<u32, Fault> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return Ok(index as u32 + u32::from(field.low == 1));
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|n| digits && (field.low..=field.high).contains(n));
    value.ok_or_else(|| {
        let names = match field.names {
            [first, .., last] => format!(" or a name from {first} to {last}"),
            _ => String::new(),
        };
        (0, format!("`{text}` is not allowed; write `*` or a number from {} to {}{names}", field.low, field.high))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(expression, zone).unwrap();
        let all = super::super::instants(&cron, after.parse().unwrap()).take(count);
        all.map(|at| at.format("%Y-%m-%dT%H:%MZ").to_string()).collect()
    }

    #[test]
    fn the_day_rule_is_debians() {
        // Neither day field begins with a star: the 13th, or any Friday.
        let either = fires("0 0 13 * 5", Tz::UTC, "2026-11-01T00:00:00Z", 3);
        assert_eq!(either, ["2026-11-06T00:00Z", "2026-11-13T00:00Z", "2026-11-20T00:00Z"]);
        // `*/2` begins with a star: odd days that are Mondays.
        let both = fires("0 0 */2 * mon", Tz::UTC, "2026-11-01T00:00:00Z", 2);
        assert_eq!(both, ["2026-11-09T00:00Z", "2026-11-23T00:00Z"]);
    }

    #[test]
    fn sunday_is_0_and_7_and_ends_a_range() {
        for expression in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun"] {
            assert_eq!(fires(expression, Tz::UTC, "2026-11-24T00:00:00Z", 1), ["2026-11-29T00:00Z"], "{expression}");
        }
        let weekend = fires("0 0 * * 6-7", Tz::UTC, "2026-11-24T00:00:00Z", 2);
        assert_eq!(weekend, ["2026-11-28T00:00Z", "2026-11-29T00:00Z"]);
        assert_eq!(weekend, fires("0 0 * * sat-sun", Tz::UTC, "2026-11-24T00:00:00Z", 2));
    }

    #[test]
    fn leap_days_are_found_and_impossible_dates_are_proved_absent() {
        assert_eq!(fires("0 0 29 2 *", Tz::UTC, "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00Z"]);
        assert!(fires("0 0 31 2 *", Tz::Europe__Berlin, "2026-01-01T00:00:00Z", 1).is_empty());
        assert!(fires("* * 30 2 *", Tz::Europe__Berlin, "2026-01-01T00:00:00Z", 1).is_empty());
    }

    #[test]
    fn fixed_times_survive_the_gap_and_do_not_repeat_in_the_fold() {
        assert_eq!(
            fires("30 1 * * *", Tz::Europe__London, "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]
        );
        assert_eq!(
            fires("30 1 * * *", Tz::Europe__London, "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]
        );
    }

    #[test]
    fn a_rhythm_follows_the_wall_through_gap_and_fold() {
        assert_eq!(
            fires("0,30 * * * *", Tz::Europe__London, "2026-03-29T00:00:00Z", 3),
            ["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]
        );
        assert_eq!(
            fires("30 * * * *", Tz::America__New_York, "2026-11-01T04:45:00Z", 3),
            ["2026-11-01T05:30Z", "2026-11-01T06:30Z", "2026-11-01T07:30Z"]
        );
        // Minute 30 of hour 1 only: the hour field is fixed, the minute field a star.
        assert_eq!(fires("*/30 1 * * *", Tz::Europe__London, "2026-03-28T12:00:00Z", 1), ["2026-03-30T00:00Z"]);
    }

    #[test]
    fn errors_point_at_the_character() {
        for (expression, column, part) in [
            ("61 * * * *", 1, "minute: `61` is not allowed; write `*` or a number from 0 to 59"),
            ("0 8 * * mom", 9, "a name from sun to sat"),
            ("0 8 * *", 8, "five fields"),
            ("0 8 * * * *", 11, "five fields"),
            ("0 22-4 * * *", 3, "write 22-23,0-4"),
            ("*/0 * * * *", 3, "a step is a number from 1"),
            ("1,,2 * * * *", 3, "not allowed"),
            ("@dayly", 1, "did you mean `@daily`"),
            ("+5 * * * *", 1, "not allowed"),
        ] {
            let error = Cron::parse(expression, Tz::UTC).unwrap_err();
            assert_eq!(error.column, column, "{expression}");
            assert!(error.message.contains(part), "{expression}: {}", error.message);
        }
        assert!(Cron::parse("0 8 é * *", Tz::UTC).unwrap_err().to_string().ends_with("\n  0 8 é * *\n      ^"));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_stepping_minute_by_minute(
            minute in 0u32..60, hour in 0u32..24, day in 1u32..32, weekday in 0u32..7, form in 0usize..6,
            start in 0i64..2_000_000_000,
        ) {
            let expression = match form {
                0 => format!("{minute} {hour} * * *"),
                1 => format!("*/{} {hour} * * *", minute.max(1)),
                2 => format!("{minute} * * * {weekday}"),
                3 => format!("{minute} {hour} {day} * {weekday}"),
                4 => format!("{minute}/7 */5 * * *"),
                _ => format!("{minute} {hour} */3 * {weekday}"),
            };
            let cron = Cron::parse(&expression, Tz::UTC).unwrap();
            let start = DateTime::from_timestamp(start, 0).unwrap();
            let found = cron.next_after(start).unwrap();
            let matches = |at: DateTime<Utc>| {
                cron.minutes & (1 << at.minute()) != 0
                    && cron.hours & (1 << at.hour()) != 0
                    && cron.months & (1 << at.month()) != 0
                    && cron.day_matches(at.date_naive())
            };
            proptest::prop_assert!(found > start && matches(found) && found.second() == 0);
            let mut at = DateTime::from_timestamp(start.timestamp() / 60 * 60 + 60, 0).unwrap();
            while at < found {
                proptest::prop_assert!(!matches(at), "{} left out {}", expression, at);
                at += TimeDelta::minutes(1);
            }
        }
    }
}
