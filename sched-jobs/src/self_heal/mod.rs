//! `self_heal`: retries what failed, recovers what was missed, looks whether things are well, and does something about it
//! when they are not. Within limits, and it looks whether it helped.

mod certificate;
mod checks;
mod decide;
mod health;
mod memory;
mod params;
mod probe;
mod remedy;
mod report;
mod runs;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
use serde_json::json;

use self::params::Params;
use self::report::Report;
use self::runs::{Ill, Reader};
use crate::JobEnv;
use crate::history::walk;

struct SelfHeal {
    params: Arc<Params>,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register(
        "self_heal",
        "Finds what is wrong and does something about it, within limits",
        move |params: Params| {
            params.check(&env)?;
            Ok(SelfHeal { params: Arc::new(params), env: env.clone() })
        },
    );
}

impl SelfHeal {
    /// Runs failed runs and missed fires again, each once. A failure that was run again is left to people.
    async fn heal_runs(&self, ctx: &RunContext, report: &mut Report) -> Result<(), JobError> {
        let params = &self.params;
        if !params.retries_failed() && !params.recovers_missed() {
            return Ok(());
        }
        let within = TimeDelta::from_std(params.within).unwrap_or(TimeDelta::MAX);
        let from = ctx.now().checked_sub_signed(within).unwrap_or(DateTime::UNIX_EPOCH);
        let mut left = params.max_retries;
        let mut reader = Reader::new(ctx.schedule(), from);
        walk(ctx, from, |row| reader.read(row)).await?;
        for sick in reader.sick() {
            let (wanted, again, what) = match sick.ill {
                Ill::Failed { retries, .. } => (params.retries_failed(), retries > 0, "retry"),
                Ill::Missed { .. } | Ill::Gaps { .. } => (params.recovers_missed(), false, "recover"),
            };
            if !wanted {
                continue;
            }
            if again {
                report.given_up.push(json!({ "schedule": sick.schedule, "reason": "it failed again after a retry" }));
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            match sick.ill {
                _ if params.dry_run => report.would.push(json!({ "schedule": sick.schedule, "remedy": what })),
                Ill::Failed { run_id, .. } => report.runs.retry(ctx, &sick.schedule, run_id).await,
                Ill::Missed { at, .. } | Ill::Gaps { until: at, .. } => {
                    report.runs.recover(ctx, &sick.schedule, at).await;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Job for SelfHeal {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let mut report = Report::default();
        self.heal_runs(ctx, &mut report).await?;
        report.health = health::ask(ctx, &self.env, &self.params).await;
        checks::heal(ctx, &self.env, &self.params, &mut report).await?;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled").with_data(report.data()));
        }
        let (summary, data) = (report.summary(self.params.checks.len()), report.data());
        if report.checks_given_up && self.params.fail_when_given_up {
            // The limits are there to end it: another attempt would only go against them.
            return Err(JobError::permanent(summary).with_data(data));
        }
        if report.unhealthy() > 0 && self.params.fail_when_unhealthy {
            return Err(JobError::new(summary).with_data(data));
        }
        Ok(Output::summary(summary).with_data(data))
    }
}
