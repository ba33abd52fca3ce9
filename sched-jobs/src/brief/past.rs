//! The figures of past days, kept in the schedule's state; and what is unusual beside them. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// Days that are kept.
const MOST_DAYS: usize = 400;
/// Figures that are kept.
const MOST_FIGURES: usize = 64;
/// With fewer stored days nothing is called unusual.
const ENOUGH_DAYS: usize = 8;
/// Days that the rule looks at.
const RECENT_DAYS: usize = 90;
/// The modified z-score from which a figure is unusual (Iglewicz and Hoaglin, 1993).
const LIMIT: f64 = 3.5;
/// Makes a MAD comparable to a standard deviation.
const NORMAL: f64 = 0.6745;

/// What a brief remembers from one day to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    /// Each figure's days, by `source.name`.
    figures: BTreeMap<String, Series>,
    /// Schedules that were failing when the last brief was written, and since when.
    pub(super) broken: BTreeMap<String, DateTime<Utc>>,
}

/// One figure, a value a day; days without one are empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Series {
    last: NaiveDate,
    values: Vec<Option<f64>>,
}

impl Series {
    fn on(&self, day: NaiveDate) -> Option<f64> {
        let back = usize::try_from((self.last - day).num_days()).ok()?;
        self.values.get(self.values.len().checked_sub(back + 1)?).copied().flatten()
    }

    fn put(&mut self, day: NaiveDate, value: f64) {
        let ahead = (day - self.last).num_days();
        if let Ok(empty) = usize::try_from(ahead) {
            // A longer gap than what is kept leaves nothing of it.
            self.values.extend(std::iter::repeat_n(None, empty.min(MOST_DAYS)));
            self.last = day;
        }
        let back = usize::try_from(-ahead.min(0)).unwrap_or(usize::MAX);
        let index = self.values.len().checked_sub(back.saturating_add(1));
        if let Some(place) = index.and_then(|index| self.values.get_mut(index)) {
            *place = Some(value);
        }
        self.values.drain(..self.values.len().saturating_sub(MOST_DAYS));
    }
}

impl Past {
    /// The figure on a day.
    pub(super) fn on(&self, figure: &str, day: NaiveDate) -> Option<f64> {
        self.figures.get(figure)?.on(day)
    }

    /// The figure on the `count` days before `day`, oldest first.
    pub(super) fn before(&self, figure: &str, day: NaiveDate, count: usize) -> Vec<Option<f64>> {
        let back = |back: usize| day.checked_sub_days(Days::new(back as u64));
        (1..=count).rev().map(|days| back(days).and_then(|day| self.on(figure, day))).collect()
    }

    /// Keeps a day's figure. The first ones that are told are kept; more than the bound are not.
    pub(super) fn put(&mut self, figure: &str, day: NaiveDate, value: f64) {
        if let Some(series) = self.figures.get_mut(figure) {
            series.put(day, value);
        } else if self.figures.len() < MOST_FIGURES {
            self.figures.insert(figure.to_owned(), Series { last: day, values: vec![Some(value)] });
        }
    }

    /// Forgets figures that have not been told for as long as days are kept, and days that are yet to come: a clock that
    /// was wrong has told them.
    pub(super) fn forget(&mut self, today: NaiveDate) {
        self.figures.retain(|_, series| {
            let ahead = usize::try_from((series.last - today).num_days()).unwrap_or_default();
            series.values.truncate(series.values.len().saturating_sub(ahead));
            series.last = series.last.min(today);
            !series.values.is_empty() && (today - series.last).num_days() < MOST_DAYS as i64
        });
    }

    /// Whether a figure is unusual beside its stored past.
    pub(super) fn judge(&self, figure: &str, day: NaiveDate, value: f64) -> Option<Unusual> {
        let past: Vec<f64> = self.before(figure, day, RECENT_DAYS).into_iter().flatten().collect();
        unusual(&past, value)
    }
}

/// Why a figure is unusual.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Unusual {
    /// The rule's name.
    rule: &'static str,
    pub(super) median: f64,
    /// The median of the distances from the median.
    pub(super) mad: f64,
    /// Stored days that it was held against.
    pub(super) days: usize,
}

