//! `self_heal`: retries what failed, recovers what was missed, and checks that URLs answer. Within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::{
    HistoryRow, Job, JobError, Output, Registry, RunContext, RunId, RunState, ScheduleName, async_trait, duration_text,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::JobEnv;
use crate::history::since;
use crate::http::{Marks, Request};

/// Parameters of `self_heal`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// Run failed runs again.
    retry_failed: bool,
    /// Run missed fires.
    recover_missed: bool,
    /// At most so many runs in all.
    max_retries: usize,
    /// How far back it looks.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    within: Duration,
    /// URLs that must answer with success.
    health_urls: Vec<String>,
    /// How long each may take.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    timeout: Duration,
    /// Fail when a URL is unhealthy.
    fail_when_unhealthy: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            retry_failed: true,
            recover_missed: true,
            max_retries: 10,
            within: Duration::from_secs(86_400),
            health_urls: Vec::new(),
            timeout: Duration::from_secs(5),
            fail_when_unhealthy: false,
        }
    }
}

struct SelfHeal {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("self_heal", "Retries failed and missed runs, checks health URLs", move |params: Params| {
        Ok(SelfHeal { params, env: env.clone() })
    });
}

/// What can be done for one schedule.
#[derive(Debug, Clone, PartialEq)]
enum Remedy {
    Retry(RunId),
    Recover(DateTime<Utc>),
}

/// Finds what to heal: schedules whose newest line of history is a failure or a miss. A failure that was run
/// again once is left to people.
fn remedies(rows: &[HistoryRow], own: &ScheduleName, params: &Params) -> Vec<(ScheduleName, Remedy)> {
    let mut newest: BTreeMap<&ScheduleName, &HistoryRow> = BTreeMap::new();
    for row in rows {
        let superseded = matches!(row, HistoryRow::Range(range) if range.superseded);
        if row.schedule() != own && !superseded {
            newest.entry(row.schedule()).or_insert(row);
        }
    }
    let parents: BTreeSet<RunId> =
        rows.iter().filter_map(|row| if let HistoryRow::Run(run) = row { run.parent } else { None }).collect();
    let remedy = |row: &HistoryRow| match row {
        HistoryRow::Run(run) if params.retry_failed && run.state.is_failure() && !run.abandoned => {
            (run.parent.is_none() && !parents.contains(&run.run_id)).then_some(Remedy::Retry(run.run_id))
        }
        HistoryRow::Range(range) if params.recover_missed && range.state == RunState::Missed => {
            Some(Remedy::Recover(range.until))
        }
        _ => None,
    };
    let found = newest.into_iter().filter_map(|(name, row)| Some((name.clone(), remedy(row)?)));
    found.take(params.max_retries).collect()
}

#[derive(Debug, Serialize)]
struct Health {
    url: String,
    ok: bool,
    status: Option<u16>,
    error: Option<String>,
    ms: u64,
}

#[expect(clippy::disallowed_methods, reason = "measures how long an answer took, decides nothing")]
async fn check(url: String, env: Arc<JobEnv>, marks: Marks, limit: Duration) -> Health {
    let begun = Instant::now();
    let answer = Request { timeout: limit, ..Request::to(url.clone()) }.send(&env, &marks).await;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(answer) => {
            let error = (!answer.status.is_success()).then(|| format!("answered {}", answer.status));
            Health { url, ok: error.is_none(), status: Some(answer.status.as_u16()), error, ms }
        }
        Err(failure) => Health { url, ok: false, status: None, error: Some(failure.message), ms },
    }
}

impl SelfHeal {
    async fn health(&self, ctx: &RunContext) -> Vec<Health> {
        let mut checks = JoinSet::new();
        for (index, url) in self.params.health_urls.iter().enumerate() {
            let check = check(url.clone(), self.env.clone(), Marks::of(ctx), self.params.timeout);
            checks.spawn(async move { (index, check.await) });
        }
        let mut done = BTreeMap::new();
        loop {
            tokio::select! {
                next = checks.join_next() => match next {
                    Some(Ok((index, health))) => { done.insert(index, health); }
                    Some(Err(_)) => {}
                    None => break,
                },
                () = ctx.cancelled() => break,
            }
        }
        done.into_values().collect()
    }
}

#[async_trait]
impl Job for SelfHeal {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let within = TimeDelta::from_std(self.params.within).unwrap_or(TimeDelta::MAX);
        let from = ctx.now().checked_sub_signed(within).unwrap_or(DateTime::UNIX_EPOCH);
        let rows = since(ctx, from).await?;
        let (mut retried, mut recovered, mut refused) = (Vec::<Value>::new(), Vec::<Value>::new(), Vec::<Value>::new());
        for (schedule, remedy) in remedies(&rows, ctx.schedule(), &self.params) {
            let done = match &remedy {
                Remedy::Retry(run_id) => ctx.retry(*run_id).await,
                Remedy::Recover(at) => ctx.recover(schedule.clone(), *at).await,
            };
            match (done, remedy) {
                (Ok(new), Remedy::Retry(run_id)) => {
                    retried.push(json!({ "schedule": schedule, "run_id": run_id, "new_run_id": new }));
                }
                (Ok(new), Remedy::Recover(at)) => {
                    recovered.push(json!({ "schedule": schedule, "nominal_at": at, "new_run_id": new }));
                }
                (Err(error), _) => refused.push(json!({ "schedule": schedule, "reason": error.to_string() })),
            }
        }
        let health = self.health(ctx).await;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let unhealthy = health.iter().filter(|health| !health.ok).count();
        let count = retried.len() + recovered.len();
        let mut summary = format!("{count} run again, {} refused", refused.len());
        if !health.is_empty() {
            summary.push_str(&format!(", {unhealthy} of {} URLs unhealthy", health.len()));
        }
        let data = json!({
            "retried_count": count,
            "retried": retried,
            "recovered": recovered,
            "refused": refused,
            "health": health,
        });
        if unhealthy > 0 && self.params.fail_when_unhealthy {
            return Err(JobError::new(summary).with_data(data));
        }
        Ok(Output::summary(summary).with_data(data))
    }
}
