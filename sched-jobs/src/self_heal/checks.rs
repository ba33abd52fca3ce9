//! Each check in turn: look, decide, act, look again. What is remembered of it survives restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sched_core::{JobError, RunContext, RunId, ScheduleName};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::decide::{Decision, Past};
use super::params::{Check, Params};
use super::probe::{Finding, look, moment};
use super::remedy::{self, are_over};
use super::report::Report;
use super::runs::Sick;
use crate::JobEnv;

/// Where what is remembered is kept.
const STATE: &str = "checks";
/// So many checks are looked at at the same time.
const AT_ONCE: usize = 16;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

type Memory = BTreeMap<String, Past>;

/// A remedy that was used, until it is known whether it helped.
#[derive(Clone)]
struct Used {
    index: usize,
    finding: Finding,
    started: Vec<(ScheduleName, RunId)>,
}

/// Whether it helped.
enum Effect {
    Helped,
    /// What is found still.
    NotHelped(String),
    /// Runs that it has started are not over.
    Open,
}

/// Does work for each of many, some at a time, and gives the results in their order. Ends early when the run is cancelled.
async fn each<T, R, F>(ctx: &RunContext, items: Vec<T>, work: impl Fn(T) -> F) -> Vec<Option<R>>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut waiting = items.into_iter().enumerate();
    let mut open = JoinSet::new();
    loop {
        while open.len() < AT_ONCE
            && !ctx.is_cancelled()
            && let Some((index, item)) = waiting.next()
        {
            let work = work(item);
            open.spawn(async move { (index, work.await) });
        }
        match open.join_next().await {
            Some(Ok((index, result))) => results[index] = Some(result),
            Some(Err(_)) => {}
            None => return results,
        }
    }
}

/// Looks at every check and does what its limits allow.
pub(super) async fn heal(
    ctx: &RunContext,
    env: &Arc<JobEnv>,
    params: &Arc<Params>,
    report: &mut Report,
) -> Result<(), JobError> {
    if params.checks.is_empty() {
        return Ok(());
    }
    let mut memory = recall(ctx, params).await?;
    let before = memory.clone();
    let looked = each(ctx, (0..params.checks.len()).collect(), |index| {
        let (ctx, env, params) = (ctx.clone(), env.clone(), params.clone());
        async move { look(&ctx, &env, &params.checks[index]).await }
    });
    let looked = looked.await;
    let mut used = Vec::new();
    for (index, finding) in looked.into_iter().enumerate() {
        if ctx.is_cancelled() {
            return Ok(());
        }
        let check = &params.checks[index];
        match finding {
            Some(Some(finding)) => used.extend(act(ctx, env, params, index, finding, &mut memory, report).await?),
            Some(None) => memory.entry(check.name.clone()).or_default().well(),
            None => {
                let reason = "looking at it failed: it panicked";
                report.found.push(json!({ "check": check.name, "reason": reason }));
                report.give_up(&check.name, reason);
            }
        }
    }
    let effects = each(ctx, used.clone(), |used| verify(ctx.clone(), env.clone(), params.clone(), used)).await;
    if ctx.is_cancelled() {
        return Ok(());
    }
    for (used, effect) in used.iter().zip(effects) {
        let check = &params.checks[used.index];
        let past = memory.entry(check.name.clone()).or_default();
        match effect {
            Some(Effect::Helped) => {
                past.well();
                ctx.log(format!("{}: healed", check.name)).await;
                report.verified.push(check.name.clone());
            }
            Some(Effect::NotHelped(reason)) => not_helped(ctx, check, past, &reason, report).await,
            Some(Effect::Open) => {
                report.waiting.push(json!({ "check": check.name, "reason": "the runs that it started go on" }));
            }
            None => {}
        }
    }
    if memory != before {
        keep(ctx, &memory).await?;
    }
    Ok(())
}

async fn recall(ctx: &RunContext, params: &Params) -> Result<Memory, JobError> {
    let kept = ctx.state_get(STATE).await?.unwrap_or(Value::Null);
    let mut memory: Memory = serde_json::from_value(kept).unwrap_or_default();
    memory.retain(|name, _| params.checks.iter().any(|check| check.name == *name));
    Ok(memory)
}

async fn keep(ctx: &RunContext, memory: &Memory) -> Result<(), JobError> {
    Ok(ctx.state_put(STATE, json!(memory)).await?)
}

