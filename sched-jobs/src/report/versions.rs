//! Which run holds the report of a period, and which held it before: kept in the schedule's state. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use sched_core::RunId;
use serde::{Deserialize, Serialize};

/// Periods that are remembered.
const MOST_PERIODS: usize = 400;
/// Older versions of one period that are remembered; they are numbered on.
const MOST_OLDER: usize = 20;
/// Periods whose figures are kept for others to compare with.
const MOST_COMPARED: usize = 60;
/// Figures of a period.
const MOST_FIGURES: usize = 200;

/// One report of a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) version: u32,
    pub(super) run_id: RunId,
    pub(super) at: DateTime<Utc>,
    /// Its files, by format. They stay where they are when a newer version replaces it.
    #[serde(default)]
    pub(super) files: BTreeMap<String, PathBuf>,
}

/// The reports of one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Held {
    period: String,
    current: Version,
    /// Newest first.
    older: Vec<Version>,
    figures: BTreeMap<String, f64>,
}

/// All that is remembered, oldest period first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Versions {
    periods: Vec<Held>,
}

impl Versions {
    fn of(&self, period: &str) -> Option<&Held> {
        self.periods.iter().find(|held| held.period == period)
    }

    /// The version that a run's report is, and the one that it replaces. Another attempt of a run is no new version.
    pub(super) fn next(&self, period: &str, run_id: RunId) -> (u32, Option<Version>) {
        match self.of(period) {
            None => (1, None),
            Some(held) if held.current.run_id == run_id => (held.current.version, held.older.first().cloned()),
            Some(held) => (held.current.version.saturating_add(1), Some(held.current.clone())),
        }
    }

    /// A figure of another period.
    pub(super) fn figure(&self, period: &str, figure: &str) -> Option<f64> {
        self.of(period)?.figures.get(figure).copied()
    }

    /// Makes a report the current one of its period.
    pub(super) fn put(&mut self, period: &str, version: Version, figures: impl Iterator<Item = (String, f64)>) {
        let figures = figures.take(MOST_FIGURES).collect();
        let mut older = Vec::new();
        if let Some(index) = self.periods.iter().position(|held| held.period == period) {
            let held = self.periods.remove(index);
            older = held.older;
            if held.current.run_id != version.run_id {
                older.insert(0, held.current);
                older.truncate(MOST_OLDER);
            }
        }
        self.periods.push(Held { period: period.to_owned(), current: version, older, figures });
        // Periods begin with their first instant, so the order of their names is that of time.
        self.periods.sort_by(|one, other| one.period.cmp(&other.period));
        self.periods.drain(..self.periods.len().saturating_sub(MOST_PERIODS));
        let compared = self.periods.len().saturating_sub(MOST_COMPARED);
        self.periods[..compared].iter_mut().for_each(|held| held.figures.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32, run: u32) -> Version {
        let run_id = format!("00000000-0000-7000-8000-{run:012}").parse().unwrap();
        Version { version: number, run_id, at: DateTime::UNIX_EPOCH, files: BTreeMap::new() }
    }

    #[test]
    fn a_run_replaces_what_another_run_reported_and_an_attempt_only_itself() {
        let mut versions = Versions::default();
        let put = |versions: &mut Versions, run: u32| {
            let (number, replaces) = versions.next("p", version(0, run).run_id);
            versions.put("p", version(number, run), std::iter::once(("a.b".to_owned(), f64::from(run))));
            (number, replaces.map(|replaced| replaced.version))
        };
        assert_eq!(put(&mut versions, 1), (1, None));
        assert_eq!(put(&mut versions, 2), (2, Some(1)));
        assert_eq!(put(&mut versions, 2), (2, Some(1)), "a second attempt");
        for run in 3..40 {
            assert_eq!(put(&mut versions, run), (run, Some(run - 1)));
        }
        assert_eq!((versions.periods.len(), versions.periods[0].older.len()), (1, MOST_OLDER));
        assert_eq!((versions.figure("p", "a.b"), versions.figure("q", "a.b")), (Some(39.0), None));
        for period in 0..500 {
            versions.put(&format!("q{period:03}"), version(1, 1), std::iter::once(("a.b".to_owned(), 1.0)));
        }
        assert_eq!(versions.periods.len(), MOST_PERIODS);
        assert_eq!((versions.figure("q439", "a.b"), versions.figure("q440", "a.b")), (None, Some(1.0)));
        assert_eq!(versions.next("q499", version(0, 7).run_id).0, 2);
    }
}
