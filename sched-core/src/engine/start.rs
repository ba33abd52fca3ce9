//! What a starting engine does: settle what the last one left, account for the downtime, reconcile the
//! configuration, and run what is asked for at start-up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::fires::{new_run, queued_event};
use super::{Effect, EngineConfig, Group, Machine, Phase, Schedule};
use crate::clock::Now;
use crate::diff::{Change, diff};
use crate::event::{Event, ScheduleChange};
use crate::id::{ChannelName, IdSource, RunId, ScheduleName};
use crate::notice::{ChannelPolicy, NoticeKind};
use crate::policy::OnStart;
use crate::run::{Origin, Outcome, Reason, RunRecord, RunState};
use crate::spec::{ScheduleSpec, SpecError};
use crate::store::{Intent, ScheduleRow, Snapshot};
use crate::trigger::TriggerKind;

/// How a start differs from an ordinary one.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartOptions {
    /// A supervisor restarts a crashed engine: `on_start = "always"` does not run again.
    pub supervised_restart: bool,
}

impl Machine {
    /// Takes over from what `snapshot` tells, with the wanted schedules; the effects come first of all.
    ///
    /// # Errors
    /// When a wanted schedule cannot work; nothing is changed then.
    pub fn start(
        config: EngineConfig,
        now: Now,
        snapshot: Snapshot,
        wanted: &[ScheduleSpec],
        options: StartOptions,
    ) -> Result<(Self, Vec<Effect>), SpecError> {
        new_ones(&snapshot.schedules, wanted).try_for_each(ScheduleSpec::validate)?;
        let groups =
            config.groups.iter().map(|(name, limit)| (name.clone(), Group { limit: *limit, ..Group::default() }));
        let mut machine = Self {
            seen: now,
            ids: IdSource::seeded(config.seed),
            groups: groups.collect(),
            dispatch: snapshot.dispatch,
            config,
            schedules: Default::default(),
            runs: Default::default(),
            keys: Default::default(),
            due: Default::default(),
            later: Default::default(),
            ready: Default::default(),
            rounds: Default::default(),
            backfilling: 0,
            late: Default::default(),
            overruns: Default::default(),
            followers: Default::default(),
            expiries: Default::default(),
            deadlines: Default::default(),
            places: 0,
            draining: None,
            drained: false,
            store_failing: None,
            stepped_back: None,
            outbox: Default::default(),
            pending: Default::default(),
            next_token: 0,
            effects: Vec::new(),
        };
        let channels = machine.config.channels.clone();
        machine.set_channels(now, channels);
        machine.readopt_outbox(now, snapshot.outbox);
        let mut ahead = snapshot.ahead;
        for row in snapshot.schedules {
            let name = row.name().clone();
            machine.adopt(row)?;
            if let (Some(schedule), Some(fires)) = (machine.schedules.get_mut(&name), ahead.remove(&name)) {
                schedule.ahead = fires;
                machine.reindex(&name);
            }
        }
        let failing = |name: &ScheduleName| machine.schedules.get(name).and_then(|schedule| schedule.row.failing_since);
        let told = snapshot.told.into_iter().filter(|((_, name, kind), at)| match kind {
            // What was told of before it worked again says nothing of now.
            NoticeKind::Failed => failing(name).is_some_and(|since| *at >= since),
            _ => true,
        });
        machine.outbox.told = told.collect();
        for run in snapshot.open {
            machine.readopt(now, run);
        }
        for spec in wanted {
            machine.catch_up(now, spec);
        }
        machine.reconcile(now, wanted, "config")?;
        for spec in wanted {
            let recent = snapshot.recent.get(&spec.name).map_or(&[][..], Vec::as_slice);
            machine.run_on_start(now, spec, recent, options);
        }
        let effects = std::mem::take(&mut machine.effects);
        Ok((machine, effects))
    }

    /// Takes a schedule into memory. A stored trigger that no longer compiles is an error: the store is damaged.
    pub(super) fn adopt(&mut self, row: ScheduleRow) -> Result<(), SpecError> {
        let trigger = row.spec.trigger.compile().map_err(|error| SpecError::field("trigger", error.to_string()))?;
        let name = row.name().clone();
        self.unfollow(&name);
        if let TriggerKind::After { schedule: parent, .. } = &row.spec.trigger.kind
            && !row.retired
        {
            self.followers.entry(parent.clone()).or_default().insert(name.clone());
        }
        match self.schedules.get_mut(&name) {
            // Another version: its runs, places and turns stay.
            Some(schedule) => (schedule.row, schedule.trigger, schedule.range) = (row, trigger, None),
            None => {
                let schedule = Schedule {
                    row,
                    trigger,
                    next: None,
                    open: Default::default(),
                    busy: 0,
                    waiting: Default::default(),
                    range: None,
                    rounds: Default::default(),
                    ahead: Default::default(),
                };
                self.schedules.insert(name.clone(), Box::new(schedule));
            }
        }
        self.reindex(&name);
        Ok(())
    }

