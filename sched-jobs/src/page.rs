//! Self-contained HTML pages, escaped by the template engine.

use minijinja::{AutoEscape, Environment};
use sched_core::JobError;
use serde::Serialize;

const BRIEF: &str = include_str!("page/brief.html");
const REPORT: &str = include_str!("page/report.html");
const BASE: &str = include_str!("page/base.html");

/// Renders `brief.html` or `report.html`.
pub(crate) fn render(name: &str, facts: &impl Serialize) -> Result<String, JobError> {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    let rendered = [("base.html", BASE), ("brief.html", BRIEF), ("report.html", REPORT)]
        .into_iter()
        .try_for_each(|(name, text)| pages.add_template(name, text))
        .and_then(|()| pages.get_template(name)?.render(minijinja::value::Serde(facts)));
    rendered.map_err(|error| JobError::permanent(format!("the page could not be rendered: {error:#}")))
}
