//! `report`: what ran in the last complete day, week or month, schedule by schedule, beside the period before.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, SecondsFormat, TimeZone, Utc};
use chrono_tz::Tz;
use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::JobEnv;
use crate::history::{Period, Statistics, count};
use crate::render::render;
use crate::sources::{self, Reading, Source, read_all};

/// Parameters of `report`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The last complete day, week (from Monday) or month.
    #[serde(default)]
    period: Span,
    /// The zone whose calendar it follows.
    #[serde(default)]
    #[schemars(with = "String")]
    timezone: Tz,
    /// Where outside figures come from.
    #[serde(default)]
    sources: Vec<Source>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Span {
    #[default]
    Day,
    Week,
    Month,
}

struct Report {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("report", "Reports what ran in the last complete day, week or month", move |params: Params| {
        sources::check(&params.sources, &env)?;
        Ok(Report { params, env: env.clone() })
    });
}

/// The last complete period before `at`, and the one before it.
fn periods(span: Span, zone: Tz, at: DateTime<Utc>) -> Option<(Period, Period)> {
    let today = at.with_timezone(&zone).date_naive();
    let end = match span {
        Span::Day => today,
        Span::Week => today.checked_sub_days(Days::new(u64::from(today.weekday().num_days_from_monday())))?,
        Span::Month => today.with_day(1)?,
    };
    let before = |day: NaiveDate| match span {
        Span::Day => day.checked_sub_days(Days::new(1)),
        Span::Week => day.checked_sub_days(Days::new(7)),
        Span::Month => day.checked_sub_months(Months::new(1)),
    };
    let start = before(end)?;
    let earlier = before(start)?;
    let (end, start, earlier) = (midnight(zone, end)?, midnight(zone, start)?, midnight(zone, earlier)?);
    Some((Period { from: start, until: end }, Period { from: earlier, until: start }))
}

/// The first instant of a day: where clocks skip midnight, the first one after it.
fn midnight(zone: Tz, day: NaiveDate) -> Option<DateTime<Utc>> {
    let quarters = (0..96).filter_map(|n| NaiveTime::from_num_seconds_from_midnight_opt(n * 900, 0));
    quarters.filter_map(|time| zone.from_local_datetime(&day.and_time(time)).earliest()).next().map(|at| at.to_utc())
}

fn headline(now: &Statistics, before: &Statistics) -> String {
    let rate = |statistics: &Statistics| statistics.total.success_rate().map(|rate| rate * 100.0);
    match (rate(now), rate(before)) {
        (None, _) => "Nothing ran in this period".into(),
        (Some(rate), None) => format!("{rate:.1} % of {} runs succeeded", now.total.succeeded + now.total.failed),
        (Some(rate), Some(earlier)) => format!(
            "{rate:.1} % of {} runs succeeded, after {earlier:.1} % in the period before",
            now.total.succeeded + now.total.failed
        ),
    }
}

fn document(period: Period, zone: Tz, now: &Statistics, before: &Statistics, sources: &[Reading]) -> Value {
    let at = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let rows: Vec<Value> = now
        .schedules
        .iter()
        .map(|(name, counts)| {
            let mut row = json!(counts);
            row["schedule"] = json!(name);
            row["success_rate"] = json!(counts.success_rate());
            row
        })
        .collect();
    json!({
        "title": "Report",
        "headline": headline(now, before),
        "period": { "from": at(period.from), "until": at(period.until) },
        "timezone": zone.name(),
        "rows": rows,
        "total": now.total,
        "before": before.total,
        "reasons": now.total.reasons,
        "sources": sources,
    })
}

#[async_trait]
impl Job for Report {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let zone = self.params.timezone;
        let (period, before) = periods(self.params.period, zone, ctx.effective_time())
            .ok_or_else(|| JobError::permanent("the period lies outside the calendar"))?;
        let mut counted = count(ctx, &[period, before]).await?;
        let (earlier, now) = (counted.remove(1), counted.remove(0));
        let sources = read_all(ctx, &self.env, &self.params.sources, now.clone()).await;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let report = document(period, zone, &now, &earlier, &sources);
        let json_path = ctx.artifact("report.json", format!("{report:#}")).await?;
        let html_path = ctx.artifact("report.html", render("report.html", &report)?).await?;
        let headline = report["headline"].as_str().unwrap_or_default().to_owned();
        let data = json!({
            "headline": headline,
            "period": report["period"],
            "total": report["total"],
            "sources": report["sources"],
            "json_path": json_path,
            "html_path": html_path,
        });
        Ok(Output::summary(headline).with_data(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(span: Span, zone: Tz, at: &str, from: &str, until: &str) {
        let (period, before) = periods(span, zone, at.parse().unwrap()).unwrap();
        let expected = Period { from: from.parse().unwrap(), until: until.parse().unwrap() };
        assert_eq!(period, expected);
        assert_eq!(before.until, period.from);
    }

    #[test]
    fn periods_follow_the_calendar_of_the_zone_over_clock_changes() {
        check(Span::Day, Tz::UTC, "2026-11-24T09:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z");
        check(Span::Week, Tz::UTC, "2026-11-24T09:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        check(Span::Month, Tz::UTC, "2026-03-01T09:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        // The Sunday on which London's clocks go forward has 23 hours.
        let london = Tz::Europe__London;
        check(Span::Day, london, "2026-03-30T09:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z");
        // Sao Paulo skipped midnight: 4 November 2018 began at one o'clock.
        let sao_paulo = Tz::America__Sao_Paulo;
        check(Span::Day, sao_paulo, "2018-11-05T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    }

    #[test]
    fn the_headline_compares_and_invents_nothing() {
        assert_eq!(headline(&Statistics::default(), &Statistics::default()), "Nothing ran in this period");
    }
}
