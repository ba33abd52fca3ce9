//! Gives free places to waiting runs, and starts the claimed ones.

use chrono::TimeDelta;

use super::queue::{Class, Turn};
use super::settle::StopCause;
use super::{Assignment, Effect, Firmness, Machine, Pending, Phase};
use crate::clock::Now;
use crate::context::RunInfo;
use crate::event::Event;
use crate::id::RunId;
use crate::policy::Overlap;
use crate::run::{Reason, RunState};
use crate::store::{Intent, Receipt};

impl Machine {
    pub(super) fn can_claim(&self) -> bool {
        self.store_failing.is_none()
            && self.draining.is_none()
            && self.dispatch.is_none()
            && self.places < self.config.max_concurrent_runs
    }

    pub(super) fn claim_ready(&mut self, now: Now) {
        while self.can_claim() {
            self.line_up_due(now.utc);
            let Some(turn) = self.next_turn() else { break };
            if !self.park(turn) {
                self.take_turn(turn);
                self.claim(now, turn.run_id);
            }
        }
    }

    /// Sets a run aside that waits for its schedule or its group.
    fn park(&mut self, turn: Turn) -> bool {
        let Some(run) = self.runs.get(&turn.run_id) else { return true };
        let Some(schedule) = self.schedules.get_mut(&run.record.schedule) else { return true };
        let parked = schedule.busy > 0 && schedule.row.spec.overlap != Overlap::Allow;
        let group = schedule.row.spec.group.as_ref().and_then(|name| self.groups.get_mut(name));
        if parked {
            schedule.waiting.insert(turn);
            // It leaves its place in the group to another.
            self.ready
                .extend(group.filter(|group| group.busy < group.limit).and_then(|group| group.waiting.pop_first()));
            return true;
        }
        group.is_some_and(|group| group.busy >= group.limit && group.waiting.insert(turn))
    }

    fn claim(&mut self, now: Now, run_id: RunId) {
        self.take_place(run_id);
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        run.phase = Phase::Claiming;
        run.turn = None;
        let record = &mut run.record;
        record.attempt += 1;
        record.started_at = Some(now.utc);
        let (expires, late) = (run.expires.take(), run.late.take());
        let event = Event::RunStarted {
            schedule: record.schedule.clone(),
            job: record.job.clone(),
            run_id,
            nominal_at: record.nominal_at,
            origin: record.origin,
            attempt: record.attempt,
        };
        let intent = Intent::Claim { run_id, attempt: record.attempt, node: self.config.node, at: now.utc };
        if let Some(at) = expires {
            self.expiries.remove(&(at, run_id));
        }
        if let Some(at) = late {
            self.late.remove(&(at, run_id));
        }
        self.write_then(now, intent, vec![event], Pending::Claim(run_id));
    }

    pub(super) fn claimed(&mut self, now: Now, run_id: RunId, receipt: &Receipt) {
        let Receipt::Claimed(fence) = receipt else { return self.forget(run_id) };
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let Some(schedule) = self.schedules.get(&run.record.schedule) else { return };
        run.phase = Phase::Running;
        run.started = now.mono;
        run.record.fence = *fence;
        run.record.state = RunState::Running;
        run.record.node = Some(self.config.node);
        let timeout = schedule.row.spec.timeout;
        let deadline = now.mono + timeout;
        run.deadline = Some(deadline);
        let record = &run.record;
        let info = RunInfo {
            run_id,
            schedule: record.schedule.clone(),
            job: record.job.clone(),
            nominal_at: record.nominal_at,
            origin: record.origin,
            attempt: record.attempt,
            fence: *fence,
            started_at: record.started_at.unwrap_or(now.utc),
            deadline: TimeDelta::from_std(timeout).ok().and_then(|limit| now.utc.checked_add_signed(limit)),
        };
        let params = record.params.clone();
        let runner = schedule.row.spec.runner.clone();
        let stop = run.stop.map(|(cause, _)| cause);
        self.deadlines.insert((deadline, run_id));
        if let Some(limit) = schedule.row.spec.alert.overrun {
            run.overrun = Some(now.mono + limit);
            self.overruns.insert((now.mono + limit, run_id));
        }
        self.effects.push(Effect::Start(Assignment { info, params, runner }));
        match (stop, self.draining) {
            // It gets what is left of the grace, as those do that ran already.
            (Some(StopCause::Shutdown), Some(drain)) => self.move_deadline(run_id, drain.ask),
            (Some(cause), _) => self.stop(now, run_id, cause),
            (None, _) => {}
        }
    }

