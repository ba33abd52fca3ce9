//! Other schedulers' files to a configuration: text to a [`Plan`], a plan to TOML.
//!
//! Must not know: files, the process environment, clocks. Whoever reads the files hands texts in.

mod brute;
mod crontab;
mod env;
mod ini;
mod name;
mod service;
mod span;
mod systemd;
mod toml;
mod unit;
mod verify;

pub(crate) use brute::Walls;
pub(crate) use crontab::{Source, crontab};
pub(crate) use env::env;
pub(crate) use systemd::{Files, systemd};
pub(crate) use verify::{Proof, calendar, cron};

use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value};

/// Something of the original that the configuration does not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) why: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.what, self.why)
    }
}

/// What says in the original when a schedule fires, for who compares.
#[derive(Debug, Clone)]
pub(crate) enum Original {
    /// Five fields of cron, in a zone.
    Cron(String, Tz),
    /// Calendar events of systemd.
    Calendar(Vec<String>, Tz),
    /// Nothing that names instants.
    Untimed,
}

/// A schedule to be written: its keys in order.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    keys: Map<String, Value>,
    params: Map<String, Value>,
    pub(crate) original: Original,
}

/// A part of the configuration, in the order of the original.
#[derive(Debug, Clone)]
enum Part {
    Comment(String),
    Gap,
    LeftOut(LeftOut),
    Schedule(Box<Planned>),
}

/// A configuration to be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    head: Vec<String>,
    /// Tables before the schedules, with their keys; keys of no table come first.
    settings: Vec<(&'static str, Map<String, Value>)>,
    parts: Vec<Part>,
    names: std::collections::BTreeSet<String>,
}

impl Plan {
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        self.parts.iter().filter_map(|part| match part {
            Part::LeftOut(left) => Some(left),
            _ => None,
        })
    }

    pub(crate) fn schedules(&self) -> impl Iterator<Item = &Planned> {
        self.parts.iter().filter_map(|part| match part {
            Part::Schedule(planned) => Some(&**planned),
            _ => None,
        })
    }

    /// The configuration as text.
    pub(crate) fn to_toml(&self) -> String {
        toml::write(self)
    }

    fn comment(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Comment(text.into()));
    }

    fn leave_out(&mut self, file: &str, line: usize, what: impl Into<String>, why: impl Into<String>) {
        self.parts.push(Part::LeftOut(LeftOut { file: file.into(), line, what: what.into(), why: why.into() }));
    }

    /// A name that no schedule of the plan has.
    fn unique(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let free = std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !self.names.contains(name));
        let name = free.unwrap_or_default();
        self.names.insert(name.clone());
        name
    }
}

/// The trigger of what runs at starts only: a day that no year has.
const NEVER: &str = "0 0 30 2 *";

/// A variable whose value is better not written into a configuration.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // A path to a secret is none.
    if ["_FILE", "_PATH", "_DIR"].iter().any(|end| name.ends_with(end)) {
        return false;
    }
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY"]
        .iter()
        .any(|word| name.contains(word))
}

const SECRET: &str = "its value is not written down; put it into the scheduler's environment or name a \"file:PATH\"";

/// Puts variables into params: what looks like a secret as a reference only.
fn put_variables<'a>(params: &mut Map<String, Value>, variables: impl Iterator<Item = (&'a str, &'a str)>) {
    let (mut plain, mut secret) = (Map::new(), Map::new());
    for (name, value) in variables {
        if is_secret(name) {
            secret.insert(name.into(), format!("env:{name}").into());
        } else {
            plain.insert(name.into(), value.into());
        }
    }
    for (key, table) in [("env", plain), ("secrets", secret)] {
        if !table.is_empty() {
            params.insert(key.into(), Value::Object(table));
        }
    }
}

/// Why a trigger cannot work, in one line.
fn fault_of(trigger: &Value) -> Option<String> {
    let spec: Result<sched_core::TriggerSpec, _> = serde_json::from_value(trigger.clone());
    let fault = match spec {
        Ok(spec) => spec.validate().err()?.to_string(),
        Err(error) => error.to_string(),
    };
    Some(fault.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
