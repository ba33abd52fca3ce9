//! Between wall-clock times and instants, where clocks change.
//!
//! The rule is Debian cron's (cron(8)): a time that a forward change of less than three hours leaves out
//! happens once, at the change; a time that comes twice happens the first time. A change of three hours or
//! more is a new calendar, and a time it leaves out does not happen at all (Apia, 30 December 2011).

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// Forward changes from this length on are no daylight saving.
const CALENDAR_CHANGE: TimeDelta = TimeDelta::hours(3);

/// The wall-clock time of an instant; none outside the years 1 to 9999.
pub(super) fn local(zone: Tz, at: DateTime<Utc>) -> Option<NaiveDateTime> {
    let utc = at.naive_utc();
    let years = NaiveDate::from_ymd_opt(1, 1, 2)?..NaiveDate::from_ymd_opt(9999, 12, 30)?;
    years.contains(&utc.date()).then(|| utc + offset(zone, at))
}

/// The instant at which a wall-clock time happens, by the rule above.
pub(super) fn resolve(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        chrono::LocalResult::Single(at) => Some(at.to_utc()),
        chrono::LocalResult::Ambiguous(one, other) => Some(one.to_utc().min(other.to_utc())),
        chrono::LocalResult::None => {
            let change = first_instant_past(zone, wall)?;
            let before = local(zone, change - TimeDelta::seconds(1))? + TimeDelta::seconds(1);
            (local(zone, change)? - before < CALENDAR_CHANGE).then_some(change)
        }
    }
}

/// The first instant after `from`, at the latest `until`, with another offset from UTC than at `from`.
pub(super) fn next_change(zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let here = offset(zone, from);
    let mut low = from;
    while low < until {
        let high = (low + TimeDelta::hours(12)).min(until);
        if offset(zone, high) != here {
            return Some(bisect(low, high, |at| offset(zone, at) != here));
        }
        low = high;
    }
    None
}

fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    TimeDelta::seconds(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}

/// The first instant whose wall-clock time is past `wall`, which lies in a gap.
fn first_instant_past(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let low = wall.checked_sub_signed(TimeDelta::hours(30))?.and_utc();
    let high = wall.checked_add_signed(TimeDelta::hours(30))?.and_utc();
    Some(bisect(low, high, |at| at.naive_utc() + offset(zone, at) > wall))
}

/// The first whole second in (`low`, `high`] for which `holds` is true, given that it is false, then true.
fn bisect(low: DateTime<Utc>, high: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(at(middle)) { high = middle } else { low = middle }
    }
    at(high)
}
