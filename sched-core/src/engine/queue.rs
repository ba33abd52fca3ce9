//! The order in which waiting runs get places: what is due now before what is caught up, that before what is
//! backfilled; among equals, schedules take turns.

use chrono::{DateTime, Utc};

use super::{Machine, Phase};
use crate::id::RunId;
use crate::run::{Origin, RunRecord};

/// What a run is, for the order. The lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Fresh,
    Catchup,
    Backfill,
}

impl Class {
    pub(super) const COUNT: usize = 3;

    pub(super) const fn of(run: &RunRecord) -> Self {
        match run.origin {
            Origin::Schedule | Origin::Startup | Origin::Manual | Origin::Chain => Self::Fresh,
            Origin::Catchup => Self::Catchup,
            Origin::Backfill => Self::Backfill,
        }
    }
}

/// A waiting run's place in the order. The rounds are those of start-time fair queueing (Goyal, Vin and Cheng, 1996)
/// with runs of equal length: a schedule's nth waiting run is in its nth round, and rounds are served in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) class: Class,
    round: u64,
    pub(super) run_id: RunId,
}

impl Machine {
    /// Puts a queued run where it waits: for its time, or for its turn.
    pub(super) fn line_up(&mut self, run_id: RunId) {
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let not_before = run.record.not_before;
        if not_before > self.seen.utc {
            self.later.insert((not_before, run_id));
            return;
        }
        let Some(schedule) = self.schedules.get_mut(&run.record.schedule) else { return };
        let class = Class::of(&run.record);
        let last = &mut schedule.rounds[class as usize];
        *last = (*last + 1).max(self.rounds[class as usize]);
        let turn = Turn { class, round: *last, run_id };
        run.turn = Some(turn);
        self.ready.insert(turn);
    }

    /// Gives a turn to each run whose time has come.
    pub(super) fn line_up_due(&mut self, now: DateTime<Utc>) {
        while let Some(key) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&key);
            self.line_up(key.1);
        }
    }

    /// The next run in order that may have a place.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        let turn = self.ready.first().copied()?;
        // Backfills are last in the order, so nothing waits behind one that may not start; and while fires are still
        // to be planned, one that is due now may be among them.
        let held = match turn.class {
            Class::Fresh => false,
            Class::Catchup => self.is_planning(),
            Class::Backfill => self.is_planning() || self.backfilling >= self.backfill_limit(),
        };
        if held {
            return None;
        }
        self.ready.remove(&turn);
        Some(turn)
    }

    fn is_planning(&self) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= self.seen.utc)
    }

    /// A turn is taken: who lines up from now on is not before it. When nobody waits, all begin alike.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        let round = &mut self.rounds[turn.class as usize];
        *round = (turn.round + u64::from(self.ready.is_empty())).max(*round);
    }

    /// At most a quarter of the places are given to backfills.
    fn backfill_limit(&self) -> usize {
        (self.config.max_concurrent_runs / 4).max(1)
    }

    /// Puts every parked run back in the order, for limits and groups have changed.
    pub(super) fn unpark(&mut self) {
        for schedule in self.schedules.values_mut() {
            self.ready.append(&mut schedule.waiting);
        }
        for group in self.groups.values_mut() {
            self.ready.append(&mut group.waiting);
        }
    }

    /// Whether this open run stands in the way of a fire: all do but backfills that wait.
    pub(super) fn blocks(&self, run_id: RunId) -> bool {
        self.runs.get(&run_id).is_some_and(|run| !(run.phase == Phase::Queued && run.record.origin == Origin::Backfill))
    }
}