/// Uses the remedy of a finding if its limits allow it.
async fn act(
    ctx: &RunContext,
    env: &Arc<JobEnv>,
    params: &Params,
    index: usize,
    finding: Finding,
    memory: &mut Memory,
    report: &mut Report,
) -> Result<Option<Used>, JobError> {
    let check = &params.checks[index];
    let (name, limits, now) = (&check.name, check.limits(), ctx.now());
    let finding = if finding.sick.is_empty() {
        finding
    } else {
        // Another check may have taken long, and runs do not wait for that.
        let Some(finding) = look(ctx, env, check).await else {
            memory.entry(name.clone()).or_default().well();
            return Ok(None);
        };
        finding
    };
    ctx.log(format!("{name}: {}", finding.reason)).await;
    report.found.push(json!({ "check": name, "reason": finding.reason }));
    let Some(remedy) = &check.remedy else {
        report.give_up(name, format!("{}; no remedy is set", finding.reason));
        return Ok(None);
    };
    let scope = remedy::scope(remedy, finding, now);
    if !scope.exhausted.is_empty() {
        let reason = format!("{}: tried again as often as may be", scope.exhausted.join(", "));
        report.give_up(name, reason);
    }
    let Some(finding) = scope.now else {
        if let Some(until) = scope.wait {
            report.waiting.push(json!({ "check": name, "until": until, "reason": "its back-off" }));
        }
        return Ok(None);
    };
    match memory.entry(name.clone()).or_default().decide(now, &limits) {
        Decision::Wait(until, why) => {
            report.waiting.push(json!({ "check": name, "until": until, "reason": why }));
            return Ok(None);
        }
        Decision::GiveUp(until) => {
            let until = moment(until);
            report.give_up(name, format!("{}; its remedy did not help, and rests until {until}", finding.reason));
            return Ok(None);
        }
        Decision::Act if params.dry_run || check.dry_run => {
            report.would.push(json!({ "check": name, "remedy": remedy.words() }));
            return Ok(None);
        }
        Decision::Act => {}
    }
    memory.entry(name.clone()).or_default().act(now, &limits);
    keep(ctx, memory).await?;
    ctx.log(format!("{name}: {}", remedy.words())).await;
    match remedy::apply(ctx, env, check, remedy, &finding).await {
        Ok(done) => {
            let runs: Vec<RunId> = done.started.iter().map(|(_, run_id)| *run_id).collect();
            report.done.push(json!({ "check": name, "remedy": remedy.words(), "runs": runs }));
            let started = done.started.clone();
            report.runs.join(done);
            Ok(Some(Used { index, finding, started }))
        }
        Err(reason) => {
            let past = memory.entry(name.clone()).or_default();
            not_helped(ctx, check, past, &format!("could not {}: {reason}", remedy.words()), report).await;
            Ok(None)
        }
    }
}

/// Looks again until the remedy has helped, for as long as the check says.
async fn verify(ctx: RunContext, env: Arc<JobEnv>, params: Arc<Params>, used: Used) -> Effect {
    let check = &params.checks[used.index];
    let longest = (check.verify_for / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut pause = SHORTEST_PAUSE;
    if !rest(&ctx, check.verify_after).await {
        return Effect::Open;
    }
    let give_up = tokio::time::sleep(check.verify_for);
    tokio::pin!(give_up);
    loop {
        let effect = once(&ctx, &env, check, &used).await;
        // How runs ended does not change any more.
        let decided = match effect {
            Effect::Helped => true,
            Effect::NotHelped(_) => !used.finding.sick.is_empty(),
            Effect::Open => false,
        };
        if decided {
            return effect;
        }
        tokio::select! {
            () = &mut give_up => return effect,
            going_on = rest(&ctx, pause) => if !going_on {
                return effect;
            },
        }
        pause = (pause * 2).min(longest);
    }
}

/// Waits; false when the run is cancelled meanwhile.
async fn rest(ctx: &RunContext, time: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = ctx.cancelled() => false,
    }
}

async fn once(ctx: &RunContext, env: &Arc<JobEnv>, check: &Check, used: &Used) -> Effect {
    if !are_over(ctx, &used.started).await {
        return Effect::Open;
    }
    match look(ctx, env, check).await {
        None => Effect::Helped,
        // Of a check that looks at many schedules, those count that something was done about.
        Some(found) if !used.finding.sick.is_empty() => {
            let before = |now: &Sick| used.finding.sick.iter().find(|sick| sick.schedule == now.schedule);
            let still = |now: &Sick| before(now).is_some_and(|before| now.ill.is_still(&before.ill));
            match found.sick.iter().any(still) || found.sick.is_empty() {
                true => Effect::NotHelped(found.reason),
                false => Effect::Helped,
            }
        }
        Some(found) => Effect::NotHelped(found.reason),
    }
}

async fn not_helped(ctx: &RunContext, check: &Check, past: &mut Past, reason: &str, report: &mut Report) {
    ctx.log(format!("{}: not healed: {reason}", check.name)).await;
    report.failed.push(json!({ "check": check.name, "reason": reason }));
    if past.failed(ctx.now(), &check.limits()) {
        report.give_up(&check.name, format!("{reason}; its remedy did not help"));
    }
}
