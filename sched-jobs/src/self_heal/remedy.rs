//! Doing something about what was found.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sched_core::process::Waiting;
use sched_core::{HistoryFilter, HistoryRow, PortError, PortReply, PortRequest, RunContext, RunId, ScheduleName};
use serde_json::{Value, json};

use super::params::{Check, Probe, Remedy, Restart};
use super::probe::{Finding, given_up};
use super::runs::{self, Ill, Sick};
use crate::JobEnv;
use crate::command::{Command, Params as Program};
use crate::http::Marks;

/// A run that is looked for among so many of its schedule's newest.
const NEWEST: u32 = 200;

/// What a remedy has set going, in lists as the record has them.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) retried: Vec<Value>,
    pub(super) recovered: Vec<Value>,
    pub(super) refused: Vec<Value>,
    /// The runs that it started.
    pub(super) started: Vec<(ScheduleName, RunId)>,
}

impl Done {
    pub(super) fn count(&self) -> usize {
        self.retried.len() + self.recovered.len()
    }

    pub(super) fn join(&mut self, other: Self) {
        self.retried.extend(other.retried);
        self.recovered.extend(other.recovered);
        self.refused.extend(other.refused);
        self.started.extend(other.started);
    }

    pub(super) async fn retry(&mut self, ctx: &RunContext, schedule: &ScheduleName, run_id: RunId) {
        match ctx.retry(run_id).await {
            Ok(new) => {
                self.retried.push(json!({ "schedule": schedule, "run_id": run_id, "new_run_id": new }));
                self.started.push((schedule.clone(), new));
            }
            Err(error) => self.refuse(schedule, &error),
        }
    }

    pub(super) async fn recover(&mut self, ctx: &RunContext, schedule: &ScheduleName, at: DateTime<Utc>) {
        match ctx.recover(schedule.clone(), at).await {
            Ok(new) => {
                self.recovered.push(json!({ "schedule": schedule, "nominal_at": at, "new_run_id": new }));
                self.started.push((schedule.clone(), new));
            }
            Err(error) => self.refuse(schedule, &error),
        }
    }

    /// Runs the oldest fires that were missed between two instants, no more than `most`; gives how many.
    async fn backfill(
        &mut self,
        ctx: &RunContext,
        schedule: &ScheduleName,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        most: usize,
    ) -> usize {
        let fires = ctx.backfill(schedule.clone(), from, until, u32::try_from(most).unwrap_or(u32::MAX)).await;
        let fires = match fires {
            Ok(fires) => fires,
            Err(error) => {
                self.refuse(schedule, &error);
                return 0;
            }
        };
        for fire in &fires {
            let told = json!({ "schedule": schedule, "nominal_at": fire.nominal_at, "new_run_id": fire.run_id });
            self.recovered.push(told);
            self.started.push((schedule.clone(), fire.run_id));
        }
        fires.len()
    }

    fn refuse(&mut self, schedule: &ScheduleName, error: &PortError) {
        self.refused.push(json!({ "schedule": schedule, "reason": error.to_string() }));
    }
}

/// What of a finding a remedy may be used on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scope {
    /// This much of it now.
    pub(super) now: Option<Finding>,
    /// More of it then, at the soonest.
    pub(super) wait: Option<DateTime<Utc>>,
    /// Never again on these schedules.
    pub(super) exhausted: Vec<String>,
}

/// Leaves of failed runs those that may be tried again now. Other remedies are used on all that was found.
pub(super) fn scope(remedy: &Remedy, mut finding: Finding, now: DateTime<Utc>) -> Scope {
    let mut scope = Scope::default();
    match remedy {
        Remedy::Retry(rule) => {
            finding.sick.retain(|sick| {
                let Ill::Failed { retries, at, .. } = sick.ill else { return false };
                match runs::retry(retries, at, now, rule.retries, rule.backoff) {
                    runs::Retry::Now => return true,
                    runs::Retry::Wait(until) => scope.wait = Some(scope.wait.map_or(until, |at| until.min(at))),
                    runs::Retry::Exhausted => scope.exhausted.push(sick.schedule.to_string()),
                }
                false
            });
            finding.sick.truncate(rule.most);
            if finding.sick.is_empty() {
                return scope;
            }
        }
        Remedy::Backfill(rule) => {
            finding.sick.sort_by_key(|sick| match sick.ill {
                Ill::Failed { at, .. } | Ill::Missed { at, .. } | Ill::Gaps { from: at, .. } => at,
            });
            finding.sick.truncate(rule.most);
        }
        Remedy::Trigger(_) | Remedy::Command(_) | Remedy::Call(_) | Remedy::Restart(_) | Remedy::Redeliver(_) => {}
    }
    scope.now = Some(finding);
    scope
}

