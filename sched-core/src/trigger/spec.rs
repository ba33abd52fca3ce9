//! The written form of triggers, and its compilation.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{CronError, Trigger, cron, daily, every, once};
use crate::policy::duration_text;

/// A trigger as it is written: its kind and the zone of its wall-clock times (UTC when none is given).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct TriggerSpec {
    /// The kind.
    pub kind: TriggerKind,
    /// The zone of its wall-clock times.
    pub timezone: Option<Tz>,
}

/// The kinds of triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerKind {
    /// Five cron fields: minute, hour, day of month, month, day of week.
    Cron(String),
    /// A fixed period of elapsed time, counted from an anchor.
    Every {
        /// The period.
        period: Duration,
        /// The instant from which periods are counted.
        anchor: DateTime<Utc>,
    },
    /// One or more times of day.
    Daily(Vec<NaiveTime>),
    /// One instant.
    Once(DateTime<Utc>),
}

/// Why a trigger cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// The cron expression is wrong.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// A part of the trigger is wrong; the message says what to write.
    #[error("{0}")]
    Invalid(String),
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daily: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    once: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Times {
    One(String),
    Many(Vec<String>),
}

impl TriggerSpec {
    /// A fixed period of elapsed time, counted from the Unix epoch: six hours is 00, 06, 12 and 18 o'clock UTC.
    #[must_use]
    pub const fn every(period: Duration) -> Self {
        Self { kind: TriggerKind::Every { period, anchor: DateTime::UNIX_EPOCH }, timezone: None }
    }

    /// One time of day in a zone.
    #[must_use]
    pub fn daily(at: NaiveTime, zone: Tz) -> Self {
        Self { kind: TriggerKind::Daily(vec![at]), timezone: Some(zone) }
    }

    /// A five-field cron expression in a zone.
    #[must_use]
    pub fn cron(expression: &str, zone: Tz) -> Self {
        Self { kind: TriggerKind::Cron(expression.to_owned()), timezone: Some(zone) }
    }

    /// One instant.
    #[must_use]
    pub const fn once(at: DateTime<Utc>) -> Self {
        Self { kind: TriggerKind::Once(at), timezone: None }
    }

    /// Sets the zone if none is written.
    #[must_use]
    pub const fn or_timezone(mut self, zone: Tz) -> Self {
        if self.timezone.is_none() {
            self.timezone = Some(zone);
        }
        self
    }

    /// Checks the trigger.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), TriggerError> {
        self.compile().map(drop)
    }

    /// The trigger in the form that computes instants.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn compile(&self) -> Result<Arc<dyn Trigger>, TriggerError> {
        let zone = self.timezone.unwrap_or(Tz::UTC);
        Ok(match &self.kind {
            TriggerKind::Cron(expression) => Arc::new(cron::Cron::parse(expression, zone)?),
            TriggerKind::Every { period, anchor } => Arc::new(every::Every::new(*period, *anchor)?),
            TriggerKind::Daily(times) => Arc::new(daily::Daily::new(times, zone)?),
            TriggerKind::Once(at) => Arc::new(once::Once::new(*at)),
        })
    }

    /// The trigger as people write it in one line.
    ///
    /// ```
    /// use sched_core::TriggerSpec;
    /// assert_eq!(TriggerSpec::cron("0 8 * * *", chrono_tz::UTC).to_string(), "cron 0 8 * * *");
    /// ```
    fn describe(&self) -> String {
        let text = match &self.kind {
            TriggerKind::Cron(expression) => format!("cron {expression}"),
            TriggerKind::Every { period, .. } => format!("every {}", humantime::format_duration(*period)),
            TriggerKind::Daily(times) => {
                format!("daily {}", times.iter().map(|t| time_text(*t)).collect::<Vec<_>>().join(", "))
            }
            TriggerKind::Once(at) => format!("once {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        };
        match self.timezone {
            Some(zone) if zone != Tz::UTC => format!("{text} {zone}"),
            _ => text,
        }
    }
}

impl std::fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.describe())
    }
}

fn time_text(time: NaiveTime) -> String {
    let format = if chrono::Timelike::second(&time) == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.format(format).to_string()
}

/// Reads a time of day, `HH:MM` or `HH:MM:SS`.
fn parse_time(text: &str) -> Result<NaiveTime, TriggerError> {
    NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S")).map_err(|_| {
        TriggerError::Invalid(format!("`{text}` is not a time of day; write HH:MM or HH:MM:SS, such as \"08:00\""))
    })
}

/// Reads an IANA zone name.
pub(crate) fn parse_zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        let near = crate::suggest::near(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let near =
            if near.contains("did you mean") { near } else { "; write an IANA name such as \"Europe/London\"".into() };
        format!("no time zone `{name}`{near}")
    })
}

impl TryFrom<Raw> for TriggerSpec {
    type Error = TriggerError;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        let timezone = raw.timezone.as_deref().map(parse_zone).transpose().map_err(TriggerError::Invalid)?;
        if raw.anchor.is_some() && raw.every.is_none() {
            return Err(TriggerError::Invalid("`anchor` goes with `every` only".into()));
        }
        let mut kinds = Vec::new();
        if let Some(expression) = raw.cron {
            kinds.push(TriggerKind::Cron(expression));
        }
        if let Some(period) = raw.every {
            let period = duration_text::parse(&period).map_err(TriggerError::Invalid)?;
            kinds.push(TriggerKind::Every { period, anchor: raw.anchor.unwrap_or(DateTime::UNIX_EPOCH) });
        }
        if let Some(times) = raw.daily {
            let times = match times {
                Times::One(text) => vec![parse_time(&text)?],
                Times::Many(texts) => texts.iter().map(|text| parse_time(text)).collect::<Result<_, _>>()?,
            };
            kinds.push(TriggerKind::Daily(times));
        }
        if let Some(at) = raw.once {
            kinds.push(TriggerKind::Once(at));
        }
        match (kinds.pop(), kinds.is_empty()) {
            (Some(kind), true) => {
                let spec = Self { kind, timezone };
                spec.validate()?;
                Ok(spec)
            }
            _ => Err(TriggerError::Invalid(
                "a trigger has exactly one of `cron`, `every`, `daily` and `once`, such as { daily = \"08:00\" }"
                    .into(),
            )),
        }
    }
}

impl From<TriggerSpec> for Raw {
    fn from(spec: TriggerSpec) -> Self {
        let mut raw = Self { timezone: spec.timezone.map(|zone| zone.name().to_owned()), ..Self::default() };
        match spec.kind {
            TriggerKind::Cron(expression) => raw.cron = Some(expression),
            TriggerKind::Every { period, anchor } => {
                raw.every = Some(humantime::format_duration(period).to_string());
                raw.anchor = (anchor != DateTime::UNIX_EPOCH).then_some(anchor);
            }
            TriggerKind::Daily(times) if times.len() == 1 => raw.daily = Some(Times::One(time_text(times[0]))),
            TriggerKind::Daily(times) => {
                raw.daily = Some(Times::Many(times.into_iter().map(time_text).collect()));
            }
            TriggerKind::Once(at) => raw.once = Some(at),
        }
        raw
    }
}
