//! The text of a rule, and what it takes from DTSTART.

use std::sync::OnceLock;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use super::super::civil::{Civil, DAY, Wall, weekday};
use super::{Frequency, Rule};

const DAYS: &[&str] = &["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const PARTS: &[&str] = &[
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYMONTH",
    "BYMONTHDAY",
    "BYDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYSETPOS",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
];

/// The parts as written.
#[derive(Default)]
struct Written<'t> {
    parts: Vec<(String, &'t str)>,
}

impl<'t> Written<'t> {
    fn get(&self, name: &str) -> Option<&'t str> {
        self.parts.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Numbers of a list; where `signed`, also counted from the end.
    fn numbers(&self, name: &str, low: i32, high: i32, signed: bool) -> Result<Box<[i32]>, String> {
        let Some(text) = self.get(name) else { return Ok(Box::default()) };
        let read = |item: &str| {
            let number: Option<i32> = item.parse().ok();
            let allowed = |n: &i32| (low..=high).contains(n) || (signed && *n < 0 && (low..=high).contains(&-n));
            let back = if signed { format!(", or -{high} to -{low} from the end") } else { String::new() };
            number.filter(allowed).ok_or_else(|| format!("{name}: `{item}` is not a number from {low} to {high}{back}"))
        };
        let mut numbers = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into())
    }

    fn number(&self, name: &str) -> Result<Option<u32>, String> {
        let read = |text: &str| {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| format!("{name}: `{text}` is not a number from 1"))
        };
        self.get(name).map(read).transpose()
    }
}

/// Reads a rule, and an UNTIL that is an instant.
pub(super) fn parse(text: &str, start: Wall, zone: Tz) -> Result<(Rule, Option<DateTime<Utc>>), String> {
    let (start, written) = read(text, start, zone)?;
    let (last, until) = match written.get("UNTIL").map(Moment::read).transpose()? {
        Some(Moment::Day(at)) => (Some(at + DAY - 1), None),
        Some(Moment::Wall(at)) => (Some(at), None),
        Some(Moment::Utc(at)) => (None, Some(at)),
        None => (None, None),
    };
    let frequency = frequency(written.get("FREQ"))?;
    let (weekdays, nth) = by_day(&written, frequency)?;
    let mut rule = Rule {
        frequency,
        interval: written.number("INTERVAL")?.unwrap_or(1).into(),
        start,
        count: written.number("COUNT")?,
        last: OnceLock::new(),
        until: last,
        week_start: written.get("WKST").map_or(Ok(1), day_number)?,
        months: written.numbers("BYMONTH", 1, 12, false)?.iter().fold(0, |months, month| months | 1 << month),
        weekdays,
        nth,
        month_days: written.numbers("BYMONTHDAY", 1, 31, true)?,
        year_days: written.numbers("BYYEARDAY", 1, 366, true)?,
        weeks: written.numbers("BYWEEKNO", 1, 53, true)?,
        positions: written.numbers("BYSETPOS", 1, 366, true)?,
        times: Box::default(),
    };
    forbid(&written, frequency)?;
    if written.get("COUNT").is_some() && written.get("UNTIL").is_some() {
        return Err("COUNT and UNTIL do not stand together; keep one of them".into());
    }
    rule.times = times(&written, start.rem_euclid(DAY))?;
    from_start(&mut rule);
    if !rule.positions.is_empty() && !written.parts.iter().any(|(name, _)| name.starts_with("BY") && name != "BYSETPOS")
    {
        return Err("BYSETPOS picks from what another BY part names; write one".into());
    }
    Ok((rule, until))
}

/// Splits the text; a DTSTART line in it wins over the start that was given.
fn read(text: &str, mut start: Wall, zone: Tz) -> Result<(Wall, Written<'_>), String> {
    let mut written = Written::default();
    for line in text.split_ascii_whitespace() {
        if let Some(value) = line.strip_prefix("DTSTART:").or_else(|| line.strip_prefix("DTSTART=")) {
            start = Moment::read(value)?.wall(zone);
            continue;
        }
        for part in line.strip_prefix("RRULE:").unwrap_or(line).split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not written NAME=VALUE"))?;
            let name = name.to_ascii_uppercase();
            if !PARTS.contains(&name.as_str()) {
                return Err(format!("no part `{name}`{}", crate::suggest::near(&name, PARTS.iter().copied())));
            }
            if written.get(&name).is_some() {
                return Err(format!("{name} stands twice"));
            }
            written.parts.push((name, value));
        }
    }
    Ok((start, written))
}

fn frequency(text: Option<&str>) -> Result<Frequency, String> {
    let known = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY"];
    let Some(text) = text else { return Err("FREQ is missing; write FREQ=DAILY or another of its kind".into()) };
    Ok(match text.to_ascii_uppercase().as_str() {
        "YEARLY" => Frequency::Yearly,
        "MONTHLY" => Frequency::Monthly,
        "WEEKLY" => Frequency::Weekly,
        "DAILY" => Frequency::Daily,
        "HOURLY" | "MINUTELY" | "SECONDLY" => {
            return Err(format!("FREQ={text} is not supported; write the trigger as `every` or `cron`"));
        }
        other => return Err(format!("FREQ: no `{other}`{}", crate::suggest::near(other, known.into_iter()))),
    })
}

