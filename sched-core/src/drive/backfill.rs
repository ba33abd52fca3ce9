//! Past fires: what a backfill would run, and running them.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::handle::{EngineError, Handle};
use crate::engine::{BackfillRequest, Command, MOST_FIRES, RangeFires, Refusal, Reply};
use crate::id::{RunId, ScheduleName};
use crate::run::{RangeRecord, Reason, RunRecord, RunState};
use crate::store::{Query, StoreError};
use crate::trigger::Trigger;

/// Which past fires of a schedule to run.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillOrder {
    /// The schedule.
    pub schedule: ScheduleName,
    /// The first nominal time, included.
    pub from: DateTime<Utc>,
    /// The last nominal time, included.
    pub until: DateTime<Utc>,
    /// Run those that have run as well.
    pub rerun: bool,
    /// Whether schedules that come after this one run too.
    pub chains: bool,
    /// Tell what would run, and change nothing.
    pub dry_run: bool,
    /// Who asks.
    pub by: String,
}

/// One fire in the range of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackfillFire {
    /// Its nominal time.
    pub nominal_at: DateTime<Utc>,
    /// Its disposition before.
    pub state: RunState,
    /// Why that was.
    pub reason: Option<Reason>,
    /// Whether it runs; one that has run does so only on request, one that is open never.
    pub runs: bool,
    /// Its new run; none in a dry run.
    pub run_id: Option<RunId>,
}

/// What a backfill runs, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Backfilled {
    /// Every fire in the range, in order.
    pub fires: Vec<BackfillFire>,
}

struct Found {
    parts: Vec<RangeFires>,
    again: Vec<RunRecord>,
    fires: Vec<BackfillFire>,
}

impl Handle {
    /// Runs the missed and skipped fires of a past range, and on request those that have run. Their runs wait below
    /// everything else, at most a quarter of the places at once. When this returns, they are durable.
    ///
    /// # Errors
    /// When there is no such schedule, or the range holds more than 10,000 fires.
    pub async fn backfill(&self, order: BackfillOrder) -> Result<Backfilled, EngineError> {
        let asked = order.clone();
        let found = self.read(move |query| find(query, &asked)).await??;
        self.fill(order, found).await
    }

    /// Runs the oldest fires between two instants, both included, that were missed and have not run since; no more than
    /// `most`. Gives those that it runs, in order.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn backfill_missed(
        &self,
        schedule: ScheduleName,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        most: usize,
        by: impl Into<String>,
    ) -> Result<Backfilled, EngineError> {
        let by = by.into();
        let order = BackfillOrder { schedule, from, until, rerun: false, chains: false, dry_run: false, by };
        let asked = order.clone();
        let found = self.read(move |query| find_missed(query, &asked, most.min(MOST_FIRES))).await??;
        self.fill(order, found).await
    }

    async fn fill(&self, order: BackfillOrder, found: Found) -> Result<Backfilled, EngineError> {
        let Found { parts, again, mut fires } = found;
        let BackfillOrder { schedule, dry_run, chains, by, .. } = order;
        if dry_run || !fires.iter().any(|fire| fire.runs) {
            return Ok(Backfilled { fires });
        }
        let request = BackfillRequest { schedule, parts, again, chains, by };
        let Reply::Runs(made) = self.ask(Command::Backfill(request)).await? else { return Err(EngineError::Stopped) };
        let mut made = made.into_iter();
        for fire in fires.iter_mut().filter(|fire| fire.runs) {
            fire.run_id = made.next();
        }
        Ok(Backfilled { fires })
    }

    /// Runs a fire that was missed or skipped.
    ///
    /// # Errors
    /// [`Refusal::NotRecoverable`] when the fire is not recorded so.
    pub async fn recover(
        &self,
        schedule: ScheduleName,
        at: DateTime<Utc>,
        by: impl Into<String>,
    ) -> Result<RunId, EngineError> {
        let by = by.into();
        let (from, until) = (at, at);
        let order = BackfillOrder { schedule, from, until, rerun: false, chains: false, dry_run: false, by };
        let done = self.backfill(order).await?;
        done.fires.iter().find_map(|fire| fire.run_id).ok_or_else(|| Refusal::NotRecoverable.into())
    }
}

/// Refuses a schedule that is not there.
fn known(query: &dyn Query, name: &ScheduleName) -> Result<Result<(), Refusal>, StoreError> {
    let rows = query.schedules()?;
    let mut names = rows.iter().filter(|row| !row.retired).map(|row| row.name().as_str());
    if names.clone().any(|known| known == name.as_str()) {
        return Ok(Ok(()));
    }
    let near = crate::suggest::near(name.as_str(), names.by_ref());
    Ok(Err(Refusal::UnknownSchedule { name: name.clone(), near }))
}

