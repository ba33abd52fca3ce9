//! The report put together from facts alone, as a document, a page's facts and a table. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Value, json};

use super::period::Span;
use super::section::{Compared, Shown};
use super::versions::Version;
use crate::history::{Counts, Period, Statistics};
use crate::render::{Chart, Drawn, Series, Shape, number, percent};
use crate::sources::Reading;

/// The version of the JSON document; it grows when a key changes its meaning or goes.
const SCHEMA: u32 = 1;

/// What ran in a part of the period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Part {
    label: String,
    #[serde(flatten)]
    period: Period,
    succeeded: u64,
    failed: u64,
    missed: u64,
    skipped: u64,
}

impl Part {
    pub(super) fn of((label, period): (String, Period), statistics: &Statistics) -> Self {
        let Counts { succeeded, failed, missed, skipped, .. } = statistics.total;
        Self { label, period, succeeded, failed, missed, skipped }
    }
}

/// One schedule's runs.
#[derive(Debug, Serialize)]
struct Row {
    schedule: String,
    success_rate: Option<f64>,
    #[serde(flatten)]
    counts: Counts,
}

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    schema: u32,
    pub(super) title: String,
    pub(super) headline: String,
    pub(super) period: Span,
    before_period: Period,
    timezone: String,
    generated_at: DateTime<Utc>,
    pub(super) version: u32,
    pub(super) replaces: Option<Version>,
    runs: Vec<Compared>,
    rows: Vec<Row>,
    pub(super) total: Counts,
    before: Counts,
    reasons: BTreeMap<String, u64>,
    parts: Vec<Part>,
    sections: Vec<Shown>,
    pub(super) sources: Vec<Reading>,
}

/// What a report is made of, beside its period.
pub(super) struct Facts {
    pub(super) title: String,
    pub(super) zone: Tz,
    pub(super) now: DateTime<Utc>,
    pub(super) version: (u32, Option<Version>),
    pub(super) statistics: Statistics,
    pub(super) before: Statistics,
    pub(super) parts: Vec<Part>,
    pub(super) sections: Vec<Shown>,
    pub(super) sources: Vec<Reading>,
}

pub(super) fn compose(span: Span, facts: Facts) -> Document {
    let Facts { title, zone, now, version, statistics, before, parts, sections, sources } = facts;
    let headline = headline(&statistics, &before, &sources);
    let runs = runs(&statistics.total, &before.total);
    let rows = statistics.schedules.into_iter().map(|(schedule, counts)| Row {
        schedule,
        success_rate: counts.success_rate(),
        counts,
    });
    Document {
        schema: SCHEMA,
        title,
        headline,
        before_period: span.before,
        period: span,
        timezone: zone.name().to_owned(),
        generated_at: now,
        version: version.0,
        replaces: version.1,
        runs,
        rows: rows.collect(),
        reasons: statistics.total.reasons.clone(),
        total: statistics.total,
        before: before.total,
        parts,
        sections,
        sources,
    }
}

fn headline(now: &Statistics, before: &Statistics, sources: &[Reading]) -> String {
    let rate = |statistics: &Statistics| statistics.total.success_rate().map(|rate| percent(rate, 1));
    let ran = number((now.total.succeeded + now.total.failed) as f64);
    let mut headline = match (rate(now), rate(before)) {
        (None, _) => "Nothing ran in this period".to_owned(),
        (Some(rate), None) => format!("{rate:.1} % of {ran} runs succeeded"),
        (Some(rate), Some(earlier)) => {
            format!("{rate:.1} % of {ran} runs succeeded, after {earlier:.1} % in the period before")
        }
    };
    let silent = sources.iter().filter(|reading| !reading.ok).count();
    if silent > 0 {
        headline.push_str(&format!("; {silent} of {} sources gave no answer", sources.len()));
    }
    headline
}

fn runs(now: &Counts, before: &Counts) -> Vec<Compared> {
    let rate = |counts: &Counts| counts.success_rate().map(|rate| percent(rate, 2));
    let seconds = |ms: Option<u64>| ms.map(|ms| ms as f64 / 1000.0);
    // Where nothing ran before, there is nothing to compare with.
    let known = before.succeeded + before.failed + before.missed + before.skipped > 0;
    let count = |label: &str, of: fn(&Counts) -> u64| {
        Compared::new(label, Some(of(now) as f64), None, known.then(|| of(before) as f64))
    };
    let time = |label: &str, of: fn(&Counts) -> Option<u64>| {
        Compared::new(label, seconds(of(now)), Some("s"), seconds(of(before)))
    };
    vec![
        Compared::new("Success rate", rate(now), Some("%"), rate(before)),
        count("Succeeded", |counts| counts.succeeded),
        count("Failed", |counts| counts.failed),
        count("Missed", |counts| counts.missed),
        count("Skipped", |counts| counts.skipped),
        time("Duration, median", |counts| counts.p50_ms),
        time("Duration, 95th percentile", |counts| counts.p95_ms),
        time("Late by, median", |counts| counts.late_p50_ms),
        time("Late by, 95th percentile", |counts| counts.late_p95_ms),
    ]
}

