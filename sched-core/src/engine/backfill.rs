//! Runs for fires that have passed: those that ranges count, and on request those that have run.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::fires::{new_run, queued_event};
use super::{Machine, Pending, Refusal, Reply, ReplyTo};
use crate::clock::Now;
use crate::id::ScheduleName;
use crate::run::{Origin, RangeRecord, RunRecord};
use crate::store::Intent;
use crate::trigger::{Trigger, TriggerSpec};

/// No more fires than this are run again by one request.
pub const MOST_FIRES: usize = 10_000;

/// Which past fires are to run.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillRequest {
    /// The schedule.
    pub schedule: ScheduleName,
    /// Fires that did not run.
    pub parts: Vec<RangeFires>,
    /// Fires that have run, by their runs as read.
    pub again: Vec<RunRecord>,
    /// Whether schedules that come after this one run too.
    pub chains: bool,
    /// Who asks.
    pub by: String,
}

/// Some fires of a range, and what stays of the range around them.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeFires {
    range: RangeRecord,
    parts: Vec<RangeRecord>,
    fires: BTreeSet<DateTime<Utc>>,
}

impl RangeFires {
    /// Splits a range, as read, around some of its fires. It walks through all fires of the range, which the engine has
    /// no time for; that gives names to the parts.
    ///
    /// # Errors
    /// [`Refusal::NotRecoverable`] when the range does not count these fires, by the trigger of the version that
    /// planned it.
    pub fn split(
        range: RangeRecord,
        planned_by: &TriggerSpec,
        fires: BTreeSet<DateTime<Utc>>,
    ) -> Result<Self, Refusal> {
        let trigger = planned_by.compile().map_err(|_| Refusal::NotRecoverable)?;
        let parts = split(&range, &*trigger, &fires).ok_or(Refusal::NotRecoverable)?;
        Ok(Self { range, parts, fires })
    }
}

impl Machine {
    /// Splits the ranges around the fires, and gives each fire its run. The runs wait below everything else.
    pub(super) fn backfill(&mut self, now: Now, to: ReplyTo, request: BackfillRequest) -> Result<(), Refusal> {
        self.known(&request.schedule)?;
        if self.draining.is_some() {
            return Err(Refusal::Draining);
        }
        if request.again.iter().any(|run| !run.state.is_final() || self.runs.contains_key(&run.run_id)) {
            return Err(Refusal::StillOpen);
        }
        let (mut expected, mut parts, mut fires) = (Vec::new(), Vec::new(), Vec::new());
        for RangeFires { range, parts: split, fires: chosen } in request.parts {
            for part in split {
                parts.push(RangeRecord { range_id: self.ids.range_id(now.utc), ..part });
            }
            fires.extend(chosen.into_iter().map(|at| (at, None)));
            expected.push(range);
        }
        fires.extend(request.again.iter().filter_map(|run| Some((run.nominal_at?, Some(run.run_id)))));
        fires.sort_unstable();
        if fires.is_empty() {
            return Err(Refusal::NotRecoverable);
        }
        let Some(schedule) = self.schedules.get_mut(&request.schedule) else { return Err(Refusal::Conflict) };
        if schedule.range.as_ref().is_some_and(|open| expected.iter().any(|r| r.range_id == open.record.range_id)) {
            schedule.range = None;
        }
        let mut runs = Vec::with_capacity(fires.len());
        for (at, repeated) in fires {
            let mut run = new_run(self.ids.run_id(now.utc), &schedule.row, Origin::Backfill, now.utc);
            run.nominal_at = Some(at);
            run.parent = repeated;
            run.chains = request.chains;
            run.requested_by = Some(request.by.clone());
            runs.push(run);
        }
        let events = runs.iter().map(queued_event).collect();
        let reply = Reply::Runs(runs.iter().map(|run| run.run_id).collect());
        self.write_then(
            now,
            Intent::Recover { expected, parts, runs: runs.clone() },
            events,
            Pending::Reply(to, reply),
        );
        for run in runs {
            self.enqueue(run);
        }
        Ok(())
    }
}

/// The parts of a range around the chosen fires, which are superseded; none when the range does not count them.
fn split(range: &RangeRecord, trigger: &dyn Trigger, chosen: &BTreeSet<DateTime<Utc>>) -> Option<Vec<RangeRecord>> {
    let mut parts: Vec<RangeRecord> = Vec::new();
    let (mut counted, mut found) = (0, 0);
    let fires = std::iter::successors(Some(range.from), |fire| trigger.next_after(*fire));
    for fire in fires.take_while(|fire| *fire <= range.until) {
        let superseded = chosen.contains(&fire);
        counted += 1;
        found += usize::from(superseded);
        match parts.last_mut() {
            Some(part) if part.superseded == superseded => {
                part.until = fire;
                part.count += 1;
            }
            _ => parts.push(RangeRecord { from: fire, until: fire, count: 1, superseded, ..range.clone() }),
        }
    }
    (counted == range.count && found == chosen.len() && !range.superseded).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RangeId;
    use crate::run::{Reason, RunState};

    #[test]
    fn a_range_is_split_around_the_chosen_fires_and_its_count_must_agree() {
        let trigger = TriggerSpec::every(std::time::Duration::from_secs(1)).compile().unwrap();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let range = RangeRecord {
            range_id: RangeId::from_uuid(uuid::Uuid::nil()),
            schedule: "a".parse().unwrap(),
            version: 1,
            state: RunState::Missed,
            reason: Reason::Window,
            blocker: None,
            from: at(1),
            until: at(9),
            count: 9,
            superseded: false,
        };
        let parts = |range: &RangeRecord, chosen: &[i64]| {
            let chosen = chosen.iter().map(|second| at(*second)).collect();
            split(range, &*trigger, &chosen).map(|parts| {
                parts
                    .iter()
                    .map(|p| (p.from.timestamp(), p.until.timestamp(), p.count, p.superseded))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            parts(&range, &[1, 4, 5]),
            Some(vec![(1, 1, 1, true), (2, 3, 2, false), (4, 5, 2, true), (6, 9, 4, false)])
        );
        assert_eq!(parts(&range, &[10]), None);
        assert_eq!(parts(&RangeRecord { count: 8, ..range.clone() }, &[4]), None);
        assert_eq!(parts(&RangeRecord { superseded: true, ..range }, &[4]), None);
    }
}
