use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;

use super::super::wall::{Dst, InZone};
use super::super::{Trigger, instants};
use super::*;

fn cron(expression: &str, zone: Tz) -> InZone<Cron> {
    let cron = Cron::parse(expression, Dialect::Standard, DayRule::Debian);
    InZone::new(cron.unwrap_or_else(|error| panic!("{error}")), zone, Dst::default())
}

fn fires_of(trigger: &dyn Trigger, after: &str, count: usize) -> Vec<String> {
    let all = instants(trigger, after.parse().unwrap()).take(count);
    all.map(|at| at.format("%Y-%m-%dT%H:%MZ").to_string()).collect()
}

fn fires(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    fires_of(&cron(expression, zone), after, count)
}

#[test]
fn the_day_rule_is_debians_unless_told() {
    // Neither day field begins with a star: the 13th, or any Friday.
    let either = fires("0 0 13 * 5", Tz::UTC, "2026-11-01T00:00:00Z", 3);
    assert_eq!(either, ["2026-11-06T00:00Z", "2026-11-13T00:00Z", "2026-11-20T00:00Z"]);
    // `*/2` begins with a star: odd days that are Mondays.
    let both = fires("0 0 */2 * mon", Tz::UTC, "2026-11-01T00:00:00Z", 2);
    assert_eq!(both, ["2026-11-09T00:00Z", "2026-11-23T00:00Z"]);
    let ocps = Cron::parse("0 0 */2 * mon", Dialect::Standard, DayRule::Ocps).unwrap();
    let either = fires_of(&InZone::new(ocps, Tz::UTC, Dst::default()), "2026-11-01T00:00:00Z", 3);
    assert_eq!(either, ["2026-11-02T00:00Z", "2026-11-03T00:00Z", "2026-11-05T00:00Z"]);
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
fn days_that_depend_on_the_month() {
    let check = |expression: &str, expected: &[&str]| {
        let found = fires(expression, Tz::UTC, "2026-01-31T12:00:00Z", expected.len());
        let days: Vec<_> = found.iter().map(|at| &at[..10]).collect();
        assert_eq!(days, expected, "{expression}");
    };
    check("0 0 L * *", &["2026-02-28", "2026-03-31", "2026-04-30"]);
    check("0 0 L-2 * *", &["2026-02-26", "2026-03-29"]);
    // 28 February 2026 is a Saturday, 31 May a Sunday.
    check("0 0 LW * *", &["2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29"]);
    // 1 February is a Sunday, 15 March too, 1 August a Saturday.
    check("0 0 1W 2,8 *", &["2026-02-02", "2026-08-03"]);
    check("0 0 15W 3 *", &["2026-03-16"]);
    check("0 0 31W * *", &["2026-03-31", "2026-05-29", "2026-07-31"]);
    check("0 0 * * 5#2", &["2026-02-13", "2026-03-13"]);
    check("0 0 * * fri#5", &["2026-05-29", "2026-07-31"]);
    check("0 0 * * 5L", &["2026-02-27", "2026-03-27"]);
    check("0 0 1 * 1#1", &["2026-02-01", "2026-02-02", "2026-03-01", "2026-03-02"]);
}

#[test]
fn seconds_lead_and_quartz_counts_from_sunday_1() {
    let all = instants(&cron("*/20 59 23 31 12 *", Tz::UTC), "2026-12-31T23:59:10Z".parse().unwrap())
        .take(3)
        .map(|at| at.to_rfc3339())
        .collect::<Vec<_>>();
    assert_eq!(all, ["2026-12-31T23:59:20+00:00", "2026-12-31T23:59:40+00:00", "2027-12-31T23:59:00+00:00"]);
    let quartz = |text: &str| Cron::parse(text, Dialect::Quartz, DayRule::Debian).unwrap();
    let zone = |cron| InZone::new(cron, Tz::UTC, Dst::default());
    let mondays = fires_of(&zone(quartz("0 0 8 ? * 2")), "2026-11-24T00:00:00Z", 1);
    assert_eq!(mondays, ["2026-11-30T08:00Z"]);
    let years = fires_of(&zone(quartz("0 0 0 29 2 ? 2028,2030-2032")), "2026-11-24T00:00:00Z", 9);
    assert_eq!(years, ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]);
    assert_eq!(fires_of(&zone(quartz("0 0 0 ? * L")), "2026-11-24T00:00:00Z", 1), ["2026-11-28T00:00Z"]);
}

#[test]
fn leap_days_are_found_and_impossible_dates_are_proved_absent() {
    assert_eq!(fires("0 0 29 2 *", Tz::UTC, "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00Z"]);
    for never in ["0 0 31 2 *", "* * 30 2 *", "0 0 31 4,6,9,11 *", "0 0 L-30 2 *"] {
        assert!(fires(never, Tz::Europe__Berlin, "2026-01-01T00:00:00Z", 1).is_empty(), "{never}");
    }
    // 29 February on a Monday: 2044 is the next.
    assert_eq!(fires("0 0 29 2 */7", Tz::UTC, "2044-03-01T00:00:00Z", 1), ["2060-02-29T00:00Z"]);
}

