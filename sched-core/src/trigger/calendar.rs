//! Calendar events as systemd writes them (systemd.time(7)): `Mon..Fri *-*-* 02:00`, `*-*~01 12:00`, `hourly`.
//!
//! A zone at the end of the expression wins over the schedule's. Differences: seconds have no fractions, and years
//! are not limited to 1970..2199.

use super::TriggerError;
use super::civil::{Civil, Wall, YEARS, month_length, weekday};
use super::cron::CronWords;
use super::masks::{DayMask, TimeMask, days_on, days_up_to, next_wall};
use super::wall::WallTimes;

const SHORTHANDS: &[(&str, &str)] = &[
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];
const WEEKDAYS: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// Values from `first`, each `step` after the one before, up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: i64,
    last: i64,
    step: i64,
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    times: TimeMask,
    weekdays: u8,
    months: u32,
    days: u32,
    /// Days counted from the month's end, the last is 1.
    from_end: Box<[Span]>,
    /// All years when empty.
    years: Box<[Span]>,
    fixed_time: bool,
    never: bool,
}

fn fault<T>(message: impl Into<String>) -> Result<T, TriggerError> {
    Err(TriggerError::Invalid(message.into()))
}

impl Calendar {
    /// Reads an expression; the zone at its end, if it has one, is given back.
    pub(super) fn parse(expression: &str) -> Result<(Self, Option<chrono_tz::Tz>), TriggerError> {
        let named = |message: TriggerError| TriggerError::Invalid(format!("calendar `{expression}`: {message}"));
        Self::read(expression.trim()).map_err(named)
    }

    /// What it allows, for who puts it into words; a weekday and a date must both match.
    pub(super) fn words(&self) -> CronWords {
        let days_back = self.from_end.iter().flat_map(|span| {
            let (low, high) = (span.first.min(span.last), span.first.max(span.last));
            (low..=high).rev().step_by(span.step as usize)
        });
        let years = self.years.iter().flat_map(|span| (span.first..=span.last).step_by(span.step as usize));
        CronWords {
            seconds: self.times.seconds,
            minutes: self.times.minutes,
            hours: self.times.hours,
            days: self.days,
            from_last: days_back.fold(0, |days, back| days | 1 << (back - 1)),
            nearest: 0,
            last_workday: false,
            weekdays: self.weekdays,
            nth: 0,
            last: 0,
            months: self.months as u16,
            both_days: true,
            years: years.map(|year| year as u16).collect(),
        }
    }

    fn read(text: &str) -> Result<(Self, Option<chrono_tz::Tz>), TriggerError> {
        let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
        let zone = words.last().filter(|word| words.len() > 1 && is_zone(word)).map(|word| super::parse_zone(word));
        let zone = zone.transpose().map_err(TriggerError::Invalid)?;
        if zone.is_some() {
            words.pop();
        }
        if let [word] = words[..]
            && let Some((_, full)) = SHORTHANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))
        {
            return Ok((Self::read(full)?.0, zone));
        }
        let mut words = words.into_iter().peekable();
        let mut weekdays = 0;
        while let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
            weekdays |= read_weekdays(word)?;
        }
        let date = words.next_if(|word| word.contains('-') || word.contains('~'));
        let time = words.next_if(|word| word.contains(':'));
        if let Some(rest) = words.next() {
            return fault(format!("`{rest}` is no part of a date, a time or a zone; a time is written 02:00"));
        }
        if weekdays == 0 && date.is_none() && time.is_none() {
            return fault("it needs weekdays, a date such as *-*-01, or a time such as 02:00");
        }
        let Date { years, months, days, from_end } = read_date(date.unwrap_or("*-*-*"))?;
        let (times, fixed_time) = read_time(time.unwrap_or("00:00:00"))?;
        let weekdays = if weekdays == 0 { 0x7f } else { weekdays };
        let mut calendar = Self { times, weekdays, months, days, from_end, years, fixed_time, never: false };
        calendar.never = !calendar.is_possible();
        Ok((calendar, zone))
    }
}

impl DayMask for Calendar {
    fn months(&self) -> u32 {
        self.months
    }

    fn year(&self, from: i64) -> Option<i64> {
        let next = |span: &Span| {
            let steps = ((from - span.first).max(0) + span.step - 1) / span.step;
            Some(span.first + steps * span.step).filter(|year| *year <= span.last)
        };
        let year = if self.years.is_empty() { from } else { self.years.iter().filter_map(next).min()? };
        YEARS.contains(&year).then_some(year)
    }

