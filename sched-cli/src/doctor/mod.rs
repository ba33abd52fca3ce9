//! `sched doctor`: looks at what a scheduler needs around it, and says what to do about what it finds.
//!
//! One concept a file; each looks first, and judges what it saw in functions that look at nothing. Nothing here changes
//! anything that lasts.

mod clock;
mod limits;
mod network;
mod place;
mod programs;
mod secrets;
mod service;
mod settings;
mod store;

pub(crate) use clock::newer_zones;
use serde::Serialize;
use serde_json::json;

use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Outcome};
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Bad,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What one look found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    found: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn doctor(global: &Global) -> Outcome {
    // What a fault in the schedules does not hide: the settings, as far as they can be read.
    let setup = Setup::find(global);
    let loaded = Setup::load(global);
    let mut checks = settings::checks(&loaded);
    if let Ok(setup) = &setup {
        checks.extend(place::checks(setup));
        checks.extend(store::checks(setup));
        checks.extend(network::checks(setup));
        checks.extend(secrets::key(setup));
    }
    checks.extend(clock::checks(setup.as_ref().ok()));
    if let Ok(setup) = &loaded {
        checks.extend(programs::checks(setup));
        checks.extend(secrets::references(setup));
    }
    checks.extend(limits::checks(loaded.as_ref().map_or(64, |setup| setup.config.max_concurrent_runs)));
    checks.push(service::check());

    let ok = checks.iter().all(|check| check.state != State::Bad);
    if global.json {
        output::json(&json!({ "ok": ok, "checks": checks }));
    } else {
        for check in checks.iter().filter(|check| !global.quiet || check.state != State::Ok) {
            output::finding(check.state.word(), check.check, &check.found, check.remedy.as_deref());
        }
    }
    Ok(if ok { Exit::Done } else { Exit::Failed })
}
