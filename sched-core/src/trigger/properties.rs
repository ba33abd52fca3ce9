//! What holds for every trigger, and the clock changes that others get wrong.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{TriggerSpec, instants};

fn spec(written: &Value) -> TriggerSpec {
    serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{written}: {error}"))
}

/// A trigger of some kind, in some zone, with some rule for clock changes.
fn written() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        (0u8..60, 0u8..24).prop_map(|(m, h)| json!({ "cron": format!("{m} {h} * * *") })),
        (1u8..60, 0u8..7).prop_map(|(m, d)| json!({ "cron": format!("*/{m} */3 * * {d}") })),
        (0u8..60, 0u8..24).prop_map(|(m, h)| json!({ "daily": [format!("{h:02}:{m:02}"), "12:00"] })),
        (0u8..24).prop_map(|h| json!({ "weekly": { "on": ["sat", "sun"], "at": format!("{h:02}:30") } })),
        (1u32..100_000).prop_map(|s| json!({ "every": format!("{s}s") })),
        (0u8..24).prop_map(|h| json!({ "calendar": format!("*-*~1..3 {h}:15") })),
        (1u8..4, 0u8..24)
            .prop_map(|(i, h)| json!({ "rrule": format!("FREQ=WEEKLY;INTERVAL={i};BYDAY=MO,SU;BYHOUR={h}") })),
    ];
    let gap = prop::sample::select(&["auto", "run_after", "skip", "shift"][..]);
    let fold = prop::sample::select(&["auto", "first", "last", "both"][..]);
    let zone = prop::sample::select(&chrono_tz::TZ_VARIANTS[..]);
    (kind, gap, fold, zone).prop_map(|(mut kind, gap, fold, zone)| {
        kind["dst"] = json!({ "gap": gap, "fold": fold });
        kind["timezone"] = json!(zone.name());
        kind
    })
}

fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    (-2_000_000_000i64..4_000_000_000).prop_filter_map("an instant", |at| DateTime::from_timestamp(at, 0))
}

proptest! {
    #[test]
    fn each_next_is_strictly_later_and_nothing_lies_between(written in written(), after in instant(), part in 0.0..1.0) {
        let trigger = spec(&written).compile().unwrap();
        let fires: Vec<_> = instants(&*trigger, after).take(5).collect();
        prop_assert!(fires.windows(2).all(|pair| pair[0] < pair[1]) && fires.first().is_none_or(|first| *first > after));
        if let [first, second, ..] = fires[..] {
            prop_assert_eq!(trigger.next_after(first), Some(second));
            // From any instant between two fires, the later one is next.
            let between = first + TimeDelta::milliseconds(((second - first).num_milliseconds() as f64 * part) as i64);
            prop_assert_eq!(trigger.next_after(between), Some(second));
            prop_assert_eq!(trigger.between(after, second), vec![first, second]);
        }
    }

    #[test]
    fn what_is_printed_is_read_back(written in written()) {
        let spec = spec(&written);
        let printed = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(serde_json::from_value::<TriggerSpec>(printed).unwrap(), spec);
    }

    #[test]
    fn a_list_is_the_sorted_merge_of_its_parts(one in written(), other in written(), after in instant()) {
        let until = after + TimeDelta::days(20);
        let fires = |written: &Value| spec(written).compile().unwrap().between(after, until);
        let mut expected = [fires(&one), fires(&other)].concat();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(fires(&json!([one, other])), expected);
    }

    #[test]
    fn bounds_and_exceptions_leave_out_exactly_what_they_name(mut written in written(), after in instant()) {
        // A rule begins at its `start`, so that it is no mere bound there.
        prop_assume!(written.get("rrule").is_none());
        let (start, end) = (after + TimeDelta::days(3), after + TimeDelta::days(15));
        let zone: Tz = written["timezone"].as_str().unwrap().parse().unwrap();
        let date = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
        let all = spec(&written).compile().unwrap().between(after, after + TimeDelta::days(20));
        let except = [date(start) + TimeDelta::days(2), date(start) + TimeDelta::days(3), date(start) + TimeDelta::days(7)];
        let expected: Vec<_> =
            all.into_iter().filter(|at| (start..=end).contains(at) && !except.contains(&date(*at))).collect();
        written["start"] = json!(start);
        written["end"] = json!(end);
        written["except"] = json!(except);
        let found = spec(&written).compile().unwrap().between(after, after + TimeDelta::days(20));
        prop_assert_eq!(&found, &expected);
        if let Some(third) = expected.get(2) {
            written["limit"] = json!(3);
            let limited = spec(&written).compile().unwrap().between(after, after + TimeDelta::days(20));
            prop_assert_eq!(limited.last(), Some(third));
        }
    }
}

