//! Reads TOML tables with their places, gathering faults instead of stopping at the first.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, ConfigErrors};

/// The faults found so far.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: RefCell<Vec<ConfigError>>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// A fault at a byte of the text.
    pub(super) fn add(&self, at: usize, message: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        self.found.borrow_mut().push(ConfigError { line, column, message: message.into() });
    }

    /// A fault outside the text.
    pub(super) fn add_global(&self, message: String) {
        self.found.borrow_mut().push(ConfigError { line: 0, column: 0, message });
    }

    pub(super) fn finish(self) -> ConfigErrors {
        let mut found = self.found.into_inner();
        found.sort_by_key(|error| (error.line, error.column));
        ConfigErrors(found)
    }
}

/// One table, of which each key is read once; what is left over is unknown.
pub(super) struct Reader<'t> {
    table: &'t DeTable<'t>,
    faults: &'t Faults<'t>,
    known: BTreeSet<String>,
}

pub(super) type Place<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Reader<'t> {
    pub(super) fn new(table: &'t DeTable<'t>, faults: &'t Faults<'t>) -> Self {
        Self { table, faults, known: BTreeSet::new() }
    }

    pub(super) fn value(&mut self, key: &str) -> Option<Place<'t>> {
        self.known.insert(key.to_owned());
        self.table.get(key)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    pub(super) fn table(&mut self, key: &str) -> Option<Self> {
        let place = self.value(key)?;
        match place.get_ref() {
            DeValue::Table(table) => Some(Reader::new(table, self.faults)),
            _ => {
                self.faults.add(place.span().start, format!("`{key}` is a table"));
                None
            }
        }
    }

    /// Reads a text through `parse` into `target`.
    pub(super) fn parsed<T>(&mut self, key: &str, target: &mut T, parse: impl Fn(&str) -> Result<T, String>) {
        let Some(place) = self.value(key) else { return };
        let at = place.span().start;
        match place.get_ref() {
            DeValue::String(text) => match parse(text) {
                Ok(value) => *target = value,
                Err(message) => self.faults.add(at, format!("{key}: {message}")),
            },
            _ => self.faults.add(at, format!("`{key}` is a text in quotes")),
        }
    }

    /// Reads true or false.
    pub(super) fn flag(&mut self, key: &str, target: &mut bool) {
        let Some(place) = self.value(key) else { return };
        match place.get_ref() {
            DeValue::Boolean(value) => *target = *value,
            _ => self.faults.add(place.span().start, format!("`{key}` is true or false, without quotes")),
        }
    }

    /// Reads a whole number from 1.
    pub(super) fn count(&mut self, key: &str, target: &mut usize) {
        let Some(place) = self.value(key) else { return };
        match json(place).as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0) {
            Some(value) => *target = value,
            None => self.faults.add(place.span().start, format!("`{key}` is a whole number from 1")),
        }
    }

    /// Reads a list of dates.
    pub(super) fn dates(&mut self, key: &str, target: &mut BTreeMap<String, Vec<NaiveDate>>) {
        let Some(place) = self.value(key) else { return };
        match serde_json::from_value(json(place)) {
            Ok(dates) => drop(target.insert(key.to_owned(), dates)),
            Err(_) => {
                let message = format!("`{key}` is a list of dates, such as [2026-12-25, 2026-12-26]");
                self.faults.add(place.span().start, message);
            }
        }
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.known.contains(name) {
                let near = crate::suggest::near(name, self.known.iter().map(String::as_str));
                self.faults.add(key.span().start, format!("unknown key `{name}`{near}"));
            }
        }
    }
}

/// Reports the numbers that JSON has no word for. Read as nothing, they would be as if nobody had written them.
pub(super) fn check_numbers(place: Place<'_>, faults: &Faults<'_>) {
    let at = place.span().start;
    match place.get_ref() {
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            faults.add(at, format!("{number} is no whole number of 64 bits: write a smaller one"));
        }
        DeValue::Float(number) if !number.as_str().parse::<f64>().is_ok_and(f64::is_finite) => {
            faults.add(at, format!("{number} is not a number that can be reckoned with: write one with digits"));
        }
        DeValue::Array(items) => items.iter().for_each(|item| check_numbers(item, faults)),
        DeValue::Table(table) => table.values().for_each(|value| check_numbers(value, faults)),
        _ => {}
    }
}

/// The JSON value of a TOML value; dates and times become texts.
pub(super) fn json(place: Place<'_>) -> Value {
    match place.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(json).collect(),
        DeValue::Table(table) => Value::Object(json_table(table)),
    }
}

pub(super) fn json_table(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value))).collect()
}

/// The place of the value at a path with dots; as deep as it leads.
pub(super) fn locate<'t>(mut place: Place<'t>, path: &str) -> Place<'t> {
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match place.get_ref() {
            DeValue::Table(table) => table.get(step),
            DeValue::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(next) = next else { break };
        place = next;
    }
    place
}

/// Tells of a value that does not fit, at its place; an unknown key is best shown at the key itself.
pub(super) fn tell(error: &serde_path_to_error::Error<serde_json::Error>, fault: &dyn Fn(&str, String)) {
    let path = error.path().to_string();
    let prefix = if path == "." { String::new() } else { format!("{path}: ") };
    let message = error.inner().to_string();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    match unknown {
        Some(key) => {
            let near = crate::suggest::near(key, known.into_iter());
            fault(&format!("{path}.{key}"), format!("unknown key `{key}`{near}"));
        }
        None => fault(&path, format!("{prefix}{message}")),
    }
}
