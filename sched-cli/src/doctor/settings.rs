//! The configuration: which file, and whether it is whole.

use sched_core::{Clock as _, SystemClock};

use super::Check;
use crate::compose::Setup;
use crate::exit::Failure;

pub(super) fn checks(loaded: &Result<Setup, Failure>) -> Vec<Check> {
    let setup = match loaded {
        Ok(setup) => setup,
        Err(failure) => {
            let remedy =
                "correct it; `sched check` says no more than this. What follows goes by the settings that can be read";
            return vec![Check::bad("configuration", failure.message.clone(), remedy)];
        }
    };
    let place = setup.file.as_ref().map_or("built-in".into(), |path| path.display().to_string());
    let now = SystemClock::new().now().utc;
    let count = setup.config.schedules.len();
    let warnings: usize =
        setup.config.schedules.iter().filter_map(|spec| spec.trigger.warnings(now).ok()).map(|found| found.len()).sum();
    let found = format!("{place}: {count} schedules, {} channels", setup.config.channels.len());
    vec![match (warnings, count) {
        (0, 0) => Check::warn("configuration", found, "add a [[schedule]]; `sched init` shows one"),
        (0, _) => Check::ok("configuration", found),
        (_, _) => Check::warn("configuration", format!("{found}, {warnings} warnings"), "`sched check` prints them"),
    }]
}
