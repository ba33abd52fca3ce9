//! Triggers as values, and their compilation.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::bounds::{Bounded, Union};
use super::cron::{self, CronError, DayRule, Dialect};
use super::wall::{Dst, Fold, Gap, InZone};
use super::written::Written;
use super::{Trigger, after, after_completion, calendar, daily, every, once, rrule, weekly};
use crate::id::ScheduleName;
use crate::run::RunState;

/// A `limit` is walked once, when the last fire is first needed.
const MOST_FIRES: u32 = 10_000;

/// A trigger as it is written: its kind, the zone of its wall-clock times (UTC when none is given), what clock
/// changes do to it, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TriggerSpec {
    /// The kind.
    pub kind: TriggerKind,
    /// The zone of its wall-clock times.
    pub timezone: Option<Tz>,
    /// What clock changes do to its wall-clock times.
    pub dst: Dst,
    /// No fire before this instant.
    pub start: Option<DateTime<Utc>>,
    /// No fire after this instant.
    pub end: Option<DateTime<Utc>>,
    /// No fire on these dates of its zone.
    pub except: Vec<NaiveDate>,
    /// At most so many fires, counted from `start`, which it needs.
    pub limit: Option<u32>,
}

/// The kinds of triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerKind {
    /// A cron expression.
    Cron {
        /// The fields.
        expression: String,
        /// Whose cron it is written for.
        dialect: Dialect,
        /// When both day fields must match.
        day_rule: DayRule,
    },
    /// A fixed period of elapsed time, counted from an anchor.
    Every {
        /// The period.
        period: Duration,
        /// The instant from which periods are counted.
        anchor: DateTime<Utc>,
    },
    /// A fixed delay after the schedule's last run ended.
    AfterCompletion(Duration),
    /// One or more times of day.
    Daily(Vec<NaiveTime>),
    /// Times of day on some days of the week.
    Weekly {
        /// The days.
        on: Vec<Weekday>,
        /// The times.
        at: Vec<NaiveTime>,
    },
    /// A systemd calendar event; a zone in it wins over the trigger's.
    Calendar(String),
    /// A recurrence rule of RFC 5545; the trigger's `start` is its DTSTART.
    Rrule(String),
    /// One instant.
    Once(DateTime<Utc>),
    /// When a run of another schedule has ended so. It names no instants: the end is the fire.
    After {
        /// The other schedule.
        schedule: ScheduleName,
        /// Which ends count.
        on: On,
    },
    /// Whenever one of these fires; what several name is one fire.
    Union(Vec<TriggerSpec>),
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

/// Which ends of another schedule's run count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// It succeeded.
    #[default]
    Success,
    /// It failed, timed out or was interrupted, with no attempt left.
    Failure,
    /// It ended, cancelled included; not that it was skipped or missed.
    Any,
}

impl On {
    /// Whether a run that ended in this state counts.
    #[must_use]
    pub const fn matches(self, state: RunState) -> bool {
        let ran = !matches!(state, RunState::Skipped | RunState::Missed | RunState::Queued | RunState::Running);
        match self {
            Self::Success => matches!(state, RunState::Succeeded),
            Self::Failure => state.is_failure(),
            Self::Any => ran,
        }
    }
}

impl TriggerSpec {
    /// A fixed period of elapsed time, counted from the Unix epoch: six hours is 00, 06, 12 and 18 o'clock UTC.
    #[must_use]
    pub const fn every(period: Duration) -> Self {
        Self::of(TriggerKind::Every { period, anchor: DateTime::UNIX_EPOCH }, None)
    }

    /// One time of day in a zone.
    #[must_use]
    pub fn daily(at: NaiveTime, zone: Tz) -> Self {
        Self::of(TriggerKind::Daily(vec![at]), Some(zone))
    }

    /// A cron expression of the standard dialect in a zone.
    #[must_use]
    pub fn cron(expression: &str, zone: Tz) -> Self {
        let (dialect, day_rule) = (Dialect::Standard, DayRule::Debian);
        Self::of(TriggerKind::Cron { expression: expression.to_owned(), dialect, day_rule }, Some(zone))
    }

    /// One instant.
    #[must_use]
    pub const fn once(at: DateTime<Utc>) -> Self {
        Self::of(TriggerKind::Once(at), None)
    }

    /// A kind in a zone, with no bounds and the ordinary rule for clock changes.
    #[must_use]
    pub const fn of(kind: TriggerKind, timezone: Option<Tz>) -> Self {
        let dst = Dst { gap: Gap::Auto, fold: Fold::Auto };
        Self { kind, timezone, dst, start: None, end: None, except: Vec::new(), limit: None }
    }

