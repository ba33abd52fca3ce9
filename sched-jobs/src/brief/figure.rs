//! Figures judged: against thresholds, yesterday, a week ago and the stored past; and which seven matter. Pure.

use chrono::{DateTime, Days, NaiveDate, Utc};
use sched_core::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::past::{Past, Unusual};
use crate::render::with_unit;
use crate::sources::{Figure, OWN};

/// A page for two minutes has no more.
pub(super) const MOST: usize = 7;
/// Days before today that the small line shows.
const LINE_DAYS: usize = 29;
/// More rules than this are no page any more.
const MOST_RULES: usize = 50;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Better {
    /// More is better.
    Up,
    /// Less is better.
    Down,
}

/// What is known of a figure.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Which, as "source.figure"; the scheduler's own are "runs.failed", "runs.missed", "runs.success_rate" and
    /// "runs.succeeded".
    figure: String,
    /// What it is called on the page.
    #[serde(default)]
    label: Option<String>,
    /// Its unit.
    #[serde(default)]
    unit: Option<String>,
    /// Which way is good: "up" or "down". Needed with `warn` and `bad`.
    #[serde(default)]
    better: Option<Better>,
    /// From here on it is worth a look.
    #[serde(default)]
    warn: Option<f64>,
    /// From here on it is bad.
    #[serde(default)]
    bad: Option<f64>,
}

impl Rule {
    /// For the scheduler's own figures, unless params say otherwise.
    fn own(figure: &str) -> Option<Self> {
        let rule = |better, warn| {
            Some(Self { figure: figure.to_owned(), label: None, unit: None, better: Some(better), warn, bad: None })
        };
        match figure.strip_prefix(OWN)? {
            ".failed" | ".missed" => rule(Better::Down, Some(1.0)),
            ".success_rate" => rule(Better::Up, None),
            _ => None,
        }
    }

    /// How bad a value is, and by which threshold.
    fn judge(&self, value: f64) -> (Level, Option<f64>) {
        let reached = |limit: &f64| match self.better {
            Some(Better::Up) => value <= *limit,
            Some(Better::Down) => value >= *limit,
            None => false,
        };
        let judged = |limit: Option<f64>, level| limit.filter(reached).map(|limit| (level, Some(limit)));
        judged(self.bad, Level::Bad).or_else(|| judged(self.warn, Level::Warn)).unwrap_or((Level::Ok, None))
    }
}

/// Refuses rules that cannot work.
pub(super) fn check(rules: &[Rule]) -> Result<(), ParamError> {
    if rules.len() > MOST_RULES {
        return Err(ParamError::new("figures", format!("at most {MOST_RULES} can be named")));
    }
    for (index, rule) in rules.iter().enumerate() {
        let fault = |key: &str, message: &str| Err(ParamError::new(format!("figures[{index}].{key}"), message));
        if !rule.figure.contains('.') {
            return fault("figure", "write \"source.figure\", such as \"shop.orders\" or \"runs.failed\"");
        }
        if rules[..index].iter().any(|other| other.figure == rule.figure) {
            return fault("figure", "is named already: write what is known of it once");
        }
        if rule.better.is_none() && (rule.warn.is_some() || rule.bad.is_some()) {
            return fault("better", "say which way is good, \"up\" or \"down\": a threshold is for one of them");
        }
        let wrong = match (rule.better, rule.warn, rule.bad) {
            (Some(Better::Up), Some(warn), Some(bad)) => bad > warn,
            (Some(Better::Down), Some(warn), Some(bad)) => bad < warn,
            _ => false,
        };
        if wrong {
            return fault("bad", "lies on the better side of `warn`: swap them, or the direction");
        }
    }
    Ok(())
}

/// How much a figure needs a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Bad,
    Warn,
    Ok,
}

/// Which way a figure went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Trend {
    Up,
    Down,
    Flat,
}

/// A figure beside one of the past.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Against {
    /// The figure of then.
    value: f64,
    difference: f64,
    /// Of the figure of then; none where that is zero.
    percent: Option<f64>,
    trend: Trend,
    /// Whether that is good; none where nobody said which way is.
    better: Option<bool>,
    /// All of it in words.
    words: String,
}

/// A figure as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rated {
    /// `source.name`.
    pub(super) figure: String,
    source: String,
    pub(super) label: String,
    pub(super) value: Option<f64>,
    unit: Option<String>,
    /// The value with its unit, or that it is missing.
    pub(super) text: String,
    /// Why there is no value.
    missing: Option<String>,
    /// When it was read.
    at: DateTime<Utc>,
    pub(super) level: Level,
    /// The threshold that it has reached.
    threshold: Option<String>,
    pub(super) yesterday: Option<Against>,
    pub(super) last_week: Option<Against>,
    pub(super) unusual: Option<Unusual>,
    /// The days before and today, oldest first.
    line: Vec<Option<f64>>,
    /// What the line shows, in words.
    line_words: String,
    /// Whether params name it.
    #[serde(skip)]
    named: bool,
}

impl Rated {
    /// Whether someone who named it looks for it in vain.
    pub(super) fn is_missed(&self) -> bool {
        self.named && self.value.is_none()
    }

    pub(super) fn is_of(&self, source: &str) -> bool {
        self.source == source
    }
}

