//! Instants as people write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use sched_core::{Clock as _, SystemClock};

/// Reads an instant on the command line.
pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    read(text, SystemClock::new().now().utc)
}

/// A time with its offset, a time or a day as tables print them (UTC), or how long before `now`.
fn read(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let zoned = || Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    let printed = || Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok()?.and_utc());
    let day = || Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc());
    let ago = || now.checked_sub_signed(TimeDelta::from_std(humantime::parse_duration(text).ok()?).ok()?);
    zoned().or_else(printed).or_else(day).or_else(ago).ok_or_else(|| {
        "write a time such as 2026-01-31T08:00:00Z, a day such as 2026-01-31 (UTC), or how long ago, such as 2h".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_days_and_spans_before_now_are_read() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, instant) in [
            ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
            ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z"),
            ("2026-01-31 08:00:00", "2026-01-31T08:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("1h 30min", "2026-03-01T10:30:00Z"),
        ] {
            assert_eq!(read(text, now), Ok(instant.parse().unwrap()), "{text}");
        }
        for text in ["yesterday", "", "2026-02-30", "2026-01-31 08:00", "9999999999y"] {
            assert!(read(text, now).is_err(), "{text}");
        }
    }
}
