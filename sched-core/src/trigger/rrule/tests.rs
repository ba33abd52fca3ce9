use super::super::wall::{Dst, InZone};
use super::super::{Trigger as _, instants};
use super::*;

fn days(rule: &str, start: &str, after: &str, count: usize) -> Vec<String> {
    let (rule, _) = Rule::parse(rule, Some(start.parse().unwrap()), Tz::UTC).unwrap_or_else(|error| panic!("{error}"));
    let trigger = InZone::new(rule, Tz::UTC, Dst::default());
    let all = instants(&trigger, after.parse().unwrap()).take(count);
    all.map(|at| at.format("%Y-%m-%dT%H:%M").to_string()).collect()
}

/// The examples of RFC 5545, 3.8.5.3, with their DTSTART of 2 September 1997, 09:00 (here without its zone).
#[test]
fn the_examples_of_the_rfc() {
    let check = |rule: &str, expected: &[&str]| {
        let found = days(rule, "1997-09-02T09:00:00Z", "1997-09-01T00:00:00Z", expected.len());
        let expected: Vec<_> = expected.iter().map(|day| format!("{day}T09:00")).collect();
        assert_eq!(found, expected, "{rule}");
    };
    check("FREQ=DAILY;INTERVAL=10;COUNT=5", &["1997-09-02", "1997-09-12", "1997-09-22", "1997-10-02", "1997-10-12"]);
    check("FREQ=WEEKLY;INTERVAL=2;WKST=SU", &["1997-09-02", "1997-09-16", "1997-09-30"]);
    check("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,TH", &["1997-09-02", "1997-09-04", "1997-09-16", "1997-09-18"]);
    check("FREQ=MONTHLY;BYDAY=1FR", &["1997-09-05", "1997-10-03", "1997-11-07"]);
    check("FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU", &["1997-09-07", "1997-09-28", "1997-11-02", "1997-11-30"]);
    check("FREQ=MONTHLY;BYMONTHDAY=-3", &["1997-09-28", "1997-10-29", "1997-11-28"]);
    check("FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200", &["2000-01-01", "2000-04-09", "2000-07-18", "2003-01-01"]);
    check("FREQ=YEARLY;BYDAY=20MO", &["1998-05-18", "1999-05-17", "2000-05-15"]);
    check("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", &["1998-05-11", "1999-05-17", "2000-05-15"]);
    check("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", &["1998-02-13", "1998-03-13", "1998-11-13", "1999-08-13"]);
    check("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", &["1997-11-04", "2001-11-06"]);
    check("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", &["1997-09-04", "1997-10-07", "1997-11-06"]);
    check("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", &["1997-09-29", "1997-10-30", "1997-11-27"]);
    check("FREQ=DAILY;UNTIL=19970903T090000", &["1997-09-02", "1997-09-03"]);
}

#[test]
fn weeks_begin_where_wkst_says() {
    let check = |week_start: &str, expected: &[&str]| {
        let rule = format!("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST={week_start}");
        let found = days(&rule, "1997-08-05T09:00:00Z", "1997-08-01T00:00:00Z", 4);
        assert_eq!(found, expected.iter().map(|day| format!("1997-{day}T09:00")).collect::<Vec<_>>());
    };
    check("MO", &["08-05", "08-10", "08-19", "08-24"]);
    check("SU", &["08-05", "08-17", "08-19", "08-31"]);
}

#[test]
fn a_date_that_a_month_has_not_is_left_out_and_one_that_never_comes_is_proved_absent() {
    let found = days("FREQ=MONTHLY", "2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z", 2);
    assert_eq!(found, ["2026-03-31T08:00", "2026-05-31T08:00"]);
    for never in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=MONTHLY;INTERVAL=12;BYMONTH=1;BYMONTHDAY=-32",
    ] {
        let Ok((rule, _)) = Rule::parse(never, Some("2026-02-01T00:00:00Z".parse().unwrap()), Tz::UTC) else {
            continue;
        };
        assert_eq!(
            InZone::new(rule, Tz::UTC, Dst::default()).next_after("2026-02-01T00:00:00Z".parse().unwrap()),
            None
        );
    }
}

#[test]
fn times_multiply_and_until_as_an_instant_is_given_back() {
    let found = days("FREQ=DAILY;BYHOUR=9,12;BYMINUTE=0,30", "2026-01-01T00:00:00Z", "2026-01-01T09:00:00Z", 3);
    assert_eq!(found, ["2026-01-01T09:30", "2026-01-01T12:00", "2026-01-01T12:30"]);
    let (_, until) = Rule::parse("FREQ=DAILY;UNTIL=20260101T000000Z", None, Tz::Europe__Berlin).unwrap();
    assert_eq!(until, Some("2026-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn faults_name_the_part_and_the_remedy() {
    for (rule, part) in [
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=DAYLY", "did you mean `DAILY`"),
        ("FREQ=HOURLY", "write the trigger as `every` or `cron`"),
        ("FREQ=DAILY;BYDAY=XX", "BYDAY: `XX` is not a day"),
        ("FREQ=DAILY;BYDAY=1MO", "counts in a month or year"),
        ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY: `0`"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20260101", "do not stand together"),
        ("FREQ=DAILY;BYMONTH=13", "BYMONTH: `13` is not a number from 1 to 12"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "write FREQ=YEARLY"),
        ("FREQ=DAILY;BYHOURS=1", "no part `BYHOURS`; did you mean `BYHOUR`"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL: `0`"),
        ("FREQ=DAILY;BYSETPOS=1", "write one"),
        ("FREQ=DAILY;UNTIL=soon", "`soon` is not a date"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ stands twice"),
        ("FREQ", "NAME=VALUE"),
    ] {
        let error = Rule::parse(rule, None, Tz::UTC).unwrap_err().to_string();
        assert!(error.contains(part), "{rule}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY);)?[A-Z0-9=;,:-]{0,40}") {
        if let Ok((rule, _)) = Rule::parse(&text, None, Tz::UTC) {
            let _ = rule.next(0);
        }
    }
}
