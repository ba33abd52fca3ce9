//! Past fires: what a backfill would run, and running them.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::handle::{EngineError, Handle};
use crate::engine::{BackfillRequest, Command, MOST_FIRES, RangeFires, Refusal, Reply};
use crate::id::{RunId, ScheduleName};
use crate::run::{Reason, RunRecord, RunState};
use crate::store::{Query, StoreError};

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
        let BackfillOrder { schedule, dry_run, chains, by, .. } = order.clone();
        let Found { parts, again, mut fires } = self.read(move |query| find(query, &order)).await??;
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

fn find(query: &dyn Query, order: &BackfillOrder) -> Result<Result<Found, Refusal>, StoreError> {
    let name = &order.schedule;
    let rows = query.schedules()?;
    let mut names = rows.iter().filter(|row| !row.retired).map(|row| row.name().as_str());
    if !names.clone().any(|known| known == name.as_str()) {
        let near = crate::suggest::near(name.as_str(), names.by_ref());
        return Ok(Err(Refusal::UnknownSchedule { name: name.clone(), near }));
    }
    let mut found = Found { parts: Vec::new(), again: Vec::new(), fires: Vec::new() };
    let versions = query.versions(name)?;
    for range in query.ranges_in(name, order.from, order.until)? {
        let Some(version) = versions.iter().find(|version| version.version == range.version) else { continue };
        let planned_by = version.spec.trigger.clone();
        let Ok(trigger) = planned_by.compile() else { continue };
        let before = order.from.max(range.from) - TimeDelta::microseconds(1);
        let fires = crate::trigger::instants(&*trigger, before);
        let chosen = fires.take_while(|fire| *fire <= range.until.min(order.until)).take(MOST_FIRES + 1);
        let chosen: BTreeSet<_> = chosen.collect();
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
