//! What a source gave, as named figures or a table. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sched_core::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// So many figures are taken from one source.
const MOST_FIGURES: usize = 50;
/// So many rows, columns and characters of a cell a table keeps.
const MOST_ROWS: usize = 500;
const MOST_COLUMNS: usize = 20;
const LONGEST_CELL: usize = 300;
/// All cells of a table together, in bytes.
const LARGEST_TABLE: usize = 256 << 10;
const LONGEST_NAME: usize = 100;

/// A figure to take.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "write a JSON Pointer such as \"/orders/open\", or { at = \"/orders/open\", unit = \"€\" }"
)]
pub(super) enum Metric {
    /// A JSON Pointer.
    At(String),
    /// With what is shown beside it.
    Named(NamedMetric),
}

/// A figure with what is shown beside it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedMetric {
    /// A JSON Pointer (RFC 6901) to a number.
    at: String,
    /// Its unit, such as "€", "%" or "s".
    #[serde(default)]
    unit: Option<String>,
    /// What it is called on the page, instead of its name.
    #[serde(default)]
    label: Option<String>,
}

impl Metric {
    fn at(&self) -> &str {
        let (Self::At(at) | Self::Named(NamedMetric { at, .. })) = self;
        at
    }

    fn shown(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::At(_) => (None, None),
            Self::Named(named) => (named.label.clone(), named.unit.clone()),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Column {
    /// The key in each row.
    pub(crate) name: String,
    /// What it is called on the page, instead of its name.
    #[serde(default)]
    pub(crate) label: Option<String>,
    /// Its unit.
    #[serde(default)]
    pub(crate) unit: Option<String>,
}

impl Column {
    /// What people read at its head.
    pub(crate) fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

/// A number that a source gave, or why it gave none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) source: String,
    pub(crate) name: String,
    pub(crate) label: String,
    /// None when it is missing.
    pub(crate) value: Option<f64>,
    pub(crate) unit: Option<String>,
    /// Why there is no value.
    pub(crate) missing: Option<String>,
    /// When it was read.
    pub(crate) at: DateTime<Utc>,
}

/// Rows that a source gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Value>>,
    /// How many rows there were; more than are kept are left out.
    pub(crate) rows_in_all: usize,
}

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reading {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) error: Option<String>,
    /// When it was read.
    pub(crate) at: DateTime<Utc>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) table: Option<Table>,
}

/// Refuses what no document can hold.
pub(super) fn check(
    at: &str,
    pointer: Option<&str>,
    metrics: &BTreeMap<String, Metric>,
    columns: &[Column],
) -> Result<(), ParamError> {
    let named = metrics.iter().map(|(name, metric)| (format!("{at}metrics.{name}"), metric.at()));
    for (place, pointer) in pointer.map(|pointer| (format!("{at}pointer"), pointer)).into_iter().chain(named) {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let message = format!("`{pointer}` is no JSON Pointer: write such as \"/items/0/name\"");
            return Err(ParamError::new(place, message));
        }
    }
    if metrics.len() > MOST_FIGURES {
        return Err(ParamError::new(format!("{at}metrics"), format!("at most {MOST_FIGURES} are taken")));
    }
    if columns.len() > MOST_COLUMNS {
        return Err(ParamError::new(format!("{at}columns"), format!("at most {MOST_COLUMNS} are shown")));
    }
    Ok(())
}

impl Reading {
    /// What a run's record keeps of it: of a table only how large it was.
    pub(crate) fn in_short(&self) -> Value {
        let rows = self.table.as_ref().map(|table| table.rows_in_all);
        json!({ "name": self.name, "ok": self.ok, "error": self.error, "figures": self.figures, "rows": rows })
    }

    /// A source that gave nothing; figures that it was to give are missing.
    pub(super) fn failed(source: &str, error: String, at: DateTime<Utc>, metrics: &BTreeMap<String, Metric>) -> Self {
        let figures = metrics.iter().map(|(name, metric)| {
            let (label, unit) = metric.shown();
            figure(source, name, label, unit, Err("its source failed".into()), at)
        });
        let figures = figures.collect();
        Self { name: source.to_owned(), ok: false, error: Some(error), at, figures, table: None }
    }

