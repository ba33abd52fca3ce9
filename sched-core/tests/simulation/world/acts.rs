//! What the scenario asks of the engine, and what it answers.

use super::*;

impl<S: Store> World<S> {
    pub(super) fn command(&mut self, asked: Asked, command: Command) {
        self.replies += 1;
        self.asked.insert(self.replies, asked);
        self.step(Input::Command(ReplyTo(self.replies), command));
    }

    /// What is acknowledged is durable.
    pub(super) fn answered(&mut self, to: ReplyTo, answer: &Result<Reply, Refusal>) {
        let Some(asked) = self.asked.remove(&to.0) else { return self.fail("an answer that nobody asked for") };
        let known = |run_id: &RunId| self.seen.mirror.contains_key(run_id);
        let lost = match (&asked, answer) {
            (Asked::Run, Ok(Reply::Run(run_id))) => !known(run_id),
            (Asked::Backfill, Ok(Reply::Runs(runs))) => !runs.iter().all(known),
            (Asked::Pause(name, on), Ok(_)) => self.paused.contains(name) != *on,
            (Asked::Run, Err(Refusal::Busy { blocker })) => {
                // One that was given up is in the way until it is gone.
                let gone = !self.jobs.iter().any(|job| job.run_id == *blocker && !job.ghost);
                self.seen.mirror.get(blocker).is_some_and(|mirror| mirror.state.is_final() && gone)
            }
            _ => false,
        };
        if lost {
            self.fail(format!("acknowledged, but not so in the store: {answer:?}"));
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let name = |of: usize| self.scenario.schedules[of % self.scenario.schedules.len()].name.clone();
        let by = || "world".to_owned();
        match action {
            Action::Crash { effects, down } => self.crash = self.machine.as_ref().map(|_| (effects, down)),
            Action::Shutdown { grace, down } => {
                if self.machine.is_some() && !self.draining {
                    (self.draining, self.down) = (true, down);
                    self.able(false);
                    self.step(Input::Drain(Duration::from_secs(grace)));
                }
            }
            Action::Step(by) => {
                let able = self.able_since.is_some();
                self.able(false);
                self.now.utc += TimeDelta::seconds(by);
                self.able(able);
            }
            Action::StoreFails(seconds) => {
                if self.machine.is_some() {
                    self.failing = Some(self.now.mono + Duration::from_secs(seconds));
                }
            }
            Action::Pause(of) => {
                let name = name(of);
                let schedule = name.parse().unwrap();
                self.command(Asked::Pause(name, true), Command::Pause { schedule, by: by(), reason: "test".into() });
            }
            Action::Resume(of) => {
                let name = name(of);
                let schedule = name.parse().unwrap();
                self.command(Asked::Pause(name, false), Command::Resume { schedule, by: by() });
            }
            Action::Dispatch(run) => self.command(Asked::Other, Command::Dispatch { run, by: by() }),
            Action::Trigger { of, queue, key } => {
                let request = TriggerRequest::new(name(of).parse().unwrap(), "world");
                let idempotency_key = key.map(|key| format!("{}-{key}", name(of)));
                self.command(Asked::Run, Command::Trigger(TriggerRequest { queue, idempotency_key, ..request }));
            }
            Action::Retry(of) => {
                let filter = HistoryFilter::of(name(of).parse().unwrap(), 5);
                let rows = self.store.as_ref().unwrap().reader().history(&filter).unwrap();
                let run = rows.into_iter().find_map(|row| match row {
                    HistoryRow::Run(run) if run.state.is_final() && run.started_at.is_some() => Some(run),
                    _ => None,
                });
                if let Some(run) = run {
                    self.command(Asked::Run, Command::Retry { run, by: by() });
                }
            }
            Action::Cancel(of) => {
                let name = name(of);
                let open = self.seen.mirror.iter().find(|(_, m)| m.schedule == name && !m.state.is_final());
                if let Some((run_id, _)) = open.map(|(run_id, mirror)| (*run_id, mirror)) {
                    self.seen.cancelled.insert(run_id);
                    self.command(Asked::Other, Command::Cancel { run_id });
                }
            }
            Action::Backfill { of, hours } => {
                if let Some(request) = self.past(&name(of), hours) {
                    self.command(Asked::Backfill, Command::Backfill(request));
                }
            }
            Action::Change { of, period } => {
                let of = of % self.wanted.len();
                let plain = Plain { period: Some(period), after: None, ..self.scenario.schedules[of].clone() };
                self.wanted[of] = Some(plain);
                self.apply();
            }
            Action::Remove(of) => {
                let of = of % self.wanted.len();
                self.wanted[of] = None;
                self.apply();
            }
        }
    }

    pub(super) fn apply(&mut self) {
        let groups = BTreeMap::from([("pair".to_owned(), PAIR)]);
        let (schedules, by) = (self.specs(), "world".to_owned());
        let channels = self.channels();
        self.command(Asked::Other, Command::Apply { schedules, groups, channels, max_concurrent_runs: PLACES, by });
    }

    pub(super) fn past(&mut self, name: &str, hours: u64) -> Option<BackfillRequest> {
        let query = self.store.as_ref().unwrap().reader();
        let schedule: sched_core::ScheduleName = name.parse().unwrap();
        let from = self.now.utc - TimeDelta::hours(hours as i64);
        let versions = query.versions(&schedule).unwrap();
        let mut parts = Vec::new();
        for range in query.ranges_in(&schedule, from, self.now.utc).unwrap() {
            let planned_by = versions.iter().find(|v| v.version == range.version)?.spec.trigger.clone();
            let TriggerKind::Every { period, .. } = planned_by.kind else { return None };
            let step = TimeDelta::from_std(period).unwrap();
            let fires = std::iter::successors(Some(range.from), |at| Some(*at + step));
            let fires: BTreeSet<_> = fires.take_while(|at| *at <= range.until).filter(|at| *at >= from).collect();
            if !fires.is_empty() {
                match RangeFires::split(range, &planned_by, fires) {
                    Ok(part) => parts.push(part),
                    Err(error) => self.fail(format!("a range cannot be split: {error:?}")),
                }
            }
        }
        let chains = hours.is_multiple_of(2);
        (!parts.is_empty()).then(|| BackfillRequest { schedule, parts, again: vec![], chains, by: "world".into() })
    }
}
