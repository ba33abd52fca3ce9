//! The page put together from facts alone. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sched_core::{HistoryRow, RunState, ScheduleView};
use serde::Serialize;

use super::figure::{Level, Rated};
use crate::history::{Period, Statistics};
use crate::render::number;
use crate::sources::Reading;

/// The version of the JSON document; it grows when a key changes its meaning or goes.
pub(super) const SCHEMA: u32 = 1;
/// So many lines of each list are shown; the rest is counted.
const MOST: usize = 12;
/// Figures beyond those of the page that the document has.
const MOST_OTHERS: usize = 100;
/// What starts later than this is late.
const LATE: TimeDelta = TimeDelta::minutes(1);
/// As many clauses make a headline.
const MOST_CLAUSES: usize = 3;

/// A schedule whose last run failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Broken {
    schedule: String,
    /// Since when.
    since: DateTime<Utc>,
    /// Failed runs within the period.
    failed: u64,
    last_error: Option<String>,
    /// Whether it failed before the period already.
    still: bool,
}

/// A schedule that had failed and has succeeded since.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Healed {
    schedule: String,
    failed: u64,
    at: DateTime<Utc>,
}

/// Something that did not start when it should.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Late {
    schedule: String,
    /// When it was due.
    due: DateTime<Utc>,
    /// How late it is, or was.
    minutes: i64,
    /// `overdue`, `waiting` for a free place, or `started_late`.
    what: &'static str,
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
    schedule: String,
    next: DateTime<Utc>,
}

/// What the history and the schedules say, beyond counts.
#[derive(Debug, Default)]
pub(super) struct Told {
    broke: Vec<Broken>,
    healed: Vec<Healed>,
    late: Vec<Late>,
    not_run: Vec<NotRun>,
    today: Vec<Coming>,
    today_more: usize,
    /// The next fire after today, when nothing comes today.
    next: Option<Coming>,
}

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Brief {
    schema: u32,
    pub(super) title: String,
    generated_at: DateTime<Utc>,
    timezone: String,
    period: Period,
    pub(super) level: Level,
    pub(super) headline: String,
    pub(super) figures: Vec<Rated>,
    /// Figures that the page has no room for.
    figures_more: usize,
    /// The first of these.
    others: Vec<Rated>,
    #[serde(flatten)]
    lists: Lists,
    sources: Vec<Reading>,
}