    fn days(&self, year: i64, month: u32) -> u32 {
        let length = month_length(year, month);
        let mut days = self.days;
        for span in &self.from_end {
            // A value counted from the end grows towards the month's begin; a range is walked towards its end.
            let day = |from_end: i64| i64::from(length) + 1 - from_end;
            let (one, other) = (day(span.first), day(span.last));
            days |= (one.min(other)..=one.max(other)).step_by(span.step as usize).fold(0, |days, day| days | 1 << day);
        }
        days_up_to(length) & days & days_on(self.weekdays, weekday(Civil { year, month, day: 1 }.to_day()))
    }
}

impl WallTimes for Calendar {
    fn next(&self, from: Wall) -> Option<Wall> {
        if self.never { None } else { next_wall(self, &self.times, from) }
    }

    fn fixed(&self) -> bool {
        self.fixed_time
    }
}

/// A zone is `UTC`, or a name that is neither a weekday nor a shorthand.
fn is_zone(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let first = lower.split([',', '.', '-']).next().unwrap_or_default();
    let weekday = WEEKDAYS.iter().any(|day| *day == first || day[..3] == *first);
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !weekday
        && !SHORTHANDS.iter().any(|(name, _)| *name == lower)
}

fn read_weekdays(word: &str) -> Result<u8, TriggerError> {
    let day = |text: &str| -> Result<u32, TriggerError> {
        let lower = text.to_ascii_lowercase();
        let found = WEEKDAYS.iter().position(|day| *day == lower || day[..3] == lower);
        found.map(|index| index as u32).ok_or_else(|| {
            let short = WEEKDAYS.iter().map(|day| &day[..3]);
            let near = crate::suggest::near(&lower, short.chain(WEEKDAYS.iter().copied()));
            TriggerError::Invalid(format!("no weekday `{text}`{near}"))
        })
    };
    let mut mask = 0;
    // A comma may stand at the end, before the date.
    for item in word.strip_suffix(',').unwrap_or(word).split(',') {
        let (first, last) = item.split_once("..").or_else(|| item.split_once('-')).unwrap_or((item, item));
        let (mut at, last) = (day(first)?, day(last)?);
        mask |= 1 << at;
        while at != last {
            at = (at + 1) % 7;
            mask |= 1 << at;
        }
    }
    Ok(mask)
}

struct Date {
    years: Box<[Span]>,
    months: u32,
    days: u32,
    from_end: Box<[Span]>,
}

fn read_date(text: &str) -> Result<Date, TriggerError> {
    let (before, day, from_end) = match text.rsplit_once('~') {
        Some((before, day)) => (before, day, true),
        None => {
            let (before, day) = text.rsplit_once('-').unwrap_or(("*", text));
            (before, day, false)
        }
    };
    let (year, month) = before.rsplit_once('-').unwrap_or(("*", before));
    let mut years = if year == "*" { Vec::new() } else { spans("year", year, 0, 9999, 9999)? };
    for span in &mut years {
        (span.first, span.last) = (full_year(span.first), full_year(span.last));
    }
    let years = years.into();
    let months = mask("month", month, 1, 12)? as u32;
    if !from_end {
        return Ok(Date { years, months, days: mask("day", day, 1, 31)? as u32, from_end: Box::default() });
    }
    if day == "*" {
        return fault("after `~` stands a day counted from the month's end, such as ~01 for the last");
    }
    // `~07/1` goes from the seventh last day to the last.
    Ok(Date { years, months, days: 0, from_end: spans("day", day, 1, 28, 1)?.into() })
}

/// Minutes and hours that begin with `*` make a rhythm.
fn read_time(text: &str) -> Result<(TimeMask, bool), TriggerError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return fault(format!("`{text}` is not a time; write hours:minutes or hours:minutes:seconds")),
    };
    if second.replace("..", "").contains('.') {
        return fault(format!("`{second}`: fractions of seconds are not supported; write whole seconds"));
    }
    let times = TimeMask {
        hours: mask("hour", hour, 0, 23)? as u32,
        minutes: mask("minute", minute, 0, 59)?,
        seconds: mask("second", second, 0, 59)?,
    };
    Ok((times, !hour.starts_with('*') && !minute.starts_with('*')))
}

/// Two digits are a year from 1970 to 2069.
fn full_year(year: i64) -> i64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        year => year,
    }
}

fn mask(name: &str, text: &str, low: i64, high: i64) -> Result<u64, TriggerError> {
    if text == "*" {
        return Ok((low..=high).fold(0, |mask, value| mask | 1 << value));
    }
    let mut mask = 0;
    for span in spans(name, text, low, high, high)? {
        for value in (span.first..=span.last).step_by(span.step as usize) {
            mask |= 1 << value;
        }
    }
    Ok(mask)
}

