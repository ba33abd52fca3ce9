//! A page by the user's own template. Bounded: it runs so many instructions, nests so deep and writes so many bytes, and
//! reads nothing but the facts.

use std::io::Write;

use minijinja::{Environment, Error, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::render::environment;

/// Instructions of the template's machine.
const FUEL: u64 = 2_000_000;
/// Bytes that it may write.
const LARGEST: usize = 4 << 20;
/// Bytes that a template file may have.
pub(super) const LARGEST_TEMPLATE: u64 = 256 << 10;

/// What a template writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Writes {
    /// HTML: what is put in is escaped.
    #[default]
    Html,
    /// Markdown; the filter `md` escapes.
    Markdown,
    /// Plain text.
    Text,
}

impl Writes {
    /// The artifact that it becomes.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Html => "report.html",
            Self::Markdown => "report.md",
            Self::Text => "report.txt",
        }
    }
}

fn bounded() -> Environment<'static> {
    let mut environment = environment();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

fn told(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    format!("{line}{}{detail}{cause}", error.kind())
}

/// Why it is no template.
pub(super) fn check(text: &str, writes: Writes) -> Result<(), String> {
    bounded().template_from_named_str(writes.file(), text).map(drop).map_err(|error| told(&error))
}

struct Page(Vec<u8>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(std::io::Error::other(format!("it writes more than {LARGEST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The page.
pub(super) fn render(text: &str, writes: Writes, facts: &impl Serialize) -> Result<Vec<u8>, String> {
    let environment = bounded();
    let mut page = Page(Vec::new());
    environment
        .template_from_named_str(writes.file(), text)
        .and_then(|template| template.render_captured_to(minijinja::value::Serde(facts), &mut page).map(drop))
        .map_err(|error| told(&error))?;
    Ok(page.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(text: &str, writes: Writes) -> Result<String, String> {
        let facts = json!({ "title": "<i>", "big": "x".repeat(1 << 20) });
        render(text, writes, &facts).map(|page| String::from_utf8(page).unwrap())
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        assert_eq!(written("{{ title }}", Writes::Html).unwrap(), "&lt;i&gt;");
        assert_eq!(written("{{ title }}", Writes::Text).unwrap(), "<i>");
        assert_eq!(written("{{ title|md }}", Writes::Markdown).unwrap(), "&lt;i\\>");
        assert_eq!(written("{{ 1234.5|number('€') }}", Writes::Text).unwrap(), "€1,234.50");
    }

    #[test]
    fn a_template_ends_writes_little_reads_nothing_and_says_where_it_is_wrong() {
        let check = |text: &str, expected: &str| {
            let error = written(text, Writes::Html).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("a\nb\n{{ titel }}", "line 3: undefined value");
        check("a\n{% if %}", "line 2: syntax error");
        check("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "fuel");
        check("{% for a in range(9) %}{{ big }}{% endfor %}", "more than 4194304 bytes");
        check("{% include 'base.html' %}", "template not found");
        check("{% include '/etc/passwd' %}", "template not found");
        check("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion");
    }
}
