//! `ceo_brief`: what happened in the last day, what failed, what comes next, on one page.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::JobEnv;
use crate::history::{Period, Statistics, count};
use crate::page::render;
use crate::sources::{self, Reading, Source, read_all};

/// Parameters of `ceo_brief`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where outside figures come from.
    #[serde(default)]
    sources: Vec<Source>,
}

struct CeoBrief {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("ceo_brief", "Writes a one-page brief of the last day", move |params: Params| {
        sources::check(&params.sources, &env)?;
        Ok(CeoBrief { params, env: env.clone() })
    });
}

#[derive(Debug, Serialize)]
struct Failure {
    schedule: String,
    failed: u64,
    last_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Coming {
    schedule: String,
    next: String,
}

#[derive(Debug, Serialize)]
struct Brief {
    title: &'static str,
    generated_at: String,
    headline: String,
    figures: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
    upcoming: Vec<Coming>,
    sources: Vec<Reading>,
}

/// Puts the page together from facts alone.
fn compose(now: DateTime<Utc>, statistics: &Statistics, upcoming: Vec<Coming>, sources: Vec<Reading>) -> Brief {
    let total = &statistics.total;
    let failures: Vec<_> = statistics
        .schedules
        .iter()
        .filter(|(_, counts)| counts.failed > 0)
        .map(|(name, counts)| Failure {
            schedule: name.clone(),
            failed: counts.failed,
            last_error: counts.last_error.clone(),
        })
        .collect();
    let figures = BTreeMap::from([
        ("succeeded", total.succeeded),
        ("failed", total.failed),
        ("skipped", total.skipped),
        ("missed", total.missed),
    ]);
    let silent = sources.iter().filter(|reading| !reading.ok).count();
    let mut headline = match failures.as_slice() {
        [] if total.succeeded == 0 => "No run has ended in the last 24 hours".to_owned(),
        [] => format!("All {} runs of the last 24 hours succeeded", total.succeeded),
        [one] => format!("{} failed {} in the last 24 hours", one.schedule, times(one.failed)),
        many => format!("{} runs of {} schedules failed in the last 24 hours", total.failed, many.len()),
    };
    if total.missed > 0 {
        headline.push_str(&format!(
            "; {} {} missed",
            total.missed,
            if total.missed == 1 { "fire was" } else { "fires were" }
        ));
    }
    if silent > 0 {
        headline.push_str(&format!("; {silent} of {} sources gave no answer", sources.len()));
    }
    Brief { title: "Brief", generated_at: text(now), headline, figures, failures, upcoming, sources }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[async_trait]
impl Job for CeoBrief {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let now = ctx.now();
        let period = Period { from: now - TimeDelta::hours(24), until: now };
        let statistics = count(ctx, &[period]).await?.remove(0);
        let sources = read_all(ctx, &self.env, &self.params.sources, statistics.clone()).await;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let mut coming: Vec<_> = ctx
            .schedules()
            .await?
            .into_iter()
            .filter_map(|view| Some((view.next?, view.name.to_string())))
            .filter(|(next, _)| *next <= now + TimeDelta::hours(24))
            .collect();
        coming.sort();
        coming.truncate(20);
        let upcoming = coming.into_iter().map(|(next, schedule)| Coming { schedule, next: text(next) }).collect();
        let brief = compose(now, &statistics, upcoming, sources);
        let document = serde_json::to_vec_pretty(&brief).map_err(|error| JobError::permanent(error.to_string()))?;
        let json_path = ctx.artifact("brief.json", document).await?;
        let html_path = ctx.artifact("brief.html", render("brief.html", &brief)?).await?;
        let data = json!({
            "headline": brief.headline,
            "figures": brief.figures,
            "sources": brief.sources,
            "json_path": json_path,
            "html_path": html_path,
        });
        Ok(Output::summary(brief.headline).with_data(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Counts;

    fn statistics(failed: u64, succeeded: u64, missed: u64) -> Statistics {
        let counts = Counts { failed, succeeded, missed, last_error: Some("<b>no</b>".into()), ..Counts::default() };
        Statistics { schedules: BTreeMap::from([("a".to_owned(), counts.clone())]), total: counts }
    }

    fn headline(statistics: &Statistics, sources: Vec<Reading>) -> String {
        compose(DateTime::UNIX_EPOCH, statistics, vec![], sources).headline
    }

    #[test]
    fn the_headline_says_what_matters_most() {
        assert_eq!(headline(&Statistics::default(), vec![]), "No run has ended in the last 24 hours");
        assert_eq!(headline(&statistics(0, 7, 0), vec![]), "All 7 runs of the last 24 hours succeeded");
        assert_eq!(headline(&statistics(2, 7, 1), vec![]), "a failed twice in the last 24 hours; 1 fire was missed");
        let silent = Reading {
            name: "crm".into(),
            ok: false,
            error: Some("no answer".into()),
            at: DateTime::UNIX_EPOCH,
            figures: vec![],
            table: None,
        };
        let all = headline(&statistics(0, 7, 0), vec![silent]);
        assert_eq!(all, "All 7 runs of the last 24 hours succeeded; 1 of 1 sources gave no answer");
    }

    #[test]
    fn the_page_escapes_what_jobs_and_sources_say_and_shows_failed_sources() {
        let silent = Reading {
            name: "<i>".into(),
            ok: false,
            error: Some("\"quoted\"".into()),
            at: DateTime::UNIX_EPOCH,
            figures: vec![],
            table: None,
        };
        let page =
            render("brief.html", &compose(DateTime::UNIX_EPOCH, &statistics(1, 0, 0), vec![], vec![silent])).unwrap();
        assert!(page.contains("&lt;b&gt;no&lt;") && !page.contains("<b>no"), "{page}");
        assert!(page.contains("&lt;i&gt;") && page.contains("failed:"), "{page}");
    }
}
