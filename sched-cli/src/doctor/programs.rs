//! Programs of `command` schedules: whether each is there, in the environment that it gets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sched_core::ScheduleSpec;

use super::Check;
use crate::compose::Setup;

pub(super) fn checks(setup: &Setup) -> Vec<Check> {
    let base = setup.file.as_deref().and_then(Path::parent).map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let commands: Vec<_> = setup.config.schedules.iter().filter(|spec| spec.job == "command").collect();
    let mut checks: Vec<_> = commands.iter().filter_map(|spec| missing(spec, &base)).collect();
    if checks.is_empty() && !commands.is_empty() {
        checks.push(Check::ok("programs", format!("of {} command schedules, all there", commands.len())));
    }
    checks
}

fn missing(spec: &ScheduleSpec, base: &Path) -> Option<Check> {
    let text = |key: &str| spec.params.get(key).and_then(|value| value.as_str());
    let folder = text("cwd").map_or_else(|| base.to_path_buf(), |cwd| base.join(cwd));
    if !folder.is_dir() {
        let found = format!("schedule `{}`: its folder {} is not there", spec.name, folder.display());
        return Some(Check::bad("program", found, "make it, or correct `cwd`"));
    }
    // A line for the shell is the shell's to read.
    let shell = spec.params.get("shell").and_then(serde_json::Value::as_bool) == Some(true);
    let program = if shell { "/bin/sh" } else { spec.params.get("argv")?.get(0)?.as_str()? };
    let own = spec.params.get("env").and_then(|env| env.get("PATH")).and_then(|path| path.as_str()).map(str::to_owned);
    let path = own.or_else(|| std::env::var("PATH").ok()).unwrap_or_else(|| "/usr/bin:/bin".into());
    if stands(program, &path, &folder) {
        return None;
    }
    let place = if program.contains('/') { String::new() } else { format!(" in {path}") };
    let found = format!("schedule `{}`: no program {program}{place}", spec.name);
    Some(Check::bad(
        "program",
        found,
        "install it, or write its whole path; a service's PATH is shorter than a shell's",
    ))
}

/// Whether execvp(3) would find it.
fn stands(program: &str, path: &str, folder: &Path) -> bool {
    let runs =
        |path: PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return runs(folder.join(program));
    }
    path.split(':').any(|place| runs(folder.join(place).join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        let here = Path::new("/");
        assert!(stands("sh", "/nowhere:/bin", here));
        assert!(stands("bin/sh", "", here), "a relative path begins at the folder");
        assert!(!stands("sh", "/nowhere", here));
        assert!(!stands("/etc/passwd", "", here), "what cannot be executed is no program");
    }
}
