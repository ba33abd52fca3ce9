//! The offsets of a time zone over time, as segments of one offset each.
//!
//! chrono-tz answers what the offset is at an instant; where it changes is found once a zone and year by looking
//! every six hours, and kept. Its rules end in 2099; from then on the last offset holds.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use super::civil::{Civil, DAY};

/// No rule of the tz database is older or, in chrono-tz, newer than these years.
const FIRST: i64 = 1800;
const LAST: i64 = 2100;
/// No two changes of the tz database lie closer.
const STEP: i64 = DAY / 4;

/// A stretch of time with one offset, cut at the ends of years. Instants and offsets are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first instant.
    pub(super) start: i64,
    /// The first instant after it.
    pub(super) end: i64,
    /// Added to an instant, it gives the wall clock.
    pub(super) offset: i64,
    /// The offset before `start`.
    pub(super) before: i64,
    /// The offset from `end` on.
    pub(super) after: i64,
}

/// The first instant of an offset.
#[derive(Debug, Clone, Copy)]
struct Change {
    at: i64,
    before: i64,
    after: i64,
}

/// A zone with the changes that have been looked up so far.
#[derive(Debug)]
pub(super) struct Zone {
    tz: Tz,
    years: Box<[OnceLock<Year>]>,
}

/// The changes in one year.
#[derive(Debug)]
struct Year {
    start: i64,
    end: i64,
    changes: Box<[Change]>,
}

/// The mean length of a year, by which the year of an instant is guessed.
const MEAN_YEAR: i64 = 31_556_952;

impl Zone {
    /// The zone, shared by all its users: there are some 600, each is kept once.
    pub(super) fn of(tz: Tz) -> Arc<Self> {
        static UTC: LazyLock<Arc<Zone>> = LazyLock::new(|| Arc::new(Zone { tz: Tz::UTC, years: Box::default() }));
        if tz == Tz::UTC {
            return UTC.clone();
        }
        static ZONES: LazyLock<RwLock<HashMap<Tz, Arc<Zone>>>> = LazyLock::new(RwLock::default);
        if let Some(zone) = ZONES.read().unwrap_or_else(PoisonError::into_inner).get(&tz) {
            return zone.clone();
        }
        let years = (FIRST..=LAST).map(|_| OnceLock::new()).collect();
        let mut zones = ZONES.write().unwrap_or_else(PoisonError::into_inner);
        zones.entry(tz).or_insert_with(|| Arc::new(Self { tz, years })).clone()
    }

    pub(super) const fn tz(&self) -> Tz {
        self.tz
    }

    /// The segment that an instant is in.
    pub(super) fn segment(&self, at: i64) -> Segment {
        if self.tz == Tz::UTC {
            return Segment { start: i64::MIN, end: i64::MAX, offset: 0, before: 0, after: 0 };
        }
        let Some(Year { start, end, changes }) = self.year(at) else {
            let early = at < year_start(FIRST);
            let edge = year_start(if early { FIRST } else { LAST + 1 });
            let (start, end) = if early { (i64::MIN, edge) } else { (edge, i64::MAX) };
            let offset = self.offset(if early { edge } else { year_start(LAST) });
            return Segment { start, end, offset, before: offset, after: offset };
        };
        let (start, end) = (*start, *end);
        let next = changes.iter().position(|change| change.at > at).unwrap_or(changes.len());
        let ended = changes.get(next);
        match next.checked_sub(1).map(|index| changes[index]) {
            Some(change) => Segment {
                start: change.at,
                end: ended.map_or(end, |change| change.at),
                offset: change.after,
                before: change.before,
                after: ended.map_or(change.after, |change| change.after),
            },
            None => {
                let offset = ended.map_or_else(|| self.offset(start), |change| change.before);
                let after = ended.map_or(offset, |change| change.after);
                Segment { start, end: ended.map_or(end, |change| change.at), offset, before: offset, after }
            }
        }
    }

    /// The year that an instant is in, looked up on first use; none outside of what is known.
    fn year(&self, at: i64) -> Option<&Year> {
        let guess = 1970 + at.div_euclid(MEAN_YEAR);
        // Leap years move the ends of years by a day or two around the mean.
        let year = |number: i64| {
            let cell = self.years.get(usize::try_from(number - FIRST).ok()?)?;
            Some(cell.get_or_init(|| self.look_up(year_start(number), year_start(number + 1))))
        };
        match year(guess) {
            Some(found) if at < found.start => year(guess - 1),
            Some(found) if at >= found.end => year(guess + 1),
            Some(found) => Some(found),
            None => {
                [guess - 1, guess + 1].into_iter().filter_map(year).find(|year| (year.start..year.end).contains(&at))
            }
        }
    }

    fn offset(&self, at: i64) -> i64 {
        let utc = DateTime::from_timestamp(at, 0).unwrap_or_default().naive_utc();
        self.tz.offset_from_utc_datetime(&utc).fix().local_minus_utc().into()
    }

    /// The changes in [start, end). One at `start` itself is found too.
    fn look_up(&self, start: i64, end: i64) -> Year {
        let mut changes = Vec::new();
        let mut at = start - 1;
        let mut before = self.offset(at);
        while at < end - 1 {
            let next = (at + STEP).min(end - 1);
            let after = self.offset(next);
            if after != before {
                let (mut low, mut high) = (at, next);
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    if self.offset(middle) == before { low = middle } else { high = middle }
                }
                let after = self.offset(high);
                changes.push(Change { at: high, before, after });
                (at, before) = (high, after);
            } else {
                at = next;
            }
        }
        Year { start, end, changes: changes.into() }
    }
}

const fn year_start(year: i64) -> i64 {
    Civil { year, month: 1, day: 1 }.to_day() * DAY
}