    /// Nothing starts this schedule any more.
    fn unfollow(&mut self, name: &ScheduleName) {
        let after = self.schedules.get(name).map(|schedule| &schedule.row.spec.trigger.kind);
        if let Some(TriggerKind::After { schedule: parent, .. }) = after
            && let Some(followers) = self.followers.get_mut(parent)
        {
            followers.remove(name);
        }
    }

    /// Queues what was queued; what was running has lost its holder.
    fn readopt(&mut self, now: Now, mut run: RunRecord) {
        if run.started_at.unwrap_or(run.queued_at) > now.utc {
            // The clock went back meanwhile: what it waits for is that much further away than was meant.
            run.not_before = run.not_before.min(now.utc);
        }
        let running = run.state == RunState::Running;
        let (run_id, fence, schedule) = (run.run_id, run.fence, run.schedule.clone());
        self.enqueue(run);
        if running {
            self.write(now, Intent::Note, vec![Event::LeaseLost { schedule, run_id, fence }]);
            self.settle_run(now, run_id, Outcome::Lost, Vec::new(), false);
        }
    }

    /// Accounts for the downtime of a schedule that was changed meanwhile: the stored version names the fires, and
    /// their runs do what is wanted now.
    fn catch_up(&mut self, now: Now, spec: &ScheduleSpec) {
        let Some(schedule) = self.schedules.get_mut(&spec.name) else { return };
        let stored = schedule.row.spec.clone();
        if *stored == *spec || schedule.next.is_none_or(|at| at > now.utc) {
            return;
        }
        let (job, params) = (spec.job.clone(), spec.params.clone());
        schedule.row.spec = Arc::new(ScheduleSpec { job, params, ..(*stored).clone() });
        self.account(now, &spec.name, None);
        if let Some(schedule) = self.schedules.get_mut(&spec.name) {
            schedule.row.spec = stored;
        }
    }

    /// Makes the stored schedules the wanted ones, by name. What is unchanged is not touched.
    fn reconcile(&mut self, now: Now, wanted: &[ScheduleSpec], by: &str) -> Result<(), SpecError> {
        let kept: HashSet<&ScheduleName> = wanted.iter().map(|spec| &spec.name).collect();
        let mut names: Vec<ScheduleName> = self.schedules.keys().cloned().collect();
        names.sort();
        for name in names {
            if !kept.contains(&name) {
                self.retire(now, &name, by);
            } else if self.dispatch.is_none() {
                // One that is held has no next fire.
                let due = self.schedules.get(&name).is_some_and(|s| s.next.is_some_and(|at| at <= now.utc));
                if due {
                    self.account(now, &name, None);
                }
            }
        }
        for spec in wanted {
            self.declare(now, spec, by)?;
        }
        Ok(())
    }

    fn declare(&mut self, now: Now, spec: &ScheduleSpec, by: &str) -> Result<(), SpecError> {
        let old = self.schedules.get(&spec.name).map(|schedule| schedule.row.clone());
        let failing_since = old.as_ref().and_then(|row| row.failing_since);
        let zones = spec.trigger.zone_data();
        let mut reason = None;
        let (version, change, cursor, paused) = match old {
            Some(row) if *row.spec == *spec && !row.retired && row.zones.as_deref() == zones => return Ok(()),
            Some(row) => {
                if row.zones.as_deref() != zones {
                    reason = zones.map(|zones| format!("time zone rules {zones}"));
                }
                if !row.retired && row.paused.is_some() {
                    self.account(now, &spec.name, Some(Reason::Paused));
                } else if !row.retired && self.dispatch.is_some() {
                    self.account(now, &spec.name, Some(Reason::DispatchStopped));
                }
                let change = if row.retired { ScheduleChange::Added } else { ScheduleChange::Updated };
                (row.version + 1, change, row.cursor.max(now.utc), row.paused)
            }
            None => (1, ScheduleChange::Added, now.utc, None),
        };
        let row = ScheduleRow {
            spec: Arc::new(spec.clone().compact()),
            version,
            effective_from: cursor,
            cursor,
            paused,
            retired: false,
            failing_since,
            zones: zones.map(Into::into),
        };
        let event = Event::ScheduleChanged { schedule: spec.name.clone(), change, version, by: by.to_owned(), reason };
        self.adopt(row.clone())?;
        self.write(now, Intent::Declare(row), vec![event]);
        Ok(())
    }