/// Reads a list; a value with a repetition and no range goes on to `open`.
fn spans(name: &str, text: &str, low: i64, high: i64, open: i64) -> Result<Vec<Span>, TriggerError> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (low..=high).contains(number));
        number.ok_or_else(|| TriggerError::Invalid(format!("{name}: `{text}` is not a number from {low} to {high}")))
    };
    let span = |item: &str| {
        let (values, step) = item.split_once('/').map_or((item, None), |(values, step)| (values, Some(step)));
        if values == "*" && step.is_some() {
            return fault(format!("{name}: write {low}{} instead of `{item}`", &item[1..]));
        }
        let (first, last) = match values.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None if step.is_some() => (number(values)?, open),
            None => (number(values)?, number(values)?),
        };
        if first > last && values.contains("..") {
            return fault(format!("{name}: `{values}` goes downwards; write {last}..{first}"));
        }
        let step = match step {
            Some(step) => step.parse().ok().filter(|step| (1..=high).contains(step)).ok_or_else(|| {
                TriggerError::Invalid(format!("{name}: `{step}` is not a repetition; write a number from 1 to {high}"))
            })?,
            None => 1,
        };
        Ok(Span { first, last, step })
    };
    text.split(',').map(span).collect()
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::super::instants;
    use super::super::wall::{Dst, InZone};
    use super::*;

    /// The next times as `systemd-analyze calendar --base-time '2026-01-01 00:00:00 UTC'` (systemd 252) names them.
    #[test]
    fn says_what_systemd_says() {
        for (expression, expected) in [
            ("Mon..Wed *-*-* 02:00", "2026-01-05 02:00:00, 2026-01-06 02:00:00"),
            ("*-02~03", "2026-02-26 00:00:00, 2027-02-26 00:00:00"),
            ("*-*~07/1", "2026-01-25 00:00:00, 2026-01-26 00:00:00"),
            ("*-*~1..3", "2026-01-29 00:00:00, 2026-01-30 00:00:00, 2026-01-31 00:00:00, 2026-02-26 00:00:00"),
            ("Mon *-05~07/1", "2026-05-25 00:00:00, 2027-05-31 00:00:00"),
            ("*-*-01/10", "2026-01-11 00:00:00, 2026-01-21 00:00:00"),
            ("2026-*~01 12:00 Europe/Berlin", "2026-01-31 11:00:00, 2026-02-28 11:00:00"),
            ("10..22/4:00", "2026-01-01 10:00:00, 2026-01-01 14:00:00"),
            ("Sat,Thu,Mon-Wed,Sat-Sun", "2026-01-03 00:00:00, 2026-01-04 00:00:00"),
            ("*:0/15", "2026-01-01 00:15:00, 2026-01-01 00:30:00"),
            ("*-1..3,7-01", "2026-02-01 00:00:00, 2026-03-01 00:00:00"),
            ("*-*-* 0:0:0/7", "2026-01-01 00:00:07, 2026-01-01 00:00:14"),
            ("2020..2030/2-1-1", "2028-01-01 00:00:00, 2030-01-01 00:00:00"),
            ("Wed, 17:48", "2026-01-07 17:48:00"),
            ("semiannually", "2026-07-01 00:00:00, 2027-01-01 00:00:00"),
            ("weekly Pacific/Auckland", "2026-01-04 11:00:00, 2026-01-11 11:00:00"),
            ("99-1-1", ""),
            ("2026-02-30", ""),
        ] {
            let (calendar, zone) = Calendar::parse(expression).unwrap();
            let trigger = InZone::new(calendar, zone.unwrap_or(Tz::UTC), Dst::default());
            let count = expected.split(", ").count();
            let fires = instants(&trigger, "2026-01-01T00:00:00Z".parse().unwrap()).take(count);
            let fires: Vec<_> = fires.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string()).collect();
            assert_eq!(fires.join(", "), expected, "{expression}");
        }
    }

    #[test]
    fn faults_name_the_part_and_the_remedy() {
        for (expression, part) in [
            ("5", "is no part of a date, a time or a zone"),
            ("*:*/5", "minute: write 0/5 instead of `*/5`"),
            ("*-*~3..1", "write 1..3"),
            ("*-*~31", "from 1 to 28"),
            ("25:00", "hour: `25` is not a number from 0 to 23"),
            ("*-13-1", "month: `13`"),
            ("Mon,,Tue", "no weekday ``"),
            ("Mno 02:00", "did you mean"),
            ("10:00:00/0", "not a repetition"),
            ("00:00:00.5", "fractions of seconds"),
            ("02:00 Europe/Berlim", "no time zone `Europe/Berlim`; did you mean `Europe/Berlin`"),
            ("*-*~*", "~01 for the last"),
            ("", "it needs weekdays, a date"),
        ] {
            let error = Calendar::parse(expression).unwrap_err().to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,40}") {
            if let Ok((calendar, _)) = Calendar::parse(&text) {
                let _ = calendar.next(0);
            }
        }
    }
}
