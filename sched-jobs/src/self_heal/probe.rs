//! Looking whether things are well.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sched_core::process::Waiting;
use sched_core::{HistoryFilter, HistoryRow, OutboxLine, RunContext, RunState};

use super::params::{Certificate, Check, Disk, FileAge, Free, LastSuccess, Probe, Undelivered, patterns};
use super::runs::{Ill, Reader, Sick, matches, stuck};
use super::{certificate, memory};
use crate::JobEnv;
use crate::command::Command;
use crate::history::walk;
use crate::http::{Marks, connect, host_and_port};
use crate::size::Size;

/// So many of the things that are ill stand in a sentence.
const NAMED: usize = 5;

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// In words, for people.
    pub(super) reason: String,
    /// The schedules that are ill, of a check that looks at runs.
    pub(super) sick: Vec<Sick>,
}

impl From<String> for Finding {
    fn from(reason: String) -> Self {
        Self { reason, sick: Vec::new() }
    }
}

/// A span of time in its two largest units.
pub(super) fn span(span: TimeDelta) -> String {
    let seconds = span.num_seconds().unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., _, _) => format!("{days}d {hours}h"),
        (0, 1.., _) => format!("{hours}h {minutes}m"),
        (0, 0, 1..) => format!("{minutes}m {}s", seconds % 60),
        (0, 0, 0) => format!("{seconds}s"),
    }
}

/// An instant, for people.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn older(than: std::time::Duration, now: DateTime<Utc>) -> DateTime<Utc> {
    let than = TimeDelta::from_std(than).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(than).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Looks once, within the check's time. An error is a finding too: what cannot be looked at is not well.
pub(super) async fn look(ctx: &RunContext, env: &Arc<JobEnv>, check: &Check) -> Option<Finding> {
    if let Probe::Command(program) = &check.check {
        // It gets TERM when its time is up, so it is not simply dropped.
        let stop = async {
            tokio::select! {
                () = ctx.cancelled() => {}
                () = tokio::time::sleep(check.timeout) => {}
            }
        };
        let ran = Command::new(program.clone(), env.clone()).run_until(ctx, stop, Waiting::Runtime).await;
        return ran.err().map(|error| error.message().to_owned().into());
    }
    let looked = tokio::select! {
        looked = tokio::time::timeout(check.timeout, once(ctx, env, &check.check)) => looked,
        // Nobody asks any more.
        () = ctx.cancelled() => return None,
    };
    let late = || Err(format!("no answer within {}s", check.timeout.as_secs_f64()));
    looked.unwrap_or_else(|_| late()).unwrap_or_else(|error| Some(error.into()))
}

async fn once(ctx: &RunContext, env: &Arc<JobEnv>, probe: &Probe) -> Result<Option<Finding>, String> {
    let now = ctx.now();
    let reason = match probe {
        Probe::Http(request) => {
            let answer = request.send(env, &Marks::of(ctx)).await.map_err(|failure| failure.message)?;
            (!answer.status.is_success()).then(|| format!("answered {}", answer.status))
        }
        Probe::Tcp(tcp) => {
            let (host, port) = host_and_port(&tcp.address).ok_or("no address")?;
            connect(host, port).await.map(|_| None)?
        }
        // `look` runs programs.
        Probe::Command(_) => None,
        Probe::FileAge(file) => file_age(file, env, now)?,
        Probe::Disk(disk) => room(disk, env)?,
        Probe::Memory(free) => {
            let memory = memory::measure(Path::new("/"))?;
            free.lacks(memory.available, memory.total)
        }
        Probe::Certificate(wanted) => certificate_left(wanted, now).await?,
        Probe::LastSuccess(wanted) => last_success(ctx, wanted).await?,
        Probe::FailedRuns(runs) => {
            let sick = read(ctx, runs.within).await?.sick();
            return Ok(ill(sick, &runs.schedules, |ill| matches!(ill, Ill::Failed { .. })));
        }
        Probe::MissedRuns(runs) => {
            let reader = read(ctx, runs.within).await?;
            let sick = if runs.every_fire { reader.gaps() } else { reader.sick() };
            return Ok(ill(sick, &runs.schedules, |ill| !matches!(ill, Ill::Failed { .. })));
        }
        Probe::StuckRuns(wanted) => {
            let filter = HistoryFilter { states: vec![RunState::Running], bare: true, ..HistoryFilter::newest(1000) };
            let rows = ctx.history(filter).await.map_err(|error| error.to_string())?;
            let patterns = patterns(&wanted.schedules);
            let stuck = stuck(&rows, ctx.schedule(), now, wanted.longer_than);
            let stuck = stuck.filter(|(schedule, _)| matches(&patterns, schedule));
            listed(stuck.map(|(schedule, time)| format!("{schedule} has been running for {}", span(time))))
        }
        Probe::Undelivered(wanted) => undelivered(ctx, wanted).await?,
    };
    Ok(reason.map(Finding::from))
}

/// What channels have given up, of those and of the time that are looked at.
pub(super) async fn given_up(ctx: &RunContext, wanted: &Undelivered) -> Result<Vec<OutboxLine>, String> {
    const MOST: u32 = 1000;
    let mut rows = ctx.undelivered(MOST).await.map_err(|error| error.to_string())?;
    let patterns = patterns(&wanted.channels);
    let from = older(wanted.within, ctx.now());
    rows.retain(|row| row.ended_at.is_some_and(|at| at >= from));
    rows.retain(|row| patterns.is_empty() || patterns.iter().any(|one| one.matches(row.channel.as_str())));
    Ok(rows)
}

