//! Pages for people: HTML in one file, escaped by the template engine, and Markdown. Pure.
//!
//! Must not know: where facts come from.

mod chart;
mod number;

use self::chart::sparkline;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use sched_core::{JobError, Letter, Reason};
use serde::Serialize;

pub(crate) use self::chart::{Chart, Drawn, Series, Shape};
pub(crate) use self::number::{number, percent, with_unit};

const PAGES: [(&str, &str); 6] = [
    ("base.html", include_str!("pages/base.html")),
    ("sources.html", include_str!("pages/sources.html")),
    ("brief.html", include_str!("pages/brief.html")),
    ("brief.md", include_str!("pages/brief.md")),
    ("report.html", include_str!("pages/report.html")),
    ("report.md", include_str!("pages/report.md")),
];

/// Renders a page by its name.
pub(crate) fn render(name: &str, facts: &impl Serialize) -> Result<String, JobError> {
    let mut pages = environment();
    let rendered = PAGES
        .into_iter()
        .try_for_each(|(name, text)| pages.add_template(name, text))
        .and_then(|()| pages.get_template(name)?.render(minijinja::value::Serde(facts)));
    rendered.map_err(|error| JobError::permanent(format!("the page could not be rendered: {error:#}")))
}

/// What pages, and templates of the user, can call: `number`, `percent`, `cell`, `md`, `local`, `reason` and `spark`.
pub(crate) fn environment() -> Environment<'static> {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        pages.set_syntax(syntax);
    }
    pages.add_filter("number", |value: f64, unit: Option<String>| with_unit(value, unit.as_deref()));
    pages.add_filter("percent", |share: f64| format!("{:.1}\u{a0}%", percent(share, 1)));
    pages.add_filter("md", |value: &Value| markdown(&value.to_string()));
    pages.add_filter("local", local);
    pages.add_filter("reason", |word: &str| {
        word.parse().map_or(word.to_owned(), |why: Reason| why.explain().to_owned())
    });
    pages.add_filter("cell", |value: &Value| cell(value));
    pages.add_function("spark", |values: Vec<Option<f64>>, options: Kwargs| -> Result<Value, Error> {
        let label: String = options.get("label")?;
        options.assert_all_used()?;
        Ok(Value::from_safe_string(sparkline(&values, &label)))
    });
    pages
}

/// An instant on the wall of a zone, as `how` of strftime says.
fn local(at: &str, zone: &str, how: Option<String>) -> Result<String, Error> {
    let fault = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let at: DateTime<Utc> = at.parse().map_err(|error| fault(format!("`{at}` is not an instant: {error}")))?;
    let zone: Tz = zone.parse().map_err(|_| fault(format!("`{zone}` is not a time zone")))?;
    let how = how.unwrap_or_else(|| "%a %-d %b, %H:%M".into());
    // Formatting fails by a panic of `to_string` where the pattern is not one.
    let mut text = String::new();
    std::fmt::Write::write_fmt(&mut text, format_args!("{}", at.with_timezone(&zone).format(&how)))
        .map_err(|_| fault(format!("`{how}` is not a pattern of strftime")))?;
    Ok(text)
}

/// A page as a letter. One that is too long for a letter goes as Markdown alone.
pub(crate) fn letter(title: &str, headline: &str, markdown: String, page: String) -> Letter {
    const LONGEST_SUBJECT: usize = 200;
    let subject = format!("{title}: {headline}").replace(char::is_control, " ");
    let subject: String = subject.chars().take(LONGEST_SUBJECT).collect();
    let fits = subject.len() + markdown.len() + page.len() <= Letter::LONGEST;
    Letter { subject, text: markdown, html: fits.then_some(page) }
}

/// A cell of a table.
fn cell(value: &Value) -> String {
    if value.is_none() || value.is_undefined() {
        return "–".into();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), number)
}

/// A text that Markdown shows as it is, on one line.
pub(crate) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' | '>' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A text within HTML.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_text() {
        assert_eq!(markdown("a|b\n<script> [x](y) *z* &amp;"), "a\\|b &lt;script\\> \\[x\\](y) \\*z\\* &amp;amp;");
        assert_eq!(html("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }

    #[test]
    fn a_letter_has_one_line_as_its_subject_and_a_page_that_fits() {
        let short = letter("Brief", "a\nb", "text".into(), "<p>".into());
        assert_eq!((short.subject.as_str(), short.html.as_deref()), ("Brief: a b", Some("<p>")));
        let long = letter("Brief", &"x".repeat(999), "text".into(), "x".repeat(Letter::LONGEST));
        assert_eq!((long.subject.chars().count(), long.html), (200, None));
    }

    #[test]
    fn instants_are_told_on_the_wall_of_the_zone() {
        let told = |zone: &str, how: &str| local("2026-07-01T22:30:00Z", zone, Some(how.into()));
        assert_eq!(told("Europe/Berlin", "%a %-d %b, %H:%M").unwrap(), "Thu 2 Jul, 00:30");
        assert!(told("Mars/Base", "%H").unwrap_err().to_string().contains("not a time zone"));
        assert!(told("UTC", "%Q").unwrap_err().to_string().contains("not a pattern"));
    }
}
