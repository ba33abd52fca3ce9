//! A schedule as it is asked for: trigger, job, parameters and policies, validated.
//!
//! Must not know: files, environment, the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{ChannelName, ScheduleName};
use crate::placement::Placement;
use crate::policy::{Alerting, Delivery, LONGEST, Misfire, MisfirePolicy, OnStart, Overlap, Retry, duration_text};
use crate::trigger::TriggerSpec;

/// Everything that defines a schedule. Serialises to the form that the store keeps and the API shows.
///
/// ```
/// use std::time::Duration;
/// use sched_core::{ScheduleSpec, TriggerSpec};
///
/// let spec = ScheduleSpec::new("ping", "http_call", TriggerSpec::every(Duration::from_secs(60)))?
///     .with_param("url", "http://127.0.0.1:8080/healthz")
///     .with_timeout(Duration::from_secs(5));
/// spec.validate()?;
/// # Ok::<(), sched_core::SpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Its name and identity.
    pub name: ScheduleName,
    /// The kind of its job.
    pub job: String,
    /// When it fires.
    pub trigger: TriggerSpec,
    /// Whether it runs when the scheduler starts.
    #[serde(default)]
    pub on_start: OnStart,
    /// Parameters, typed by the kind. Secrets are references (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub params: Map<String, Value>,
    /// What happens to late fires.
    #[serde(default)]
    pub misfire: Misfire,
    /// What happens while a run is open.
    #[serde(default)]
    pub overlap: Overlap,
    /// Attempts and waits between them.
    #[serde(default)]
    pub retry: Retry,
    /// The time limit of one attempt.
    #[serde(default = "default_timeout", with = "duration_text")]
    pub timeout: Duration,
    /// What a crash means for a run that was under way.
    #[serde(default)]
    pub delivery: Delivery,
    /// Runs start up to this long after their nominal time, by an amount that is stable for each fire.
    #[serde(default, with = "duration_text")]
    pub jitter: Duration,
    /// The concurrency group.
    #[serde(default)]
    pub group: Option<String>,
    /// Where its runs go.
    #[serde(default, skip_serializing_if = "Placement::is_task")]
    pub runner: Placement,
    /// When someone is told that a run is late or long.
    #[serde(default)]
    pub alert: Alerting,
    /// The channels that tell of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<ChannelName>,
}

const fn default_timeout() -> Duration {
    Duration::from_secs(600)
}

/// Why a specification cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] crate::id::InvalidName),
    /// A field has a value that cannot work; the message says what to write instead.
    #[error("{field}: {message}")]
    Field {
        /// The field, with dots.
        field: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
}

impl SpecError {
    pub(crate) fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Field { field, message: message.into() }
    }
}

impl ScheduleSpec {
    /// A specification with default policies.
    ///
    /// # Errors
    /// When the name is not allowed.
    pub fn new(name: &str, job: &str, trigger: TriggerSpec) -> Result<Self, SpecError> {
        Ok(Self {
            name: name.parse()?,
            job: job.to_owned(),
            trigger,
            on_start: OnStart::No,
            params: Map::new(),
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            retry: Retry::default(),
            timeout: default_timeout(),
            delivery: Delivery::default(),
            jitter: Duration::ZERO,
            group: None,
            runner: Placement::default(),
            alert: Alerting::default(),
            notify: Vec::new(),
        })
    }

    /// Sets one parameter.
    #[must_use]
    pub fn with_param(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.params.insert(key.to_owned(), value.into());
        self
    }

    /// Sets when it runs at start-up.
    #[must_use]
    pub const fn with_on_start(mut self, on_start: OnStart) -> Self {
        self.on_start = on_start;
        self
    }

    /// Sets what happens while a run is open.
    #[must_use]
    pub const fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets what happens to late fires.
    #[must_use]
    pub fn with_misfire(mut self, misfire: Misfire) -> Self {
        self.misfire = misfire;
        self
    }

    /// Sets attempts and the waits between them.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the time limit of one attempt.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gives back memory that parameters have kept for more to come: it is most of what a schedule takes.
    pub(crate) fn compact(mut self) -> Self {
        self.params = self.params.into_iter().collect();
        self
    }

