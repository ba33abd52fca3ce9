//! When a supervisor starts its engine again, and what it writes down of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::StoreLock;
use serde::{Deserialize, Serialize};

use super::death::Death;
use super::marker::{Marker, Note};
use super::place::is_held;
use crate::args::Watch;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait after a failure of its own.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait after it was killed by someone else: it works, and is wanted.
const LONGEST_AFTER_KILL: Duration = Duration::from_secs(1);
/// Who has lived so long is sound: the count begins anew.
const STEADY: Duration = Duration::from_secs(60);
/// So many failures of its own, one soon after another, will not be mended by another start.
const MOST_FAILURES: u32 = 5;

/// The lock that makes a process the only supervisor on a data folder.
pub(crate) fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("supervisor.lock")
}

/// Of a scheduler that runs: the supervisor that it had, which is gone without it.
pub(crate) fn lost_supervisor(data_dir: &Path) -> Option<u32> {
    let lost = is_held(data_dir) && !StoreLock::is_held(&lock_path(data_dir));
    // An engine without a supervisor takes away what an earlier one left.
    lost.then(|| Record::read(data_dir)).flatten().map(|record| record.pid)
}

/// How a scheduler is supervised, or was by a supervisor that is gone without it; none for one that is not.
pub(crate) fn as_before(data_dir: &Path) -> Option<Watch> {
    let supervised = StoreLock::is_held(&lock_path(data_dir)) || lost_supervisor(data_dir).is_some();
    let record = supervised.then(|| Record::read(data_dir)).flatten()?;
    Some(Watch { supervise: true, hung_after: Duration::from_millis(record.hung_after_ms) })
}

/// What a supervisor has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) started_at: DateTime<Utc>,
    /// After so many milliseconds without a sign of life the engine counts as hung.
    pub(crate) hung_after_ms: u64,
    /// How often it has started the engine again.
    pub(crate) restarts: u32,
    pub(crate) last_death: Option<Death>,
    pub(crate) last_death_at: Option<DateTime<Utc>>,
    /// When it will start the engine again.
    pub(crate) next_start_at: Option<DateTime<Utc>>,
    /// Why it starts it no more.
    pub(crate) gave_up: Option<String>,
}

impl Note for Record {
    const FILE: &'static str = "supervisor.json";
}

impl Record {
    /// The last death that was seen of this scheduler, or of one after it that came to nothing.
    pub(super) fn seen_of(data_dir: &Path, marker: &Marker) -> Option<Death> {
        let record = Self::read(data_dir).filter(|record| record.last_death_at >= Some(marker.started_at))?;
        record.last_death
    }
}

/// Counts ends that come soon one after another.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    soon: u32,
    failures: u32,
}

impl Restarts {
    /// How long to wait before the next start, after an engine that `lived` so long has ended by a failure of its `own` or
    /// was killed; none when starting it again will not help.
    pub(crate) fn after(&mut self, lived: Duration, own: bool) -> Option<Duration> {
        if lived >= STEADY {
            *self = Self::default();
        }
        self.soon += 1;
        self.failures += u32::from(own);
        let longest = if own { LONGEST } else { LONGEST_AFTER_KILL };
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.soon - 1)).min(longest);
        (self.failures < MOST_FAILURES).then_some(wait)
    }

    /// How many failures of its own came soon one after another.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(ends: &[(u64, bool)]) -> Vec<Option<u64>> {
        let mut restarts = Restarts::default();
        let after = |(lived, own): &(u64, bool)| restarts.after(Duration::from_secs(*lived), *own);
        ends.iter().map(after).map(|wait| wait.map(|wait| u64::try_from(wait.as_millis()).unwrap())).collect()
    }

    #[test]
    fn an_engine_that_is_killed_is_started_again_however_often() {
        let waits = waits(&[(1, false); 50]);
        assert_eq!(waits[..5], [100, 200, 400, 800, 1000].map(Some));
        assert_eq!(waits[49], Some(1000));
    }

    #[test]
    fn an_engine_that_fails_again_and_again_is_given_up_and_one_that_was_sound_meanwhile_is_not() {
        assert_eq!(waits(&[(0, true); 5]), [Some(100), Some(200), Some(400), Some(800), None]);
        let mended = [(0, true), (0, true), (0, true), (0, true), (60, true), (0, true)];
        assert_eq!(waits(&mended)[4..], [Some(100), Some(200)]);
        let mixed = [(0, true), (0, true), (0, true), (0, false), (0, true), (0, true)];
        assert_eq!(waits(&mixed)[4..], [Some(1600), None], "a kill between them mends nothing");
    }
}
