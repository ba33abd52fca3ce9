//! Who saw how a scheduler ended: its supervisor, or systemd, whose unit runs this program once more after each end
//! (`ExecStopPost=`) and tells it the result (systemd.exec(5), `$SERVICE_RESULT`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::death::{self, Cause, Death};
use super::marker::{Marker, Note};
use super::supervisor::Record;
use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Outcome};

/// What a service manager told of an end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    /// The scheduler that ended, as its marker has it.
    started_at: chrono::DateTime<chrono::Utc>,
    death: Death,
}

impl Note for Told {
    const FILE: &'static str = "ended.json";
}

/// What was seen of the end of this marker's scheduler.
pub(super) fn seen(data_dir: &Path, marker: &Marker) -> Option<Death> {
    let told = || Told::read(data_dir).filter(|told| told.started_at == marker.started_at);
    Record::seen_of(data_dir, marker).or_else(|| told().map(|told| told.death))
}

/// Writes down what systemd tells of the end. One that was asked for leaves no marker, and nothing to explain.
pub(crate) fn write_down(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    // A start after the end that came to nothing leaves the same marker: the first word is of the one that it names.
    let untold = |marker: &Marker| Told::read(data_dir).is_none_or(|told| told.started_at != marker.started_at);
    if let Some(marker) = Marker::read(data_dir).filter(untold)
        && let Some(death) = of_service(marker.pid, &word("SERVICE_RESULT"), &word("EXIT_CODE"), &word("EXIT_STATUS"))
    {
        Told { started_at: marker.started_at, death }.write(data_dir)?;
    }
    Ok(Exit::Done)
}

/// An end in systemd's words; none for one that it thinks well of.
fn of_service(pid: u32, result: &str, code: &str, status: &str) -> Option<Death> {
    let said = match code {
        "exited" => death::of_status(pid, status.parse().ok(), None),
        _ => Death { message: format!("it was ended by SIG{status}"), ..death::of_status(pid, None, None) },
    };
    let watched = |message: &str| Some(Death { cause: Cause::Hung, message: message.into(), ..said.clone() });
    match result {
        "" | "success" => None,
        "watchdog" => watched("it gave no sign of life, and systemd's watchdog ended it"),
        "timeout" => watched("it took longer than its service may, and systemd ended it"),
        "oom-kill" => Some(Death {
            cause: Cause::OutOfMemory,
            message: "systemd says that the kernel killed it, or one of its jobs, for want of memory".into(),
            remedy: Some(death::MEMORY_REMEDY.into()),
            ..said
        }),
        "signal" | "core-dump" => Some(Death { cause: Cause::Signal, ..said }),
        "exit-code" => Some(said),
        other => Some(Death { message: format!("{} ({other}, says systemd)", said.message), ..said }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_systemd_are_causes() {
        let check = |result, code, status, cause, message: &str| {
            let death = of_service(7, result, code, status).unwrap();
            assert_eq!((death.pid, death.cause, death.message.as_str()), (7, cause, message));
        };
        check("signal", "killed", "KILL", Cause::Signal, "it was ended by SIGKILL");
        check("core-dump", "dumped", "SEGV", Cause::Signal, "it was ended by SIGSEGV");
        check("exit-code", "exited", "4", Cause::Exit, "it ended with code 4");
        let hung = "it gave no sign of life, and systemd's watchdog ended it";
        check("watchdog", "killed", "ABRT", Cause::Hung, hung);
        check("resources", "exited", "1", Cause::Exit, "it ended with code 1 (resources, says systemd)");
        assert_eq!(of_service(7, "oom-kill", "killed", "KILL").map(|death| death.cause), Some(Cause::OutOfMemory));
        assert_eq!(of_service(7, "success", "exited", "0"), None);
        assert_eq!(of_service(7, "", "", ""), None, "not below systemd");
    }
}