    fn take_place(&mut self, run_id: RunId) {
        self.places += 1;
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let Some(schedule) = self.schedules.get_mut(&run.record.schedule) else { return };
        schedule.busy += 1;
        self.backfilling += usize::from(Class::of(&run.record) == Class::Backfill);
        run.group.clone_from(&schedule.row.spec.group);
        if let Some(group) = run.group.as_ref().and_then(|name| self.groups.get_mut(name)) {
            group.busy += 1;
        }
    }

    /// Frees the place of a run that holds one, and lets those that waited for it try again.
    fn release_place(&mut self, run_id: RunId) {
        let Some(run) = self.runs.get_mut(&run_id).filter(|run| run.phase != Phase::Queued) else { return };
        self.places -= 1;
        let Some(schedule) = self.schedules.get_mut(&run.record.schedule) else { return };
        schedule.busy -= 1;
        self.backfilling -= usize::from(Class::of(&run.record) == Class::Backfill);
        self.ready.extend(schedule.waiting.pop_first());
        if let Some(group) = run.group.take().and_then(|name| self.groups.get_mut(&name)) {
            // A group that was removed and came back counts anew.
            group.busy = group.busy.saturating_sub(1);
            self.ready.extend(group.waiting.pop_first());
        }
    }

    /// Takes a run out of memory, and its place from it.
    pub(super) fn forget(&mut self, run_id: RunId) {
        self.release_place(run_id);
        let Some(run) = self.runs.remove(&run_id) else { return };
        self.later.remove(&(run.record.not_before, run_id));
        if let Some(key) = &run.record.idempotency_key {
            self.keys.remove(key);
        }
        if let Some(at) = run.late {
            self.late.remove(&(at, run_id));
        }
        if let Some(at) = run.overrun {
            self.overruns.remove(&(at, run_id));
        }
        if let Some(at) = run.deadline {
            self.deadlines.remove(&(at, run_id));
        }
        if let Some(at) = run.expires {
            self.expiries.remove(&(at, run_id));
        }
        if let Some(schedule) = self.schedules.get_mut(&run.record.schedule) {
            schedule.open.remove(&run_id);
            if let Some(turn) = run.turn {
                let group = schedule.row.spec.group.as_ref().and_then(|name| self.groups.get_mut(name));
                // Those that wait behind it for the schedule, or for the group, may be next.
                if !schedule.waiting.remove(&turn) {
                    self.ready.extend(schedule.waiting.pop_first());
                }
                if let Some(group) = group
                    && !group.waiting.remove(&turn)
                    && self.ready.contains(&turn)
                {
                    self.ready.extend(group.waiting.pop_first());
                }
                self.ready.remove(&turn);
            }
            if schedule.follows_runs() {
                self.reindex(&run.record.schedule);
            }
        }
    }

    /// Ends queued runs whose window has passed.
    pub(super) fn expire_waiting(&mut self, now: Now) {
        while let Some((at, run_id)) = self.expiries.first().copied().filter(|(at, _)| *at < now.utc) {
            self.expiries.remove(&(at, run_id));
            if self.runs.get(&run_id).is_some_and(|run| run.phase == Phase::Queued) {
                self.end_queued(now, run_id, RunState::Missed, Reason::Window);
            }
        }
    }

    /// Tells a run to stop; one that waits ends at once.
    pub(super) fn stop(&mut self, now: Now, run_id: RunId, cause: StopCause) {
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        match run.phase {
            Phase::Queued => {
                let reason = if cause == StopCause::Replaced { Reason::Replaced } else { Reason::Requested };
                self.end_queued(now, run_id, RunState::Cancelled, reason);
            }
            Phase::Claiming if run.stop.is_some_and(|(before, _)| before.is_final()) => {}
            Phase::Claiming => run.stop = Some((cause, None)),
            Phase::Running => match run.stop {
                // It has been told. Whoever cancels it wants no other attempt, whatever it was told for.
                Some((before, Some(told))) => {
                    let cause = if before.is_final() { before } else { cause };
                    run.stop = Some((cause, Some(told)));
                }
                _ => {
                    run.stop = Some((cause, Some(Firmness::Ask)));
                    self.move_deadline(run_id, now.mono + super::end::ASK_GRACE);
                    self.effects.push(Effect::Stop(run_id, Firmness::Ask));
                }
            },
            Phase::Abandoned => {}
        }
    }

    pub(super) fn move_deadline(&mut self, run_id: RunId, to: std::time::Duration) {
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        if let Some(old) = run.deadline.replace(to) {
            self.deadlines.remove(&(old, run_id));
        }
        self.deadlines.insert((to, run_id));
    }
}
