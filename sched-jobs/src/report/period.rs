//! Which period a report is of, by the calendar of a zone. Pure.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::history::Period;

/// Longer ones are no report any more.
const MOST_DAYS: u32 = 400;

/// What a report is of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "write \"day\", \"week\" or \"month\", { days = 14 }, or { from = \"2026-01-01\", until = \"2026-04-01\" }"
)]
pub(super) enum Choice {
    /// The last complete one.
    Calendar(Calendar),
    /// The last complete days.
    Days(LastDays),
    /// Named days.
    Between(Between),
}

/// A piece of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Calendar {
    /// A day.
    Day,
    /// From Monday to Sunday.
    Week,
    /// A month.
    Month,
}

/// The last complete days.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LastDays {
    /// How many, 1 to 400.
    days: u32,
}

/// Named days.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    /// The first day.
    #[schemars(with = "String")]
    from: NaiveDate,
    /// The first day that is no longer in it.
    #[schemars(with = "String")]
    until: NaiveDate,
}

impl Default for Choice {
    fn default() -> Self {
        Self::Calendar(Calendar::Day)
    }
}

/// A period by days of a zone's calendar, and the one before it, of as many days or the same piece of the calendar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Span {
    /// In words.
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) period: Period,
    /// The first day, and the first that is no longer in it.
    #[serde(skip)]
    days: (NaiveDate, NaiveDate),
    #[serde(skip)]
    pub(super) before: Period,
}

impl Choice {
    /// Why it is no period, if it is none.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::Calendar(_) => None,
            Self::Days(last) if (1..=MOST_DAYS).contains(&last.days) => None,
            Self::Days(_) => Some(format!("days must be 1 to {MOST_DAYS}")),
            Self::Between(Between { from, until }) => match (*until - *from).num_days() {
                ..1 => Some("`until` is the first day that is no longer in it, so it must come after `from`".into()),
                days if days > i64::from(MOST_DAYS) => Some(format!("at most {MOST_DAYS} days")),
                _ => None,
            },
        }
    }

    /// The period that is complete at an instant. None at the ends of the calendar.
    pub(super) fn at(&self, zone: Tz, at: DateTime<Utc>) -> Option<Span> {
        let today = at.with_timezone(&zone).date_naive();
        let back = |day: NaiveDate, days: u32| day.checked_sub_days(Days::new(days.into()));
        let (from, until, earlier) = match self {
            Self::Calendar(Calendar::Day) => (back(today, 1)?, today, back(today, 2)?),
            Self::Calendar(Calendar::Week) => {
                let monday = back(today, today.weekday().num_days_from_monday())?;
                (back(monday, 7)?, monday, back(monday, 14)?)
            }
            Self::Calendar(Calendar::Month) => {
                let first = today.with_day(1)?;
                let back = |months| first.checked_sub_months(Months::new(months));
                (back(1)?, first, back(2)?)
            }
            Self::Days(LastDays { days }) => (back(today, *days)?, today, back(today, days * 2)?),
            Self::Between(Between { from, until }) => {
                let days = u32::try_from((*until - *from).num_days()).ok()?;
                (*from, *until, back(*from, days)?)
            }
        };
        let start = midnight(zone, from)?;
        let period = Period { from: start, until: midnight(zone, until)? };
        let before = Period { from: midnight(zone, earlier)?, until: start };
        Some(Span { name: self.name(from, until), period, days: (from, until), before })
    }

    fn name(&self, from: NaiveDate, until: NaiveDate) -> String {
        let last = until.pred_opt().unwrap_or(until);
        match self {
            Self::Calendar(Calendar::Month) => from.format("%B %Y").to_string(),
            _ if from == last => from.format("%A, %-d %B %Y").to_string(),
            _ if (from.year(), from.month()) == (last.year(), last.month()) => {
                format!("{} to {}", from.format("%-d"), last.format("%-d %B %Y"))
            }
            _ if from.year() == last.year() => format!("{} to {}", from.format("%-d %B"), last.format("%-d %B %Y")),
            _ => format!("{} to {}", from.format("%-d %B %Y"), last.format("%-d %B %Y")),
        }
    }
}