/// The fires that a range counts between two instants, both included, in order.
fn fires_of(
    range: &RangeRecord,
    trigger: &dyn Trigger,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> impl Iterator<Item = DateTime<Utc>> {
    let before = from.max(range.from) - TimeDelta::microseconds(1);
    let last = range.until.min(until);
    crate::trigger::instants(trigger, before).take_while(move |fire| *fire <= last)
}

/// The oldest fires that were missed and have not run since, no more than `most`.
fn find_missed(query: &dyn Query, order: &BackfillOrder, most: usize) -> Result<Result<Found, Refusal>, StoreError> {
    let name = &order.schedule;
    if let Err(refusal) = known(query, name)? {
        return Ok(Err(refusal));
    }
    let versions = query.versions(name)?;
    let mut ranges = Vec::new();
    let mut oldest: Vec<(DateTime<Utc>, Option<Reason>)> = Vec::new();
    for range in query.ranges_in(name, order.from, order.until)? {
        let version = versions.iter().find(|version| version.version == range.version);
        let Some(version) = version.filter(|_| range.state == RunState::Missed) else { continue };
        let planned_by = version.spec.trigger.clone();
        let Ok(trigger) = planned_by.compile() else { continue };
        let fires: BTreeSet<_> = fires_of(&range, &*trigger, order.from, order.until).take(most).collect();
        oldest.extend(fires.iter().map(|at| (*at, Some(range.reason))));
        ranges.push((range, planned_by, fires));
    }
    // A run that waited too long never ran.
    let mut runs = query.fires_in(name, order.from, order.until)?;
    runs.retain(|run| run.state == RunState::Missed);
    oldest.extend(runs.iter().filter_map(|run| Some((run.nominal_at?, run.reason))));
    oldest.sort_unstable_by_key(|(at, _)| *at);
    oldest.truncate(most);
    let picked: BTreeSet<DateTime<Utc>> = oldest.iter().map(|(at, _)| *at).collect();
    let mut found = Found { parts: Vec::new(), again: Vec::new(), fires: Vec::new() };
    for (range, planned_by, mut fires) in ranges {
        fires.retain(|fire| picked.contains(fire));
        if !fires.is_empty() {
            match RangeFires::split(range, &planned_by, fires) {
                Ok(part) => found.parts.push(part),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }
    runs.retain(|run| run.nominal_at.is_some_and(|at| picked.contains(&at)));
    found.again = runs;
    let fire =
        |(nominal_at, reason)| BackfillFire { nominal_at, state: RunState::Missed, reason, runs: true, run_id: None };
    found.fires = oldest.into_iter().map(fire).collect();
    Ok(Ok(found))
}

fn find(query: &dyn Query, order: &BackfillOrder) -> Result<Result<Found, Refusal>, StoreError> {
    let name = &order.schedule;
    if let Err(refusal) = known(query, name)? {
        return Ok(Err(refusal));
    }
    let mut found = Found { parts: Vec::new(), again: Vec::new(), fires: Vec::new() };
    let versions = query.versions(name)?;
    for range in query.ranges_in(name, order.from, order.until)? {
        let Some(version) = versions.iter().find(|version| version.version == range.version) else { continue };
        let planned_by = version.spec.trigger.clone();
        let Ok(trigger) = planned_by.compile() else { continue };
        let chosen: BTreeSet<_> = fires_of(&range, &*trigger, order.from, order.until).take(MOST_FIRES + 1).collect();
        found.fires.extend(chosen.iter().map(|at| BackfillFire {
            nominal_at: *at,
            state: range.state,
            reason: Some(range.reason),
            runs: true,
            run_id: None,
        }));
        if found.fires.len() > MOST_FIRES {
            return Ok(Err(Refusal::TooMany));
        }
        if !chosen.is_empty() && !order.dry_run {
            match RangeFires::split(range, &planned_by, chosen) {
                Ok(part) => found.parts.push(part),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }
    for run in query.fires_in(name, order.from, order.until)? {
        let Some(nominal_at) = run.nominal_at else { continue };
        // A run that waited too long never ran.
        let missed = matches!(run.state, RunState::Missed | RunState::Skipped);
        let runs = run.state.is_final() && (order.rerun || missed);
        found.fires.push(BackfillFire { nominal_at, state: run.state, reason: run.reason, runs, run_id: None });
        if runs {
            found.again.push(run);
        }
    }
    if found.fires.len() > MOST_FIRES {
        return Ok(Err(Refusal::TooMany));
    }
    found.fires.sort_by_key(|fire| fire.nominal_at);
    Ok(Ok(found))
}