    /// Takes figures or a table out of a document.
    pub(super) fn shape(
        source: &str,
        document: &Value,
        metrics: &BTreeMap<String, Metric>,
        columns: &[Column],
        units: &Map<String, Value>,
        at: DateTime<Utc>,
    ) -> Result<Self, String> {
        let mut reading = Self { name: source.to_owned(), ok: true, error: None, at, figures: Vec::new(), table: None };
        if !metrics.is_empty() {
            let figures = metrics.iter().map(|(name, metric)| {
                let (label, unit) = metric.shown();
                figure(source, name, label, unit, value(document, metric.at()), at)
            });
            reading.figures = figures.collect();
        } else if let Value::Array(rows) = document
            && rows.iter().all(Value::is_object)
        {
            reading.table = Some(Table::of(rows, columns, units));
        } else if !columns.is_empty() {
            // A single row of SQL is asked for as a table too.
            reading.table = Some(Table::of(std::slice::from_ref(document), columns, units));
        } else {
            reading.figures = numbers(source, document, units, at);
            if reading.figures.is_empty() {
                return Err("there is no number in it".into());
            }
        }
        Ok(reading)
    }
}

/// The number at a place. One that is written as a text is one too: money often is.
fn value(document: &Value, pointer: &str) -> Result<f64, String> {
    let place = if pointer.is_empty() { "the whole" } else { pointer };
    let found = match document.pointer(pointer) {
        None => return Err(format!("nothing is at {place}")),
        Some(Value::Null) => None,
        Some(Value::Bool(yes)) => Some(f64::from(u8::from(*yes))),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Some(Value::Array(items)) => Some(items.len() as f64),
        Some(Value::Object(_)) => None,
    };
    found.ok_or_else(|| format!("what is at {place} is no number"))
}

fn figure(
    source: &str,
    name: &str,
    label: Option<String>,
    unit: Option<String>,
    value: Result<f64, String>,
    at: DateTime<Utc>,
) -> Figure {
    let (value, missing) = match value {
        Ok(value) => (Some(value), None),
        Err(why) => (None, Some(why)),
    };
    let name = shortened(name, LONGEST_NAME);
    let label = label.unwrap_or_else(|| in_words(&name));
    Figure { source: source.to_owned(), name, label, value, unit, missing, at }
}

/// A name of programs as people read it.
fn in_words(name: &str) -> String {
    let words = name.replace(['_', '.'], " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Every number in a document, named by its path.
fn numbers(source: &str, document: &Value, units: &Map<String, Value>, at: DateTime<Utc>) -> Vec<Figure> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), document)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Number(_) | Value::Null if found.len() < MOST_FIGURES => {
                let unit = units.get(&path).and_then(Value::as_str).map(str::to_owned);
                // Of a nameless null nothing can be said; of a named one, that it is missing.
                if value.is_number() || !units.is_empty() {
                    let name = if path.is_empty() { source } else { &path };
                    let value = value.as_f64().ok_or_else(|| "there is no value yet".to_owned());
                    found.push(figure(source, name, None, unit, value, at));
                }
            }
            Value::Object(fields) => {
                // A long key before many others would be copied for each of them.
                let path = shortened(&path, LONGEST_NAME);
                let dot = if path.is_empty() { "" } else { "." };
                let named = |key: &str| format!("{path}{dot}{}", shortened(key, LONGEST_NAME));
                open.extend(fields.iter().rev().map(|(key, value)| (named(key), value)));
            }
            _ => {}
        }
    }
    found
}

