//! The store: readable, whole, how large, and who has it.

use std::path::{Path, PathBuf};

use sched_core::{Admin as _, Clock as _, Query as _, SqliteReader, StoreError, SystemClock};

use super::Check;
use crate::compose::Setup;
use crate::daemon::place::{holder, is_held};
use crate::output;

/// A log that no checkpoint has shortened for long makes each read slow.
const LONG_LOG: u64 = 256 << 20;
/// Reading all of a larger store takes longer than one waits for a doctor.
const READ_WHOLE: u64 = 1 << 30;

pub(super) fn checks(setup: &Setup) -> Vec<Check> {
    let path = setup.store_path();
    let mut checks = vec![whole(&path)];
    let length = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    let log = length(&beside(&path, "-wal"));
    if path.exists() {
        checks.push(size(length(&path), log));
        checks.extend(last_event(&path));
    }
    let data_dir = &setup.config.data_dir;
    checks.push(match holder(data_dir) {
        Some(pid) => Check::ok("holder", format!("the scheduler runs: pid {pid}")),
        None if is_held(data_dir) => Check::ok("holder", "another process has it, for a command or as a scheduler"),
        None => Check::ok("holder", "nobody has it: no scheduler runs"),
    });
    checks
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn whole(path: &Path) -> Check {
    let place = path.display();
    if !path.exists() && !beside(path, "-wal").exists() {
        return Check::ok("store", format!("{place} is not there yet; the first start makes it"));
    }
    let look = || -> Result<(Vec<String>, usize, bool), StoreError> {
        let reader = SqliteReader::open(path)?;
        let schedules = reader.schedules()?.len();
        let read = path.metadata().is_ok_and(|meta| meta.len() <= READ_WHOLE);
        Ok((if read { reader.integrity()? } else { Vec::new() }, schedules, read))
    };
    let remedy = "stop the scheduler and `sched restore` a backup; keep the damaged file";
    match look() {
        Ok((problems, schedules, read)) => match problems.first() {
            Some(problem) => Check::bad("store", format!("{place} is damaged: {problem}"), remedy),
            None if read => Check::ok("store", format!("{place}: whole, {schedules} schedules")),
            None => Check::ok("store", format!("{place}: {schedules} schedules; too large to be read whole here")),
        },
        Err(error @ StoreError::Newer { .. }) => {
            Check::bad("store", error.to_string(), "install the newer program again, or restore a backup of before it")
        }
        Err(error @ StoreError::Corrupt { .. }) => Check::bad("store", error.to_string(), remedy),
        Err(error) => Check::bad("store", error.to_string(), "look at owner and mode of the file and its folder"),
    }
}

fn size(store: u64, log: u64) -> Check {
    let found = format!("{} KiB, its write-ahead log {} KiB", store >> 10, log >> 10);
    if log > LONG_LOG {
        let remedy = "a reader keeps an old state open, or the disk is slow: end what reads the file, then restart";
        Check::warn("store size", found, remedy)
    } else {
        Check::ok("store size", found)
    }
}

/// A clock that is behind what has been recorded was set back, or is wrong since a reboot.
fn last_event(path: &Path) -> Option<Check> {
    let reader = SqliteReader::open(path).ok()?;
    let last = reader.last_seq().ok()?;
    let before = sched_core::Seq(last.0.saturating_sub(1));
    let at = reader.events_after(before, 1).ok()?.first()?.ts;
    let now = SystemClock::new().now().utc;
    let found = format!("the last recorded event is of {}", output::time(at));
    Some(if at > now {
        let remedy = "set the clock by NTP; what is due is judged by it";
        Check::bad("clock and store", format!("{found}, and now is {}", output::time(now)), remedy)
    } else {
        Check::ok("clock and store", found)
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_log_that_grows_is_told() {
        assert_eq!(size(1 << 30, 1 << 20).state, State::Ok);
        assert_eq!(size(1 << 20, 300 << 20).state, State::Warn);
    }
}
