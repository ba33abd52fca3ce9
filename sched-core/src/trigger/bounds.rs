//! What holds for every kind: a first and a last instant, dates left out, several triggers as one.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Duration, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Surprise, Trigger};

/// Fires whenever one of them does; what several name is one fire.
#[derive(Debug)]
pub(super) struct Union(pub(super) Box<[Arc<dyn Trigger>]>);

impl Trigger for Union {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.iter().filter_map(|trigger| trigger.next_after(after)).min()
    }

    fn surprises(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Surprise> {
        let mut all: Vec<_> = self.0.iter().flat_map(|trigger| trigger.surprises(after, until)).collect();
        all.sort_by_key(|surprise| surprise.at);
        all
    }
}

/// A trigger between two instants, both included, without the dates that are left out.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) inner: Arc<dyn Trigger>,
    pub(super) start: Option<DateTime<Utc>>,
    pub(super) end: Option<DateTime<Utc>>,
    /// In order, in `zone`.
    pub(super) except: Box<[NaiveDate]>,
    pub(super) zone: Tz,
    /// At most so many fires, counted from `start`.
    pub(super) limit: Option<u32>,
    /// The last fire that `limit` allows, found when it is first needed.
    pub(super) last: OnceLock<Option<DateTime<Utc>>>,
}

/// No clock change is longer than this, so that much before a date's end is surely the date.
const LONGEST_CHANGE: TimeDelta = Duration::hours(26);

impl Bounded {
    /// An instant that lies before `start`, from which the search begins; `after`, if it is later.
    fn begin(&self, after: DateTime<Utc>) -> DateTime<Utc> {
        let before = self.start.and_then(|start| start.checked_sub_signed(TimeDelta::nanoseconds(1)));
        before.map_or(after, |before| before.max(after))
    }

    /// Where the search goes on after a fire on an excepted date: at most at the last instant of the dates that
    /// follow each other.
    fn past_exceptions(&self, at: DateTime<Utc>, mut index: usize) -> DateTime<Utc> {
        while index + 1 < self.except.len() && self.except[index].succ_opt() == Some(self.except[index + 1]) {
            index += 1;
        }
        let end = self.except[index].succ_opt().and_then(|date| date.and_hms_opt(0, 0, 0));
        end.map_or(at, |end| at.max(end.and_utc() - LONGEST_CHANGE))
    }
}

impl Bounded {
    /// Nothing comes after this.
    fn last(&self) -> Option<DateTime<Utc>> {
        let Some(limit) = self.limit else { return self.end };
        *self.last.get_or_init(|| {
            let begin = self.begin(DateTime::<Utc>::MIN_UTC);
            let fires = std::iter::successors(self.search(begin, self.end), |at| self.search(*at, self.end));
            fires.take(limit as usize).last().or(self.end)
        })
    }

    fn search(&self, after: DateTime<Utc>, last: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let mut at = self.begin(after);
        loop {
            at = self.inner.next_after(at).filter(|at| last.is_none_or(|last| *at <= last))?;
            match self.except.binary_search(&at.with_timezone(&self.zone).date_naive()) {
                Ok(index) => at = self.past_exceptions(at, index),
                Err(_) => return Some(at),
            }
        }
    }
}

impl Trigger for Bounded {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.search(after, self.last())
    }

    fn surprises(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Surprise> {
        let until = self.last().map_or(until, |last| until.min(last));
        let mut all = self.inner.surprises(self.begin(after), until);
        all.retain(|surprise| self.except.binary_search(&surprise.first.date()).is_err());
        all
    }
}
