//! Sections: what a source gave, as figures beside the period before, a table or a chart. Pure.

use sched_core::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::render::{Chart, Drawn, Series, Shape, with_unit};
use crate::sources::{Column, Reading, Table};

/// More sections than this are no report any more.
const MOST: usize = 50;
/// As many columns a chart draws.
const MOST_DRAWN: usize = 4;

/// How a section shows its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Show {
    /// Figures as a list, rows as a table.
    #[default]
    Table,
    /// Bars, one for each row.
    Bar,
    /// A line through the rows.
    Line,
}

/// A section of the page.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    /// What stands above it; the source's name unless set.
    #[serde(default)]
    title: Option<String>,
    /// The name of its source.
    source: String,
    /// "table", or of a source with rows "bar" or "line".
    #[serde(default)]
    show: Show,
    /// For a chart: the column that gives the labels.
    #[serde(default)]
    x: Option<String>,
    /// For a chart: the columns to draw, 4 at most.
    #[serde(default)]
    y: Vec<String>,
    /// For a chart: the unit of its axis.
    #[serde(default)]
    unit: Option<String>,
}

impl Section {
    /// Without sections in params, each source is one.
    pub(super) fn of(source: &str) -> Self {
        Self { title: None, source: source.to_owned(), show: Show::Table, x: None, y: vec![], unit: None }
    }
}

/// Refuses sections that cannot work with these sources.
pub(super) fn check(sections: &[Section], sources: &[&str]) -> Result<(), ParamError> {
    if sections.len() > MOST {
        return Err(ParamError::new("sections", format!("at most {MOST} are shown")));
    }
    for (index, section) in sections.iter().enumerate() {
        let fault = |key: &str, message: String| Err(ParamError::new(format!("sections[{index}].{key}"), message));
        if !sources.contains(&section.source.as_str()) {
            let known = if sources.is_empty() { "none".to_owned() } else { sources.join(", ") };
            return fault("source", format!("`{}` is not among the sources: {known}", section.source));
        }
        let chart = section.show != Show::Table;
        if chart && section.x.is_none() {
            return fault("x", "a chart needs the column that gives its labels".into());
        }
        if chart && !(1..=MOST_DRAWN).contains(&section.y.len()) {
            return fault("y", format!("a chart draws 1 to {MOST_DRAWN} columns"));
        }
        if !chart && (section.x.is_some() || !section.y.is_empty() || section.unit.is_some()) {
            return fault("show", "x, y and unit are for \"bar\" and \"line\"".into());
        }
    }
    Ok(())
}

/// A figure beside that of the period before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Compared {
    pub(super) label: String,
    pub(super) value: Option<f64>,
    unit: Option<String>,
    text: String,
    /// Why there is no value.
    missing: Option<String>,
    before: Option<f64>,
    before_text: Option<String>,
    /// The difference in words.
    change: Option<String>,
}

impl Compared {
    pub(super) fn new(label: &str, value: Option<f64>, unit: Option<&str>, before: Option<f64>) -> Self {
        let change = value.zip(before).and_then(|(value, before)| change(value, before, unit));
        Self {
            label: label.to_owned(),
            value,
            unit: unit.map(str::to_owned),
            text: value.map_or_else(|| "–".into(), |value| with_unit(value, unit)),
            missing: value.is_none().then(|| "there is no value".to_owned()),
            before,
            before_text: before.map(|before| with_unit(before, unit)),
            change,
        }
    }

    pub(super) const fn before(&self) -> Option<f64> {
        self.before
    }

    pub(super) fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }
}

fn change(value: f64, before: f64, unit: Option<&str>) -> Option<String> {
    let difference = Some(value - before).filter(|difference| difference.is_finite())?;
    if difference.abs() <= 1e-9 * value.abs().max(before.abs()) {
        return Some("the same".into());
    }
    let arrow = if difference > 0.0 { "▲" } else { "▼" };
    let word = if difference > 0.0 { "more" } else { "less" };
    let percent = (before != 0.0 && unit != Some("%")).then(|| (difference / before.abs() * 1000.0).round() / 10.0);
    let unit = if unit == Some("%") { Some("points") } else { unit };
    let share = percent.map_or(String::new(), |percent| {
        format!(" ({}{})", if percent > 0.0 { "+" } else { "" }, with_unit(percent, Some("%")))
    });
    Some(format!("{arrow} {} {word}{share}", with_unit(difference.abs(), unit)))
}

/// A section as the document has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Shown {
    pub(super) title: String,
    pub(super) source: String,
    /// When its source was read.
    at: chrono::DateTime<chrono::Utc>,
    /// Why it shows nothing.
    error: Option<String>,
    pub(super) figures: Vec<Compared>,
    pub(super) table: Option<Table>,
    /// For the page alone: the document has the table.
    #[serde(skip)]
    pub(super) chart: Option<Drawn>,
}

