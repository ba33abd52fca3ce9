//! `sched install`: a systemd unit for this program and this configuration.

mod unit;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::{Global, Install};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use unit::Unit;

/// By this line a unit is known as one of ours.
pub(crate) const MARK: &str = "# Written by `sched install`";

/// The folder of a user's own units (systemd.unit(5)).
pub(crate) fn user_folder() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME").filter(|path| !path.is_empty())?).join(".config"));
    Some(config.or_else(home)?.join("systemd/user"))
}

pub(crate) fn install(global: &Global, words: &Install) -> Outcome {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if words.name.is_empty() || words.name.starts_with(['.', '-']) || !words.name.chars().all(plain) {
        return Err(Failure::usage(format!("`{}` cannot be a unit's name; write letters, digits and -", words.name)));
    }
    // A unit for a configuration that does not stand would fail at the next boot, when nobody looks.
    let setup = Setup::load(global)?;
    let unit = Unit::of(&setup, words)?;
    if unit.is_root() && !global.quiet {
        output::note("the service would run as root, for its folders are root's; --run-as USER runs it as another");
    }
    let text = unit.to_string();
    if words.dry_run {
        if global.json {
            output::json(&json!({ "ok": true, "unit": text }));
        } else {
            output::line(text.trim_end());
        }
        return Ok(Exit::Done);
    }
    let folder = if words.user {
        user_folder().ok_or_else(|| Failure::failed("neither XDG_CONFIG_HOME nor HOME is set"))?
    } else {
        PathBuf::from("/etc/systemd/system")
    };
    let path = folder.join(format!("{}.service", words.name));
    let written = put(&path, &text, words)?;
    let scope = if words.user { "--user " } else { "" };
    let mut next =
        vec![format!("systemctl {scope}daemon-reload"), format!("systemctl {scope}enable --now {}", words.name)];
    if words.user {
        next.push("loginctl enable-linger".into());
    }
    if global.json {
        output::json(&json!({ "ok": true, "file": path, "written": written, "next": next }));
    } else if !global.quiet {
        let what = if written { "wrote" } else { "already as it should be:" };
        output::line(&format!("{what} {}", path.display()));
        for command in next {
            output::line(&format!("  {command}"));
        }
    }
    Ok(Exit::Done)
}

/// Writes the unit, unless it stands there already; says whether it did.
fn put(path: &Path, text: &str, words: &Install) -> Result<bool, Failure> {
    let fault = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::PermissionDenied if !words.user => {
                "; run it as root, or with --user for this user only"
            }
            _ => "",
        };
        // The kind alone: the path of a part is of no interest.
        Failure::failed(format!("{}: {}{help}", path.display(), error.kind()))
    };
    match std::fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(false),
        Ok(there) if !words.force => {
            let lines = differing(&there, text);
            return Err(Failure::failed(format!(
                "{} differs and is left as it is; --force writes over it, a drop-in keeps changes apart (systemctl edit):\n{lines}",
                path.display()
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(fault)?;
    // Whole or not at all; others may read it, and it has no secrets.
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(fault)?;
    std::io::Write::write_all(&mut part, text.as_bytes()).map_err(fault)?;
    let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    part.as_file().set_permissions(readable).map_err(fault)?;
    part.as_file().sync_all().map_err(fault)?;
    part.persist(path).map_err(|error| fault(error.error))?;
    Ok(true)
}

/// The lines that only one of two units has.
fn differing(there: &str, ours: &str) -> String {
    let only = |of: &str, not_in: &str, sign: char| -> Vec<String> {
        let known: Vec<&str> = not_in.lines().collect();
        of.lines().filter(|line| !known.contains(line)).map(|line| format!("  {sign} {line}")).collect()
    };
    let mut lines = only(there, ours, '-');
    lines.extend(only(ours, there, '+'));
    if lines.is_empty() { "  the same lines in another order".into() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_by_lines() {
        assert_eq!(differing("a\nb\n", "a\nc\n"), "  - b\n  + c");
        assert_eq!(differing("a\nb\n", "b\na\n"), "  the same lines in another order");
    }
}
