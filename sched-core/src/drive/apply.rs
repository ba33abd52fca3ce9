//! Other schedules and limits for a running engine, and what schedules must be before an engine takes them.

use std::collections::{BTreeMap, HashSet};

use super::handle::{EngineError, Handle};
use super::scheduler::StartError;
use crate::channel::Channels;
use crate::diff::Change;
use crate::engine::{Command, Reply, new_ones};
use crate::id::ChannelName;
use crate::notice::ChannelPolicy;
use crate::registry::Registry;
use crate::spec::{ScheduleSpec, check_chains};
use crate::store::ScheduleRow;

impl Handle {
    /// Makes the schedules and limits of the running engine these: new ones are added, those that differ get a new
    /// version, those that are gone are retired, and what is unchanged is not touched. Queued runs keep their version.
    ///
    /// # Errors
    /// When a schedule cannot work; nothing is changed then.
    pub async fn apply(&self, wanted: Wanted, by: impl Into<String>) -> Result<Vec<Change>, EngineError> {
        let Wanted { schedules, groups, channels, max_concurrent_runs } = wanted;
        check(&schedules, &groups, &channels, self.checks(), self.shared.isolates, &[])
            .map_err(|error| EngineError::Invalid(Box::new(error)))?;
        let policies = policies(&channels);
        // The engine tells no channel before it knows of it.
        let gone = {
            let mut known = self.shared.channels();
            let gone: Vec<ChannelName> = known.keys().filter(|name| !channels.contains_key(*name)).cloned().collect();
            known.extend(channels);
            gone
        };
        let by = by.into();
        let apply = Command::Apply { schedules, groups, channels: policies, max_concurrent_runs, by };
        let Reply::Changed(changes) = self.ask(apply).await? else { return Err(EngineError::Stopped) };
        gone.iter().for_each(|name| drop(self.shared.channels().remove(name)));
        Ok(changes)
    }
}

/// What a running engine should have.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Every schedule.
    pub schedules: Vec<ScheduleSpec>,
    /// At most so many runs at once in each concurrency group.
    pub groups: BTreeMap<String, usize>,
    /// Every channel.
    pub channels: Channels,
    /// At most so many runs at once.
    pub max_concurrent_runs: usize,
}

pub(super) fn policies(channels: &Channels) -> BTreeMap<ChannelName, ChannelPolicy> {
    channels.iter().map(|(name, channel)| (name.clone(), channel.policy.clone())).collect()
}

/// Each schedule that is not `stored` as it is, and what a schedule alone cannot tell: names are unique, groups have
/// limits, parameters fit, chains lead somewhere.
pub(super) fn check(
    schedules: &[ScheduleSpec],
    groups: &BTreeMap<String, usize>,
    channels: &Channels,
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
        if let Some(channel) = spec.notify.iter().find(|channel| !channels.contains_key(*channel)) {
            return Err(StartError::Channel { schedule: schedule(), channel: channel.to_string() });
        }
        if !names.insert(&spec.name) {
            return Err(StartError::Duplicate(schedule()));
        }
    }
    check_chains(schedules).map_err(|(name, source)| StartError::Spec { schedule: name.to_string(), source })
}