    /// Sets the zone if none is written.
    #[must_use]
    pub fn or_timezone(mut self, zone: Tz) -> Self {
        self.timezone.get_or_insert(zone);
        if let TriggerKind::Union(parts) = &mut self.kind {
            for part in parts {
                part.timezone.get_or_insert(zone);
            }
        }
        self
    }

    /// Whether its fires are counted from the ends of its schedule's runs.
    #[must_use]
    pub const fn is_after_completion(&self) -> bool {
        matches!(self.kind, TriggerKind::AfterCompletion(_))
    }

    /// The schedule that this one comes after, if it does.
    #[must_use]
    pub const fn after(&self) -> Option<&ScheduleName> {
        match &self.kind {
            TriggerKind::After { schedule, .. } => Some(schedule),
            _ => None,
        }
    }

    /// The version of the time zone rules by which its instants are computed; none when it needs none.
    #[must_use]
    pub fn zone_data(&self) -> Option<&'static str> {
        self.needs_a_zone().then_some(chrono_tz::IANA_TZDB_VERSION)
    }

    fn needs_a_zone(&self) -> bool {
        let local = self.timezone.is_some_and(|zone| zone != Tz::UTC);
        match &self.kind {
            TriggerKind::Union(parts) => parts.iter().any(Self::needs_a_zone) || (local && !self.except.is_empty()),
            TriggerKind::Calendar(expression) => {
                let own = calendar::Calendar::parse(expression).ok().and_then(|(_, own)| own);
                own.map_or(local, |zone| zone != Tz::UTC)
            }
            TriggerKind::Every { .. }
            | TriggerKind::Once(_)
            | TriggerKind::AfterCompletion(_)
            | TriggerKind::After { .. } => local && !self.except.is_empty(),
            _ => local,
        }
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
        let (mut start, mut end) = (self.start, self.end);
        let inner: Arc<dyn Trigger> = match &self.kind {
            TriggerKind::Cron { expression, dialect, day_rule } => {
                Arc::new(InZone::new(cron::Cron::parse(expression, *dialect, *day_rule)?, zone, self.dst))
            }
            TriggerKind::Every { period, anchor } => Arc::new(every::Every::new(*period, *anchor)?),
            TriggerKind::AfterCompletion(delay) => {
                if self.limit.is_some() || !self.except.is_empty() {
                    return Err(TriggerError::Invalid(
                        "`after_completion` takes `start` and `end`, not `limit` or `except`".into(),
                    ));
                }
                start = None;
                Arc::new(after_completion::AfterCompletion::new(*delay, self.start)?)
            }
            TriggerKind::Daily(times) => Arc::new(InZone::new(daily::Daily::new(times)?, zone, self.dst)),
            TriggerKind::Weekly { on, at } => Arc::new(InZone::new(weekly::Weekly::new(on, at)?, zone, self.dst)),
            TriggerKind::Calendar(expression) => {
                let (calendar, own) = calendar::Calendar::parse(expression)?;
                Arc::new(InZone::new(calendar, own.unwrap_or(zone), self.dst))
            }
            TriggerKind::Rrule(rule) => {
                let (rule, until) = rrule::Rule::parse(rule, self.start, zone)?;
                end = end.into_iter().chain(until).min();
                Arc::new(InZone::new(rule, zone, self.dst))
            }
            TriggerKind::Once(at) => Arc::new(once::Once::new(*at)),
            TriggerKind::After { .. } => {
                if self.start.is_some() || self.end.is_some() || self.limit.is_some() || !self.except.is_empty() {
                    return Err(TriggerError::Invalid(
                        "`after` names no instants: leave out `start`, `end`, `limit` and `except`".into(),
                    ));
                }
                Arc::new(after::After)
            }
            TriggerKind::Union(parts) => {
                if parts.iter().any(|part| part.is_after_completion() || part.after().is_some()) {
                    return Err(TriggerError::Invalid(
                        "`after` and `after_completion` stand alone, not in a list; make it a schedule of its own"
                            .into(),
                    ));
                }
                Arc::new(Union(parts.iter().map(Self::compile).collect::<Result<Vec<_>, _>>()?.into()))
            }
        };
        self.bounded(inner, start, end, zone)
    }

    fn bounded(
        &self,
        inner: Arc<dyn Trigger>,
        start: Option<DateTime<Utc>>,
        end: Option<DateTime<Utc>>,
        zone: Tz,
    ) -> Result<Arc<dyn Trigger>, TriggerError> {
        if start.is_none() && end.is_none() && self.except.is_empty() && self.limit.is_none() {
            return Ok(inner);
        }
        if let (Some(start), Some(end)) = (self.start, end)
            && end < start
        {
            return Err(TriggerError::Invalid(format!("`end` {end} lies before `start` {start}")));
        }
        let mut except = self.except.clone();
        except.sort_unstable();
        except.dedup();
        if let Some(limit) = self.limit {
            if start.is_none() {
                return Err(TriggerError::Invalid("`limit` counts fires from `start`; write that too".into()));
            }
            if !(1..=MOST_FIRES).contains(&limit) {
                return Err(TriggerError::Invalid(format!("`limit` is a number from 1 to {MOST_FIRES}")));
            }
        }
        let (except, last) = (except.into(), OnceLock::new());
        Ok(Arc::new(Bounded { inner, start, end, except, zone, limit: self.limit, last }))
    }

    /// What its writer may not expect of it in the year after `now`, a line each: that it never fires, that other
    /// crons read its day fields otherwise, and the days on which a clock change touches a fixed time.
    ///
    /// # Errors
    /// As [`TriggerSpec::validate`].
    pub fn warnings(&self, now: DateTime<Utc>) -> Result<Vec<String>, TriggerError> {
        let trigger = self.compile()?;
        if self.after().is_some() {
            return Ok(Vec::new());
        }
        let mut warnings = Vec::new();
        if trigger.next_after(now).is_none() {
            warnings.push(if trigger.is_never() { "it never fires".into() } else { "it never fires again".to_owned() });
        }
        warnings.extend(self.other_day_rule()?);
        let year = now + TimeDelta::days(366);
        let surprises = trigger.surprises(now, year);
        warnings.extend(surprises.iter().filter(|surprise| surprise.fixed).map(ToString::to_string));
        Ok(warnings)
    }

    fn other_day_rule(&self) -> Result<Option<String>, TriggerError> {
        let TriggerKind::Cron { expression, dialect: Dialect::Standard, day_rule } = &self.kind else {
            return Ok(None);
        };
        let both =
            |rule| Ok::<_, TriggerError>(cron::Cron::parse(expression, Dialect::Standard, rule)?.words().both_days);
        if both(DayRule::Debian)? == both(DayRule::Ocps)? {
            return Ok(None);
        }
        let (ours, theirs) = match day_rule {
            DayRule::Debian => {
                ("both day fields must match, as in Debian's cron", "by day_rule = \"ocps\" one is enough")
            }
            DayRule::Ocps => ("one of the day fields is enough", "by day_rule = \"debian\" both must match"),
        };
        Ok(Some(format!("{ours}; {theirs}")))
    }

    /// The trigger as people write it in one line.
    ///
    /// ```
    /// use sched_core::TriggerSpec;
    /// assert_eq!(TriggerSpec::cron("0 8 * * *", chrono_tz::UTC).to_string(), "cron 0 8 * * *");
    /// ```
    fn describe(&self) -> String {
        let text = match &self.kind {
            TriggerKind::Cron { expression, dialect: Dialect::Standard, .. } => format!("cron {expression}"),
            TriggerKind::Cron { expression, .. } => format!("quartz cron {expression}"),
            TriggerKind::Every { period, .. } => format!("every {}", humantime::format_duration(*period)),
            TriggerKind::AfterCompletion(delay) => {
                format!("{} after completion", humantime::format_duration(*delay))
            }
            TriggerKind::Daily(times) => {
                format!("daily {}", list(times, |time| time_text(*time)))
            }
            TriggerKind::Weekly { on, at } => {
                let days = list(on, |day| day.to_string().to_lowercase());
                format!("weekly {days} at {}", list(at, |time| time_text(*time)))
            }
            TriggerKind::Calendar(expression) => format!("calendar {expression}"),
            TriggerKind::Rrule(rule) => format!("rrule {rule}"),
            TriggerKind::Once(at) => format!("once {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            TriggerKind::After { schedule, on } => match on {
                On::Success => format!("after {schedule}"),
                On::Failure => format!("after {schedule} fails"),
                On::Any => format!("after {schedule}, however it ends"),
            },
            TriggerKind::Union(parts) => parts.iter().map(Self::describe).collect::<Vec<_>>().join(" or "),
        };
        let elapsed = matches!(
            self.kind,
            TriggerKind::Every { .. }
                | TriggerKind::AfterCompletion(_)
                | TriggerKind::After { .. }
                | TriggerKind::Once(_)
                | TriggerKind::Union(_)
        );
        match self.timezone {
            Some(zone) if zone != Tz::UTC && !elapsed => format!("{text} {zone}"),
            _ => text,
        }
    }
}

impl std::fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.describe())
    }
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

pub(super) fn time_text(time: NaiveTime) -> String {
    let format = if chrono::Timelike::second(&time) == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.format(format).to_string()
}
