//! What holds for every kind: a first and a last instant, dates left out, several triggers as one.

use std::sync::Arc;

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

impl Trigger for Bounded {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = self.begin(after);
        loop {
            at = self.inner.next_after(at).filter(|at| self.end.is_none_or(|end| *at <= end))?;
            match self.except.binary_search(&at.with_timezone(&self.zone).date_naive()) {
                Ok(index) => at = self.past_exceptions(at, index),
                Err(_) => return Some(at),
            }
        }
    }

    fn surprises(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Surprise> {
        let until = self.end.map_or(until, |end| until.min(end));
        let mut all = self.inner.surprises(self.begin(after), until);
        all.retain(|surprise| self.except.binary_search(&surprise.first.date()).is_err());
        all
    }
}
