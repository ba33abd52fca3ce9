//! What a check looks at.

use std::path::PathBuf;
use std::time::Duration;

use glob::Pattern;
use sched_core::{ScheduleName, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Checked, fault};
use crate::http::{Request, host_and_port};
use crate::size::Size;
use crate::{JobEnv, command};

/// What is looked at.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::self_heal) enum Probe {
    /// A URL answers with success.
    Http(Request),
    /// A port takes a connection.
    Tcp(Tcp),
    /// A program ends with success.
    Command(command::Params),
    /// A file was changed not too long ago.
    FileAge(FileAge),
    /// A file system has room.
    Disk(Disk),
    /// The machine, or the control group that the scheduler runs in, has memory.
    Memory(Free),
    /// The certificates of a server are valid for a while.
    Certificate(Certificate),
    /// A schedule has succeeded not too long ago.
    LastSuccess(LastSuccess),
    /// No schedule's newest run is a failure.
    FailedRuns(Runs),
    /// No schedule's newest fire was missed.
    MissedRuns(Missed),
    /// No run goes on for too long.
    StuckRuns(Stuck),
    /// No channel has given up what it was to tell.
    Undelivered(Undelivered),
}

/// A port.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Tcp {
    /// "host:port".
    pub(in crate::self_heal) address: String,
}

/// A file's age.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct FileAge {
    /// The file; relative to the configuration's folder.
    pub(in crate::self_heal) path: PathBuf,
    /// It was changed within this.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) max_age: Duration,
}

/// What must be free.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Free {
    /// At least so much, such as "5 GiB".
    #[serde(default)]
    pub(in crate::self_heal) min_free: Option<Size>,
    /// At least this part of all, in percent.
    #[serde(default)]
    pub(in crate::self_heal) min_free_percent: Option<f64>,
}

/// Room on a file system.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Disk {
    /// A folder on it.
    pub(in crate::self_heal) path: PathBuf,
    /// At least so much, such as "5 GiB".
    #[serde(default)]
    min_free: Option<Size>,
    /// At least this part of all, in percent.
    #[serde(default)]
    min_free_percent: Option<f64>,
}

impl Disk {
    pub(in crate::self_heal) const fn free(&self) -> Free {
        Free { min_free: self.min_free, min_free_percent: self.min_free_percent }
    }
}

/// Certificates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Certificate {
    /// "host:port" of a server that speaks TLS.
    pub(in crate::self_heal) address: String,
    /// The name that it is asked for, if not the host.
    #[serde(default)]
    pub(in crate::self_heal) server_name: Option<String>,
    /// They are valid for so long.
    #[serde(default = "two_weeks", with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) min_left: Duration,
}

const fn two_weeks() -> Duration {
    Duration::from_secs(14 * 86_400)
}

/// A schedule's success.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct LastSuccess {
    /// The schedule.
    pub(in crate::self_heal) schedule: ScheduleName,
    /// It is no older than this.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) max_age: Duration,
}

/// Whose runs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::self_heal) struct Runs {
    /// Names of schedules, with `*` and `?`; all unless set.
    pub(in crate::self_heal) schedules: Vec<String>,
    /// How far back it looks.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) within: Duration,
}

impl Default for Runs {
    fn default() -> Self {
        Self { schedules: Vec::new(), within: a_day() }
    }
}

/// Whose fires.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::self_heal) struct Missed {
    /// Names of schedules, with `*` and `?`; all unless set.
    pub(in crate::self_heal) schedules: Vec<String>,
    /// How far back it looks.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) within: Duration,
    /// Every missed fire of that time that has not run since counts, and not only the newest of a schedule.
    pub(in crate::self_heal) every_fire: bool,
}

impl Default for Missed {
    fn default() -> Self {
        Self { schedules: Vec::new(), within: a_day(), every_fire: false }
    }
}

/// Runs that do not end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::self_heal) struct Stuck {
    /// Names of schedules, with `*` and `?`; all unless set.
    #[serde(default)]
    pub(in crate::self_heal) schedules: Vec<String>,
    /// A run that goes on for longer is stuck.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) longer_than: Duration,
}

/// What channels have given up.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::self_heal) struct Undelivered {
    /// Names of channels, with `*` and `?`; all unless set.
    pub(in crate::self_heal) channels: Vec<String>,
    /// How far back it looks.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub(in crate::self_heal) within: Duration,
}

impl Default for Undelivered {
    fn default() -> Self {
        Self { channels: Vec::new(), within: a_day() }
    }
}

const fn a_day() -> Duration {
    Duration::from_secs(86_400)
}

/// Patterns that `check` has seen.
pub(in crate::self_heal) fn patterns(schedules: &[String]) -> Vec<Pattern> {
    schedules.iter().filter_map(|text| Pattern::new(text).ok()).collect()
}

impl Probe {
    pub(super) fn check(&self, at: &str, env: &JobEnv) -> Checked {
        let address = |key: &str, text: &str| match host_and_port(text) {
            Some(_) => Ok(()),
            None => fault(at, key, format!("`{text}` is no address: write \"host:port\"")),
        };
        let schedules = |key: &str, texts: &[String]| {
            let wrong = texts.iter().find(|text| Pattern::new(text).is_err());
            wrong.map_or(Ok(()), |text| fault(at, key, format!("`{text}` is no pattern: write such as \"shop-*\"")))
        };
        match self {
            Self::Http(request) => request.check(&format!("{at}http."), env),
            Self::Tcp(tcp) => address("tcp.address", &tcp.address),
            Self::Command(program) => program.check(&format!("{at}command.")),
            Self::Certificate(certificate) => address("certificate.address", &certificate.address),
            Self::Disk(disk) => disk.free().check(&format!("{at}disk")),
            Self::Memory(free) => free.check(&format!("{at}memory")),
            Self::FailedRuns(runs) => schedules("failed_runs.schedules", &runs.schedules),
            Self::MissedRuns(runs) => schedules("missed_runs.schedules", &runs.schedules),
            Self::StuckRuns(stuck) => schedules("stuck_runs.schedules", &stuck.schedules),
            Self::Undelivered(undelivered) => schedules("undelivered.channels", &undelivered.channels),
            Self::FileAge(_) | Self::LastSuccess(_) => Ok(()),
        }
    }
}

impl Free {
    fn check(&self, at: &str) -> Checked {
        if self.min_free.is_none() && self.min_free_percent.is_none() {
            return fault(at, "", "say how much must be free: min_free or min_free_percent");
        }
        if self.min_free_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return fault(at, ".min_free_percent", "must be 0 to 100");
        }
        Ok(())
    }
}