    /// Accounts for the past, ends what waits, and keeps the history.
    fn retire(&mut self, now: Now, name: &ScheduleName, by: &str) {
        let Some(row) = self.schedules.get(name).map(|schedule| schedule.row.clone()) else { return };
        if row.retired {
            return;
        }
        let hold = row.paused.as_ref().map_or(Reason::Retired, |_| Reason::Paused);
        self.account(now, name, Some(hold));
        let open = self.schedules.get(name).map(|schedule| schedule.open.clone()).unwrap_or_default();
        for run_id in open {
            if self.runs.get(&run_id).is_some_and(|run| run.phase == Phase::Queued) {
                self.end_queued(now, run_id, RunState::Cancelled, Reason::Retired);
            }
        }
        self.unfollow(name);
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        schedule.row.retired = true;
        // After a step back the cursor may lie ahead: what is decided up to there stays its own.
        let at = schedule.row.cursor.max(now.utc);
        self.reindex(name);
        let event = Event::ScheduleChanged {
            schedule: name.clone(),
            change: ScheduleChange::Retired,
            version: row.version,
            by: by.to_owned(),
            reason: None,
        };
        self.write(now, Intent::Retire { schedule: name.clone(), at }, vec![event]);
    }

    /// Makes the schedules and limits the wanted ones; gives what changed. A schedule that cannot work changes nothing.
    pub(super) fn apply(
        &mut self,
        now: Now,
        wanted: &[ScheduleSpec],
        groups: BTreeMap<String, usize>,
        channels: BTreeMap<ChannelName, ChannelPolicy>,
        max_concurrent_runs: usize,
        by: &str,
    ) -> Result<Vec<Change>, SpecError> {
        for spec in wanted {
            spec.validate()?;
        }
        let changes = diff(self.schedules.values().map(|schedule| &schedule.row), wanted);
        self.set_channels(now, channels);
        self.reconcile(now, wanted, by)?;
        self.config.max_concurrent_runs = max_concurrent_runs;
        // Parked runs look for their place anew.
        self.unpark();
        let busy = |groups: &HashMap<String, Group>, name: &str| groups.get(name).map_or(0, |group| group.busy);
        let limits = groups.into_iter().map(|(name, limit)| {
            let group = Group { limit, busy: busy(&self.groups, &name), ..Group::default() };
            (name, group)
        });
        self.groups = limits.collect();
        Ok(changes)
    }

    fn run_on_start(&mut self, now: Now, spec: &ScheduleSpec, recent: &[RunRecord], options: StartOptions) {
        let Some(schedule) = self.schedules.get(&spec.name) else { return };
        let wanted = match spec.on_start {
            OnStart::No => false,
            OnStart::Always => !options.supervised_restart,
            OnStart::IfDue => {
                let period = if schedule.follows_runs() {
                    recent.first().map(|run| run.nominal_at.unwrap_or(run.queued_at))
                } else {
                    schedule.trigger.last_until(now.utc)
                };
                is_due(period.unwrap_or(DateTime::<Utc>::MIN_UTC), recent)
            }
        };
        let held = schedule.row.paused.is_some() || self.dispatch.is_some() || !schedule.open.is_empty();
        if !wanted || held {
            return;
        }
        let run = new_run(self.ids.run_id(now.utc), &schedule.row, Origin::Startup, now.utc);
        self.write(now, Intent::Enqueue(run.clone()), vec![queued_event(&run)]);
        self.enqueue(run);
    }

    /// The open runs of a schedule, for its view.
    #[must_use]
    pub fn open_runs(&self, name: &ScheduleName) -> Vec<RunId> {
        self.schedules.get(name).map(|schedule| schedule.open.iter().copied().collect()).unwrap_or_default()
    }
}

/// The wanted schedules that are not as they are stored. Those that are were checked when they were stored.
pub(crate) fn new_ones<'a>(
    stored: &'a [ScheduleRow],
    wanted: &'a [ScheduleSpec],
) -> impl Iterator<Item = &'a ScheduleSpec> {
    let stored: HashMap<&ScheduleName, &ScheduleSpec> = stored.iter().map(|row| (row.name(), &*row.spec)).collect();
    wanted.iter().filter(move |spec| stored.get(&spec.name) != Some(spec))
}

/// Whether the period that began at `start` still wants its run: nothing of it succeeded or is open, and at
/// most one run of it has failed.
fn is_due(start: DateTime<Utc>, recent: &[RunRecord]) -> bool {
    let of_period = || recent.iter().filter(|run| run.nominal_at.unwrap_or(run.queued_at) >= start);
    let satisfied = of_period().any(|run| run.state == RunState::Succeeded || !run.state.is_final());
    !satisfied && of_period().filter(|run| run.state.is_failure()).count() < 2
}
