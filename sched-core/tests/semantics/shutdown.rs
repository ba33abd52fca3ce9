//! Shutting down.

use std::time::Duration;

use sched_core::engine::{Effect, EngineConfig, Input, Machine};
use sched_core::{JobError, MemoryStore, NodeId, Now, Outcome, RunState, StartOptions, Store as _};

use crate::{HOUR, SECOND, at, every, once_only};

/// The production machine, whose writes become durable only when the test says so.
struct Slow {
    machine: Machine,
    store: MemoryStore,
    now: Now,
    waiting: Vec<Effect>,
    others: Vec<Effect>,
}

impl Slow {
    /// Half an hour before its only schedule is due.
    fn started() -> Self {
        let config = EngineConfig {
            node: NodeId::random(),
            max_concurrent_runs: 8,
            groups: Default::default(),
            channels: Default::default(),
            seed: 1,
        };
        let now = Now { utc: at("2026-01-01T00:30:00Z"), mono: SECOND };
        let mut store = MemoryStore::new();
        let specs = [every("h", HOUR).with_retry(once_only())];
        let (machine, first) =
            Machine::start(config, now, store.load().unwrap(), &specs, StartOptions::default()).unwrap();
        let mut slow = Slow { machine, store, now, waiting: Vec::new(), others: Vec::new() };
        slow.take(first);
        slow.commit();
        slow
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(self.now, input);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        let (writes, others): (Vec<_>, _) = effects.into_iter().partition(|e| matches!(e, Effect::Write(..)));
        self.waiting.extend(writes);
        self.others.extend(others);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.utc += time;
        self.step(Input::Wake);
    }

    fn commit(&mut self) {
        while !self.waiting.is_empty() {
            for effect in std::mem::take(&mut self.waiting) {
                let Effect::Write(token, write) = effect else { continue };
                let receipt = self.store.commit(&[*write]).unwrap().receipts.remove(0);
                if let Some(token) = token {
                    self.step(Input::Written(token, receipt));
                }
            }
        }
    }
}

#[test]
fn given_a_run_whose_claim_is_not_durable_yet_when_a_shutdown_begins_then_it_loses_no_attempt_either() {
    let mut slow = Slow::started();
    slow.pass(HOUR / 2);
    assert!(!slow.waiting.is_empty() && slow.others.is_empty(), "it is being claimed");
    slow.step(Input::Drain(5 * SECOND));
    slow.commit();
    assert!(matches!(slow.others[..], [Effect::Start(_)]), "{:?}", slow.others);
    slow.pass(3 * SECOND);
    assert!(matches!(slow.others[..], [_, Effect::Stop(..)]), "three fifths of the grace are its own");
    let open = slow.store.load().unwrap().open.remove(0);
    let outcome = Outcome::Stopped(JobError::new("stopped"));
    slow.step(Input::Ended { run_id: open.run_id, fence: open.fence, outcome, artifacts: Vec::new() });
    slow.commit();
    assert_eq!(slow.others.last(), Some(&Effect::Drained));
    let run = slow.store.load().unwrap().open.remove(0);
    assert_eq!((run.state, run.attempt), (RunState::Queued, 0));
}

#[test]
fn given_a_shutdown_under_way_when_it_is_asked_for_again_then_it_hurries_and_the_run_still_loses_no_attempt() {
    let mut slow = Slow::started();
    slow.pass(HOUR / 2);
    slow.commit();
    slow.step(Input::Drain(HOUR));
    slow.pass(SECOND);
    assert!(matches!(slow.others[..], [Effect::Start(_)]), "it has an hour to end by itself: {:?}", slow.others);
    slow.step(Input::Drain(SECOND));
    slow.pass(SECOND / 2);
    assert_eq!(slow.others.len(), 1);
    slow.pass(SECOND / 4);
    assert!(matches!(slow.others[..], [_, Effect::Stop(..)]), "three fifths of a second are over: {:?}", slow.others);
    // More time cannot be asked for any more.
    slow.step(Input::Drain(HOUR));
    slow.pass(SECOND / 2);
    slow.commit();
    assert_eq!(slow.others.last(), Some(&Effect::Drained));
    let run = slow.store.load().unwrap().open.remove(0);
    assert_eq!((run.state, run.attempt), (RunState::Queued, 0));
}
