//! What is written under `params`, and what of it cannot work.

mod probe;
mod remedy;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use sched_core::{ParamError, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::probe::{Certificate, Disk, FileAge, Free, LastSuccess, Probe, Undelivered, patterns};
pub(super) use self::remedy::{Remedy, Restart};
use super::decide::Limits;
use super::probe::span;
use crate::JobEnv;
use crate::http::Request;

/// So many checks has one schedule.
const MOST_CHECKS: usize = 100;
/// So many uses of a remedy within an hour, and so many retries of a run.
const MOST_USES: usize = 1000;

/// Parameters of `self_heal`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Params {
    /// Run failed runs again, each once; unless set, when no check looks for failed runs.
    pub(super) retry_failed: Option<bool>,
    /// Run missed fires; unless set, when no check looks for missed runs.
    pub(super) recover_missed: Option<bool>,
    /// At most so many of these in all.
    pub(super) max_retries: usize,
    /// How far back these look.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(super) within: Duration,
    /// URLs that must answer with success.
    pub(super) health_urls: Vec<String>,
    /// How long each may take.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(super) timeout: Duration,
    /// Fail when a URL is unhealthy.
    pub(super) fail_when_unhealthy: bool,
    /// Checks, each with its remedy.
    pub(super) checks: Vec<Check>,
    /// Say what would be done, and do nothing.
    pub(super) dry_run: bool,
    /// Fail, and so alert, when a check finds something that no remedy helps.
    pub(super) fail_when_given_up: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            retry_failed: None,
            recover_missed: None,
            max_retries: 10,
            within: Duration::from_secs(86_400),
            health_urls: Vec::new(),
            timeout: Duration::from_secs(5),
            fail_when_unhealthy: false,
            checks: Vec::new(),
            dry_run: false,
            fail_when_given_up: true,
        }
    }
}

/// One thing that must be well, and what is done when it is not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    /// What it is called; what is remembered of it is kept under this name.
    pub(super) name: String,
    /// What is looked at.
    pub(super) check: Probe,
    /// What is done; nothing unless set, and then every finding is given up at once.
    #[serde(default)]
    pub(super) remedy: Option<Remedy>,
    /// How long one look may take.
    #[serde(default = "half_a_minute", with = "duration_text")]
    #[schemars(with = "String")]
    pub(super) timeout: Duration,
    /// How long the remedy may take.
    #[serde(default = "two_minutes", with = "duration_text")]
    #[schemars(with = "String")]
    remedy_timeout: Duration,
    /// From one use of the remedy to the next.
    #[serde(default = "ten_minutes", with = "duration_text")]
    #[schemars(with = "String")]
    cooldown: Duration,
    /// At most so many uses within an hour.
    #[serde(default = "three")]
    per_hour: usize,
    /// So many uses in a row that did not help open the circuit breaker: the remedy is given up.
    #[serde(default = "three_failures")]
    breaker_after: u32,
    /// An open breaker lets one use through after this.
    #[serde(default = "an_hour", with = "duration_text")]
    #[schemars(with = "String")]
    breaker_reopen: Duration,
    /// From the remedy to the first look whether it helped.
    #[serde(default = "two_seconds", with = "duration_text")]
    #[schemars(with = "String")]
    pub(super) verify_after: Duration,
    /// How long it is looked again until it has helped.
    #[serde(default = "a_minute", with = "duration_text")]
    #[schemars(with = "String")]
    pub(super) verify_for: Duration,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub(super) dry_run: bool,
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

const fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

const fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

const fn an_hour() -> Duration {
    Duration::from_secs(3600)
}

const fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

const fn a_minute() -> Duration {
    Duration::from_secs(60)
}

const fn three() -> usize {
    3
}

const fn three_failures() -> u32 {
    3
}

type Checked = Result<(), ParamError>;

fn fault(at: &str, key: &str, message: impl Into<String>) -> Checked {
    Err(ParamError::new(format!("{at}{key}"), message))
}

impl Params {
    /// What of it cannot work.
    pub(super) fn check(&self, env: &JobEnv) -> Checked {
        if self.checks.len() > MOST_CHECKS {
            return fault("", "checks", format!("at most {MOST_CHECKS}"));
        }
        if self.timeout.is_zero() {
            return fault("", "timeout", "must be longer than nothing");
        }
        for (index, url) in self.health_urls.iter().enumerate() {
            Request::to(url.clone())
                .check_url(env)
                .map_err(|why| ParamError::new(format!("health_urls[{index}]"), why))?;
        }
        let mut names = BTreeSet::new();
        for (index, check) in self.checks.iter().enumerate() {
            let at = format!("checks[{index}].");
            if check.name.trim().is_empty() || check.name.len() > 100 || check.name.contains(char::is_control) {
                return fault(&at, "name", "must have 1 to 100 bytes on one line");
            }
            if !names.insert(check.name.as_str()) {
                return fault(&at, "name", format!("`{}` is the name of two checks", check.name));
            }
            check.check(&at, env)?;
        }
        Ok(())
    }

    /// Whether failed runs are looked for without a check of their own.
    pub(super) fn retries_failed(&self) -> bool {
        self.retry_failed.unwrap_or_else(|| !self.checks.iter().any(|c| matches!(c.check, Probe::FailedRuns(_))))
    }

    /// Whether missed fires are.
    pub(super) fn recovers_missed(&self) -> bool {
        self.recover_missed.unwrap_or_else(|| !self.checks.iter().any(|c| matches!(c.check, Probe::MissedRuns(_))))
    }
}

impl Check {
    fn check(&self, at: &str, env: &JobEnv) -> Checked {
        self.check.check(&format!("{at}check."), env)?;
        if !(1..=MOST_USES).contains(&self.per_hour) {
            return fault(at, "per_hour", format!("must be 1 to {MOST_USES}"));
        }
        if self.breaker_after == 0 {
            return fault(at, "breaker_after", "must be 1 or more");
        }
        for (key, limit) in [("timeout", self.timeout), ("remedy_timeout", self.remedy_timeout)] {
            if limit.is_zero() {
                return fault(at, key, "must be longer than nothing");
            }
        }
        match (&self.remedy, &self.check) {
            (Some(Remedy::Retry(_)), check) if !matches!(check, Probe::FailedRuns(_)) => {
                fault(at, "remedy.retry", "it runs the runs again that a check `failed_runs` finds")
            }
            (Some(Remedy::Retry(retry)), Probe::FailedRuns(runs)) if retry.waits() > runs.within => {
                let waits = span(TimeDelta::from_std(retry.waits()).unwrap_or(TimeDelta::MAX));
                let why =
                    format!("is shorter than the waits of all retries ({waits}): older ones would not be counted");
                fault(at, "check.failed_runs.within", why)
            }
            (Some(Remedy::Backfill(_)), check) if !matches!(check, Probe::MissedRuns(_)) => {
                fault(at, "remedy.backfill", "it runs the fires that a check `missed_runs` finds")
            }
            (Some(Remedy::Redeliver(_)), check) if !matches!(check, Probe::Undelivered(_)) => {
                fault(at, "remedy.redeliver", "it delivers what a check `undelivered` finds")
            }
            (Some(remedy), _) => remedy.check(&format!("{at}remedy."), env),
            (None, _) => Ok(()),
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        Limits {
            cooldown: self.cooldown,
            per_hour: self.per_hour,
            breaker_after: self.breaker_after,
            breaker_reopen: self.breaker_reopen,
        }
    }

    pub(super) const fn remedy_timeout(&self) -> Duration {
        self.remedy_timeout
    }
}
