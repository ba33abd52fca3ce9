//! What the history and the schedules say beyond counts: what broke, healed, is late, did not run, and comes. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sched_core::{HistoryRow, RunState, ScheduleView};
use serde::Serialize;

use super::compose::MOST;
use crate::history::Period;

/// What starts later than this is late.
const LATE: TimeDelta = TimeDelta::minutes(1);

/// A schedule whose last run failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Broken {
    pub(super) schedule: String,
    /// Since when.
    pub(super) since: DateTime<Utc>,
    /// Failed runs within the period.
    pub(super) failed: u64,
    pub(super) last_error: Option<String>,
    /// Whether it failed before the period already.
    pub(super) still: bool,
}

/// A schedule that had failed and has succeeded since.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Healed {
    pub(super) schedule: String,
    pub(super) failed: u64,
    pub(super) at: DateTime<Utc>,
}

/// Something that did not start when it should.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Late {
    pub(super) schedule: String,
    /// When it was due.
    pub(super) due: DateTime<Utc>,
    /// How late it is, or was.
    pub(super) minutes: i64,
    /// `overdue`, `waiting` for a free place, or `started_late`.
    pub(super) what: &'static str,
}

/// Fires that did not run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct NotRun {
    schedule: String,
    count: u64,
    /// `missed` or `skipped`.
    state: RunState,
    /// Why, in words.
    why: String,
}

/// A coming fire.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Coming {
    pub(super) schedule: String,
    pub(super) next: DateTime<Utc>,
}

/// What the history and the schedules say, beyond counts.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) broke: Vec<Broken>,
    pub(super) healed: Vec<Healed>,
    pub(super) late: Vec<Late>,
    pub(super) not_run: Vec<NotRun>,
    pub(super) today: Vec<Coming>,
    pub(super) today_more: usize,
    /// The next fire after today, when nothing comes today.
    pub(super) next: Option<Coming>,
}

/// What is remembered of one schedule while the history is read, newest first.
#[derive(Debug, Default)]
struct Course {
    /// The newest run that ended well or badly, and when.
    last: Option<(bool, DateTime<Utc>, Option<String>)>,
    failed: u64,
    /// The first failure of the row of failures that lasts, or lasted until the newest success.
    since: Option<DateTime<Utc>>,
    row_ended: bool,
    worst: Option<Late>,
    waiting: Option<DateTime<Utc>>,
    not_run: BTreeMap<(RunState, String), u64>,
}

/// Reads rows, newest first, for what broke, healed, is late or did not run.
#[derive(Debug, Default)]
pub(super) struct Reader(BTreeMap<String, Course>);

impl Reader {
    /// Takes a line of history.
    pub(super) fn read(&mut self, row: &HistoryRow, now: DateTime<Utc>) {
        let course = self.0.entry(row.schedule().to_string()).or_default();
        let run = match row {
            HistoryRow::Range(range) => {
                if !range.superseded {
                    let why = range.reason.explain().to_owned();
                    *course.not_run.entry((range.state, why)).or_default() += range.count;
                }
                return;
            }
            HistoryRow::Run(run) => run,
        };
        if let Some(start) = run.started_at
            && run.attempt == 1
            && start - run.not_before > LATE
        {
            let minutes = (start - run.not_before).num_minutes();
            if course.worst.as_ref().is_none_or(|worst| worst.minutes < minutes) {
                let schedule = run.schedule.to_string();
                course.worst = Some(Late { schedule, due: run.not_before, minutes, what: "started_late" });
            }
        }
        let at = run.finished_at.unwrap_or(run.queued_at);
        match run.state {
            RunState::Queued if now - run.not_before > LATE => {
                course.waiting = course.waiting.min(Some(run.not_before)).or(Some(run.not_before));
            }
            RunState::Skipped | RunState::Missed => {
                let why = run.reason.map_or("no reason is recorded", sched_core::Reason::explain).to_owned();
                *course.not_run.entry((run.state, why)).or_default() += 1;
            }
            RunState::Succeeded => {
                course.row_ended |= course.failed > 0;
                course.last.get_or_insert((true, at, None));
            }
            state if state.is_failure() => {
                course.failed += 1;
                if !course.row_ended {
                    course.since = Some(at);
                }
                course.last.get_or_insert((false, at, run.error.clone()));
            }
            _ => {}
        }
    }

    /// What they come to, beside the schedules of now; `broken` are the schedules that failed at the last brief, and
    /// becomes those that fail now.
    pub(super) fn tell(
        mut self,
        views: &[ScheduleView],
        broken: &mut BTreeMap<String, DateTime<Utc>>,
        period: Period,
        zone: Tz,
    ) -> Told {
        let now = period.until;
        let mut told = Told::default();
        let mut failing = BTreeMap::new();
        let mut coming = Vec::new();
        for view in views {
            let name = view.name.to_string();
            let course = self.0.remove(&name).unwrap_or_default();
            // A run of long ago may be the last one, and is not in the rows.
            let past = view.last.as_ref().filter(|run| run.state == RunState::Succeeded || run.state.is_failure());
            let past = past.map(|run| {
                let ok = run.state == RunState::Succeeded;
                (ok, run.finished_at.unwrap_or(run.queued_at), run.error.clone())
            });
            let last = course.last.clone().or(past);
            let before = broken.get(&name).copied();
            match last {
                Some((false, at, last_error)) => {
                    let since = before.filter(|_| !course.row_ended).or(course.since).unwrap_or(at);
                    failing.insert(name.clone(), since);
                    let still = since < period.from;
                    let last_error = last_error.map(|error| shortened(&error));
                    told.broke.push(Broken { schedule: name.clone(), since, failed: course.failed, last_error, still });
                }
                Some((true, at, _)) if before.is_some() || course.failed > 0 => {
                    told.healed.push(Healed { schedule: name.clone(), failed: course.failed, at });
                }
                // Neither well nor badly ended since: it is as it was.
                None => failing.extend(before.map(|since| (name.clone(), since))),
                Some(_) => {}
            }
            let since_due = |due: DateTime<Utc>| (now - due).num_minutes();
            if let Some(due) = view.next.filter(|next| now - *next > LATE) {
                told.late.push(Late { schedule: name.clone(), due, minutes: since_due(due), what: "overdue" });
            } else if let Some(due) = course.waiting {
                told.late.push(Late { schedule: name.clone(), due, minutes: since_due(due), what: "waiting" });
            } else {
                told.late.extend(course.worst);
            }
            let not_run = |((state, why), count)| NotRun { schedule: name.clone(), count, state, why };
            told.not_run.extend(course.not_run.into_iter().map(not_run));
            coming.extend(view.next.filter(|next| *next >= now - LATE).map(|next| Coming { schedule: name, next }));
        }
        *broken = failing;
        told.broke.sort_by_key(|broken| (broken.still, std::cmp::Reverse(broken.failed)));
        told.late.sort_by_key(|late| (late.what == "started_late", std::cmp::Reverse(late.minutes)));
        told.not_run.sort_by_key(|not_run| (not_run.state != RunState::Missed, std::cmp::Reverse(not_run.count)));
        coming.sort_by(|one, other| (one.next, &one.schedule).cmp(&(other.next, &other.schedule)));
        let today = now.with_timezone(&zone).date_naive();
        let (today, later): (Vec<_>, Vec<_>) =
            coming.into_iter().partition(|coming| coming.next.with_timezone(&zone).date_naive() <= today);
        told.next = later.into_iter().next();
        told.today_more = today.len().saturating_sub(MOST);
        told.today = today.into_iter().take(MOST).collect();
        told
    }
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(240) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
