//! What the end of a run brings with it, in one transaction: the runs of schedules that come after it, its schedule's
//! cursor, and whether its schedule works.

use chrono::TimeDelta;
use serde_json::json;

use super::end::finished_event;
use super::fires::{new_run, queued_event, stable_jitter};
use super::settle::StopCause;
use super::{Machine, Phase};
use crate::clock::Now;
use crate::event::{AlertKind, Event};
use crate::id::{RunId, ScheduleName};
use crate::policy::Overlap;
use crate::run::{Origin, Reason, RunRecord, RunState};
use crate::store::{Ending, Follow, Health};
use crate::trigger::TriggerKind;

impl Machine {
    /// What follows from a run's final state.
    pub(super) fn follow(&mut self, now: Now, run: &RunRecord, ending: &Ending, events: &mut Vec<Event>) -> Follow {
        let cursor = self.counted_from(&run.schedule, ending.at);
        if cursor.is_some() {
            self.reindex(&run.schedule);
        }
        let health = self.health(run, ending, events);
        let names = self.followers.get(&run.schedule).cloned().unwrap_or_default();
        let mut chained = Vec::new();
        for name in names {
            if self.comes_after(&name, run, ending.state) {
                let next = self.chain(now, &name, run);
                events.push(match next.state {
                    RunState::Queued => queued_event(&next),
                    _ => finished_event(&next, &ending_of(&next)),
                });
                chained.push(next);
            }
        }
        Follow { cursor, health, chained }
    }

    /// Whether a schedule works again, or no more.
    fn health(&mut self, run: &RunRecord, ending: &Ending, events: &mut Vec<Event>) -> Health {
        let Some(schedule) = self.schedules.get_mut(&run.schedule) else { return Health::Unchanged };
        let failing = &mut schedule.row.failing_since;
        if ending.state.is_failure() && failing.is_none() {
            *failing = Some(ending.at);
            return Health::Fails(ending.at);
        }
        if ending.state != RunState::Succeeded {
            return Health::Unchanged;
        }
        let Some(since) = failing.take() else { return Health::Unchanged };
        let down = (ending.at - since).to_std().unwrap_or_default();
        events.push(Event::Alert {
            kind: AlertKind::Recovered,
            schedule: Some(run.schedule.clone()),
            run_id: Some(run.run_id),
            message: format!(
                "{} works again; it first failed {} before",
                run.schedule,
                humantime::format_duration(std::time::Duration::from_secs(down.as_secs()))
            ),
        });
        Health::Works
    }

    /// Whether the end of `run` starts this schedule. A run that repeats another starts only what waits for a success
    /// that has not been: what comes after the failure has come.
    fn comes_after(&self, name: &ScheduleName, run: &RunRecord, state: RunState) -> bool {
        let Some(schedule) = self.schedules.get(name).filter(|schedule| !schedule.row.retired) else { return false };
        let TriggerKind::After { on, .. } = &schedule.row.spec.trigger.kind else { return false };
        let repeats = run.origin == Origin::Manual && run.parent.is_some();
        run.chains && on.matches(state) && (!repeats || *on == crate::trigger::On::Success)
    }

    /// The run that comes after `parent`: queued, or on record as skipped with the reason.
    fn chain(&mut self, now: Now, name: &ScheduleName, parent: &RunRecord) -> RunRecord {
        let paused = self.schedules.get(name).is_some_and(|schedule| schedule.row.paused.is_some());
        let (reason, blocker) = if paused {
            (Some(Reason::Paused), None)
        } else if self.dispatch.is_some() {
            (Some(Reason::DispatchStopped), None)
        } else {
            let blocker = self.overlapped(now, name);
            (blocker.map(|_| Reason::Overlap), blocker)
        };
        let run_id = self.ids.run_id(now.utc);
        // The name came from the index of schedules.
        let row = self.schedules.get(name).map(|schedule| schedule.row.clone());
        let Some(row) = row else { return parent.clone() };
        let mut run = new_run(run_id, &row, Origin::Chain, now.utc);
        run.nominal_at = parent.nominal_at;
        run.parent = Some(parent.run_id);
        run.not_before = now.utc + stable_jitter(&row, parent.nominal_at.unwrap_or(now.utc)).max(TimeDelta::zero());
        let Some(reason) = reason else {
            self.enqueue(run.clone());
            return run;
        };
        (run.state, run.reason, run.finished_at) = (RunState::Skipped, Some(reason), Some(now.utc));
        run.summary = Some(match blocker {
            Some(blocker) => format!("{}: run {blocker}", reason.explain()),
            None => reason.explain().to_owned(),
        });
        if let Some(blocker) = blocker {
            run.data = json!({ "blocker": blocker });
        }
        run
    }

    /// Applies the overlap policy to one more run of a schedule: gives the run that stands in its way, or cancels what
    /// it replaces.
    pub(super) fn overlapped(&mut self, now: Now, name: &ScheduleName) -> Option<RunId> {
        let schedule = self.schedules.get(name)?;
        let mut in_the_way = schedule.open.iter().copied().filter(|run_id| self.blocks(*run_id));
        match schedule.row.spec.overlap {
            Overlap::Allow | Overlap::QueueAll => None,
            Overlap::Skip => in_the_way.next(),
            Overlap::Queue => in_the_way.find(|id| self.runs.get(id).is_some_and(|r| r.phase == Phase::Queued)),
            Overlap::CancelRunning => {
                for run_id in in_the_way.collect::<Vec<_>>() {
                    self.stop(now, run_id, StopCause::Replaced);
                }
                None
            }
        }
    }
}

fn ending_of(run: &RunRecord) -> Ending {
    Ending {
        state: run.state,
        reason: run.reason,
        at: run.queued_at,
        duration_ms: None,
        summary: run.summary.clone(),
        data: run.data.clone(),
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
    }
}
