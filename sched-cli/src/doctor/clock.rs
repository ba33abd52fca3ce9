//! The clock and the rules of time zones.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chrono_tz::Tz;
use tokio::process::Command;

use super::Check;
use crate::compose::Setup;

/// Who keeps the clock answers within this.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn checks(setup: Option<&Setup>) -> Vec<Check> {
    let mut checks =
        vec![synchronised(ask("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]).as_deref(), || {
            ask("chronyc", &["-c", "tracking"])
        })];
    checks.push(rules(newer_zones()));
    if let Some(setup) = setup {
        let local =
            local_zone(std::env::var("TZ").ok().as_deref(), std::fs::read_link("/etc/localtime").ok().as_deref());
        checks.push(zone(setup.config.timezone, local.as_deref()));
    }
    checks
}

/// What a program prints; none when there is no such program here, it knows nothing, or it hangs with its bus.
fn ask(program: &str, words: &[&str]) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let output = runtime.block_on(async {
        let mut command = Command::new(program);
        command.args(words).env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()
    })?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn synchronised(systemd: Option<&str>, chrony: impl FnOnce() -> Option<String>) -> Check {
    let remedy = "run a time service (systemd-timesyncd, chrony); schedules fire by this clock";
    if systemd == Some("yes") {
        return Check::ok("clock", "synchronised, says systemd");
    }
    // The last field of chrony's line is the state of leap seconds, which also says that there is no source.
    if let Some(text) = chrony() {
        return if text.ends_with("Not synchronised") {
            Check::warn("clock", "not synchronised, says chrony", remedy)
        } else {
            Check::ok("clock", "synchronised, says chrony")
        };
    }
    if systemd == Some("no") {
        return Check::warn("clock", "not synchronised, says systemd", remedy);
    }
    Check::ok("clock", "whether it is synchronised cannot be known here; in a container the host decides")
}

/// Says when this machine knows newer rules of time zones than this program.
pub(crate) fn newer_zones() -> Option<String> {
    newer(&std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").ok()?)
}

fn newer(tzdata: &str) -> Option<String> {
    let system = tzdata.lines().next()?.strip_prefix("# version ")?.trim();
    let ours = chrono_tz::IANA_TZDB_VERSION;
    (system > ours).then(|| format!("this machine has the tz database {system}, this program {ours}"))
}

fn rules(newer: Option<String>) -> Check {
    match newer {
        Some(found) => Check::warn("zone rules", found, "where rules changed, update the program"),
        None => Check::ok("zone rules", format!("tz database {}, built in", chrono_tz::IANA_TZDB_VERSION)),
    }
}

/// The name of the machine's zone, as `TZ` or the link at /etc/localtime has it.
fn local_zone(variable: Option<&str>, link: Option<&Path>) -> Option<String> {
    let named = variable.map(|name| name.trim_start_matches(':')).filter(|name| !name.is_empty());
    let linked = || link?.to_str()?.split_once("zoneinfo/").map(|(_, name)| name);
    named.or_else(linked).map(str::to_owned)
}

fn zone(configured: Tz, local: Option<&str>) -> Check {
    let same = |name: &str| {
        let utc = |name: &str| ["UTC", "Etc/UTC", "Etc/UCT", "GMT", "Etc/GMT", "UCT", "Universal"].contains(&name);
        name == configured.name() || (utc(name) && utc(configured.name()))
    };
    match local {
        Some(name) if !same(name) => Check::ok(
            "time zone",
            format!("schedules are in {configured} unless they say otherwise; this machine is in {name}"),
        ),
        _ => Check::ok("time zone", format!("schedules are in {configured} unless they say otherwise")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn whoever_keeps_the_clock_is_believed() {
        let judged =
            |systemd: Option<&str>, chrony: Option<&str>| synchronised(systemd, || chrony.map(str::to_owned)).state;
        assert_eq!(judged(Some("yes"), None), State::Ok);
        assert_eq!(judged(Some("no"), None), State::Warn);
        assert_eq!(judged(Some("no"), Some("A29FC801,162.159.200.1,4,1.0,0.0,0.0,Normal")), State::Ok);
        assert_eq!(judged(None, Some("7F7F0101,,0,0.0,0.0,0.0,Not synchronised")), State::Warn);
        assert_eq!(judged(None, None), State::Ok);
    }

    #[test]
    fn the_zone_of_the_machine_is_named_where_it_differs() {
        let link = Path::new("/usr/share/zoneinfo/Europe/Paris");
        assert_eq!(local_zone(None, Some(link)).as_deref(), Some("Europe/Paris"));
        assert_eq!(local_zone(Some(":Asia/Tokyo"), Some(link)).as_deref(), Some("Asia/Tokyo"));
        assert!(zone(Tz::UTC, Some("Europe/Paris")).found.contains("Europe/Paris"));
        assert!(!zone(Tz::UTC, Some("Etc/UTC")).found.contains("machine"));
    }

    #[test]
    fn newer_rules_on_the_machine_are_told() {
        assert!(newer("# version 2999a\nR A").is_some());
        assert_eq!(newer("# version 1999a\nR A"), None);
        assert_eq!(newer("TZif2"), None);
    }
}