fn day_number(text: &str) -> Result<u32, String> {
    let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
    found.map(|index| index as u32).ok_or_else(|| format!("`{text}` is not a day; write one of {}", DAYS.join(", ")))
}

type ByDay = (u8, Box<[(i32, u32)]>);

fn by_day(written: &Written<'_>, frequency: Frequency) -> Result<ByDay, String> {
    let (mut weekdays, mut nth) = (0, Vec::new());
    for item in written.get("BYDAY").into_iter().flat_map(|text| text.split(',')) {
        let split = item.len().saturating_sub(2);
        let (ordinal, day) = item.split_at_checked(split).ok_or_else(|| format!("BYDAY: `{item}` is not a day"))?;
        let day = day_number(day).map_err(|message| format!("BYDAY: {message}"))?;
        if ordinal.is_empty() {
            weekdays |= 1 << day;
            continue;
        }
        if matches!(frequency, Frequency::Weekly | Frequency::Daily) || written.get("BYWEEKNO").is_some() {
            return Err(format!("BYDAY: `{item}` counts in a month or year; write {} here", DAYS[day as usize]));
        }
        let number: Option<i32> = ordinal.parse().ok().filter(|n| *n != 0 && (-53..=53).contains(n));
        nth.push((number.ok_or_else(|| format!("BYDAY: `{ordinal}` is not a number from 1 to 53 or -1 to -53"))?, day));
    }
    Ok((weekdays, nth.into()))
}

/// The combinations that RFC 5545 does not allow.
fn forbid(written: &Written<'_>, frequency: Frequency) -> Result<(), String> {
    let forbidden: &[&str] = match frequency {
        Frequency::Yearly => &[],
        Frequency::Monthly | Frequency::Daily => &["BYYEARDAY", "BYWEEKNO"],
        Frequency::Weekly => &["BYYEARDAY", "BYWEEKNO", "BYMONTHDAY"],
    };
    match forbidden.iter().find(|name| written.get(name).is_some()) {
        Some(name) => Err(format!("{name} does not go with this FREQ (RFC 5545, 3.3.10); write FREQ=YEARLY")),
        None => Ok(()),
    }
}

/// The times of a day: each of the hours with each of the minutes and seconds.
fn times(written: &Written<'_>, start: i64) -> Result<Box<[u32]>, String> {
    let list = |name: &str, high: i32, own: i64| {
        let numbers = written.numbers(name, 0, high, false)?;
        Ok::<_, String>(if numbers.is_empty() { vec![own as i32] } else { numbers.into() })
    };
    let hours = list("BYHOUR", 23, start / 3600)?;
    let minutes = list("BYMINUTE", 59, start / 60 % 60)?;
    let seconds = list("BYSECOND", 59, start % 60)?;
    let mut times = Vec::with_capacity(hours.len() * minutes.len() * seconds.len());
    for hour in &hours {
        for minute in &minutes {
            times.extend(seconds.iter().map(|second| (hour * 3600 + minute * 60 + second) as u32));
        }
    }
    Ok(times.into())
}

/// Takes from DTSTART what the rule does not name.
fn from_start(rule: &mut Rule) {
    let day = rule.start.div_euclid(DAY);
    let date = Civil::of_day(day);
    let no_weekday = rule.weekdays == 0 && rule.nth.is_empty();
    if !no_weekday || !rule.month_days.is_empty() || !rule.year_days.is_empty() {
        return;
    }
    match rule.frequency {
        // RFC 5545 leaves open which days of a week BYWEEKNO alone names; python-dateutil and rrule.js take all.
        Frequency::Yearly if !rule.weeks.is_empty() => {}
        Frequency::Yearly => {
            if rule.months == 0 {
                rule.months = 1 << date.month;
            }
            rule.month_days = [date.day as i32].into();
        }
        Frequency::Monthly => rule.month_days = [date.day as i32].into(),
        Frequency::Weekly => rule.weekdays = 1 << weekday(day),
        Frequency::Daily => {}
    }
}

/// A date or date-time of RFC 5545, 3.3.4 and 3.3.5.
enum Moment {
    /// The begin of a day on the wall.
    Day(Wall),
    /// A time on the wall.
    Wall(Wall),
    /// An instant, written with `Z`.
    Utc(DateTime<Utc>),
}

impl Moment {
    fn read(text: &str) -> Result<Self, String> {
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y%m%d") {
            return Ok(Self::Day(date.and_time(NaiveTime::MIN).and_utc().timestamp()));
        }
        let (bare, utc) = text.strip_suffix('Z').map_or((text, false), |bare| (bare, true));
        match NaiveDateTime::parse_from_str(bare, "%Y%m%dT%H%M%S") {
            Ok(at) if utc => Ok(Self::Utc(at.and_utc())),
            Ok(at) => Ok(Self::Wall(at.and_utc().timestamp())),
            Err(_) => Err(format!("`{text}` is not a date; write 20261231, 20261231T080000 or 20261231T080000Z")),
        }
    }

    fn wall(&self, zone: Tz) -> Wall {
        match self {
            Self::Day(at) | Self::Wall(at) => *at,
            Self::Utc(at) => wall_in(*at, zone),
        }
    }
}

/// What the wall of a zone shows at an instant.
pub(super) fn wall_in(at: DateTime<Utc>, zone: Tz) -> Wall {
    at.with_timezone(&zone).naive_local().and_utc().timestamp()
}
