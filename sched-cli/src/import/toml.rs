//! A plan as TOML.

use serde_json::Value;

use super::{Part, Plan, Planned};

pub(super) fn write(plan: &Plan) -> String {
    let mut text = String::new();
    for line in &plan.head {
        comment(&mut text, line);
    }
    for (table, keys) in &plan.settings {
        text.push('\n');
        if !table.is_empty() {
            text.push_str(&format!("[{table}]\n"));
        }
        for (key, value) in keys {
            text.push_str(&format!("{key} = {}\n", inline(value)));
        }
    }
    text.push('\n');
    for part in &plan.parts {
        match part {
            Part::Comment(line) => comment(&mut text, line),
            Part::LeftOut(left) => comment(&mut text, &format!("LEFT OUT {left}")),
            Part::Schedule(planned) => schedule(&mut text, planned),
            Part::Gap => {}
        }
        if matches!(part, Part::Gap | Part::Schedule(_)) && !text.ends_with("\n\n") {
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// A comment; TOML allows no control characters in one.
fn comment(text: &mut String, line: &str) {
    let clean: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    text.push_str(format!("# {clean}").trim_end());
    text.push('\n');
}

fn schedule(text: &mut String, planned: &Planned) {
    text.push_str("[[schedule]]\n");
    let name = Value::from(planned.name.as_str());
    let keys = [("name", &name)].into_iter().chain(planned.keys.iter().map(|(key, value)| (key.as_str(), value)));
    for (key, value) in keys {
        text.push_str(&format!("{key:<8} = {}\n", inline(value)));
    }
    if !planned.params.is_empty() {
        text.push_str(&format!("{:<8} = {}\n", "params", inline(&Value::Object(planned.params.clone()))));
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => quoted(string),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if plain { key.to_owned() } else { quoted(key) }
}

/// A literal string where that spares escapes; else a basic one, whose escapes are those of JSON, and DEL.
fn quoted(string: &str) -> String {
    if string.contains(['"', '\\']) && !string.contains(|c: char| c == '\'' || c.is_control()) {
        return format!("'{string}'");
    }
    Value::from(string).to_string().replace('\u{7f}', "\\u007f")
}
