//! The written form of triggers: one table with one key that names the kind, or a list of such tables.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc, Weekday};
use chrono_tz::Tz;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cron::{DayRule, Dialect};
use super::spec::{On, TriggerError, TriggerKind, TriggerSpec, time_text};
use super::wall::Dst;
use crate::id::ScheduleName;
use crate::policy::duration_text;

/// A trigger as it stands in TOML or JSON: one table, or a list of them, which is their union.
pub(super) struct Written(Raw);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Written {
    /// By hand, so that a fault inside is told as what it is, not as "no variant matched".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a trigger such as { daily = \"08:00\" }, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                Raw::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Written, A::Error> {
                let any = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Written(Raw { any, ..Raw::default() }))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    dialect: Dialect,
    #[serde(skip_serializing_if = "is_default")]
    day_rule: DayRule,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "instant")]
    anchor: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_completion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<After>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daily: Option<OneOrMany>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weekly: Option<Weekly>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calendar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rrule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "instant")]
    once: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    any: Vec<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    dst: Dst,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "instant")]
    start: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "instant")]
    end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    schedule: ScheduleName,
    #[serde(default)]
    on: On,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Weekly {
    on: OneOrMany,
    at: OneOrMany,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, TriggerError>) -> Result<Vec<T>, TriggerError> {
        match self {
            Self::One(text) => Ok(vec![parse(text)?]),
            Self::Many(texts) => texts.iter().map(|text| parse(text)).collect(),
        }
    }

    fn of<T>(items: &[T], text: impl Fn(&T) -> String) -> Self {
        match items {
            [one] => Self::One(text(one)),
            many => Self::Many(many.iter().map(text).collect()),
        }
    }
}

/// Reads an instant, and says how one is written when it is none.
fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let read = |text: String| {
        let wrong = || format!("`{text}` is not an instant; write date, time and zone, such as 2026-12-24T08:00:00Z");
        text.parse().map_err(|_| serde::de::Error::custom(wrong()))
    };
    text.map(read).transpose()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a time of day, `HH:MM` or `HH:MM:SS`.
fn parse_time(text: &str) -> Result<NaiveTime, TriggerError> {
    NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S")).map_err(|_| {
        TriggerError::Invalid(format!("`{text}` is not a time of day; write HH:MM or HH:MM:SS, such as \"08:00\""))
    })
}

fn parse_day(text: &str) -> Result<Weekday, TriggerError> {
    text.parse().map_err(|_| {
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        TriggerError::Invalid(format!("no day `{text}`{}", crate::suggest::near(text, days.into_iter())))
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

impl Raw {
    fn kind(&self) -> Result<TriggerKind, TriggerError> {
        let fail = |message: &str| Err(TriggerError::Invalid(message.into()));
        if self.anchor.is_some() && self.every.is_none() {
            return fail("`anchor` goes with `every` only");
        }
        if (self.dialect != Dialect::default() || self.day_rule != DayRule::default()) && self.cron.is_none() {
            return fail("`dialect` and `day_rule` go with `cron` only");
        }
        let mut kinds = Vec::new();
        if let Some(expression) = &self.cron {
            let (expression, dialect, day_rule) = (expression.clone(), self.dialect, self.day_rule);
            kinds.push(TriggerKind::Cron { expression, dialect, day_rule });
        }
        if let Some(period) = &self.every {
            let period = duration_text::parse(period).map_err(TriggerError::Invalid)?;
            kinds.push(TriggerKind::Every { period, anchor: self.anchor.unwrap_or(DateTime::UNIX_EPOCH) });
        }
        if let Some(delay) = &self.after_completion {
            kinds.push(TriggerKind::AfterCompletion(duration_text::parse(delay).map_err(TriggerError::Invalid)?));
        }
        if let Some(After { schedule, on }) = &self.after {
            kinds.push(TriggerKind::After { schedule: schedule.clone(), on: *on });
        }
        if let Some(times) = &self.daily {
            kinds.push(TriggerKind::Daily(times.parsed(parse_time)?));
        }
        if let Some(Weekly { on, at }) = &self.weekly {
            kinds.push(TriggerKind::Weekly { on: on.parsed(parse_day)?, at: at.parsed(parse_time)? });
        }
        if let Some(expression) = &self.calendar {
            kinds.push(TriggerKind::Calendar(expression.clone()));
        }
        if let Some(rule) = &self.rrule {
            kinds.push(TriggerKind::Rrule(rule.clone()));
        }
        if let Some(at) = self.once {
            kinds.push(TriggerKind::Once(at));
        }
        if !self.any.is_empty() {
            kinds.push(TriggerKind::Union(self.any.iter().map(Self::spec).collect::<Result<_, _>>()?));
        }
        match (kinds.pop(), kinds.is_empty()) {
            (Some(kind), true) => Ok(kind),
            _ => fail(
                "a trigger has exactly one of `cron`, `every`, `after_completion`, `after`, `daily`, `weekly`, `calendar`, `rrule` and `once`, such as { daily = \"08:00\" }",
            ),
        }
    }

    fn spec(&self) -> Result<TriggerSpec, TriggerError> {
        let spec = TriggerSpec {
            kind: self.kind()?,
            timezone: self.timezone.as_deref().map(parse_zone).transpose().map_err(TriggerError::Invalid)?,
            dst: self.dst,
            start: self.start,
            end: self.end,
            except: self.except.clone(),
            limit: self.limit,
        };
        spec.validate()?;
        Ok(spec)
    }

    fn of(spec: &TriggerSpec) -> Self {
        let mut raw = Self {
            timezone: spec.timezone.map(|zone| zone.name().to_owned()),
            dst: spec.dst,
            start: spec.start,
            end: spec.end,
            except: spec.except.clone(),
            limit: spec.limit,
            ..Self::default()
        };
        match &spec.kind {
            TriggerKind::Cron { expression, dialect, day_rule } => {
                raw.cron = Some(expression.clone());
                (raw.dialect, raw.day_rule) = (*dialect, *day_rule);
            }
            TriggerKind::Every { period, anchor } => {
                raw.every = Some(humantime::format_duration(*period).to_string());
                raw.anchor = (*anchor != DateTime::UNIX_EPOCH).then_some(*anchor);
            }
            TriggerKind::AfterCompletion(delay) => {
                raw.after_completion = Some(humantime::format_duration(*delay).to_string());
            }
            TriggerKind::After { schedule, on } => {
                raw.after = Some(After { schedule: schedule.clone(), on: *on });
            }
            TriggerKind::Daily(times) => raw.daily = Some(OneOrMany::of(times, |time| time_text(*time))),
            TriggerKind::Weekly { on, at } => {
                let on = OneOrMany::of(on, |day| day.to_string().to_lowercase());
                raw.weekly = Some(Weekly { on, at: OneOrMany::of(at, |time| time_text(*time)) });
            }
            TriggerKind::Calendar(expression) => raw.calendar = Some(expression.clone()),
            TriggerKind::Rrule(rule) => raw.rrule = Some(rule.clone()),
            TriggerKind::Once(at) => raw.once = Some(*at),
            TriggerKind::Union(parts) => raw.any = parts.iter().map(Self::of).collect(),
        }
        raw
    }
}

impl TryFrom<Written> for TriggerSpec {
    type Error = TriggerError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        written.0.spec()
    }
}

impl From<TriggerSpec> for Written {
    fn from(spec: TriggerSpec) -> Self {
        Self(Raw::of(&spec))
    }
}
