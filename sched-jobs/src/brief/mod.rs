//! `ceo_brief`: one page for a person with two minutes: what matters, what broke and healed, what is late, what comes.

mod compose;
mod figure;
mod past;
#[cfg(test)]
mod tests;
mod told;

use std::sync::Arc;

use chrono::TimeDelta;
use chrono_tz::Tz;
use sched_core::{ChannelName, Job, JobError, Output, ParamError, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

use self::compose::compose;
use self::figure::{Rule, rank};
use self::past::Past;
use self::told::Reader;
use crate::JobEnv;
use crate::history::{Period, Statistics, walk};
use crate::render::{letter, render};
use crate::sources::{self, Figure, Reading, Source, own_figures, read_all};

/// The state's name under which past days are kept.
const PAST: &str = "past";

/// Parameters of `ceo_brief`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// What stands above the headline.
    #[serde(default = "brief")]
    title: String,
    /// The zone whose days are compared.
    #[serde(default)]
    #[schemars(with = "String")]
    timezone: Tz,
    /// Where outside figures come from.
    #[serde(default)]
    sources: Vec<Source>,
    /// The figures that matter, the most important first, and when they are bad.
    #[serde(default)]
    figures: Vec<Rule>,
    /// The channels that it is sent through.
    #[serde(default)]
    send: Vec<ChannelName>,
}

fn brief() -> String {
    "Brief".into()
}

struct CeoBrief {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("ceo_brief", "Writes a one-page brief of the last day", move |params: Params| {
        sources::check(&params.sources, &env)?;
        figure::check(&params.figures)?;
        if params.title.trim().is_empty() || params.title.len() > 200 {
            return Err(ParamError::new("title", "needs 1 to 200 characters"));
        }
        Ok(CeoBrief { params, env: env.clone() })
    });
}

impl CeoBrief {
    async fn past(&self, ctx: &RunContext) -> Result<Past, JobError> {
        let Some(kept) = ctx.state_get(PAST).await? else { return Ok(Past::default()) };
        match serde_json::from_value(kept) {
            Ok(past) => Ok(past),
            Err(error) => {
                ctx.log(format!("the kept figures cannot be read, so comparisons begin anew: {error}")).await;
                Ok(Past::default())
            }
        }
    }
}

#[async_trait]
impl Job for CeoBrief {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let (now, zone) = (ctx.now(), self.params.timezone);
        let period = Period { from: now - TimeDelta::hours(24), until: now };
        let (mut statistics, mut reader) = (Statistics::default(), Reader::default());
        walk(ctx, period.from, |row| {
            reader.read(&row, now);
            statistics.add(&row);
        })
        .await?;
        let statistics = statistics.finish();
        let readings = read_all(ctx, &self.env, &self.params.sources, statistics.clone()).await;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let mut past = self.past(ctx).await?;
        let today = now.with_timezone(&zone).date_naive();
        past.forget(today);
        let own = own_figures(&statistics.total, now);
        let figures: Vec<Figure> = own.into_iter().chain(readings.iter().flat_map(|r| r.figures.clone())).collect();
        let ranked = rank(&figures, &self.params.figures, &past, today, now);
        let told = reader.tell(&ctx.schedules().await?, &mut past.broken, period, zone);
        for rated in &ranked {
            if let Some(value) = rated.value {
                past.put(&rated.figure, today, value);
            }
        }
        let values: Map<_, _> = ranked.iter().map(|rated| (rated.figure.clone(), json!(rated.value))).collect();
        let brief = compose(self.params.title.clone(), period, zone, &statistics, ranked, told, readings.clone());
        let document = serde_json::to_vec_pretty(&brief).map_err(|error| JobError::permanent(error.to_string()))?;
        let json_path = ctx.artifact("brief.json", document).await?;
        let (page, text) = (render("brief.html", &brief)?, render("brief.md", &brief)?);
        let html_path = ctx.artifact("brief.html", page.clone()).await?;
        let markdown_path = ctx.artifact("brief.md", text.clone()).await?;
        let kept = serde_json::to_value(&past).map_err(|error| JobError::permanent(error.to_string()))?;
        ctx.state_put(PAST, kept).await?;
        // Last: an attempt that failed has sent nothing.
        if !self.params.send.is_empty() {
            ctx.send(self.params.send.clone(), letter(&brief.title, &brief.headline, text, page)).await?;
        }
        let data = json!({
            "headline": brief.headline,
            "level": brief.level,
            "figures": values,
            "sources": readings.iter().map(Reading::in_short).collect::<Vec<_>>(),
            "json_path": json_path,
            "html_path": html_path,
            "markdown_path": markdown_path,
        });
        Ok(Output::summary(brief.headline).with_data(data))
    }
}