fn against(now: f64, then: Option<f64>, unit: Option<&str>, better: Option<Better>, when: &str) -> Option<Against> {
    let then = then?;
    let difference = Some(now - then).filter(|difference| difference.is_finite())?;
    // What is lost in adding floats is no change.
    let flat = difference.abs() <= 1e-9 * now.abs().max(then.abs());
    let percent = (then != 0.0).then(|| (difference / then.abs() * 1000.0).round() / 10.0);
    let (trend, words) = if flat {
        (Trend::Flat, format!("the same as {when}"))
    } else {
        let (trend, more) = if difference > 0.0 { (Trend::Up, "more") } else { (Trend::Down, "less") };
        // Of a percentage, percent would be taken for points.
        let share = percent.filter(|_| unit != Some("%"));
        let share = share.map_or(String::new(), |percent| {
            let sign = if percent > 0.0 { "+" } else { "" };
            format!(" ({sign}{})", with_unit(percent, Some("%")))
        });
        let unit = if unit == Some("%") { Some("points") } else { unit };
        (trend, format!("{} {more} than {when}{share}", with_unit(difference.abs(), unit)))
    };
    let better = better.and_then(|better| match (trend, better) {
        (Trend::Flat, _) => None,
        (Trend::Up, Better::Up) | (Trend::Down, Better::Down) => Some(true),
        _ => Some(false),
    });
    Some(Against { value: then, difference, percent, trend, better, words })
}

fn rate(figure: &Figure, rule: Option<&Rule>, past: &Past, today: NaiveDate) -> Rated {
    let key = key(figure);
    let own = Rule::own(&key);
    let named = rule.is_some();
    let rule = rule.or(own.as_ref());
    let unit = rule.and_then(|rule| rule.unit.clone()).or_else(|| figure.unit.clone());
    let better = rule.and_then(|rule| rule.better);
    let back = |days: u64| today.checked_sub_days(Days::new(days)).and_then(|day| past.on(&key, day));
    let beside = |days: u64, when: &str| {
        figure.value.and_then(|value| against(value, back(days), unit.as_deref(), better, when))
    };
    let (level, limit) = match (figure.value, rule) {
        (Some(value), Some(rule)) => rule.judge(value),
        _ => (Level::Ok, None),
    };
    let word = if better == Some(Better::Up) { "or less" } else { "or more" };
    let level_word = if level == Level::Bad { "bad" } else { "worth a look" };
    let threshold = limit.map(|limit| format!("{level_word}: {} {word}", with_unit(limit, unit.as_deref())));
    let mut line = past.before(&key, today, LINE_DAYS);
    line.push(figure.value);
    let empty = line.iter().take_while(|value| value.is_none()).count();
    line.drain(..empty);
    let line_words = line_words(&line, unit.as_deref());
    let (yesterday, last_week) = (beside(1, "yesterday"), beside(7, &format!("last {}", today.format("%A"))));
    Rated {
        source: figure.source.clone(),
        label: rule.and_then(|rule| rule.label.clone()).unwrap_or_else(|| figure.label.clone()),
        value: figure.value,
        text: figure.value.map_or_else(|| "missing".to_owned(), |value| with_unit(value, unit.as_deref())),
        unit,
        missing: figure.missing.clone(),
        at: figure.at,
        level,
        threshold,
        yesterday,
        last_week,
        unusual: figure.value.and_then(|value| past.judge(&key, today, value)),
        line,
        line_words,
        named,
        figure: key,
    }
}

fn line_words(line: &[Option<f64>], unit: Option<&str>) -> String {
    let told: Vec<f64> = line.iter().flatten().copied().collect();
    let ends = told.iter().copied().reduce(f64::min).zip(told.iter().copied().reduce(f64::max));
    let Some((low, high)) = ends else { return "no value yet".into() };
    match told.len() {
        1 => format!("one day: {}", with_unit(low, unit)),
        days => format!("{days} days: from {} to {}", with_unit(low, unit), with_unit(high, unit)),
    }
}

/// A figure's name beyond its source.
pub(super) fn key(figure: &Figure) -> String {
    format!("{}.{}", figure.source, figure.name)
}

/// All figures, what matters most first: what is bad, worth a look, unusual or missing though it was named; then what
/// was named, in that order; then the scheduler's own, then the rest.
pub(super) fn rank(
    figures: &[Figure],
    rules: &[Rule],
    past: &Past,
    today: NaiveDate,
    now: DateTime<Utc>,
) -> Vec<Rated> {
    let rule_of = |key: &str| rules.iter().position(|rule| rule.figure == key);
    let mut rated: Vec<(usize, Rated)> = figures
        .iter()
        .map(|figure| {
            let place = rule_of(&key(figure));
            let rated = rate(figure, place.map(|place| &rules[place]), past, today);
            let own = if figure.source == OWN { rules.len() } else { rules.len() + 1 };
            (place.unwrap_or(own), rated)
        })
        .collect();
    for (place, rule) in rules.iter().enumerate() {
        if let Some((source, name)) = rule.figure.split_once('.')
            && !rated.iter().any(|(_, rated)| rated.figure == rule.figure)
        {
            let figure = Figure {
                source: source.to_owned(),
                name: name.to_owned(),
                label: rule.figure.clone(),
                value: None,
                unit: None,
                missing: Some("no source gave it".into()),
                at: now,
            };
            rated.push((place, rate(&figure, Some(rule), past, today)));
        }
    }
    let weight = |place: usize, rated: &Rated| {
        let urgent = match rated.level {
            Level::Bad => 0,
            Level::Warn => 1,
            Level::Ok if rated.unusual.is_some() => 2,
            Level::Ok if rated.is_missed() => 3,
            Level::Ok => 4,
        };
        (urgent, place)
    };
    rated.sort_by_key(|(place, rated)| weight(*place, rated));
    rated.into_iter().map(|(_, rated)| rated).collect()
}
