//! `report`: what ran in a period, beside the period before, and what sources say of it.

mod compose;
mod own;
mod period;
mod section;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use chrono_tz::Tz;
use sched_core::{ChannelName, Job, JobError, Output, ParamError, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use self::compose::{Document, Facts, Part, compose};
use self::own::Writes;
use self::period::Choice;
use self::section::Section;
use self::versions::{Version, Versions};
use crate::history::count;
use crate::render::{letter, render};
use crate::sources::{self, Reading, Source, read_all};
use crate::{JobEnv, file};

/// The state's name under which is kept which run holds which period's report.
const VERSIONS: &str = "versions";

/// Parameters of `report`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// What stands above the headline.
    #[serde(default = "report")]
    title: String,
    /// The last complete "day", "week" (from Monday) or "month"; `{ days = 14 }`, the last complete days; or
    /// `{ from = "2026-01-01", until = "2026-04-01" }`, where `until` is the first day that is no longer in it.
    #[serde(default)]
    period: Choice,
    /// The zone whose calendar it follows.
    #[serde(default)]
    #[schemars(with = "String")]
    timezone: Tz,
    /// Where outside figures come from.
    #[serde(default)]
    sources: Vec<Source>,
    /// What is shown of them, in this order; unless set, all.
    #[serde(default)]
    sections: Vec<Section>,
    /// Which files are written: "json", "html", "markdown", "csv".
    #[serde(default = "json_and_html")]
    formats: BTreeSet<Format>,
    /// A page of your own (minijinja, as Jinja2); `template_writes` says what it is.
    #[serde(default)]
    template: Option<String>,
    /// The same in a file.
    #[serde(default)]
    template_file: Option<PathBuf>,
    /// What the template writes: "html", "markdown" or "text". It takes the place of the page in that format.
    #[serde(default)]
    template_writes: Writes,
    /// The channels that it is sent through, as our page.
    #[serde(default)]
    send: Vec<ChannelName>,
}

fn report() -> String {
    "Report".into()
}

fn json_and_html() -> BTreeSet<Format> {
    [Format::Json, Format::Html].into()
}

/// A file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    Json,
    Html,
    Markdown,
    Csv,
}

struct Report {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("report", "Reports what ran in a day, week, month or other period", move |params: Params| {
        params.check(&env)?;
        Ok(Report { params, env: env.clone() })
    });
}

impl Params {
    fn check(&self, env: &JobEnv) -> Result<(), ParamError> {
        sources::check(&self.sources, env)?;
        let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        section::check(&self.sections, &names)?;
        if let Some(fault) = self.period.fault() {
            return Err(ParamError::new("period", fault));
        }
        if self.title.trim().is_empty() || self.title.len() > 200 {
            return Err(ParamError::new("title", "needs 1 to 200 characters"));
        }
        if self.formats.is_empty() {
            return Err(ParamError::new("formats", "needs at least one of \"json\", \"html\", \"markdown\", \"csv\""));
        }
        match (&self.template, &self.template_file) {
            (Some(_), Some(_)) => {
                Err(ParamError::new("template_file", "write `template` or `template_file`, not both"))
            }
            (Some(text), None) => {
                own::check(text, self.template_writes).map_err(|fault| ParamError::new("template", fault))
            }
            _ => Ok(()),
        }
    }

    fn sections(&self) -> Vec<Section> {
        if self.sections.is_empty() {
            self.sources.iter().map(|source| Section::of(&source.name)).collect()
        } else {
            self.sections.clone()
        }
    }

    async fn template(&self, env: &JobEnv) -> Result<Option<String>, JobError> {
        let Some(path) = &self.template_file else { return Ok(self.template.clone()) };
        let path = env.path(path);
        let fault = |message: String| JobError::permanent(format!("template_file: {}: {message}", path.display()));
        let bytes = file::read_apart(&path, own::LARGEST_TEMPLATE).await.map_err(fault)?;
        let text = String::from_utf8(bytes).map_err(|_| fault("not text".into()))?;
        Ok(Some(text))
    }
}

impl Report {
    async fn versions(&self, ctx: &RunContext) -> Result<Versions, JobError> {
        let Some(kept) = ctx.state_get(VERSIONS).await? else { return Ok(Versions::default()) };
        match serde_json::from_value(kept) {
            Ok(versions) => Ok(versions),
            Err(error) => {
                ctx.log(format!("the kept versions cannot be read, so they begin anew: {error}")).await;
                Ok(Versions::default())
            }
        }
    }

