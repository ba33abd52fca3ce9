//! Other schedules and limits for a running engine, and what schedules must be before an engine takes them.

use std::collections::{BTreeMap, HashSet};

use super::handle::{EngineError, Handle};
use super::scheduler::StartError;
use crate::diff::Change;
use crate::engine::{Command, Reply, new_ones};
use crate::registry::Registry;
use crate::spec::{ScheduleSpec, check_chains};
use crate::store::ScheduleRow;

impl Handle {
    /// Makes the schedules and limits of the running engine these: new ones are added, those that differ get a new
    /// version, those that are gone are retired, and what is unchanged is not touched. Queued runs keep their version.
    ///
    /// # Errors
    /// When a schedule cannot work; nothing is changed then.
    pub async fn apply(
        &self,
        schedules: Vec<ScheduleSpec>,
        groups: BTreeMap<String, usize>,
        max_concurrent_runs: usize,
        by: impl Into<String>,
    ) -> Result<Vec<Change>, EngineError> {
        check(&schedules, &groups, self.checks(), self.shared.isolates, &[])
            .map_err(|error| EngineError::Invalid(Box::new(error)))?;
        match self.ask(Command::Apply { schedules, groups, max_concurrent_runs, by: by.into() }).await? {
            Reply::Changed(changes) => Ok(changes),
            _ => Err(EngineError::Stopped),
        }
    }
}

/// Each schedule that is not `stored` as it is, and what a schedule alone cannot tell: names are unique, groups have
/// limits, parameters fit, chains lead somewhere.
pub(super) fn check(
    schedules: &[ScheduleSpec],
    groups: &BTreeMap<String, usize>,
    registry: Option<&Registry>,
    isolates: bool,
    stored: &[ScheduleRow],
) -> Result<(), StartError> {
    for spec in new_ones(stored, schedules) {
        spec.validate().map_err(|source| StartError::Spec { schedule: spec.name.to_string(), source })?;
    }
    let mut names = HashSet::new();
    for spec in schedules {
        let schedule = || spec.name.to_string();
        if let Some(registry) = registry {
            let checked = registry.check(&spec.job, &spec.params);
            checked.map_err(|source| StartError::Params { schedule: schedule(), source })?;
        }
        if !isolates && !spec.runner.is_task() {
            return Err(StartError::NoProcesses(schedule()));
        }
        if let Some(group) = spec.group.as_ref().filter(|group| !groups.contains_key(*group)) {
            return Err(StartError::Group { schedule: schedule(), group: group.clone() });
        }
        if !names.insert(&spec.name) {
            return Err(StartError::Duplicate(schedule()));
        }
    }
    check_chains(schedules).map_err(|(name, source)| StartError::Spec { schedule: name.to_string(), source })
}
