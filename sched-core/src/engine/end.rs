//! How attempts end: on their own, by their time limit, by shutdown.

use std::time::Duration;

use super::settle::{StopCause, Transition, settle};
use super::{Drain, Effect, Firmness, Machine, OpenRun, Phase};
use crate::clock::Now;
use crate::event::Event;
use crate::id::{Fence, RunId};
use crate::job::JobError;
use crate::policy::LONGEST;
use crate::run::{Artifact, Outcome, Reason, RunRecord, RunState};
use crate::store::{Ending, Intent};

/// What a job gets between being asked to stop and being dropped.
pub(super) const ASK_GRACE: Duration = Duration::from_secs(3);
/// What a dropped task gets to reach an await before its run is recorded as abandoned.
const DROP_GRACE: Duration = Duration::from_secs(1);

impl Machine {
    pub(super) fn ended(&mut self, now: Now, run_id: RunId, fence: Fence, outcome: Outcome, artifacts: Vec<Artifact>) {
        let Some(run) = self.runs.get(&run_id).filter(|run| run.record.fence == fence) else { return };
        match run.phase {
            Phase::Running => self.settle_run(now, run_id, outcome, artifacts, false),
            Phase::Abandoned => self.forget(run_id),
            // The attempt was settled without its holder.
            Phase::Queued | Phase::Claiming => {}
        }
    }

    /// Applies the outcome of an attempt; `abandoned` when its task has not really ended.
    pub(super) fn settle_run(
        &mut self,
        now: Now,
        run_id: RunId,
        outcome: Outcome,
        artifacts: Vec<Artifact>,
        abandoned: bool,
    ) {
        let random = self.ids.random();
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let Some(schedule) = self.schedules.get(&run.record.schedule) else { return };
        let cause = run.stop.map(|(cause, _)| cause);
        let lost = matches!(outcome, Outcome::Lost);
        let duration = now.mono.saturating_sub(run.started);
        let finish = |mut ending: Ending| {
            ending.artifacts = artifacts;
            ending.abandoned = abandoned;
            if !lost {
                ending.duration_ms = Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            }
            ending
        };
        let fence = run.record.fence;
        let mut transition = settle(&schedule.row.spec, run.record.attempt, outcome, cause, now.utc, random);
        if abandoned
            && cause != Some(StopCause::Shutdown)
            && let Transition::Again { ending, .. } = transition
        {
            transition = Transition::Done(ending);
        }
        if let Some(at) = run.deadline.take() {
            self.deadlines.remove(&(at, run_id));
        }
        match transition {
            Transition::Done(ending) => {
                let ending = finish(ending);
                let record = run.record.clone();
                if abandoned {
                    run.phase = Phase::Abandoned;
                    if let Some(at) = run.overrun.take() {
                        self.overruns.remove(&(at, run_id));
                    }
                }
                // The task of an abandoned run keeps its place until it ends.
                if !abandoned {
                    self.forget(run_id);
                }
                let mut events = vec![finished_event(&record, &ending)];
                let follow = self.follow(now, &record, &ending, &mut events);
                self.write(now, Intent::Finish { run_id, fence, ending, follow }, events);
            }
            Transition::Again { attempt, not_before, ending } => {
                let ending = finish(ending);
                let event = Event::RunRetry {
                    schedule: run.record.schedule.clone(),
                    run_id,
                    attempt: run.record.attempt,
                    error: ending.error.clone().unwrap_or_default(),
                    not_before,
                };
                let mut record = run.record.clone();
                (record.attempt, record.not_before, record.state) = (attempt, not_before, RunState::Queued);
                self.forget(run_id);
                self.enqueue(record);
                self.write(now, Intent::Requeue { run_id, fence, attempt, not_before, ending }, vec![event]);
            }
        }
    }