impl Section {
    pub(super) fn is_of(&self, reading: &Reading) -> bool {
        self.source == reading.name
    }

    /// Shows what its source gave; `before` knows a figure of the period before by `source.figure`.
    pub(super) fn show(&self, reading: &Reading, before: impl Fn(&str) -> Option<f64>) -> Shown {
        let title = self.title.clone().unwrap_or_else(|| self.source.clone());
        let figures = reading.figures.iter().map(|figure| {
            let before = before(&format!("{}.{}", figure.source, figure.name));
            let compared = Compared::new(&figure.label, figure.value, figure.unit.as_deref(), before);
            Compared { missing: figure.missing.clone(), ..compared }
        });
        let mut shown = Shown {
            title: title.clone(),
            source: self.source.clone(),
            at: reading.at,
            error: reading.error.as_ref().map(|error| format!("the source failed: {error}")),
            figures: figures.collect(),
            table: reading.table.clone(),
            chart: None,
        };
        if self.show != Show::Table && shown.error.is_none() {
            match self.draw(title, reading) {
                Ok(chart) => shown.chart = Some(chart),
                Err(error) => shown.error = Some(error),
            }
        }
        shown
    }

    fn draw(&self, title: String, reading: &Reading) -> Result<Drawn, String> {
        let table = reading.table.as_ref().ok_or("the source gave figures, and a chart needs rows")?;
        let place = |name: &str| {
            let place = table.columns.iter().position(|column| column.name == name);
            place.ok_or_else(|| format!("the source gave no column `{name}`"))
        };
        let x = place(self.x.as_deref().unwrap_or_default())?;
        let labels = table.rows.iter().map(|row| match &row[x] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        let mut series = Vec::new();
        for name in &self.y {
            let y = place(name)?;
            let values = table.rows.iter().map(|row| row[y].as_f64()).collect();
            series.push(Series { name: Column::title(&table.columns[y]).to_owned(), tone: None, values });
        }
        let shape = if self.show == Show::Bar { Shape::Bars } else { Shape::Lines };
        let unit = self.unit.clone().or_else(|| {
            let y = self.y.first().and_then(|name| place(name).ok())?;
            table.columns[y].unit.clone()
        });
        let chart = Chart { title, unit, shape, labels: labels.collect(), series };
        chart.draw().ok_or_else(|| "there is no number to draw".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_in_words() {
        let told = |value, unit, before| Compared::new("x", Some(value), unit, Some(before)).change.unwrap();
        assert_eq!(told(110.0, Some("€"), 100.0), "▲ €10 more (+10\u{a0}%)");
        assert_eq!(told(97.5, Some("%"), 99.0), "▼ 1.5\u{a0}points less");
        assert_eq!(told(3.0, None, 0.0), "▲ 3 more");
        assert_eq!(told(0.1 + 0.2, None, 0.3), "the same");
        assert_eq!(Compared::new("x", None, None, Some(1.0)).change, None);
        assert_eq!(Compared::new("x", Some(1e308), None, Some(-1e308)).change, None, "beyond what can be reckoned");
    }

    #[test]
    fn a_chart_that_cannot_be_drawn_says_why() {
        let section = |value: Value| serde_json::from_value::<Section>(value).unwrap();
        let column = |name: &str| Column { name: name.into(), label: None, unit: None };
        let mut reading = Reading {
            name: "s".into(),
            ok: true,
            error: None,
            at: chrono::DateTime::UNIX_EPOCH,
            figures: vec![],
            table: Some(Table {
                columns: vec![column("day"), column("n"), column("text")],
                rows: vec![vec![json!("mon"), json!(3), json!("x")]],
                rows_in_all: 1,
            }),
        };
        let show = |y: &str, reading: &Reading| {
            section(json!({ "source": "s", "show": "bar", "x": "day", "y": [y] })).show(reading, |_| None)
        };
        assert!(show("n", &reading).chart.unwrap().wide.contains("mon, n: 3"));
        assert_eq!(show("m", &reading).error.unwrap(), "the source gave no column `m`");
        assert_eq!(show("text", &reading).error.unwrap(), "there is no number to draw");
        reading.table = None;
        assert_eq!(show("n", &reading).error.unwrap(), "the source gave figures, and a chart needs rows");
        let check = |value: Value, expected: &str| {
            let error = check(&[section(value)], &["s"]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(json!({ "source": "t" }), "sections[0].source: `t` is not among the sources: s");
        check(json!({ "source": "s", "show": "bar", "y": ["n"] }), "sections[0].x: a chart needs the column");
        check(json!({ "source": "s", "show": "line", "x": "day" }), "sections[0].y: a chart draws 1 to 4 columns");
        check(json!({ "source": "s", "x": "day" }), "sections[0].show: x, y and unit are for");
    }
}