/// How many runs it may start at a time.
const fn most(remedy: &Remedy) -> usize {
    match remedy {
        Remedy::Retry(rule) => rule.most,
        Remedy::Backfill(rule) => rule.most,
        _ => 1,
    }
}

/// Uses a remedy.
///
/// # Errors
/// Why it could not be used.
pub(super) async fn apply(
    ctx: &RunContext,
    env: &Arc<JobEnv>,
    check: &Check,
    remedy: &Remedy,
    finding: &Finding,
) -> Result<Done, String> {
    let mut done = Done::default();
    match remedy {
        Remedy::Retry(_) | Remedy::Backfill(_) => {
            let mut left = most(remedy);
            for (index, Sick { schedule, ill }) in finding.sick.iter().enumerate() {
                match *ill {
                    Ill::Failed { run_id, .. } => done.retry(ctx, schedule, run_id).await,
                    Ill::Missed { at, .. } => done.recover(ctx, schedule, at).await,
                    Ill::Gaps { from, until, .. } => {
                        // No schedule takes what is there for all.
                        let share = left.div_ceil(finding.sick.len() - index);
                        left -= done.backfill(ctx, schedule, (from, until), share).await.min(left);
                    }
                }
            }
        }
        Remedy::Trigger(trigger) => {
            let request = PortRequest::Trigger { schedule: trigger.schedule.clone(), params: trigger.params.clone() };
            match ctx.call(request).await.map_err(|error| error.to_string())? {
                PortReply::Run { run_id } => done.started.push((trigger.schedule.clone(), run_id)),
                other => return Err(format!("the scheduler gave an answer of another kind: {other:?}")),
            }
        }
        Remedy::Command(program) => run(ctx, env, check, program.clone()).await?,
        Remedy::Call(request) => {
            let marks = Marks::of(ctx).with_key(&format!("{}-{}", ctx.run_id(), key(&check.name)));
            let answer = tokio::time::timeout(check.remedy_timeout(), request.send(env, &marks)).await;
            let late = format!("no answer within {}s", check.remedy_timeout().as_secs_f64());
            let answer = answer.map_err(|_| late)?.map_err(|failure| failure.message)?;
            if !answer.status.is_success() {
                return Err(format!("answered {}", answer.status));
            }
        }
        Remedy::Redeliver(_) => {
            // Another check would not be let pass with this remedy.
            let Probe::Undelivered(wanted) = &check.check else { return Ok(done) };
            let ids = given_up(ctx, wanted).await?.into_iter().map(|line| line.id).collect();
            ctx.redeliver(ids).await.map_err(|error| error.to_string())?;
        }
        Remedy::Restart(restart) => {
            let without = "; a unit can be restarted where systemd runs, and by who may";
            run(ctx, env, check, systemctl(restart)).await.map_err(|error| format!("systemctl: {error}{without}"))?;
        }
    }
    Ok(done)
}

/// A check's name as part of a header's value.
fn key(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn systemctl(restart: &Restart) -> Program {
    let mut argv = vec!["systemctl".to_owned(), "--no-ask-password".into()];
    argv.extend(restart.user.then(|| "--user".to_owned()));
    argv.extend(["restart".to_owned(), "--".into(), restart.unit.clone()]);
    Program::plain(argv, &["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"])
}

async fn run(ctx: &RunContext, env: &Arc<JobEnv>, check: &Check, program: Program) -> Result<(), String> {
    let stop = async {
        tokio::select! {
            () = ctx.cancelled() => {}
            () = tokio::time::sleep(check.remedy_timeout()) => {}
        }
    };
    let ran = Command::new(program, env.clone()).run_until(ctx, stop, Waiting::Runtime).await;
    ran.map(drop).map_err(|error| error.message().to_owned())
}

/// Whether every run that a remedy has started is over.
pub(super) async fn are_over(ctx: &RunContext, started: &[(ScheduleName, RunId)]) -> bool {
    for (schedule, run_id) in started {
        let Ok(rows) = ctx.history(HistoryFilter { bare: true, ..HistoryFilter::of(schedule.clone(), NEWEST) }).await
        else {
            return false;
        };
        let open = rows.iter().any(|row| match row {
            HistoryRow::Run(run) => run.run_id == *run_id && !run.state.is_final(),
            HistoryRow::Range(_) => false,
        });
        if open {
            return false;
        }
    }
    true
}