/// The rules of the tz database (`europe`, `africa`, `asia`, `southamerica`, `australasia`, `antarctica`).
#[test]
fn unusual_clock_changes() {
    for (zone, at, after, expected, why) in [
        (
            "Australia/Lord_Howe",
            "02:15",
            "2026-10-03T00:00:00Z",
            "2026-10-03T15:30:00Z",
            "half an hour, 02:00 to 02:30",
        ),
        ("Africa/Casablanca", "02:30", "2026-03-21T12:00:00Z", "2026-03-22T02:00:00Z", "summer time ends Ramadan"),
        ("Africa/Cairo", "00:30", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z", "a gap at midnight"),
        ("America/Sao_Paulo", "00:00", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z", "a day that begins at 01:00"),
        ("Antarctica/Troll", "02:30", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "two hours at once"),
        ("Asia/Gaza", "02:30", "2026-03-27T12:00:00Z", "2026-03-28T00:00:00Z", "on a Saturday"),
        ("Antarctica/Casey", "03:00", "2009-10-17T12:00:00Z", "2009-10-18T16:00:00Z", "three hours are a new clock"),
        ("Pacific/Apia", "12:00", "2011-12-29T23:00:00Z", "2011-12-30T22:00:00Z", "30 December 2011 did not happen"),
        ("Europe/Dublin", "01:30", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "winter time is the negative one"),
    ] {
        let trigger = spec(&json!({ "daily": at, "timezone": zone })).compile().unwrap();
        let next = trigger.next_after(after.parse().unwrap());
        assert_eq!(next, Some(expected.parse().unwrap()), "{zone} {at}: {why}");
    }
}

/// Weekdays of leap days by Zeller's congruence: 28 years apart, and 40 over the year 2100, which has none.
#[test]
fn a_leap_day_on_a_monday() {
    for written in
        [json!({ "calendar": "Mon *-02-29" }), json!({ "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO" })]
    {
        let trigger = spec(&written).compile().unwrap();
        let fires = trigger.between("2026-01-01T00:00:00Z".parse().unwrap(), "2139-01-01T00:00:00Z".parse().unwrap());
        let years: Vec<i32> = fires.iter().map(chrono::Datelike::year).collect();
        assert_eq!(years, [2044, 2072, 2112], "{written}");
    }
}

#[test]
fn the_search_begins_anywhere_without_a_panic() {
    for written in [
        json!({ "cron": "0 0 29 2 *" }),
        json!({ "daily": "02:30" }),
        json!({ "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29" }),
    ] {
        let mut written = written;
        written["timezone"] = json!("Pacific/Kiritimati");
        let trigger = spec(&written).compile().unwrap();
        for year in [
            "0001-01-01T00:00:00Z",
            "1582-10-10T00:00:00Z",
            "1899-12-31T23:59:59.999Z",
            "2099-12-31T00:00:00Z",
            "9990-01-01T00:00:00Z",
        ] {
            let after: DateTime<Utc> = year.parse().unwrap();
            assert!(trigger.next_after(after).is_some_and(|next| next > after), "{written} after {year}");
        }
        assert_eq!(trigger.next_after("9999-12-31T23:59:59Z".parse().unwrap()), None);
        assert_eq!(trigger.next_after(DateTime::<Utc>::MAX_UTC), None);
    }
}