#[derive(Debug, Serialize)]
struct Lists {
    broke: Vec<Broken>,
    broke_more: usize,
    healed: Vec<Healed>,
    healed_more: usize,
    late: Vec<Late>,
    late_more: usize,
    not_run: Vec<NotRun>,
    not_run_more: usize,
    today: Vec<Coming>,
    today_more: usize,
    next: Option<Coming>,
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

/// Puts the document together.
pub(super) fn compose(
    title: String,
    period: Period,
    zone: Tz,
    statistics: &Statistics,
    ranked: Vec<Rated>,
    told: Told,
    sources: Vec<Reading>,
) -> Brief {
    let headline = headline(zone, statistics, &ranked, &told, &sources);
    let figures_more = ranked.len().saturating_sub(super::figure::MOST);
    let mut figures = ranked;
    let mut others = figures.split_off(figures.len().min(super::figure::MOST));
    others.truncate(MOST_OTHERS);
    let silent = sources.iter().any(|reading| !reading.ok);
    let missing = figures.iter().any(|figure| figure.value.is_none() && figure.level != Level::Ok);
    let worst = figures.iter().map(|figure| figure.level).min().unwrap_or(Level::Ok);
    let odd = silent || missing || told.late.iter().any(|late| late.what != "started_late");
    let level = if told.broke.is_empty() { worst } else { Level::Bad };
    let level = if odd { level.min(Level::Warn) } else { level };
    fn cut<T>(mut list: Vec<T>) -> (Vec<T>, usize) {
        let more = list.len().saturating_sub(MOST);
        list.truncate(MOST);
        (list, more)
    }
    let (broke, broke_more) = cut(told.broke);
    let (healed, healed_more) = cut(told.healed);
    let (late, late_more) = cut(told.late);
    let (not_run, not_run_more) = cut(told.not_run);
    let lists = Lists {
        broke,
        broke_more,
        healed,
        healed_more,
        late,
        late_more,
        not_run,
        not_run_more,
        next: told.next.filter(|_| told.today.is_empty()),
        today: told.today,
        today_more: told.today_more,
    };
    let (generated_at, timezone) = (period.until, zone.name().to_owned());
    Brief {
        schema: SCHEMA,
        title,
        generated_at,
        timezone,
        period,
        level,
        headline,
        figures,
        figures_more,
        others,
        lists,
        sources,
    }
}

fn headline(zone: Tz, statistics: &Statistics, ranked: &[Rated], told: &Told, sources: &[Reading]) -> String {
    let total = &statistics.total;
    let mut clauses = Vec::new();
    let outside = |rated: &&Rated| !rated.figure.starts_with("runs.");
    let at = |level: Level| move |rated: &&Rated| rated.level == level && outside(rated);
    if let Some(rated) = ranked.iter().find(at(Level::Bad)) {
        clauses.push(format!("{} is at {}, which is bad", rated.label, rated.text));
    }
    let failed: u64 = told.broke.iter().map(|broken| broken.failed).sum();
    let runs = match told.broke.as_slice() {
        [] if total.succeeded + total.failed == 0 => "no run has ended in the last 24 hours".to_owned(),
        [] if total.failed == 0 && total.succeeded == 1 => "the one run of the last 24 hours succeeded".to_owned(),
        [] if total.failed == 0 => {
            format!("all {} runs of the last 24 hours succeeded", number(total.succeeded as f64))
        }
        [] => {
            let healed = told.healed.iter().map(|healed| healed.schedule.as_str()).next().unwrap_or("a schedule");
            match told.healed.len() {
                0 | 1 => format!("{healed} failed {} in the last 24 hours and is well again", times(total.failed)),
                many => format!("{many} schedules failed in the last 24 hours and are well again"),
            }
        }
        [one] if one.failed == 0 => {
            let since = one.since.with_timezone(&zone).format("%-d %B");
            format!("{} has been failing since {since}", one.schedule)
        }
        [one] => format!("{} failed {} in the last 24 hours", one.schedule, times(one.failed)),
        many if failed == 0 => format!("{} schedules are still failing", many.len()),
        many => format!("{failed} runs of {} schedules failed in the last 24 hours", many.len()),
    };
    clauses.push(runs);
    let overdue = told.late.iter().filter(|late| late.what != "started_late").collect::<Vec<_>>();
    match overdue.as_slice() {
        [] => {}
        [one] => clauses.push(format!("{} is {} late", one.schedule, minutes(one.minutes))),
        many => clauses.push(format!("{} schedules are late", many.len())),
    }
    if total.missed > 0 {
        clauses.push(format!("{} {} missed", total.missed, if total.missed == 1 { "fire was" } else { "fires were" }));
    }
    let silent = sources.iter().filter(|reading| !reading.ok).count();
    if silent > 0 {
        clauses.push(format!("{silent} of {} sources gave no answer", sources.len()));
    }
    if let Some(rated) = ranked.iter().find(at(Level::Warn)) {
        clauses.push(format!("{} is worth a look at {}", rated.label, rated.text));
    }
    if let Some(rated) =
        ranked.iter().find(|rated| rated.unusual.is_some() && rated.level == Level::Ok && outside(rated))
    {
        clauses.push(format!("{} is unusual at {}", rated.label, rated.text));
    }
    clauses.truncate(MOST_CLAUSES);
    let text = clauses.join("; ");
    // The name of a schedule is written as it is.
    let mut names =
        told.broke.iter().map(|broken| &broken.schedule).chain(told.healed.iter().map(|healed| &healed.schedule));
    if names.any(|name| text.starts_with(name.as_str())) { text } else { capital(&text) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn minutes(minutes: i64) -> String {
    match minutes {
        ..=1 => "a minute".into(),
        2..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}
