//! Turns due fires into runs and counted ranges, and advances the cursor: one write a schedule.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::plan::{Rules, Step, any_between, plan};
use super::{Machine, OpenRange, Pending, Phase};
use crate::clock::Now;
use crate::event::Event;
use crate::id::{Fence, RangeId, RunId, ScheduleName};
use crate::policy::Overlap;
use crate::run::{Origin, RangeRecord, Reason, RunRecord, RunState};
use crate::store::{Intent, ScheduleRow};

/// No more schedules than this are planned in one step, so that the first runs of many start while others are planned.
const A_STEP: usize = 256;

/// What one plan writes.
#[derive(Default)]
struct Draft {
    ranges: BTreeMap<RangeId, RangeRecord>,
    runs: Vec<RunRecord>,
    events: Vec<Event>,
}

impl Machine {
    pub(super) fn can_plan(&self) -> bool {
        self.store_failing.is_none() && self.draining.is_none() && !self.is_behind()
    }

    pub(super) fn fire_due(&mut self, now: Now) {
        for _ in 0..A_STEP {
            if !self.can_plan() {
                break;
            }
            let Some((at, name)) = self.due.first().filter(|(at, _)| *at <= now.utc).cloned() else { break };
            self.due.remove(&(at, name.clone()));
            self.account(now, &name, None);
        }
    }

    /// Gives every fire up to now its run or its reason. With `hold`, none runs.
    pub(super) fn account(&mut self, now: Now, name: &ScheduleName, hold: Option<Reason>) {
        loop {
            let Some(schedule) = self.schedules.get(name) else { return };
            let follows = schedule.follows_runs();
            if follows && !schedule.open.is_empty() {
                break;
            }
            let mut expected = schedule.row.cursor;
            let replaces = schedule.row.spec.overlap == Overlap::CancelRunning;
            let delay = |at| stable_jitter(&schedule.row, at);
            let (misfire, ahead) = (&schedule.row.spec.misfire, &schedule.ahead);
            let rules = Rules { misfire, hold, ahead, delay: &delay };
            let planned = plan(&*schedule.trigger, expected, now.utc, &rules);
            let mut draft = Draft::default();
            let last = planned.steps.last().map_or(expected, Step::until);
            let cursor = if follows { last } else { planned.cursor };
            for step in planned.steps {
                if replaces && !draft.runs.is_empty() {
                    // What the next fire cancels must be written before.
                    let reached = draft.runs.last().and_then(|run| run.nominal_at).unwrap_or(expected);
                    self.write_plan(now, name, (expected, reached), std::mem::take(&mut draft));
                    expected = reached;
                }
                match step {
                    Step::Run { at, late } => self.fire(now, name, at, late, &mut draft),
                    Step::Gap { from, until, count, state, reason } => {
                        self.gap(now, name, (from, until, count), (state, reason, None), &mut draft);
                    }
                }
            }
            let Some(schedule) = self.schedules.get_mut(name) else { return };
            if !planned.more
                && let Some(range) = schedule.range.as_mut().filter(|range| !range.announced)
            {
                range.announced = true;
                draft.events.push(range_event(&range.record, false));
            }
            if !draft.runs.is_empty() || !draft.ranges.is_empty() {
                self.write_plan(now, name, (expected, cursor), draft);
            }
            // Otherwise nothing was due: the stored cursor stays where it was.
            if !planned.more {
                break;
            }
        }
        self.reindex(name);
    }

    /// Writes what was decided, and moves the cursor with it.
    fn write_plan(
        &mut self,
        now: Now,
        name: &ScheduleName,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        mut draft: Draft,
    ) {
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        schedule.row.cursor = to;
        while let Some(at) = schedule.ahead.first().copied().filter(|at| *at <= to) {
            schedule.ahead.pop_first();
            // No range goes on past a fire that has run.
            if let Some(range) = schedule.range.take_if(|range| range.record.until < at) {
                draft.events.push(range_event(&range.record, true));
            }
        }
        let ranges = draft.ranges.into_values().collect();
        let intent = Intent::Plan { schedule: name.clone(), expected: from, cursor: to, ranges, runs: draft.runs };
        self.write_then(now, intent, draft.events, Pending::Plan(name.clone()));
    }

    /// Applies overlap to one fire.
    fn fire(&mut self, now: Now, name: &ScheduleName, at: DateTime<Utc>, late: bool, draft: &mut Draft) {
        if let Some(blocker) = self.overlapped(now, name) {
            self.gap(now, name, (at, at, 1), (RunState::Skipped, Reason::Overlap, Some(blocker)), draft);
            return;
        }
        self.close_range(name, draft);
        let origin = if late { Origin::Catchup } else { Origin::Schedule };
        let Some(schedule) = self.schedules.get(name) else { return };
        let mut run = new_run(self.ids.run_id(now.utc), &schedule.row, origin, now.utc);
        run.nominal_at = Some(at);
        run.not_before = at + stable_jitter(&schedule.row, at);
        draft.events.push(queued_event(&run));
        draft.runs.push(run.clone());
        self.enqueue(run);
    }

