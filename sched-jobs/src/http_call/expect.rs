//! What an answer must be: status codes, and values at JSON Pointers. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sched_core::ParamError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is taken from an answer, as JSON, is no larger than this in all.
const MOST_EXTRACTED: usize = 64 * 1024;
/// As much of a value stands in a message.
const SHOWN: usize = 80;

/// Status codes as they are written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "write a status code such as 204, or \"2xx\", or \"200-204\"")]
pub(super) enum Written {
    /// One.
    Code(u16),
    /// "2xx", or "200-204".
    Range(String),
}

/// Status codes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub(super) struct Codes(RangeInclusive<u16>);

impl TryFrom<Written> for Codes {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let range = match &written {
            Written::Code(code) => Some(*code..=*code),
            Written::Range(text) => match (text.strip_suffix("xx"), text.split_once('-')) {
                (Some(hundreds), _) => hundreds.parse().ok().filter(|n| *n < 10).map(|n: u16| n * 100..=n * 100 + 99),
                (None, Some((from, until))) => {
                    let ends = from.trim().parse().ok().zip(until.trim().parse().ok());
                    ends.map(|(from, until)| from..=until)
                }
                (None, None) => text.parse().ok().map(|code| code..=code),
            },
        };
        let range = range.filter(|range| !range.is_empty() && *range.start() >= 100 && *range.end() <= 599);
        range.map(Self).ok_or_else(|| "write status codes as 204, \"2xx\" or \"200-204\", from 100 to 599".into())
    }
}

impl Codes {
    pub(super) fn contain(&self, code: u16) -> bool {
        self.0.contains(&code)
    }
}

/// What must stand at a place of the answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    /// A JSON Pointer (RFC 6901) into the answer.
    pointer: String,
    /// It is this value.
    #[serde(default)]
    equals: Option<Value>,
    /// It is a number, and no less.
    #[serde(default)]
    min: Option<f64>,
    /// It is a number, and no more.
    #[serde(default)]
    max: Option<f64>,
    /// It is a text with this in it, or a list with this value in it.
    #[serde(default)]
    contains: Option<Value>,
    /// It is there, or with `false` it is not.
    #[serde(default)]
    exists: Option<bool>,
}

/// Whether a text is a JSON Pointer.
pub(super) fn check_pointer(place: &str, pointer: &str) -> Result<(), ParamError> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(ParamError::new(place, format!("`{pointer}` is no JSON Pointer: write such as \"/items/0/name\"")))
}

impl Expectation {
    pub(super) fn check(&self, place: &str) -> Result<(), ParamError> {
        check_pointer(&format!("{place}.pointer"), &self.pointer)?;
        let valued = self.equals.is_some() || self.min.is_some() || self.max.is_some() || self.contains.is_some();
        if !valued && self.exists.is_none() {
            return Err(ParamError::new(place, "say what is expected: equals, min, max, contains or exists"));
        }
        if valued && self.exists == Some(false) {
            return Err(ParamError::new(
                format!("{place}.exists"),
                "what is not there has no value: leave one of them out",
            ));
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(ParamError::new(
                format!("{place}.max"),
                format!("no number is from {min} to {max}: swap them"),
            ));
        }
        Ok(())
    }

    /// Why the answer is not as expected, if it is not.
    pub(super) fn fault(&self, document: &Value) -> Option<String> {
        let at = if self.pointer.is_empty() { "the answer" } else { &self.pointer };
        let Some(value) = document.pointer(&self.pointer) else {
            return (self.exists != Some(false)).then(|| format!("nothing is at {at}"));
        };
        if self.exists == Some(false) {
            return Some(format!("{at} is there: {}", shown(value)));
        }
        if let Some(expected) = &self.equals
            && !same(value, expected)
        {
            return Some(format!("{at} is {}, not {}", shown(value), shown(expected)));
        }
        if let Some(part) = &self.contains
            && !holds(value, part)
        {
            return Some(format!("{at} is {} and does not contain {}", shown(value), shown(part)));
        }
        if self.min.is_none() && self.max.is_none() {
            return None;
        }
        let Some(number) = value.as_f64() else {
            return Some(format!("{at} is {}, which is no number", shown(value)));
        };
        match (self.min, self.max) {
            (Some(min), _) if number < min => Some(format!("{at} is {number}, less than {min}")),
            (_, Some(max)) if number > max => Some(format!("{at} is {number}, more than {max}")),
            _ => None,
        }
    }
}

