//! Text to masks. Each fault names the field and the place, what is allowed, and what was likely meant.

use super::super::masks::TimeMask;
use super::{Cron, CronError, DayRule, Dialect, MonthDays, WeekDays};

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

impl Field {
    /// The last value of `*`; Sunday is not named twice.
    const fn top(&self) -> u32 {
        if self.high == 7 && self.low == 0 { 6 } else { self.high }
    }
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SECOND: Field = Field { name: "second", low: 0, high: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
const MONTH_DAY: Field = Field { name: "day of month", low: 1, high: 31, names: &[] };
const MONTH: Field = Field { name: "month", low: 1, high: 12, names: MONTHS };
const WEEKDAY: Field = Field { name: "day of week", low: 0, high: 7, names: WEEKDAYS };
const QUARTZ_WEEKDAY: Field = Field { name: "day of week", low: 1, high: 7, names: WEEKDAYS };
const YEAR: Field = Field { name: "year", low: 1970, high: 2099, names: &[] };

const SHORTHANDS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What is wrong, at which byte of the part that was read.
type Fault = (usize, String);

/// A field's text and its place in the expression.
type Part<'e> = (usize, &'e str);

pub(super) fn parse(expression: &str, dialect: Dialect, rule: DayRule) -> Result<Cron, CronError> {
    let read = || -> Result<Cron, Fault> {
        let text = expression.trim();
        if text.starts_with('@') {
            let at = expression.find('@').unwrap_or(0);
            return fields(shorthand(text).map_err(|message| (at, message))?, Dialect::Standard, rule);
        }
        fields(expression, dialect, rule)
    };
    read().map_err(|(at, message)| CronError {
        expression: expression.to_owned(),
        column: expression.get(..at).map_or(0, |before| before.chars().count()) + 1,
        message,
    })
}

fn shorthand(text: &str) -> Result<&'static str, String> {
    if text.eq_ignore_ascii_case("@reboot") {
        return Err("@reboot names no time; write on_start = \"always\" beside another trigger".into());
    }
    let found = SHORTHANDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let known = SHORTHANDS.iter().map(|(name, _)| *name);
    found.map(|(_, full)| *full).ok_or_else(|| format!("no shorthand `{text}`{}", crate::suggest::near(text, known)))
}

fn fields(expression: &str, dialect: Dialect, rule: DayRule) -> Result<Cron, Fault> {
    let (mut parts, mut count) = ([(0, ""); MOST_PARTS], 0);
    for part in expression.split_ascii_whitespace() {
        if let Some(place) = parts.get_mut(count) {
            *place = (part.as_ptr() as usize - expression.as_ptr() as usize, part);
        }
        count += 1;
    }
    let parts = &parts[..count.min(MOST_PARTS)];
    let (second, [minute, hour, day, month, weekday], year) = split(expression, parts, count, dialect)?;
    let quartz = dialect == Dialect::Quartz;
    let month_days = month_days(day, quartz)?;
    let week_days = week_days(weekday, quartz)?;
    let (no_day, no_weekday) = (day.1 == "?", weekday.1 == "?");
    if quartz && no_day == no_weekday {
        let message = if no_day {
            "only one of the two day fields is `?`; write the other as a value or `*`"
        } else {
            "the quartz dialect wants `?` in one of the two day fields; write it in the one that does not matter"
        };
        return Err((weekday.0, message.into()));
    }
    let star = |text: &str| match rule {
        DayRule::Debian => text.starts_with('*'),
        DayRule::Ocps => text == "*",
    };
    let years = year.map(years).transpose()?.flatten();
    Ok(Cron {
        times: TimeMask {
            seconds: second.map_or(Ok(1), |part| values(&SECOND, part))?,
            minutes: values(&MINUTE, minute)?,
            hours: values(&HOUR, hour)? as u32,
        },
        month_days,
        week_days,
        months: values(&MONTH, month)? as u16,
        both_days: no_day || no_weekday || star(day.1) || star(weekday.1),
        fixed_time: !minute.1.starts_with('*') && !hour.1.starts_with('*'),
        never: false,
        every_day: false,
        plain_days: false,
        years,
    })
}

/// One more than any dialect has.
const MOST_PARTS: usize = 8;

/// Second, the five classical fields, year.
type Split<'e> = (Option<Part<'e>>, [Part<'e>; 5], Option<Part<'e>>);

