//! When Debian's cron runs an entry, found out as cron itself does: minute after minute, with a virtual clock that
//! follows the one on the wall (cron.c). It is slow and plain, and shares nothing with the triggers that it is held
//! against.

use chrono::{DateTime, Datelike as _, Offset as _, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The five fields: the values that each allows.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    minutes: Vec<bool>,
    hours: Vec<bool>,
    days: Vec<bool>,
    months: Vec<bool>,
    weekdays: Vec<bool>,
    both_days: bool,
    /// The minute or the hour begins with a star.
    wild: bool,
}

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err("it needs five fields".into()) };
        let mut weekdays = values("day of week", weekday, 0, 7, WEEKDAYS)?;
        weekdays[0] |= weekdays[7];
        Ok(Self {
            minutes: values("minute", minute, 0, 59, &[])?,
            hours: values("hour", hour, 0, 23, &[])?,
            days: values("day of month", day, 1, 31, &[])?,
            months: values("month", month, 1, 12, MONTHS)?,
            weekdays,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            wild: minute.starts_with('*') || hour.starts_with('*'),
        })
    }

    /// Whether it names this minute of the wall.
    fn names(&self, wall: &Wall) -> bool {
        let (day, weekday) = (self.days[wall.day], self.weekdays[wall.weekday]);
        let of_day = if self.both_days { day && weekday } else { day || weekday };
        self.minutes[wall.minute] && self.hours[wall.hour] && self.months[wall.month] && of_day
    }
}

fn values(name: &str, text: &str, low: usize, high: usize, names: &[&str]) -> Result<Vec<bool>, String> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|index| index + low);
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = named.or_else(|| text.parse().ok().filter(|_| digits));
        number.filter(|number| (low..=high).contains(number)).ok_or_else(|| {
            format!("{name}: cron knows no `{text}`; it takes numbers from {low} to {high}, ranges and steps")
        })
    };
    let mut allowed = vec![false; high + 1];
    for item in text.split(',') {
        let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
        let (first, last) = match span.split_once('-') {
            _ if span == "*" => (low, high),
            Some((first, last)) => (number(first)?, number(last)?),
            None if step.is_some() => {
                let why = format!("write {span}-{high}/{} or {span} alone", step.unwrap_or_default());
                return Err(format!("{name}: crons differ on a step after one number: {why}"));
            }
            None => (number(span)?, number(span)?),
        };
        if first > last {
            return Err(format!("{name}: a range goes upwards, `{span}` does not"));
        }
        let step = step.map_or(Some(1), |step| step.parse::<usize>().ok()).filter(|step| *step > 0);
        let step = step.ok_or_else(|| format!("{name}: a step is a number from 1"))?;
        (first..=last).step_by(step).for_each(|value| allowed[value] = true);
    }
    Ok(allowed)
}

/// A minute on the wall.
struct Wall {
    minute: usize,
    hour: usize,
    day: usize,
    month: usize,
    weekday: usize,
}

/// The minutes of a range of time, as a clock on a wall shows them.
pub(crate) struct Walls {
    from: DateTime<Utc>,
    /// Each minute's distance from the first on the wall.
    local: Vec<i64>,
    /// What the clock shows so many minutes after the first, and at those that it leaves out too.
    shown: Vec<Wall>,
}

impl Walls {
    /// The minutes from `from`, which is a whole one, up to `until`.
    pub(crate) fn new(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        let minutes = (until - from).num_minutes();
        let local = |minute: i64| {
            let at = from + TimeDelta::minutes(minute);
            (at.timestamp() + i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc())) / 60
        };
        let first = local(0);
        let local: Vec<i64> = (0..minutes).map(|minute| local(minute) - first).collect();
        let most = local.iter().max().copied().unwrap_or(0);
        let shown = (0..=most).filter_map(|minute| {
            let at = DateTime::from_timestamp((first + minute) * 60, 0)?.naive_utc();
            Some(Wall {
                minute: at.minute() as usize,
                hour: at.hour() as usize,
                day: at.day() as usize,
                month: at.month() as usize,
                weekday: at.weekday().num_days_from_sunday() as usize,
            })
        });
        Self { from, shown: shown.collect(), local }
    }

    /// The minutes at which cron starts an entry.
    pub(super) fn fires(&self, fields: &Fields) -> Vec<DateTime<Utc>> {
        const SMALL: i64 = 5;
        const LARGE: i64 = 3 * 60;
        let named = |minute: i64| {
            usize::try_from(minute).ok().and_then(|index| self.shown.get(index)).is_some_and(|wall| fields.names(wall))
        };
        let mut fires = Vec::new();
        let mut caught_up = -1;
        for (index, now) in self.local.iter().copied().enumerate() {
            let jump = now - caught_up;
            let (due, moved) = match jump {
                // Every minute on the way, whatever the entry.
                1..=SMALL => ((caught_up + 1..=now).any(named), true),
                // Summer time begins: rhythms go on from now, fixed times that were left out come at once.
                _ if jump > SMALL && jump < LARGE => {
                    let fixed = !fields.wild && (caught_up + 1..=now).any(named);
                    (fixed || (fields.wild && named(now)), true)
                }
                // Summer time has ended: rhythms go on, fixed times wait for the clock.
                _ if jump <= 0 && jump > -LARGE => (fields.wild && named(now), false),
                // A new clock.
                _ => (named(now), true),
            };
            if moved {
                caught_up = now;
            }
            if due {
                fires.push(self.from + TimeDelta::minutes(index as i64));
            }
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Walls};

    #[track_caller]
    fn check(fields: &str, from: &str, until: &str, expected: &[&str]) {
        let (from, until) = (from.parse().unwrap(), until.parse().unwrap());
        let walls = Walls::new(chrono_tz::Europe::Berlin, from, until);
        let fires = walls.fires(&Fields::parse(fields).unwrap());
        let fires: Vec<_> = fires.iter().map(|at| at.format("%d %H:%M").to_string()).collect();
        assert_eq!(fires, expected, "{fields}");
    }

    #[test]
    fn summer_time_begins_and_ends_as_cron_8_says() {
        let (begin, end) =
            (("2026-03-28T23:00:00Z", "2026-03-29T03:00:00Z"), ("2026-10-24T22:00:00Z", "2026-10-25T03:00:00Z"));
        check("30 2 * * *", begin.0, begin.1, &["29 01:00"]);
        check("30 2 * * *", end.0, end.1, &["25 00:30"]);
        check("*/30 2 * * *", begin.0, begin.1, &[]);
        check("*/30 2 * * *", end.0, end.1, &["25 00:00", "25 00:30", "25 01:00", "25 01:30"]);
        check("0 * * * *", begin.0, begin.1, &["28 23:00", "29 00:00", "29 01:00", "29 02:00"]);
    }

    #[test]
    fn one_day_field_is_enough_unless_one_begins_with_a_star() {
        // 1 July 2026 is a Wednesday.
        let (from, until) = ("2026-06-30T22:00:00Z", "2026-07-08T22:00:00Z");
        check("0 12 3 * wed", from, until, &["01 10:00", "03 10:00", "08 10:00"]);
        check("0 12 */2 * wed", from, until, &["01 10:00"]);
        check("0 12 * * 7", from, until, &["05 10:00"]);
    }

    #[test]
    fn what_crons_read_differently_is_refused() {
        for (fields, why) in [
            ("5/15 * * * *", "differ"),
            ("0 22-2 * * *", "upwards"),
            ("0 0 L * *", "knows no `L`"),
            ("*/0 * * * *", "from 1"),
        ] {
            let error = Fields::parse(fields).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