/// Whether two values are the same; 1 and 1.0 are.
fn same(one: &Value, other: &Value) -> bool {
    // Whole numbers are compared as they are: as floats, large ones that differ would be the same.
    let float = (one.is_f64() && other.is_number()) || (other.is_f64() && one.is_number());
    one == other || (float && one.as_f64() == other.as_f64())
}

fn holds(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(items), part) => items.iter().any(|item| same(item, part)),
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Takes values out of an answer; what is not there is null.
pub(super) fn extract(document: &Value, wanted: &BTreeMap<String, String>) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    let mut bytes = 0;
    for (name, pointer) in wanted {
        let value = document.pointer(pointer).unwrap_or(&Value::Null);
        bytes += value.to_string().len();
        if bytes > MOST_EXTRACTED {
            return Err(format!("what is to be extracted is more than {MOST_EXTRACTED} bytes with `{name}`"));
        }
        found.insert(name.clone(), value.clone());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_codes_are_numbers_classes_or_ranges() {
        let read = |value: Value| serde_json::from_value::<Codes>(value).map(|codes| codes.0);
        assert_eq!(read(json!(204)).unwrap(), 204..=204);
        assert_eq!(read(json!("404")).unwrap(), 404..=404);
        assert_eq!(read(json!("2xx")).unwrap(), 200..=299);
        assert_eq!(read(json!("200-204")).unwrap(), 200..=204);
        for wrong in [json!("xx"), json!("9xx"), json!("204-200"), json!(7), json!("ok"), json!(true), json!("-")] {
            assert!(read(wrong.clone()).unwrap_err().to_string().contains("\"2xx\""), "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_held_against_each_expectation() {
        let document = json!({ "ok": true, "n": 3, "text": "all well", "list": [1, "a"], "none": null });
        let fault = |expected: Value| serde_json::from_value::<Expectation>(expected).unwrap().fault(&document);
        for met in [
            json!({ "pointer": "/ok", "equals": true }),
            json!({ "pointer": "/n", "equals": 3.0, "min": 3, "max": 3 }),
            json!({ "pointer": "/text", "contains": "well" }),
            json!({ "pointer": "/list", "contains": 1 }),
            json!({ "pointer": "/none", "exists": true }),
            json!({ "pointer": "/gone", "exists": false }),
        ] {
            assert_eq!(fault(met), None);
        }
        let told = |expected: Value| fault(expected).unwrap();
        assert_eq!(told(json!({ "pointer": "/ok", "equals": false })), "/ok is true, not false");
        assert_eq!(told(json!({ "pointer": "/n", "min": 4 })), "/n is 3, less than 4");
        assert_eq!(told(json!({ "pointer": "/n", "max": 2.5 })), "/n is 3, more than 2.5");
        assert_eq!(told(json!({ "pointer": "/ok", "max": 2 })), "/ok is true, which is no number");
        assert_eq!(told(json!({ "pointer": "/gone", "equals": 1 })), "nothing is at /gone");
        assert_eq!(told(json!({ "pointer": "/n", "exists": false })), "/n is there: 3");
        assert_eq!(told(json!({ "pointer": "/list", "contains": 2 })), "/list is [1,\"a\"] and does not contain 2");
        let ids = json!({ "id": 9_007_199_254_740_993_u64 });
        let other = json!({ "pointer": "/id", "equals": 9_007_199_254_740_992_u64 });
        let found = serde_json::from_value::<Expectation>(other).unwrap().fault(&ids);
        assert_eq!(found.unwrap(), "/id is 9007199254740993, not 9007199254740992");
        let never = json!({ "pointer": "/n", "min": 4, "max": 3 });
        let never = serde_json::from_value::<Expectation>(never).unwrap().check("expect[0]").unwrap_err();
        assert!(never.to_string().contains("expect[0].max: no number is from 4 to 3"), "{never}");
        let long = Value::String("x".repeat(1000));
        assert!(told(json!({ "pointer": "/text", "equals": long })).len() < 200);
    }

    #[test]
    fn extracted_values_are_bounded() {
        let document = json!({ "a": 1, "long": "x".repeat(70_000) });
        let wanted = |pointer: &str| BTreeMap::from([("v".to_owned(), pointer.to_owned())]);
        assert_eq!(extract(&document, &wanted("/a")).unwrap()["v"], 1);
        assert_eq!(extract(&document, &wanted("/b")).unwrap()["v"], Value::Null);
        assert!(extract(&document, &wanted("/long")).unwrap_err().contains("with `v`"));
    }
}
