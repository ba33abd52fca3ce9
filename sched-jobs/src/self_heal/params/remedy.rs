//! What is done about a finding.

use std::time::Duration;

use sched_core::{ScheduleName, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::runs;
use super::{Checked, MOST_USES, fault};
use crate::http::Request;
use crate::{JobEnv, command};

/// What is done.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::self_heal) enum Remedy {
    /// Run failed runs again.
    Retry(Retry),
    /// Run the missed fires that were found, the oldest first.
    Backfill(Backfill),
    /// Run a schedule.
    Trigger(Trigger),
    /// Run a program.
    Command(command::Params),
    /// Call a URL.
    Call(Request),
    /// Restart a unit of systemd.
    Restart(Restart),
    /// Try again to deliver what channels have given up.
    Redeliver(Redeliver),
}

/// How failed runs are run again. What has succeeded since never is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::self_heal) struct Retry {
    /// So often, beside the attempts of its own policy.
    #[serde(default = "one")]
    pub(in crate::self_heal) retries: u32,
    /// From the failure to the first retry; each further one waits twice as long, a day at most.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) backoff: Duration,
    /// At most so many runs at a time.
    pub(in crate::self_heal) most: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Self { retries: one(), backoff: Duration::ZERO, most: ten() }
    }
}

impl Retry {
    /// From the failure to the last retry, at the least.
    pub(in crate::self_heal) fn waits(&self) -> Duration {
        let mut waits = Duration::ZERO;
        for retries in 0..self.retries.min(MOST_USES as u32) {
            waits = waits.saturating_add(runs::wait(retries, self.backoff));
        }
        waits
    }
}

/// How missed fires are run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::self_heal) struct Backfill {
    /// At most so many at a time, of all schedules together.
    pub(in crate::self_heal) most: usize,
}

impl Default for Backfill {
    fn default() -> Self {
        Self { most: ten() }
    }
}

/// A schedule to run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Trigger {
    /// The schedule.
    pub(in crate::self_heal) schedule: ScheduleName,
    /// Replaces its parameters of the same names.
    #[serde(default)]
    pub(in crate::self_heal) params: Map<String, Value>,
}

/// A unit of systemd.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Restart {
    /// Such as "shop.service".
    pub(in crate::self_heal) unit: String,
    /// Of the user's own systemd.
    #[serde(default)]
    pub(in crate::self_heal) user: bool,
}

/// How what was given up is delivered.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Redeliver {}

const fn one() -> u32 {
    1
}

const fn ten() -> usize {
    10
}

impl Remedy {
    pub(super) fn check(&self, at: &str, env: &JobEnv) -> Checked {
        match self {
            Self::Retry(retry) if !(1..=MOST_USES as u32).contains(&retry.retries) => {
                fault(at, "retry.retries", format!("must be 1 to {MOST_USES}"))
            }
            Self::Retry(Retry { most: 0, .. }) => fault(at, "retry.most", "must be 1 or more"),
            Self::Backfill(Backfill { most: 0 }) => fault(at, "backfill.most", "must be 1 or more"),
            Self::Retry(_) | Self::Backfill(_) | Self::Trigger(_) | Self::Redeliver(_) => Ok(()),
            Self::Command(program) => program.check(&format!("{at}command.")),
            Self::Call(request) => request.check(&format!("{at}call."), env),
            Self::Restart(restart) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
                let unit = &restart.unit;
                let valid = (1..=255).contains(&unit.len()) && !unit.starts_with('-') && unit.chars().all(plain);
                if valid { Ok(()) } else { fault(at, "restart.unit", format!("`{unit}` is no name of a unit")) }
            }
        }
    }

    /// In words, for people.
    pub(in crate::self_heal) fn words(&self) -> String {
        match self {
            Self::Retry(_) => "retry the failed runs".into(),
            Self::Backfill(_) => "run the missed fires".into(),
            Self::Trigger(trigger) => format!("run {}", trigger.schedule),
            Self::Command(program) => format!("run the program {}", program.argv.first().map_or("", String::as_str)),
            Self::Call(_) => "call the URL".into(),
            Self::Restart(restart) => format!("restart {}", restart.unit),
            Self::Redeliver(_) => "deliver again".into(),
        }
    }
}