/// Reads the fields from the first parts of `count`.
fn split<'e>(expression: &str, parts: &[Part<'e>], count: usize, dialect: Dialect) -> Result<Split<'e>, Fault> {
    match (dialect, parts) {
        (Dialect::Standard, rest) if rest.len() == 5 => Ok((None, five(rest), None)),
        (_, [second, rest @ ..]) if rest.len() == 5 => Ok((Some(*second), five(rest), None)),
        (Dialect::Quartz, [second, rest @ .., year]) if rest.len() == 5 => Ok((Some(*second), five(rest), Some(*year))),
        (Dialect::Standard, parts) => {
            let at = parts.get(6).map_or(expression.len(), |part| part.0);
            let hint = if count == 7 { "; seven fields are written with dialect = \"quartz\"" } else { "" };
            let fields = "minute, hour, day of month, month, day of week";
            let message = format!("a cron expression has five fields ({fields}), or six with leading seconds");
            Err((at, format!("{message}; this has {count}{hint}")))
        }
        (Dialect::Quartz, parts) => {
            let at = parts.get(7).map_or(expression.len(), |part| part.0);
            let hint = if count == 5 { "; five fields are written with dialect = \"standard\"" } else { "" };
            let fields = "second, minute, hour, day of month, month, day of week";
            let message = format!("the quartz dialect has six fields ({fields}), or seven with a year");
            Err((at, format!("{message}; this has {count}{hint}")))
        }
    }
}

/// Five fields out of a slice of five.
fn five<'e>(parts: &[Part<'e>]) -> [Part<'e>; 5] {
    let mut five = [(0, ""); 5];
    five.copy_from_slice(parts);
    five
}

/// Reads the comma-separated items of a field; a fault's place is counted from the expression's begin.
fn items(field: &Field, (at, text): Part<'_>, mut item: impl FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut begin = 0;
    for part in text.split(',') {
        item(part).map_err(|(offset, message)| (at + begin + offset, format!("{}: {message}", field.name)))?;
        begin += part.len() + 1;
    }
    Ok(())
}

/// The field as most are written: `*`, or one number.
fn simple(field: &Field, text: &str) -> Option<u64> {
    let number = match *text.as_bytes() {
        [b'*'] => return Some(Range { low: field.low, high: field.top(), step: 1 }.mask()),
        [one @ b'0'..=b'9'] => u32::from(one - b'0'),
        [ten @ b'0'..=b'9', one @ b'0'..=b'9'] => u32::from(ten - b'0') * 10 + u32::from(one - b'0'),
        _ => return None,
    };
    (field.low..=field.high).contains(&number).then(|| 1 << number)
}

fn values(field: &Field, part: Part<'_>) -> Result<u64, Fault> {
    if let Some(mask) = simple(field, part.1) {
        return Ok(mask);
    }
    let mut mask = 0;
    items(field, part, |item| {
        mask |= range(field, item)?.mask();
        Ok(())
    })?;
    Ok(mask)
}

/// The years of a list; none when it is `*`.
fn years(part: Part<'_>) -> Result<Option<Box<[u16]>>, Fault> {
    if part.1 == "*" {
        return Ok(None);
    }
    let mut years = Vec::new();
    items(&YEAR, part, |item| {
        let Range { low, high, step } = range(&YEAR, item)?;
        years.extend((low..=high).step_by(step as usize).map(|year| year as u16));
        Ok(())
    })?;
    years.sort_unstable();
    years.dedup();
    Ok(Some(years.into()))
}

fn month_days(part: Part<'_>, quartz: bool) -> Result<MonthDays, Fault> {
    let mut days = MonthDays::default();
    if let Some(mask) = simple(&MONTH_DAY, part.1) {
        days.named = mask as u32;
        return Ok(days);
    }
    items(&MONTH_DAY, part, |item| {
        if is_plain(item) {
            days.named |= range(&MONTH_DAY, item)?.mask() as u32;
            return Ok(());
        }
        let upper = item.to_ascii_uppercase();
        match upper.as_str() {
            "?" => days.named |= anything(&MONTH_DAY, item, part, quartz)? as u32,
            "L" => days.from_last |= 1,
            "LW" | "WL" => days.last_workday = true,
            _ => {
                if let Some(back) = upper.strip_prefix("L-") {
                    let back: u32 = number(back, 1, 30).map_err(|message| (2, message))?;
                    days.from_last |= 1 << back;
                } else if let Some(day) = upper.strip_suffix('W') {
                    let day = number(day, 1, 31).map_err(|message| (0, format!("{message}, as in 15W")))?;
                    days.nearest |= 1 << day;
                } else {
                    days.named |= range(&MONTH_DAY, item)?.mask() as u32;
                }
            }
        }
        Ok(())
    })?;
    Ok(days)
}

