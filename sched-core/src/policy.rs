//! Policies of a schedule: plain data with pure decisions.
//!
//! Must not know: I/O, clocks, the engine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::run::RunState;

/// No duration of a schedule is longer, so that none leads out of the calendar.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Durations as people write them: `"30s"`, `"6h"`, `"1h 30m"`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes a duration as text.
    ///
    /// # Errors
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads a duration from text.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map_err(D::Error::custom)
    }

    /// Reads a duration from text, up to 100 years.
    ///
    /// # Errors
    /// A message that names the text and the form that is expected.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let duration = humantime::parse_duration(text).map_err(|_| {
            format!(
                "`{text}` is not a duration; write a number with a unit, such as \"30s\", \"5m\", \"6h\" or \"1h 30m\""
            )
        })?;
        if duration > super::LONGEST {
            return Err(format!("`{text}` is longer than 100 years"));
        }
        Ok(duration)
    }
}

/// What happens to fires that could not start on time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Misfire {
    /// Which late fires run.
    pub policy: MisfirePolicy,
    /// Fires later than this never run; it also limits how long a run waits for a free place.
    #[serde(with = "duration_text")]
    pub window: Duration,
    /// With `all`: at most so many late fires run, the newest ones. 1 to 1,000.
    pub max: u32,
}

/// Which late fires run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// The newest, once.
    Latest,
    /// All, oldest first.
    All,
    /// None.
    Skip,
}

impl Default for Misfire {
    fn default() -> Self {
        Self { policy: MisfirePolicy::Latest, window: Duration::from_secs(86_400), max: 100 }
    }
}

/// What happens to a fire that comes while a run of its schedule is open (queued, running or awaiting retry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// One waits; further ones are skipped.
    Queue,
    /// All wait, and run one after another.
    QueueAll,
    /// Open runs are cancelled; it runs when they have ended.
    CancelRunning,
    /// It runs beside them.
    Allow,
}

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// `initial` each time.
    Fixed,
    /// `initial` times the number of failed attempts.
    Linear,
    /// `initial`, doubled with each failed attempt.
    Exponential,
}

/// Whether and when a failed attempt is followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, the first included; 1 to 100.
    pub attempts: u32,
    /// How waits grow.
    pub backoff: Backoff,
    /// The first wait.
    #[serde(with = "duration_text")]
    pub initial: Duration,
    /// No wait is longer.
    #[serde(with = "duration_text")]
    pub max: Duration,
    /// Take a random wait between half of the computed one and all of it.
    pub jitter: bool,
    /// How an attempt must have ended for another to follow.
    pub retry_on: Vec<RetryOn>,
}

/// An end of an attempt that another attempt may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// The job returned an error that another attempt may cure, or panicked.
    Failed,
    /// It exceeded its time limit.
    TimedOut,
    /// Its process died.
    Interrupted,
}

impl RetryOn {
    /// Whether it names this state.
    const fn names(self, state: RunState) -> bool {
        matches!(
            (self, state),
            (Self::Failed, RunState::Failed)
                | (Self::TimedOut, RunState::TimedOut)
                | (Self::Interrupted, RunState::Interrupted)
        )
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::Exponential,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: true,
            retry_on: vec![RetryOn::Failed, RetryOn::TimedOut, RetryOn::Interrupted],
        }
    }
}

impl Retry {
    /// Whether another attempt follows the `made`th (from 1), which ended in this state.
    #[must_use]
    pub fn follows(&self, made: u32, state: RunState) -> bool {
        made < self.attempts && self.retry_on.iter().any(|on| on.names(state))
    }

    /// The wait after the `failed`th attempt (from 1). `random` decides the jitter.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sched_core::Retry;
    /// let retry = Retry { jitter: false, ..Retry::default() };
    /// assert_eq!(retry.wait(1, 0), Duration::from_secs(1));
    /// assert_eq!(retry.wait(4, 0), Duration::from_secs(8));
    /// assert_eq!(retry.wait(90, 0), Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn wait(&self, failed: u32, random: u64) -> Duration {
        let factor = match self.backoff {
            Backoff::Fixed => 1,
            Backoff::Linear => failed,
            Backoff::Exponential => 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX),
        };
        let full = self.initial.checked_mul(factor).unwrap_or(self.max).min(self.max);
        if !self.jitter {
            return full;
        }
        let half = full / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(random % (span + 1))
    }
}

/// What a crash means for a run that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It consumed an attempt; another may follow.
    #[default]
    AtLeastOnce,
    /// It is interrupted and never started again.
    AtMostOnce,
}

/// When someone is told of a run that goes on as planned, but not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerting {
    /// A run that has not started so long after its time.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub late_start: Option<Duration>,
    /// An attempt that has not ended so long after its start.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub overrun: Option<Duration>,
}

pub(crate) mod maybe_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "super::duration_text")] Duration);

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(Text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

/// Whether a schedule runs when the scheduler starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStart {
    /// It does not.
    #[default]
    No,
    /// Once, unless a run of its current period succeeded or is open.
    IfDue,
    /// At every start.
    Always,
}

impl Serialize for OnStart {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::IfDue => serializer.serialize_str("if_due"),
            Self::Always => serializer.serialize_str("always"),
        }
    }
}

impl<'de> Deserialize<'de> for OnStart {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Bool(bool),
            Text(String),
        }
        let raw = Raw::deserialize(deserializer);
        match &raw {
            Ok(Raw::Bool(false)) => Ok(Self::No),
            Ok(Raw::Text(text)) if text == "if_due" => Ok(Self::IfDue),
            Ok(Raw::Text(text)) if text == "always" => Ok(Self::Always),
            _ => Err(serde::de::Error::custom("on_start is \"if_due\", \"always\" or false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all_of_the_wait() {
        let retry = Retry { initial: Duration::from_secs(8), ..Retry::default() };
        for random in [0, 1, u64::MAX, 1 << 40] {
            let wait = retry.wait(1, random);
            assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&wait), "{wait:?}");
        }
    }
}
