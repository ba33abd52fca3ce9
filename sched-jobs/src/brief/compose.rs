//! The page put together from facts alone. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::figure::{Level, Rated};
use super::told::{Broken, Coming, Healed, Late, NotRun, Told};
use crate::history::{Period, Statistics};
use crate::render::number;
use crate::sources::Reading;

/// The version of the JSON document; it grows when a key changes its meaning or goes.
pub(super) const SCHEMA: u32 = 1;
/// So many lines of each list are shown; the rest is counted.
pub(super) const MOST: usize = 12;
/// Figures beyond those of the page that the document has.
const MOST_OTHERS: usize = 100;
/// As many clauses make a headline.
const MOST_CLAUSES: usize = 3;

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
    let missing = ranked.iter().any(Rated::is_missed);
    let figures_more = ranked.len().saturating_sub(super::figure::MOST);
    let mut figures = ranked;
    let mut others = figures.split_off(figures.len().min(super::figure::MOST));
    others.truncate(MOST_OTHERS);
    let silent = sources.iter().any(|reading| !reading.ok);
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
        [] => match told.healed.iter().filter(|healed| healed.failed > 0).collect::<Vec<_>>().as_slice() {
            // Nobody can say that what is gone is well.
            [] if total.failed == 1 => "one run of the last 24 hours failed, of a schedule that is gone".to_owned(),
            [] => format!("{} runs of the last 24 hours failed, of schedules that are gone", total.failed),
            [one] => {
                format!("{} failed {} in the last 24 hours and is well again", one.schedule, times(one.failed))
            }
            many => format!("{} schedules failed in the last 24 hours and are well again", many.len()),
        },
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
    let answered = |rated: &&Rated| !sources.iter().any(|reading| !reading.ok && rated.is_of(&reading.name));
    match ranked.iter().filter(|rated| rated.is_missed()).filter(answered).collect::<Vec<_>>().as_slice() {
        [] => {}
        [one] => clauses.push(format!("{} is missing", one.label)),
        many => clauses.push(format!("{} figures are missing", many.len())),
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