fn week_days(part: Part<'_>, quartz: bool) -> Result<WeekDays, Fault> {
    let field = if quartz { &QUARTZ_WEEKDAY } else { &WEEKDAY };
    // Sunday is bit 0.
    let bit = |value: u32| if quartz { value - 1 } else { value % 7 };
    let mut days = WeekDays::default();
    // Sunday is 1 in Quartz's, and 0 or 7 in the standard dialect.
    let from_sunday = |mask: u64| if quartz { mask >> 1 } else { mask | mask >> 7 } as u8 & 0x7f;
    let named = |item: &str| Ok::<_, Fault>(from_sunday(range(field, item)?.mask()));
    if let Some(mask) = simple(field, part.1) {
        days.named = from_sunday(mask);
        return Ok(days);
    }
    items(field, part, |item| {
        if is_plain(item) {
            days.named |= named(item)?;
            return Ok(());
        }
        let upper = item.to_ascii_uppercase();
        if upper == "?" {
            days.named |= anything(field, item, part, quartz)? as u8;
        } else if upper == "L" {
            if !quartz {
                let message = "`L` alone is written with dialect = \"quartz\"; write 6, or 6L for the last Saturday";
                return Err((0, message.into()));
            }
            days.named |= 1 << 6;
        } else if let Some((day, nth)) = upper.split_once('#') {
            let weekday = value(field, day)?;
            let nth = number(nth, 1, 5).map_err(|message| (day.len() + 1, format!("{message}, as in 5#2")))?;
            days.nth |= 1 << ((nth - 1) * 7 + bit(weekday));
        } else if let Some(day) = upper.strip_suffix('L').filter(|day| !day.is_empty()) {
            days.last |= 1 << bit(value(field, day)?);
        } else {
            days.named |= named(item)?;
        }
        Ok(())
    })?;
    Ok(days)
}

/// `?`, which only the quartz dialect has, and which stands alone: every day.
fn anything(field: &Field, item: &str, part: Part<'_>, quartz: bool) -> Result<u64, Fault> {
    if !quartz {
        return Err((0, "`?` belongs to dialect = \"quartz\"; write `*`".into()));
    }
    if item != part.1 {
        return Err((0, "`?` stands alone".into()));
    }
    Ok((field.low..=field.high)
        .fold(0, |mask, value| mask | 1 << if field.names.is_empty() { value } else { value - 1 }))
}

/// Whether an item has numbers and ranges only, and none of the letters and signs of the day fields.
fn is_plain(item: &str) -> bool {
    item.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'*' | b'-' | b'/'))
}

/// The values of one item.
struct Range {
    low: u32,
    high: u32,
    step: u32,
}

impl Range {
    /// Bit n is value n; no value is above 63.
    fn mask(&self) -> u64 {
        if self.step == 1 {
            return u64::MAX >> (63 - self.high) & u64::MAX << self.low;
        }
        (self.low..=self.high).step_by(self.step as usize).fold(0, |mask, value| mask | 1 << value)
    }
}

/// Reads one item: `*`, a value, a range, with or without a step.
fn range(field: &Field, item: &str) -> Result<Range, Fault> {
    let top = field.top();
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => {
            let width = top - field.low + 1;
            let step = number(step, 1, width)
                .map_err(|_| (span.len() + 1, format!("a step is a number from 1 to {width}")))?;
            (span, Some(step))
        }
        None => (item, None),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" => (field.low, top),
        Some((low_text, high_text)) => {
            let low = value(field, low_text)?;
            let mut high = value(field, high_text).map_err(|(at, message)| (low_text.len() + 1 + at, message))?;
            // A range may end on Sunday, by whatever name.
            if field.high == 7 && field.low == 0 && high == 0 && low > 0 {
                high = 7;
            }
            if low > high {
                let message = format!("a range goes upwards; write {low}-{top},{}-{high}", field.low);
                return Err((0, message));
            }
            (low, high)
        }
        None => {
            let low = value(field, span)?;
            (low, if step.is_some() { top.max(low) } else { low })
        }
    };
    Ok(Range { low, high, step: step.unwrap_or(1) })
}

fn number(text: &str, low: u32, high: u32) -> Result<u32, String> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (low..=high).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from {low} to {high}"))
}

fn value(field: &Field, text: &str) -> Result<u32, Fault> {
    if let Some(index) = field.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(index as u32 + field.low);
    }
    number(text, field.low, field.high).map_err(|_| {
        let names = match field.names {
            [first, .., last] => format!(" or a name from {first} to {last}"),
            _ => String::new(),
        };
        let near = crate::suggest::near(text, field.names.iter().copied());
        let near = if near.contains("did you mean") { near } else { String::new() };
        let wrong = match text {
            "" => "a value is missing here".to_owned(),
            "0" if field.names.first() == Some(&"sun") => {
                "`0` is not allowed, the week begins with 1 for Sunday".into()
            }
            _ => format!("`{text}` is not allowed"),
        };
        let message = format!("{wrong}; write `*` or a number from {} to {}{names}{near}", field.low, field.high);
        (0, message)
    })
}
