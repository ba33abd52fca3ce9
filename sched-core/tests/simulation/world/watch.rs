//! What was committed, kept in the world's own terms, and judged at once.

use super::*;

impl<S: Store> World<S> {
    /// Keeps what was committed in the world's own terms.
    pub(super) fn note(&mut self, intent: &Intent, receipt: &Receipt) {
        match intent {
            Intent::Declare(row) | Intent::Reopen { row, .. } => {
                if matches!(intent, Intent::Reopen { .. }) {
                    // Only here a cursor goes back.
                    self.cursors.remove(row.name().as_str());
                }
                let name = row.name().to_string();
                self.periods.remove(&name);
                if let TriggerKind::Every { period, .. } = row.spec.trigger.kind {
                    self.periods.insert(name, period.as_micros() as i64);
                }
                self.moved(row.name().as_str(), row.cursor);
            }
            Intent::Retire { schedule, .. } => drop(self.periods.remove(schedule.as_str())),
            Intent::Plan { schedule, cursor, runs, .. } => {
                self.moved(schedule.as_str(), *cursor);
                self.fired(runs);
                runs.iter().for_each(|run| self.queued(run));
            }
            Intent::Enqueue(run) => self.queued(run),
            Intent::Recover { runs, .. } => {
                self.fired(runs);
                runs.iter().for_each(|run| self.queued(run));
            }
            Intent::Claim { run_id, attempt, .. } => {
                if let (Some(mirror), Receipt::Claimed(fence)) = (self.seen.mirror.get_mut(run_id), receipt) {
                    (mirror.state, mirror.fence) = (RunState::Running, *fence);
                    if *attempt != mirror.used + 1 {
                        let used = mirror.used;
                        self.fail(format!("{run_id}: attempt {attempt} is claimed after {used}"));
                    }
                }
            }
            Intent::Finish { run_id, fence, ending, follow } => {
                let really = self.ended.get(&(*run_id, *fence)).copied();
                if ending.state == RunState::Succeeded && really != Some(true) {
                    self.fail(format!("{run_id} succeeded without its job"));
                }
                if let Some(mirror) = self.seen.mirror.get_mut(run_id) {
                    if mirror.state.is_final() {
                        self.fail(format!("{run_id} ended twice"));
                    } else {
                        mirror.state = ending.state;
                    }
                }
                follow.chained.iter().for_each(|run| self.queued(run));
            }
            Intent::Requeue { run_id, attempt, not_before, .. } => {
                if let Some(mirror) = self.seen.mirror.get_mut(run_id) {
                    mirror.state = RunState::Queued;
                    mirror.not_before = *not_before;
                    // Only a shutdown gives an attempt back.
                    let made = mirror.used + 1;
                    mirror.used = if self.draining { *attempt } else { made };
                    if *attempt != made && !(self.draining && attempt + 1 == made) {
                        self.fail(format!("{run_id}: {attempt} attempts are counted, {made} were made"));
                    }
                }
            }
            Intent::Pause { schedule, hold } => {
                self.paused.remove(schedule.as_str());
                if hold.is_some() {
                    self.paused.insert(schedule.to_string());
                }
            }
            Intent::Dispatch(hold) => self.stopped = hold.is_some(),
            _ => {}
        }
    }

    pub(super) fn fired(&mut self, runs: &[RunRecord]) {
        self.fired.extend(runs.iter().filter_map(|run| Some((run.schedule.to_string(), run.nominal_at?))));
    }

    pub(super) fn moved(&mut self, name: &str, cursor: DateTime<Utc>) {
        let before = self.cursors.insert(name.to_owned(), cursor);
        if before.is_some_and(|before| cursor < before) {
            self.fail(format!("the cursor of {name} went back to {cursor}"));
        }
    }

    pub(super) fn queued(&mut self, run: &RunRecord) {
        let mirror = Mirror {
            schedule: run.schedule.to_string(),
            origin: run.origin,
            not_before: run.not_before,
            state: run.state,
            fence: run.fence,
            starts: Vec::new(),
            used: 0,
            ready_after: None,
            gone: None,
        };
        if self.seen.mirror.insert(run.run_id, mirror).is_some() {
            self.fail(format!("{} was made twice", run.run_id));
        }
    }

    pub(super) fn plain(&self, name: &str) -> Option<&Plain> {
        let now = self.wanted.iter().flatten().find(|plain| plain.name == name);
        now.or_else(|| self.seen.scenario.schedules.iter().find(|plain| plain.name == name))
    }

    /// Nothing is under way but jobs and time: whatever could have been done has been.
    pub(super) fn quiet(&mut self) {
        if self.machine.is_none() || self.draining || self.told || !self.queue.is_empty() || self.fault.is_some() {
            return;
        }
        let now = self.now.utc;
        let alive: Vec<(&str, Origin)> =
            self.jobs.iter().filter(|job| !job.ghost).map(|job| (job.schedule.as_str(), job.origin)).collect();
        let grouped = alive.iter().filter(|(name, _)| self.plain(name).is_some_and(|plain| plain.grouped)).count();
        let backfills = alive.iter().filter(|(_, origin)| *origin == Origin::Backfill).count();
        let mut idle = None;
        for (run_id, mirror) in self.seen.mirror.iter().filter(|(_, m)| m.state == RunState::Queued) {
            let Some(plain) = self.plain(&mirror.schedule) else { continue };
            let waits = mirror.not_before > now
                || self.stopped
                || alive.len() >= PLACES
                || (plain.grouped && grouped >= PAIR)
                || (plain.overlap != Overlap::Allow && alive.iter().any(|(name, _)| *name == mirror.schedule))
                || (mirror.origin == Origin::Backfill && backfills >= BACKFILLS)
                || self.scenario.goes_back();
            if !waits {
                idle = Some(format!("{run_id} of {} waits for nothing", mirror.schedule));
            }
        }
        for (name, period) in &self.periods {
            let held = self.stopped || self.paused.contains(name);
            let Some(cursor) = self.cursors.get(name).filter(|_| !held) else { continue };
            let first = cursor.timestamp_micros().div_euclid(*period) + 1;
            let due = (first..).map(|n| n * period).take_while(|at| *at <= now.timestamp_micros());
            // Before the clock went back, some had run.
            let ran = |at: i64| {
                DateTime::from_timestamp_micros(at).is_some_and(|at| self.fired.contains(&(name.clone(), at)))
            };
            if due.into_iter().any(|at| !ran(at)) {
                idle = Some(format!("{name} has a fire that is due and not accounted for"));
            }
        }
        if let Some(fault) = idle {
            self.fail(fault);
        }
    }
}