impl Span {
    /// What tells it from every other period.
    pub(super) fn key(&self) -> String {
        key(self.period)
    }

    /// Its parts with their labels: hours of up to two days, days of up to two months, else weeks of seven days.
    pub(super) fn parts(&self, zone: Tz) -> Vec<(String, Period)> {
        let days = (self.days.1 - self.days.0).num_days();
        if days <= 2 {
            let hours = (self.period.until - self.period.from).num_minutes().div_euclid(60) + 1;
            let hour = |index: i64| self.period.from + TimeDelta::hours(index);
            let part = |index: i64| Period { from: hour(index), until: hour(index + 1).min(self.period.until) };
            let parts = (0..hours).map(part).filter(|part| part.from < part.until);
            return parts.map(|part| (part.from.with_timezone(&zone).format("%H").to_string(), part)).collect();
        }
        let step = if days <= 62 { 1 } else { 7 };
        let mut parts = Vec::new();
        let mut day = self.days.0;
        while day < self.days.1 {
            let Some(next) = day.checked_add_days(Days::new(step)) else { break };
            let next = next.min(self.days.1);
            if let (Some(from), Some(until)) = (midnight(zone, day), midnight(zone, next))
                && from < until
            {
                parts.push((day.format("%-d %b").to_string(), Period { from, until }));
            }
            day = next;
        }
        parts
    }
}

/// What tells a period from every other.
pub(super) fn key(period: Period) -> String {
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("{}/{}", text(period.from), text(period.until))
}

