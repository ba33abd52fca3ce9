//! What files, programs and servers give, read as one JSON document. Pure.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// More lines of CSV or text are no table for people.
const MOST_ROWS: usize = 10_000;
const MOST_COLUMNS: usize = 200;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// JSON.
    Json,
    /// Comma-separated values with a head line; a list of objects.
    Csv,
    /// One number; or lines with a name and a number, as `name = 5`, `name: 5` or `name 5`.
    Text,
}

impl Format {
    pub(super) fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "txt" | "prom" => Some(Self::Text),
            _ => None,
        }
    }

    /// Reads bytes.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Value, String> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}")),
            Self::Csv => csv(bytes),
            Self::Text => text(bytes),
        }
    }
}

/// A number as people write it in files, and nothing that only looks like one.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if plain { text.parse().ok().and_then(Number::from_f64) } else { None }
}

fn csv(bytes: &[u8]) -> Result<Value, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let fault = |error: csv::Error| format!("not CSV: {error}");
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let head = reader.headers().map_err(fault)?.clone();
    if head.is_empty() || head.iter().any(str::is_empty) {
        return Err("not CSV: its first line must name every column".into());
    }
    if head.len() > MOST_COLUMNS {
        return Err(format!("more than {MOST_COLUMNS} columns"));
    }
    let mut rows = Vec::new();
    for row in reader.records() {
        if rows.len() == MOST_ROWS {
            return Err(format!("more than {MOST_ROWS} rows"));
        }
        let row = row.map_err(fault)?;
        let cells = head.iter().zip(row.iter()).map(|(name, cell)| {
            let value = match number(cell) {
                Some(number) => Value::Number(number),
                None if cell.is_empty() => Value::Null,
                None => Value::String(cell.to_owned()),
            };
            (name.to_owned(), value)
        });
        rows.push(Value::Object(cells.collect()));
    }
    Ok(Value::Array(rows))
}

fn text(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not text: {error}"))?;
    if let Some(number) = number(text) {
        return Ok(Value::Number(number));
    }
    let mut named = Map::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = |apart: Option<(&'_ str, &str)>| {
            let (name, value) = apart?;
            let name = name.trim_end_matches(|c: char| c.is_whitespace() || c == '=' || c == ':');
            (!name.is_empty()).then_some((name.len(), number(value)?))
        };
        // Names may have such signs within, as the labels of Prometheus do.
        let pair = pair(line.rsplit_once(char::is_whitespace)).or_else(|| pair(line.rsplit_once(['=', ':'])));
        let Some((name, value)) = pair.map(|(length, value)| (&line[..length], value)) else {
            let shown: String = line.chars().take(60).collect();
            return Err(format!("line {}: `{shown}` is not a name and a number", index + 1));
        };
        if named.len() == MOST_ROWS {
            return Err(format!("more than {MOST_ROWS} lines"));
        }
        named.insert(name.to_owned(), Value::Number(value));
    }
    if named.is_empty() { Err("there is no number in it".into()) } else { Ok(Value::Object(named)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(format: Format, text: &str, expected: Result<Value, &str>) {
        match (format.read(text.as_bytes()), expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
            (read, expected) => panic!("{text}: {read:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn csv_is_a_list_of_objects_by_its_head_line_or_says_where_it_is_broken() {
        let rows = json!([{ "day": "mon", "n": 3, "x": 1.5 }, { "day": "a,\"b\"", "n": null, "x": "1,5" }]);
        check(Format::Csv, "\u{feff}day, n,x\nmon,3,1.5\n\"a,\"\"b\"\"\",,\"1,5\"\n", Ok(rows));
        check(Format::Csv, "a,b\n", Ok(json!([])));
        check(Format::Csv, "a,b\n1,2\n3\n", Err("line: 3"));
        check(Format::Csv, "", Err("first line must name every column"));
        check(Format::Csv, "a,,b\n1,2,3", Err("first line must name every column"));
        check(Format::Csv, &format!("a\n{}", "1\n".repeat(10_001)), Err("more than 10000 rows"));
    }

    #[test]
    fn text_is_a_number_or_names_with_numbers() {
        check(Format::Text, " 42 \n", Ok(json!(42)));
        check(Format::Text, "-1.5e3", Ok(json!(-1500.0)));
        check(
            Format::Text,
            "# load\nopen = 3\nclosed: 4\nin work 5.5\n\n",
            Ok(json!({"open":3,"closed":4,"in work":5.5})),
        );
        check(Format::Text, "open=3", Ok(json!({"open":3})));
        let labelled = "# TYPE hits counter\nhits{code=\"200\",path=\"/a b\"} 1027\nload:1m 0.5\n";
        check(Format::Text, labelled, Ok(json!({"hits{code=\"200\",path=\"/a b\"}":1027,"load:1m":0.5})));
        check(Format::Text, "open = 3\nwhat", Err("line 2: `what` is not a name and a number"));
        check(Format::Text, "nan", Err("line 1"));
        check(Format::Text, "inf = infinity", Err("line 1"));
        check(Format::Text, "# nothing\n", Err("no number"));
    }
}