#[test]
fn fixed_times_survive_the_gap_and_do_not_repeat_in_the_fold() {
    let spring = fires("30 1 * * *", Tz::Europe__London, "2026-03-28T12:00:00Z", 2);
    assert_eq!(spring, ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
    let autumn = fires("30 1 * * *", Tz::Europe__London, "2026-10-24T12:00:00Z", 2);
    assert_eq!(autumn, ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
}

#[test]
fn a_rhythm_follows_the_wall_through_gap_and_fold() {
    let spring = fires("0,30 * * * *", Tz::Europe__London, "2026-03-29T00:00:00Z", 3);
    assert_eq!(spring, ["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]);
    let autumn = fires("30 * * * *", Tz::America__New_York, "2026-11-01T04:45:00Z", 3);
    assert_eq!(autumn, ["2026-11-01T05:30Z", "2026-11-01T06:30Z", "2026-11-01T07:30Z"]);
    // The hour field is fixed, the minute field a star: nothing is made up.
    assert_eq!(fires("*/30 1 * * *", Tz::Europe__London, "2026-03-28T12:00:00Z", 1), ["2026-03-30T00:00Z"]);
}

#[test]
fn errors_point_at_the_character_and_name_the_remedy() {
    let check = |expression: &str, dialect: Dialect, column: usize, part: &str| {
        let error = Cron::parse(expression, dialect, DayRule::Debian).unwrap_err();
        assert_eq!(error.column, column, "{expression}: {}", error.message);
        assert!(error.message.contains(part), "{expression}: {}", error.message);
    };
    for (expression, column, part) in [
        ("61 * * * *", 1, "minute: `61` is not allowed; write `*` or a number from 0 to 59"),
        ("0 8 * * mom", 9, "did you mean `mon`"),
        ("0 8 * *", 8, "five fields"),
        ("0 0 8 ? * MON 2027", 15, "dialect = \"quartz\""),
        ("0 22-4 * * *", 3, "write 22-23,0-4"),
        ("0 0 * * 5-1", 9, "write 5-6,0-1"),
        ("*/0 * * * *", 3, "a step is a number from 1"),
        ("1,,2 * * * *", 3, "a value is missing here"),
        ("@dayly", 1, "did you mean `@daily`"),
        ("@reboot", 1, "on_start"),
        ("+5 * * * *", 1, "not allowed"),
        ("0 0 ? * 1", 5, "belongs to dialect"),
        ("0 0 * * L", 9, "6L"),
        ("0 0 32W * *", 5, "from 1 to 31"),
        ("0 0 * * 5#6", 11, "from 1 to 5"),
    ] {
        check(expression, Dialect::Standard, column, part);
    }
    check("0 8 * * 1", Dialect::Quartz, 10, "dialect = \"standard\"");
    check("0 0 8 * * 2", Dialect::Quartz, 11, "wants `?`");
    check("0 0 8 ? * ?", Dialect::Quartz, 11, "only one");
    check("0 0 8 ? * 0", Dialect::Quartz, 11, "from 1 to 7");
    let text = Cron::parse("0 8 é * *", Dialect::Standard, DayRule::Debian).unwrap_err().to_string();
    assert!(text.ends_with("\n  0 8 é * *\n      ^"), "{text}");
}

#[test]
fn a_compiled_expression_is_small() {
    assert!(size_of::<InZone<Cron>>() <= 128, "{}", size_of::<InZone<Cron>>());
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
        let parsed = Cron::parse(&expression, Dialect::Standard, DayRule::Debian).unwrap();
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let matches = |at: DateTime<Utc>| {
            let days = parsed.days(at.year().into(), at.month());
            let TimeMask { minutes, hours, .. } = parsed.times;
            minutes & (1 << at.minute()) != 0 && hours & (1 << at.hour()) != 0 && days & (1 << at.day()) != 0
        };
        let found = cron(&expression, Tz::UTC).next_after(start).unwrap();
        proptest::prop_assert!(found > start && matches(found) && found.second() == 0);
        let mut at = DateTime::from_timestamp(start.timestamp() / 60 * 60 + 60, 0).unwrap();
        while at < found {
            proptest::prop_assert!(!matches(at), "{} left out {}", expression, at);
            at += chrono::TimeDelta::minutes(1);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}", quartz: bool) {
        let dialect = if quartz { Dialect::Quartz } else { Dialect::Standard };
        if let Err(error) = Cron::parse(&text, dialect, DayRule::Debian) {
            proptest::prop_assert!(error.to_string().lines().count() >= 3);
        }
    }
}