    /// Writes the files, and says where they are.
    async fn write(&self, ctx: &RunContext, document: &Document) -> Result<BTreeMap<String, PathBuf>, JobError> {
        let broken = |error: &dyn std::fmt::Display| JobError::permanent(format!("the report: {error}"));
        let page = document.page().map_err(|error| broken(&error))?;
        let template = self.params.template(&self.env).await?;
        let mut files: Vec<(&str, &str, Vec<u8>)> = Vec::new();
        for format in &self.params.formats {
            files.push(match format {
                Format::Json => {
                    let text = serde_json::to_vec_pretty(document).map_err(|error| broken(&error))?;
                    ("json", "report.json", text)
                }
                Format::Csv => ("csv", "report.csv", document.csv().map_err(|error| broken(&error))?),
                Format::Html => ("html", "report.html", render("report.html", &page)?.into_bytes()),
                Format::Markdown => ("markdown", "report.md", render("report.md", &page)?.into_bytes()),
            });
        }
        if let Some(text) = template {
            let writes = self.params.template_writes;
            let written = own::render(&text, writes, &page)
                .map_err(|fault| JobError::permanent(format!("the template: {fault}")))?;
            let key = match writes {
                Writes::Html => "html",
                Writes::Markdown => "markdown",
                Writes::Text => "text",
            };
            files.retain(|(_, name, _)| *name != writes.file());
            files.push((key, writes.file(), written));
        }
        let mut paths = BTreeMap::new();
        for (key, name, content) in files {
            paths.insert(key.to_owned(), ctx.artifact(name, content).await?);
        }
        Ok(paths)
    }
}

#[async_trait]
impl Job for Report {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let zone = self.params.timezone;
        let span = self.params.period.at(zone, ctx.effective_time());
        let span = span.ok_or_else(|| JobError::permanent("the period lies outside the calendar"))?;
        let (key, before_key) = (span.key(), period::key(span.before));
        let parts = span.parts(zone);
        let periods: Vec<_> =
            [span.period, span.before].into_iter().chain(parts.iter().map(|(_, part)| *part)).collect();
        let mut counted = count(ctx, &periods).await?.into_iter();
        let (statistics, before) = (counted.next().unwrap_or_default(), counted.next().unwrap_or_default());
        let parts = parts.into_iter().zip(counted).map(|(part, statistics)| Part::of(part, &statistics)).collect();
        let readings = read_all(ctx, &self.env, &self.params.sources, statistics.clone()).await;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let mut versions = self.versions(ctx).await?;
        let shown = self.params.sections().into_iter().filter_map(|section| {
            let reading = readings.iter().find(|reading| section.is_of(reading))?;
            Some(section.show(reading, |figure| versions.figure(&before_key, figure)))
        });
        let sections = shown.collect();
        let figures: Vec<_> = readings
            .iter()
            .flat_map(|reading| &reading.figures)
            .filter_map(|figure| Some((format!("{}.{}", figure.source, figure.name), figure.value?)))
            .collect();
        let document = compose(
            span,
            Facts {
                title: self.params.title.clone(),
                zone,
                now: ctx.now(),
                version: versions.next(&key, ctx.run_id()),
                statistics,
                before,
                parts,
                sections,
                sources: readings,
            },
        );
        let files = self.write(ctx, &document).await?;
        let version = Version { version: document.version, run_id: ctx.run_id(), at: ctx.now(), files: files.clone() };
        versions.put(&key, version, figures.into_iter());
        let kept = serde_json::to_value(&versions).map_err(|error| JobError::permanent(error.to_string()))?;
        ctx.state_put(VERSIONS, kept).await?;
        // Last: an attempt that failed has sent nothing.
        if !self.params.send.is_empty() {
            let page = document.page().map_err(|error| JobError::permanent(format!("the report: {error}")))?;
            let (html, text) = (render("report.html", &page)?, render("report.md", &page)?);
            ctx.send(self.params.send.clone(), letter(&document.title, &document.headline, text, html)).await?;
        }
        let mut data = json!({
            "headline": document.headline,
            "period": document.period,
            "version": document.version,
            "replaces": document.replaces.as_ref().map(|replaced| replaced.run_id),
            "total": document.total,
            "sources": document.sources.iter().map(Reading::in_short).collect::<Vec<_>>(),
            "json_path": Value::Null,
            "html_path": Value::Null,
        });
        for (format, path) in files {
            data[format!("{format}_path")] = json!(path);
        }
        Ok(Output::summary(document.headline).with_data(data))
    }
}
