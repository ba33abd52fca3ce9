//! What jobs do, and whether they may.

use super::*;

impl<S: Store> World<S> {
    /// What a job does is decided by its run and attempt alone.
    pub(super) fn behaviour(&self, run_id: RunId, attempt: u32) -> (Option<Duration>, Outcome, bool) {
        let salt = (run_id.as_uuid().as_u128() as u64) ^ (u64::from(attempt) << 17) ^ self.scenario.seed;
        let mut random = Random(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let ok = || Outcome::Succeeded(Output::default());
        if self.calm {
            return (Some(Duration::ZERO), ok(), false);
        }
        let takes = random.pick(&[3, 1_137, 20_251, 95_403, 700_003]);
        let outcome = match random.below(10) {
            0 | 1 => Outcome::Failed(JobError::new("no")),
            2 => Outcome::Failed(JobError::permanent("never")),
            3 => Outcome::Panicked("oh".into()),
            _ => ok(),
        };
        let deaf = random.below(25) == 0;
        ((random.below(30) > 0).then(|| Duration::from_millis(takes)), outcome, deaf)
    }

    pub(super) fn start(&mut self, assignment: Assignment) {
        let info = assignment.info;
        self.seen.starts += 1;
        let name = info.schedule.to_string();
        let (ends, outcome, deaf) = self.behaviour(info.run_id, info.attempt);
        let Some(plain) = self.plain(&name).cloned() else { return self.fail(format!("{name} is unknown and starts")) };
        if info.fence <= self.last_fence {
            self.fail(format!("fence {} after {}", info.fence, self.last_fence));
        }
        self.last_fence = info.fence;
        let alive = self.jobs.iter().filter(|job| !job.ghost);
        let same = alive.clone().filter(|job| job.schedule == name).count();
        let grouped = alive.clone().filter(|job| self.plain(&job.schedule).is_some_and(|plain| plain.grouped)).count();
        let all = alive.count();
        if same > 0 && plain.overlap != Overlap::Allow {
            self.fail(format!("two runs of {name} overlap"));
        }
        if all >= PLACES || (plain.grouped && grouped >= PAIR) {
            self.fail(format!("{name} starts without a place: {all} run, {grouped} of the group"));
        }
        let now = self.now.utc;
        let Some(mirror) = self.seen.mirror.get_mut(&info.run_id) else {
            return self.fail(format!("{name} starts before its run is durable"));
        };
        let durable = mirror.state == RunState::Running && mirror.fence == info.fence;
        let again = mirror.starts.iter().any(|(attempt, ..)| *attempt == info.attempt) && mirror.used >= info.attempt;
        let early = mirror.ready_after.is_some_and(|at| now < at);
        mirror.starts.push((info.attempt, now, outcome.clone()));
        let starts = mirror.starts.len();
        if !durable {
            self.fail(format!("{name} starts before its claim is durable"));
        }
        if again || info.attempt > plain.attempts {
            self.fail(format!("{name}: attempt {} of {} is one too many", info.attempt, plain.attempts));
        }
        if plain.at_most_once && starts > 1 {
            self.fail(format!("{name} started twice, though at most once"));
        }
        if early && !self.scenario.goes_back() {
            self.fail(format!("{name} was tried again before its wait was over"));
        }
        let ends = ends.map(|takes| self.now.mono + takes);
        let (run_id, fence, origin) = (info.run_id, info.fence, info.origin);
        self.jobs.push(Job { run_id, fence, schedule: name, origin, ends, outcome, deaf, ghost: false });
    }

    pub(super) fn stop(&mut self, run_id: RunId, firmness: Firmness) {
        let now = self.now.mono;
        for job in self.jobs.iter_mut().filter(|job| job.run_id == run_id && !job.ghost) {
            job.outcome = Outcome::Stopped(JobError::new("told to stop"));
            if !job.deaf {
                job.ends = Some(now);
            } else if firmness == Firmness::Drop {
                // It really ends long after it was given up.
                job.ends = Some(now + Duration::from_secs(400));
            }
        }
    }

    pub(super) fn end_jobs(&mut self) {
        let now = self.now.mono;
        while let Some(index) = self.jobs.iter().position(|job| job.ends.is_some_and(|ends| ends <= now)) {
            let job = self.jobs.swap_remove(index);
            let mut fence = job.fence;
            if !job.ghost {
                if let Some(mirror) = self.seen.mirror.get_mut(&job.run_id) {
                    mirror.gone = Some(self.now.utc);
                }
                let well = matches!(job.outcome, Outcome::Succeeded(_));
                self.ended.insert((job.run_id, job.fence), well);
                if let Some(plain) = self.plain(&job.schedule).cloned()
                    && let Some(mirror) = self.seen.mirror.get_mut(&job.run_id)
                {
                    let fails = matches!(job.outcome, Outcome::Failed(_) | Outcome::Panicked(_));
                    let wait = TimeDelta::seconds(plain.wait as i64);
                    mirror.ready_after = (fails && !self.draining).then(|| self.now.utc + wait);
                }
            } else if self.bug == Some(Bug::NoFence) {
                fence = self.seen.mirror.get(&job.run_id).map_or(fence, |mirror| mirror.fence);
            }
            let (run_id, outcome) = (job.run_id, job.outcome);
            self.step(Input::Ended { run_id, fence, outcome, artifacts: Vec::new() });
        }
    }
}