/// The first instant of a day: where clocks skip midnight, the first one after it; where they skip the whole day (Samoa in
/// 2011), the first of the next.
fn midnight(zone: Tz, day: NaiveDate) -> Option<DateTime<Utc>> {
    let first_of = |day: NaiveDate| {
        let minutes = (0..1440).filter_map(|n| NaiveTime::from_num_seconds_from_midnight_opt(n * 60, 0));
        minutes.filter_map(|time| zone.from_local_datetime(&day.and_time(time)).earliest()).next()
    };
    first_of(day).or_else(|| first_of(day.succ_opt()?)).map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choice(text: &str) -> Choice {
        serde_json::from_str(text).unwrap()
    }

    fn check(text: &str, zone: Tz, at: &str, from: &str, until: &str) {
        let span = choice(text).at(zone, at.parse().unwrap()).unwrap();
        let expected = Period { from: from.parse().unwrap(), until: until.parse().unwrap() };
        assert_eq!(span.period, expected, "{text} in {zone}");
        assert_eq!(span.before.until, span.period.from);
    }

    #[test]
    fn periods_follow_the_calendar_of_the_zone_over_clock_changes() {
        check("\"day\"", Tz::UTC, "2026-11-24T09:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z");
        check("\"week\"", Tz::UTC, "2026-11-24T09:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        check("\"month\"", Tz::UTC, "2026-03-01T09:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        // The Sunday on which London's clocks go forward has 23 hours, the one on which they go back 25.
        let london = Tz::Europe__London;
        check("\"day\"", london, "2026-03-30T09:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z");
        check("\"day\"", london, "2026-10-26T09:00:00Z", "2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z");
        check("\"month\"", london, "2026-11-01T00:00:00Z", "2026-09-30T23:00:00Z", "2026-11-01T00:00:00Z");
        check("{\"days\": 14}", london, "2026-11-01T09:00:00Z", "2026-10-17T23:00:00Z", "2026-11-01T00:00:00Z");
        let quarter = "{\"from\": \"2026-01-01\", \"until\": \"2026-04-01\"}";
        check(quarter, london, "2026-11-01T09:00:00Z", "2026-01-01T00:00:00Z", "2026-03-31T23:00:00Z");
        // Clocks skipped midnight: these days began at one o'clock.
        let (sao_paulo, beirut) = (Tz::America__Sao_Paulo, Tz::Asia__Beirut);
        check("\"day\"", sao_paulo, "2018-11-05T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
        check("\"day\"", beirut, "2022-03-28T12:00:00Z", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z");
        // Apia had no 30 December 2011: the day after the 29th is the 31st.
        let apia = Tz::Pacific__Apia;
        check("\"day\"", apia, "2011-12-30T20:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_day_over_a_clock_change_has_as_many_hours_as_it_had() {
        let hours = |at: &str| {
            let span = choice("\"day\"").at(Tz::Europe__London, at.parse().unwrap()).unwrap();
            span.parts(Tz::Europe__London).into_iter().map(|(label, _)| label).collect::<Vec<_>>()
        };
        assert_eq!(hours("2026-11-25T09:00:00Z").len(), 24);
        let (spring, autumn) = (hours("2026-03-30T09:00:00Z"), hours("2026-10-26T09:00:00Z"));
        assert_eq!((spring.len(), &spring[..3]), (23, &["00", "02", "03"].map(String::from)[..]));
        assert_eq!((autumn.len(), &autumn[..4]), (25, &["00", "01", "01", "02"].map(String::from)[..]));
    }

    #[test]
    fn periods_are_named_as_people_name_them() {
        let name = |text: &str| choice(text).at(Tz::UTC, "2026-03-03T09:00:00Z".parse().unwrap()).unwrap().name;
        assert_eq!(name("\"day\""), "Monday, 2 March 2026");
        assert_eq!(name("\"week\""), "23 February to 1 March 2026");
        assert_eq!(name("\"month\""), "February 2026");
        assert_eq!(name("{\"days\": 2}"), "1 to 2 March 2026");
        assert_eq!(name("{\"from\": \"2025-12-01\", \"until\": \"2026-01-02\"}"), "1 December 2025 to 1 January 2026");
    }

    #[test]
    fn what_is_no_period_is_refused_with_a_remedy() {
        let fault = |text: &str| choice(text).fault().unwrap();
        assert!(fault("{\"days\": 0}").contains("1 to 400"));
        assert!(fault("{\"from\": \"2026-01-02\", \"until\": \"2026-01-02\"}").contains("must come after `from`"));
        assert!(fault("{\"from\": \"2024-01-02\", \"until\": \"2026-01-02\"}").contains("at most 400 days"));
        let error = serde_json::from_str::<Choice>("\"year\"").unwrap_err().to_string();
        assert!(error.contains("write \"day\", \"week\" or \"month\""), "{error}");
    }

    /// The first minute whose date on the wall is the day or a later one, looked for minute by minute.
    fn oracle(zone: Tz, day: NaiveDate) -> DateTime<Utc> {
        let mut at = (day.and_time(NaiveTime::MIN) - TimeDelta::hours(30)).and_utc();
        while at.with_timezone(&zone).date_naive() < day {
            at += TimeDelta::minutes(1);
        }
        at
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        #[test]
        fn days_begin_where_a_walk_over_the_minutes_finds_them(
            zone in prop::sample::select(vec![
                Tz::Europe__London, Tz::America__Sao_Paulo, Tz::Asia__Beirut, Tz::America__Havana, Tz::Pacific__Apia,
                Tz::Asia__Kathmandu, Tz::Australia__Lord_Howe, Tz::America__St_Johns, Tz::Africa__Casablanca, Tz::UTC,
            ]),
            number in 0..20_000_u64,
            shift in 0..1440_i64,
            text in prop::sample::select(vec!["\"day\"", "\"week\"", "\"month\"", "{\"days\": 9}"]),
        ) {
            let day = NaiveDate::from_ymd_opt(1980, 1, 1).unwrap() + Days::new(number);
            prop_assert_eq!(midnight(zone, day).unwrap(), oracle(zone, day));
            let at = day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::minutes(shift);
            let span = choice(text).at(zone, at).unwrap();
            prop_assert!(span.period.until <= at, "only what is complete is reported");
            prop_assert_eq!(span.before.until, span.period.from);
            let parts = span.parts(zone);
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].1.until, pair[1].1.from, "no gap and no overlap");
            }
            if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
                prop_assert_eq!((first.1.from, last.1.until), (span.period.from, span.period.until));
            }
        }
    }
}