async fn undelivered(ctx: &RunContext, wanted: &Undelivered) -> Result<Option<String>, String> {
    let words = |row: &OutboxLine| {
        let error = row.error.as_deref().unwrap_or("given up");
        format!("{}: {error}", row.channel)
    };
    Ok(listed(given_up(ctx, wanted).await?.iter().map(words)))
}

fn file_age(file: &FileAge, env: &JobEnv, now: DateTime<Utc>) -> Result<Option<String>, String> {
    let path = env.path(&file.path);
    let changed = std::fs::metadata(&path).and_then(|facts| facts.modified());
    let changed = DateTime::<Utc>::from(changed.map_err(|error| format!("{}: {error}", path.display()))?);
    let old = changed < older(file.max_age, now);
    Ok(old.then(|| format!("{} was changed last {} ago", path.display(), span(now - changed))))
}

fn room(disk: &Disk, env: &JobEnv) -> Result<Option<String>, String> {
    let path = env.path(&disk.path);
    let facts = rustix::fs::statvfs(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    let lack = disk.free().lacks(bytes(facts.f_bavail), bytes(facts.f_blocks));
    Ok(lack.map(|lack| format!("{}: {lack}", path.display())))
}

impl Free {
    fn lacks(self, free: u64, total: u64) -> Option<String> {
        let percent = if total == 0 { 0.0 } else { free as f64 / total as f64 * 100.0 };
        let few = self.min_free.is_some_and(|least| free < least.0);
        let small = self.min_free_percent.is_some_and(|least| percent < least);
        (few || small).then(|| format!("{} of {} are free ({percent:.1} %)", Size(free), Size(total)))
    }
}

async fn certificate_left(wanted: &Certificate, now: DateTime<Utc>) -> Result<Option<String>, String> {
    let (host, port) = host_and_port(&wanted.address).ok_or("no address")?;
    let until = certificate::valid_until(host, port, wanted.server_name.as_deref().unwrap_or(host)).await?;
    if until <= now {
        return Ok(Some(format!("the certificate of {} ended {} ago", wanted.address, span(now - until))));
    }
    let enough = older(wanted.min_left, until) >= now;
    Ok((!enough).then(|| format!("the certificate of {} ends in {}", wanted.address, span(until - now))))
}

async fn last_success(ctx: &RunContext, wanted: &LastSuccess) -> Result<Option<String>, String> {
    let name = &wanted.schedule;
    let filter = HistoryFilter { states: vec![RunState::Succeeded], ..HistoryFilter::of(name.clone(), 1) };
    let rows = ctx.history(filter).await.map_err(|error| error.to_string())?;
    let Some(HistoryRow::Run(run)) = rows.first() else {
        return Ok(Some(format!("{name} has no success in the history")));
    };
    let at = run.finished_at.unwrap_or(run.queued_at);
    let old = at < older(wanted.max_age, ctx.now());
    Ok(old.then(|| format!("{name} succeeded last {} ago", span(ctx.now() - at))))
}

async fn read(ctx: &RunContext, within: std::time::Duration) -> Result<Reader, String> {
    let from = older(within, ctx.now());
    let mut reader = Reader::new(ctx.schedule(), from);
    walk(ctx, from, |row| reader.read(row)).await.map_err(|error| error.to_string())?;
    Ok(reader)
}

fn ill(mut sick: Vec<Sick>, schedules: &[String], of_kind: fn(&Ill) -> bool) -> Option<Finding> {
    let patterns = patterns(schedules);
    sick.retain(|sick| of_kind(&sick.ill) && matches(&patterns, &sick.schedule));
    let words = |Sick { schedule, ill }: &Sick| match ill {
        Ill::Failed { error, .. } => {
            let error = error.as_deref().and_then(|error| error.lines().next()).unwrap_or("failed");
            format!("{schedule}: {error}")
        }
        Ill::Missed { count: 1, at } | Ill::Gaps { count: 1, until: at, .. } => {
            format!("{schedule} missed its fire of {}", moment(*at))
        }
        Ill::Missed { count, at } | Ill::Gaps { count, until: at, .. } => {
            format!("{schedule} missed {count} fires, the last of {}", moment(*at))
        }
    };
    let reason = listed(sick.iter().map(words))?;
    Some(Finding { reason, sick })
}

/// The first few, and how many more.
fn listed(items: impl Iterator<Item = String>) -> Option<String> {
    let mut items: Vec<String> = items.collect();
    let more = items.len().saturating_sub(NAMED);
    items.truncate(NAMED);
    if more > 0 {
        items.push(format!("and {more} more"));
    }
    (!items.is_empty()).then(|| items.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_lists_too() {
        let text = |seconds| span(TimeDelta::seconds(seconds));
        assert_eq!([text(5), text(65), text(3700), text(90_000)], ["5s", "1m 5s", "1h 1m", "1d 1h"]);
        assert_eq!(listed(std::iter::empty()), None);
        assert_eq!(listed((1..=7).map(|n| n.to_string())).unwrap(), "1; 2; 3; 4; 5; and 2 more");
    }

    #[test]
    fn what_is_free_is_held_against_both_limits() {
        let lacks = |min_free, min_free_percent, free| Free { min_free, min_free_percent }.lacks(free, 1000);
        assert_eq!(lacks(Some(Size(100)), Some(10.0), 100), None);
        assert_eq!(lacks(Some(Size(101)), None, 100).unwrap(), "100 bytes of 1000 bytes are free (10.0 %)");
        assert!(lacks(None, Some(10.1), 100).is_some());
        assert!(Free { min_free: None, min_free_percent: Some(0.1) }.lacks(0, 0).is_some());
    }
}