    pub(super) fn end_queued(&mut self, now: Now, run_id: RunId, state: RunState, reason: Reason) {
        let Some(run) = self.runs.get(&run_id) else { return };
        let ending = Ending {
            state,
            reason: Some(reason),
            at: now.utc,
            duration_ms: None,
            summary: Some(reason.explain().to_owned()),
            data: serde_json::Value::Null,
            error: None,
            abandoned: false,
            artifacts: Vec::new(),
        };
        let (fence, record) = (run.record.fence, run.record.clone());
        self.forget(run_id);
        let mut events = vec![finished_event(&record, &ending)];
        let follow = self.follow(now, &record, &ending, &mut events);
        self.write(now, Intent::Finish { run_id, fence, ending, follow }, events);
    }

    /// Takes the next firmer measure against attempts whose time is over.
    pub(super) fn stop_overdue(&mut self, now: Now) {
        if self.draining.is_some_and(|drain| now.mono >= drain.end) {
            self.finish_drain_now(now);
        }
        while let Some((at, run_id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.deadlines.remove(&(at, run_id));
            let Some(run) = self.runs.get_mut(&run_id) else { continue };
            run.deadline = None;
            match run.stop {
                None => self.stop(now, run_id, StopCause::Timeout),
                Some((cause, None)) => self.stop(now, run_id, cause),
                Some((cause, Some(Firmness::Ask))) => {
                    run.stop = Some((cause, Some(Firmness::Drop)));
                    self.effects.push(Effect::Stop(run_id, Firmness::Drop));
                    self.move_deadline(run_id, now.mono + DROP_GRACE);
                }
                Some((_, Some(Firmness::Drop))) => {
                    let outcome = Outcome::Stopped(JobError::new("it ignored cancellation"));
                    self.settle_run(now, run_id, outcome, Vec::new(), true);
                }
            }
        }
    }

    /// Three fifths of the grace to end by itself, three tenths after being asked, the rest after being dropped. A second
    /// call hurries, and never gives more time.
    pub(super) fn drain(&mut self, now: Now, grace: Duration) {
        let grace = grace.min(LONGEST);
        let sooner = |at, before: Option<Duration>| before.map_or(at, |before| before.min(at));
        let end = sooner(now.mono + grace, self.draining.map(|drain| drain.end));
        let ask = sooner(now.mono + grace * 3 / 5, self.draining.map(|drain| drain.ask));
        self.draining = Some(Drain { ask, end });
        let running = |run: &OpenRun| matches!(run.phase, Phase::Claiming | Phase::Running);
        let running: Vec<_> = self.runs.iter().filter(|(_, run)| running(run)).map(|(id, _)| *id).collect();
        for run_id in running {
            if let Some(run) = self.runs.get_mut(&run_id)
                && matches!(run.stop, None | Some((StopCause::Shutdown, None)))
            {
                run.stop = Some((StopCause::Shutdown, None));
                // One that is being claimed gets its deadline when it starts.
                if run.phase == Phase::Running {
                    self.move_deadline(run_id, ask);
                }
            }
        }
        // The end of the grace itself needs a wake-up.
        self.deadlines.insert((end, RunId::from_uuid(uuid::Uuid::nil())));
    }

    /// The grace is over: what still runs goes back into the queue, for the process ends now.
    fn finish_drain_now(&mut self, now: Now) {
        let running: Vec<_> = self.runs.iter().filter(|(_, r)| r.phase == Phase::Running).map(|(id, _)| *id).collect();
        for run_id in running {
            let outcome = Outcome::Stopped(JobError::new("it did not end within the shutdown grace"));
            self.settle_run(now, run_id, outcome, Vec::new(), true);
        }
        self.finish_drain();
    }

    pub(super) fn finish_drain(&mut self) {
        if !self.drained {
            self.drained = true;
            self.effects.push(Effect::Drained);
        }
    }
}

pub(super) fn finished_event(run: &RunRecord, ending: &Ending) -> Event {
    Event::RunFinished {
        schedule: run.schedule.clone(),
        job: run.job.clone(),
        run_id: run.run_id,
        nominal_at: run.nominal_at,
        origin: run.origin,
        attempt: run.attempt,
        state: ending.state,
        ok: ending.state == RunState::Succeeded,
        duration_ms: ending.duration_ms.unwrap_or(0),
        reason: ending.reason,
        summary: ending.summary.clone(),
        error: ending.error.clone(),
        abandoned: ending.abandoned,
    }
}