/// Holds a value against the past by median and MAD. Where more than half of the past is one value, the MAD is 0 and says
/// nothing of distance; then only what lies outside of everything seen is unusual.
fn unusual(past: &[f64], value: f64) -> Option<Unusual> {
    if past.len() < ENOUGH_DAYS {
        return None;
    }
    let center = median(past);
    let mad = median(&past.iter().map(|day| (day - center).abs()).collect::<Vec<_>>());
    let strange = if mad > 0.0 {
        NORMAL * (value - center).abs() / mad > LIMIT
    } else {
        past.iter().all(|day| *day < value) || past.iter().all(|day| *day > value)
    };
    strange.then_some(Unusual { rule: "median and MAD", median: center, mad, days: past.len() })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + Days::new(number)
    }

    #[test]
    fn what_is_far_from_the_middle_of_the_past_is_unusual() {
        let steady = [10.0, 11.0, 9.0, 10.0, 12.0, 10.0, 9.0, 11.0];
        assert_eq!(unusual(&steady, 13.0), None);
        let found = unusual(&steady, 30.0).unwrap();
        assert_eq!((found.median, found.mad, found.days), (10.0, 1.0, 8));
        assert!(unusual(&steady, -30.0).is_some());
        assert_eq!(unusual(&steady[..7], 1000.0), None, "seven days are too few");
        // One wild day in the past does not hide the next.
        assert!(unusual(&[10.0, 11.0, 9.0, 10.0, 5000.0, 10.0, 9.0, 11.0], 4000.0).is_some());
    }

    #[test]
    fn a_past_that_was_nearly_always_the_same_has_no_distance_but_bounds() {
        assert_eq!(unusual(&[0.0; 10], 0.0), None);
        assert_eq!(unusual(&[0.0; 10], 1.0).unwrap().mad, 0.0);
        let once = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(unusual(&once, 1.0), None, "it has been seen");
        assert!(unusual(&once, 2.0).is_some());
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_is_forgotten() {
        let mut past = Past::default();
        for number in [1, 2, 3, 90, 5000] {
            past.put("a", day(number), number as f64);
            past.put("b", day(1000 + number), 1.0);
        }
        past.forget(day(4));
        past.put("a", day(4), 4.0);
        assert_eq!((past.on("a", day(4)), past.on("a", day(5000)), past.figures.len()), (Some(4.0), None, 1));
        past.put("a", day(10), 10.0);
        past.put("a", day(12), 12.0);
        past.forget(day(10));
        assert_eq!([4, 10, 12].map(|number| past.on("a", day(number))), [Some(4.0), Some(10.0), None]);
        assert_eq!(past.figures["a"].last, day(10));
    }

    proptest! {
        #[test]
        fn the_last_days_are_kept_and_nothing_else(
            told in prop::collection::vec((0..1500_u64, -1000..1000_i32), 1..60),
        ) {
            let mut past = Past::default();
            let mut oracle = BTreeMap::new();
            let (mut first, mut newest) = (told[0].0, 0);
            for (number, value) in told {
                past.put("a", day(number), f64::from(value));
                newest = newest.max(number);
                first = first.max((newest + 1).saturating_sub(MOST_DAYS as u64));
                oracle.retain(|number, _| *number >= first);
                // What is older than the first day that was told has no place.
                if number >= first {
                    oracle.insert(number, f64::from(value));
                }
            }
            for number in 0..1500 {
                prop_assert_eq!(past.on("a", day(number)), oracle.get(&number).copied());
            }
            prop_assert!(past.figures["a"].values.len() <= MOST_DAYS);
        }
    }

    #[test]
    fn figures_are_bounded_and_forgotten_when_nobody_tells_them() {
        let mut past = Past::default();
        for number in 0..100 {
            past.put(&format!("f{number}"), day(0), 1.0);
        }
        assert_eq!(past.figures.len(), MOST_FIGURES);
        past.put("f1", day(399), 2.0);
        past.forget(day(400));
        assert_eq!(past.figures.keys().collect::<Vec<_>>(), ["f1"]);
    }
}