    fn gap(
        &mut self,
        now: Now,
        name: &ScheduleName,
        (from, until, count): (DateTime<Utc>, DateTime<Utc>, u64),
        (state, reason, blocker): (RunState, Reason, Option<RunId>),
        draft: &mut Draft,
    ) {
        let Some(schedule) = self.schedules.get_mut(name) else { return };
        let version = schedule.row.version;
        let same = |r: &RangeRecord| {
            (r.state, r.reason, r.blocker, r.version) == (state, reason, blocker, version)
                && !any_between(&schedule.ahead, r.until, from)
        };
        if let Some(range) = schedule.range.as_mut().filter(|range| same(&range.record)) {
            range.record.until = until;
            range.record.count += count;
            draft.ranges.insert(range.record.range_id, range.record.clone());
            return;
        }
        self.close_range(name, draft);
        let range_id = self.ids.range_id(now.utc);
        let schedule_name = name.clone();
        let record = RangeRecord {
            range_id,
            schedule: schedule_name,
            version,
            state,
            reason,
            blocker,
            from,
            until,
            count,
            superseded: false,
        };
        draft.ranges.insert(range_id, record.clone());
        if let Some(schedule) = self.schedules.get_mut(name) {
            schedule.range = Some(Box::new(OpenRange { record, announced: false }));
        }
    }

    fn close_range(&mut self, name: &ScheduleName, draft: &mut Draft) {
        if let Some(range) = self.schedules.get_mut(name).and_then(|schedule| schedule.range.take()) {
            draft.events.push(range_event(&range.record, true));
        }
    }

    /// Takes a queued run into memory.
    pub(super) fn enqueue(&mut self, run: RunRecord) {
        let Some(schedule) = self.schedules.get_mut(&run.schedule) else { return };
        schedule.open.insert(run.run_id);
        let follows = schedule.follows_runs();
        let mut expires = None;
        if run.nominal_at.is_some() && run.started_at.is_none() && run.origin != Origin::Backfill {
            let window = TimeDelta::from_std(schedule.row.spec.misfire.window).unwrap_or(TimeDelta::MAX);
            if let Some(expiry) = run.not_before.checked_add_signed(window) {
                self.expiries.insert((expiry, run.run_id));
                expires = Some(expiry);
            }
        }
        let mut late = None;
        if run.started_at.is_none()
            && let Some(limit) = schedule.row.spec.alert.late_start
            && let Some(at) = TimeDelta::from_std(limit).ok().and_then(|limit| run.not_before.checked_add_signed(limit))
        {
            self.late.insert((at, run.run_id));
            late = Some(at);
        }
        let open = super::OpenRun {
            expires,
            turn: None,
            group: None,
            late,
            overrun: None,
            phase: Phase::Queued,
            started: std::time::Duration::ZERO,
            deadline: None,
            stop: None,
            record: run,
        };
        let name = follows.then(|| open.record.schedule.clone());
        let run_id = open.record.run_id;
        if let Some(key) = &open.record.idempotency_key {
            self.keys.insert(key.clone(), run_id);
        }
        self.runs.insert(run_id, open);
        self.line_up(run_id);
        if let Some(name) = name {
            self.reindex(&name);
        }
    }
}

/// A queued run of the current version.
pub(super) fn new_run(run_id: RunId, row: &ScheduleRow, origin: Origin, now: DateTime<Utc>) -> RunRecord {
    RunRecord {
        run_id,
        schedule: row.name().clone(),
        job: row.spec.job.clone(),
        version: row.version,
        nominal_at: None,
        origin,
        state: RunState::Queued,
        reason: None,
        attempt: 0,
        not_before: now,
        queued_at: now,
        started_at: None,
        finished_at: None,
        duration_ms: None,
        node: None,
        fence: Fence(0),
        params: row.spec.params.clone().into(),
        summary: None,
        data: serde_json::Value::Null,
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
        parent: None,
        chains: true,
        requested_by: None,
        idempotency_key: None,
    }
}

pub(super) fn queued_event(run: &RunRecord) -> Event {
    Event::RunQueued {
        schedule: run.schedule.clone(),
        run_id: run.run_id,
        nominal_at: run.nominal_at,
        origin: run.origin,
        not_before: run.not_before,
        by: run.requested_by.clone(),
    }
}

fn range_event(range: &RangeRecord, ended: bool) -> Event {
    let RangeRecord { schedule, range_id, from, until, count, reason, blocker, .. } = range.clone();
    match range.state {
        RunState::Missed => Event::FiresMissed { schedule, range_id, from, until, count, reason, ended },
        _ => Event::FireSkipped { schedule, range_id, from, until, count, reason, blocker, ended },
    }
}

/// The same fire gets the same delay on every node and after every restart (FNV-1a over name and instant).
pub(super) fn stable_jitter(row: &ScheduleRow, at: DateTime<Utc>) -> TimeDelta {
    let span = u64::try_from(row.spec.jitter.as_micros()).unwrap_or(u64::MAX);
    if span == 0 {
        return TimeDelta::zero();
    }
    let bytes = row.name().as_str().bytes().chain(at.timestamp_micros().to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    TimeDelta::microseconds(i64::try_from(hash % span).unwrap_or(0))
}