    /// Sets where its runs go.
    #[must_use]
    pub fn with_runner(mut self, runner: Placement) -> Self {
        self.runner = runner;
        self
    }

    /// Sets the channels that tell of it.
    #[must_use]
    pub fn with_notify(mut self, channels: impl IntoIterator<Item = ChannelName>) -> Self {
        self.notify = channels.into_iter().collect();
        self
    }

    /// Checks what types cannot: ranges, and fields that contradict each other.
    ///
    /// # Errors
    /// The first field that cannot work, with what to write instead.
    pub fn validate(&self) -> Result<(), SpecError> {
        if !(1..=100).contains(&self.retry.attempts) {
            return Err(SpecError::field("retry.attempts", "must be 1 to 100, the first attempt included"));
        }
        if self.delivery == Delivery::AtMostOnce && self.retry.attempts > 1 {
            return Err(SpecError::field(
                "retry.attempts",
                "delivery = \"at_most_once\" allows one attempt; write retry = { attempts = 1 }",
            ));
        }
        if !(1..=1000).contains(&self.misfire.max) {
            return Err(SpecError::field("misfire.max", "must be 1 to 1000"));
        }
        if let Placement::Process(limits) = &self.runner
            && let Some((field, message)) = limits.fault()
        {
            return Err(SpecError::field("runner", format!("process.{field}: {message}")));
        }
        if self.timeout.is_zero() {
            return Err(SpecError::field("timeout", "must be longer than zero"));
        }
        let durations = [
            ("timeout", Some(self.timeout)),
            ("jitter", Some(self.jitter)),
            ("misfire.window", Some(self.misfire.window)),
            ("retry.initial", Some(self.retry.initial)),
            ("retry.max", Some(self.retry.max)),
            ("alert.late_start", self.alert.late_start),
            ("alert.overrun", self.alert.overrun),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, duration)| *duration > Some(LONGEST)) {
            return Err(SpecError::field(field, "must be 100 years or less"));
        }
        if self.trigger.is_after_completion()
            && (self.overlap != Overlap::Skip || self.misfire.policy == MisfirePolicy::All)
        {
            return Err(SpecError::field(
                "trigger",
                "`after_completion` waits for the end of each run: leave out `overlap`, and `misfire.policy` is \"latest\" or \"skip\"",
            ));
        }
        if self.trigger.after().is_some() && self.on_start == OnStart::IfDue {
            return Err(SpecError::field(
                "on_start",
                "a schedule that comes after another has no periods; leave it out",
            ));
        }
        self.trigger.validate().map_err(|error| SpecError::field("trigger", error.to_string()))
    }
}

/// Checks what schedules that come after others name: each exists, and none comes after itself on a way round.
///
/// # Errors
/// The first schedule that cannot work, with what to write instead.
pub fn check_chains(specs: &[ScheduleSpec]) -> Result<(), (ScheduleName, SpecError)> {
    let after: BTreeMap<&ScheduleName, Option<&ScheduleName>> =
        specs.iter().map(|spec| (&spec.name, spec.trigger.after())).collect();
    for spec in specs {
        let mut way = vec![&spec.name];
        while let Some(next) = after.get(way[way.len() - 1]).copied().flatten() {
            let fail = |message| Err((spec.name.clone(), SpecError::field("trigger.after.schedule", message)));
            if !after.contains_key(next) {
                // Told at the schedule that names it.
                if way.len() > 1 {
                    break;
                }
                let near = crate::suggest::near(next.as_str(), after.keys().map(|name| name.as_str()));
                return fail(format!("no schedule `{next}`{near}"));
            }
            if let Some(begin) = way.iter().position(|name| *name == next) {
                let names: Vec<_> = way[begin..].iter().chain([&next]).map(|name| name.as_str()).collect();
                return fail(format!(
                    "it comes after itself: {}; give one of them a trigger with times",
                    names.join(" after ")
                ));
            }
            way.push(next);
        }
    }
    Ok(())
}
