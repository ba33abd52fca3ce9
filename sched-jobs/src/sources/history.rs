//! The scheduler's own runs as a source.

use chrono::{DateTime, Utc};
use sched_core::ScheduleName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reading::Figure;
use crate::history::{Counts, Statistics};
use crate::render::percent;

/// Which of the scheduler's own runs. They are those of the period of the brief or report.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    /// Only this schedule's; unless set, all.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    schedule: Option<ScheduleName>,
    /// A table with a row for each schedule, instead of figures.
    #[serde(default)]
    by_schedule: bool,
}

/// The units of what it tells.
pub(super) fn units() -> Map<String, Value> {
    let units = [("success_rate", "%"), ("p50", "s"), ("p95", "s"), ("lateness_p50", "s"), ("lateness_p95", "s")];
    units.into_iter().map(|(name, unit)| (name.to_owned(), json!(unit))).collect()
}

/// What is told of some runs. What has no value, such as a rate without runs, is null and shown as missing.
fn figures(counts: &Counts) -> Map<String, Value> {
    let seconds = |ms: Option<u64>| json!(ms.map(|ms| ms as f64 / 1000.0));
    let mut figures = Map::new();
    for (name, count) in [
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("missed", counts.missed),
        ("skipped", counts.skipped),
        ("cancelled", counts.cancelled),
    ] {
        figures.insert(name.into(), json!(count));
    }
    let rate = counts.success_rate().map(|rate| percent(rate, 2));
    figures.insert("success_rate".into(), json!(rate));
    for (name, ms) in [
        ("p50", counts.p50_ms),
        ("p95", counts.p95_ms),
        ("lateness_p50", counts.late_p50_ms),
        ("lateness_p95", counts.late_p95_ms),
    ] {
        figures.insert(name.into(), seconds(ms));
    }
    figures
}

/// What every brief tells of the scheduler's own runs.
pub(crate) fn own_figures(counts: &Counts, at: DateTime<Utc>) -> Vec<Figure> {
    let told = figures(counts);
    let labels = [
        ("failed", "Runs failed", None),
        ("missed", "Fires missed", None),
        ("success_rate", "Success rate", Some("%")),
        ("succeeded", "Runs succeeded", None),
    ];
    let figure = |(name, label, unit): (&str, &str, Option<&str>)| {
        let value = told.get(name).and_then(Value::as_f64);
        Figure {
            source: super::OWN.to_owned(),
            name: name.to_owned(),
            label: label.to_owned(),
            value,
            unit: unit.map(str::to_owned),
            missing: value.is_none().then(|| "nothing has run".to_owned()),
            at,
        }
    };
    labels.map(figure).into()
}

impl History {
    pub(super) fn document(&self, statistics: &Statistics) -> Value {
        let of = |name: &str| self.schedule.as_ref().is_none_or(|only| only.as_str() == name);
        if self.by_schedule {
            let rows = statistics.schedules.iter().filter(|(name, _)| of(name)).map(|(name, counts)| {
                let mut row = Map::from_iter([("schedule".to_owned(), json!(name))]);
                row.extend(figures(counts));
                Value::Object(row)
            });
            return rows.collect();
        }
        let counts = match &self.schedule {
            Some(name) => statistics.schedules.get(name.as_str()).cloned().unwrap_or_default(),
            None => statistics.total.clone(),
        };
        Value::Object(figures(&counts))
    }
}