impl Table {
    fn of(rows: &[Value], columns: &[Column], units: &Map<String, Value>) -> Self {
        let columns = if columns.is_empty() {
            let mut names: Vec<&String> = Vec::new();
            for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
                if names.len() < MOST_COLUMNS && !names.contains(&name) {
                    names.push(name);
                }
            }
            let column = |name: &String| Column {
                name: name.clone(),
                label: Some(in_words(&shortened(name, LONGEST_NAME))),
                unit: units.get(name).and_then(Value::as_str).map(str::to_owned),
            };
            names.into_iter().map(column).collect()
        } else {
            columns.to_vec()
        };
        let cell = |row: &Value, column: &Column| match row.get(&column.name) {
            Some(Value::String(text)) => Value::String(shortened(text, LONGEST_CELL)),
            Some(nested @ (Value::Array(_) | Value::Object(_))) => {
                Value::String(shortened(&nested.to_string(), LONGEST_CELL))
            }
            Some(plain) => plain.clone(),
            None => Value::Null,
        };
        let mut size = 0;
        let cells = rows
            .iter()
            .take(MOST_ROWS)
            .map(|row| columns.iter().map(|column| cell(row, column)).collect::<Vec<_>>())
            .take_while(|cells| {
                size += cells.iter().map(|cell| cell.as_str().map_or(8, str::len)).sum::<usize>();
                size <= LARGEST_TABLE
            })
            .collect();
        Self { columns, rows: cells, rows_in_all: rows.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(document: &Value, metrics: Value, columns: Value) -> Result<Reading, String> {
        let metrics = serde_json::from_value(metrics).unwrap();
        let columns: Vec<Column> = serde_json::from_value(columns).unwrap();
        Reading::shape("shop", document, &metrics, &columns, &Map::new(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn numbers_are_named_by_their_path_and_nothing_else_is_a_figure() {
        let document = json!({ "orders": { "open_now": 3, "note": "x" }, "total": 1.5, "list": [1] });
        let found = shape(&document, json!({}), json!([])).unwrap().figures;
        let named: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.label.as_str(), f.value)).collect();
        let expected = [("orders.open_now", "Orders open now", Some(3.0)), ("total", "Total", Some(1.5))];
        assert_eq!(named, expected);
        assert_eq!(shape(&json!(7), json!({}), json!([])).unwrap().figures[0].name, "shop");
        assert_eq!(shape(&json!("x"), json!({}), json!([])), Err("there is no number in it".into()));
    }

    #[test]
    fn figures_that_are_asked_for_are_found_or_missing_with_the_reason() {
        let document = json!({ "a": { "b": "12.50" }, "list": [1, 2], "text": "many", "none": null });
        let metrics = json!({ "money": { "at": "/a/b", "unit": "€", "label": "Income" }, "count": "/list",
            "gone": "/x", "text": "/text", "none": "/none" });
        let found = shape(&document, metrics, json!([])).unwrap().figures;
        let told: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.value, f.missing.as_deref())).collect();
        let expected = [
            ("count", Some(2.0), None),
            ("gone", None, Some("nothing is at /x")),
            ("money", Some(12.5), None),
            ("none", None, Some("what is at /none is no number")),
            ("text", None, Some("what is at /text is no number")),
        ];
        assert_eq!(told, expected);
        assert_eq!((found[2].label.as_str(), found[2].unit.as_deref()), ("Income", Some("€")));
    }

    #[test]
    fn a_list_of_objects_is_a_table_with_every_column_and_a_bound() {
        let rows: Vec<Value> = (0..600).map(|n| json!({ "n": n, "deep": { "x": 1 } })).collect();
        let mut rows = rows;
        rows[3]["late"] = json!("y".repeat(400));
        let table = shape(&json!(rows), json!({}), json!([])).unwrap().table.unwrap();
        let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((names, table.rows.len(), table.rows_in_all), (vec!["n", "deep", "late"], 500, 600));
        assert_eq!(table.rows[3][1], json!("{\"x\":1}"));
        assert_eq!(table.rows[3][2].as_str().unwrap().chars().count(), 301);
        assert_eq!(table.rows[4][2], Value::Null);
        let large: Vec<Value> = (0..500)
            .map(|_| Map::from_iter((0..20).map(|n| (format!("c{n}"), json!("y".repeat(290))))).into())
            .collect();
        let table = shape(&json!(large), json!({}), json!([])).unwrap().table.unwrap();
        assert_eq!((table.rows.len(), table.rows_in_all), (45, 500));
        let chosen = shape(&json!({ "n": 1 }), json!({}), json!([{ "name": "n", "unit": "s" }])).unwrap();
        assert_eq!(chosen.table.unwrap().rows, [[json!(1)]]);
    }
}
