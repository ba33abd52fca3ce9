//! Mistakes that an engine could make, planted between it and its world: the checker must catch each.

use sched_core::engine::Effect;
use sched_core::store::Intent;
use sched_core::{Overlap, Reason, RunId, ScheduleSpec};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Fires are enqueued, but the stored cursor stays.
    CursorStays,
    /// The end of a dead holder's attempt counts.
    NoFence,
    /// A fire gets two runs.
    DoubleEnqueue,
    /// What comes after a run comes twice.
    ChainsTwice,
    /// A range counts one fire too many.
    RangeOffByOne,
    /// The cursor passes a fire that is not enqueued.
    LostFire,
    /// A manual run is acknowledged and not written.
    LostAcknowledgement,
    /// An attempt is started twice.
    DoubleStart,
    /// A retry is stored with no attempt used.
    AttemptsForgotten,
    /// The engine sleeps past what is due.
    Oversleeps,
    /// Runs overlap although the policy forbids it.
    OverlapIgnored,
    /// What happened is told nobody.
    NotTold,
    /// A message goes out twice.
    ToldTwice,
    /// That a message went out is not kept.
    DeliveryForgotten,
    /// A range has another reason than the policy gives.
    WrongReason,
}

impl Bug {
    pub(crate) const ALL: [Self; 15] = [
        Self::CursorStays,
        Self::NoFence,
        Self::DoubleEnqueue,
        Self::ChainsTwice,
        Self::RangeOffByOne,
        Self::LostFire,
        Self::LostAcknowledgement,
        Self::DoubleStart,
        Self::AttemptsForgotten,
        Self::Oversleeps,
        Self::OverlapIgnored,
        Self::WrongReason,
        Self::NotTold,
        Self::ToldTwice,
        Self::DeliveryForgotten,
    ];

    /// What the engine asks for, spoiled.
    pub(crate) fn spoil(self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut spoiled = Vec::with_capacity(effects.len());
        for mut effect in effects {
            if let Effect::Write(_, write) = &mut effect {
                match (&mut write.intent, self) {
                    (Intent::Plan { expected, cursor, .. }, Self::CursorStays) => *cursor = *expected,
                    (Intent::Plan { runs, .. }, Self::DoubleEnqueue) => {
                        let twins: Vec<_> = runs.clone();
                        runs.extend(twins.into_iter().map(|mut run| {
                            run.run_id = RunId::from_uuid(Uuid::from_u128(run.run_id.as_uuid().as_u128() ^ 1));
                            run
                        }));
                    }
                    (Intent::Finish { follow, .. }, Self::ChainsTwice) => {
                        let twins: Vec<_> = follow.chained.clone();
                        follow.chained.extend(twins.into_iter().map(|mut run| {
                            run.run_id = RunId::from_uuid(Uuid::from_u128(run.run_id.as_uuid().as_u128() ^ 1));
                            run
                        }));
                    }
                    (Intent::Plan { ranges, .. }, Self::RangeOffByOne) => ranges.iter_mut().for_each(|r| r.count += 1),
                    (Intent::Plan { runs, .. }, Self::LostFire) => drop(runs.pop()),
                    (Intent::Enqueue(_), Self::LostAcknowledgement) => write.intent = Intent::Note,
                    (Intent::Requeue { attempt, .. }, Self::AttemptsForgotten) => *attempt = 0,
                    (Intent::Plan { ranges, .. }, Self::WrongReason) => {
                        for range in ranges.iter_mut().filter(|range| range.reason == Reason::Superseded) {
                            range.reason = Reason::Window;
                        }
                    }
                    _ => {}
                }
            }
            spoiled.extend(self.spoil_mail(&mut effect));
            if let (Effect::Start(assignment), Self::DoubleStart) = (&effect, self) {
                spoiled.push(Effect::Start(assignment.clone()));
            }
            spoiled.push(effect);
        }
        spoiled
    }

    /// What the engine is told of its schedules, spoiled.
    pub(crate) fn spoil_specs(self, specs: &mut [ScheduleSpec]) {
        if self == Self::OverlapIgnored {
            specs.iter_mut().for_each(|spec| spec.overlap = Overlap::Allow);
        }
    }
}