impl Document {
    /// What a page shows: the document with its charts.
    pub(super) fn page(&self) -> Result<Value, serde_json::Error> {
        let mut page = serde_json::to_value(self)?;
        page["runs_chart"] = json!(self.chart());
        for (index, shown) in self.sections.iter().enumerate() {
            page["sections"][index]["chart"] = json!(shown.chart);
        }
        Ok(page)
    }

    fn chart(&self) -> Option<Drawn> {
        let any = self.parts.iter().any(|part| part.succeeded + part.failed > 0);
        let series = |name: &str, tone, of: fn(&Part) -> u64| Series {
            name: name.to_owned(),
            tone: Some(tone),
            values: self.parts.iter().map(|part| Some(of(part) as f64)).collect(),
        };
        let chart = Chart {
            title: "Runs by time".into(),
            unit: Some("runs".into()),
            shape: Shape::Stack,
            labels: self.parts.iter().map(|part| part.label.clone()).collect(),
            series: vec![
                series("Failed", "poor", |part| part.failed),
                series("Succeeded", "fine", |part| part.succeeded),
            ],
        };
        if any { chart.draw() } else { None }
    }

    /// All figures and tables as lines of section, row, column, value and unit.
    pub(super) fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["section", "row", "column", "value", "unit"])?;
        let mut line = |section: &str, row: &str, column: &str, value: &str, unit: Option<&str>| {
            let cells = [section, row, column, value, unit.unwrap_or_default()];
            writer.write_record(cells.map(inert).each_ref().map(AsRef::<str>::as_ref))
        };
        for compared in &self.runs {
            for (column, value) in [("value", compared.value), ("before", compared.before())] {
                line("runs", &compared.label, column, &plain(&json!(value)), compared.unit())?;
            }
        }
        for row in &self.rows {
            let counts = &row.counts;
            for (column, value) in [
                ("succeeded", json!(counts.succeeded)),
                ("failed", json!(counts.failed)),
                ("missed", json!(counts.missed)),
                ("skipped", json!(counts.skipped)),
                ("success_rate", json!(row.success_rate)),
                ("p50_ms", json!(counts.p50_ms)),
                ("p95_ms", json!(counts.p95_ms)),
            ] {
                line("schedules", &row.schedule, column, &plain(&value), None)?;
            }
        }
        for (reason, count) in &self.reasons {
            line("reasons", reason, "fires", &count.to_string(), None)?;
        }
        for shown in &self.sections {
            for compared in &shown.figures {
                for (column, value) in [("value", compared.value), ("before", compared.before())] {
                    line(&shown.title, &compared.label, column, &plain(&json!(value)), compared.unit())?;
                }
            }
            let Some(table) = &shown.table else { continue };
            for (number, row) in table.rows.iter().enumerate() {
                for (column, cell) in table.columns.iter().zip(row) {
                    let number = (number + 1).to_string();
                    line(&shown.title, &number, column.title(), &plain(cell), column.unit.as_deref())?;
                }
            }
        }
        writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A cell that no spreadsheet takes for a formula: what begins like one and is no number gets a quote before it.
fn inert(cell: &str) -> std::borrow::Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err() {
        format!("'{cell}").into()
    } else {
        cell.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_compares_and_invents_nothing() {
        let none = Statistics::default();
        let mut some = Statistics::default();
        (some.total.succeeded, some.total.failed) = (199, 1);
        assert_eq!(headline(&none, &none, &[]), "Nothing ran in this period");
        assert_eq!(headline(&none, &some, &[]), "Nothing ran in this period");
        assert_eq!(headline(&some, &none, &[]), "99.5 % of 200 runs succeeded");
        some.total.succeeded = 99_999;
        assert_eq!(headline(&some, &none, &[]), "99.9 % of 100,000 runs succeeded");
        some.total.succeeded = 199;
        assert_eq!(headline(&some, &some, &[]), "99.5 % of 200 runs succeeded, after 99.5 % in the period before");
        assert!(runs(&some.total, &none.total).iter().all(|compared| compared.before().is_none()));
    }

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, expected) in
            [("=1+1", "'=1+1"), ("-5", "-5"), ("-x", "'-x"), ("@a", "'@a"), ("a=1", "a=1"), ("", "")]
        {
            assert_eq!(inert(cell), expected);
        }
    }
}
