//! Secrets: whether each can be had, where from, and who else can read it. Never what it is.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;

use super::Check;
use crate::compose::Setup;

/// The key that guards the API.
pub(super) fn key(setup: &Setup) -> Vec<Check> {
    let configured = setup.config.dashboard_key.as_deref();
    let from = match configured {
        Some(reference) if is_reference(reference) => reference.to_owned(),
        Some(_) => "http.dashboard_key, in the configuration".into(),
        None if std::env::var_os("DASHBOARD_KEY").is_some() => "env:DASHBOARD_KEY".into(),
        None => {
            let path = setup.config.data_dir.join("dashboard.key");
            if !path.exists() {
                return vec![Check::ok("dashboard key", "the first start makes one")];
            }
            path.display().to_string()
        }
    };
    let base = setup.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    if configured.and_then(|name| name.strip_prefix("file:")).is_some_and(|name| is_pipe(&base.join(name))) {
        let remedy = "name a file: at each start and reload the key is read once more";
        return vec![Check::warn("dashboard key", format!("{from} is a pipe; what is in it would be gone"), remedy)];
    }
    let mut checks = vec![match setup.key() {
        Ok(_) => Check::ok("dashboard key", format!("from {from}, long enough")),
        Err(failure) => Check::bad(
            "dashboard key",
            failure.message,
            "name one that this user can read; `openssl rand -hex 32` makes a good one",
        ),
    }];
    match configured {
        Some(reference) if reference.starts_with("file:") => checks.extend(readers(reference, base)),
        // Who reads the configuration has the key.
        Some(literal) if !is_reference(literal) => {
            checks.extend(setup.file.as_deref().and_then(|path| others_read(path, &path.display().to_string())));
        }
        _ => {}
    }
    checks
}

/// Everything in the configuration that names a secret.
pub(super) fn references(setup: &Setup) -> Vec<Check> {
    let base = setup.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for spec in &setup.config.schedules {
        for value in spec.params.values() {
            collect(value, &format!("schedule `{}`", spec.name), &mut found);
        }
    }
    for channel in &setup.config.channels {
        for value in channel.params.values() {
            collect(value, &format!("channel `{}`", channel.name), &mut found);
        }
    }
    let count = found.len();
    let mut checks = Vec::new();
    for (who, reference) in found {
        if let Err(why) = resolves(&reference, base) {
            let remedy = "the scheduler needs it in its own environment or folder: a unit has EnvironmentFile= for it";
            checks.push(Check::bad("secret", format!("{who}: {reference}: {why}"), remedy));
        }
        checks.extend(readers(&reference, base));
    }
    if checks.is_empty() && count > 0 {
        checks.push(Check::ok("secrets", format!("{count} named, all there")));
    }
    checks
}

fn is_reference(text: &str) -> bool {
    text.starts_with("file:") || text.strip_prefix("env:").is_some_and(|name| !name.is_empty() && !name.contains(' '))
}

fn collect(value: &Value, who: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if is_reference(text) => found.push((who.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(item, who, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, who, found)),
        _ => {}
    }
}

fn resolves(reference: &str, base: &Path) -> Result<(), String> {
    if let Some(name) = reference.strip_prefix("env:") {
        return std::env::var_os(name).map(|_| ()).ok_or_else(|| "it is not set here".into());
    }
    let path = base.join(reference.trim_start_matches("file:"));
    let open = || match path.metadata()?.is_file() {
        true => std::fs::File::open(&path).map(|_| ()),
        // A pipe would be waited for, and what is in it be gone.
        false => Ok(()),
    };
    open().map_err(|error: std::io::Error| error.to_string())
}

fn is_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.file_type().is_fifo())
}

fn readers(reference: &str, base: &Path) -> Option<Check> {
    others_read(&base.join(reference.strip_prefix("file:")?), reference)
}

fn others_read(path: &Path, shown: &str) -> Option<Check> {
    let mode = path.metadata().ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let remedy = format!("chmod o-rwx {}", path.display());
        Check::warn("secret", format!("{shown}: everyone on this machine can read it"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_however_deep_and_texts_are_not() {
        let mut found = Vec::new();
        let params = json!({ "a": ["env:ONE", { "b": "file:two" }], "c": "environment", "d": "env: is a word" });
        collect(&params, "x", &mut found);
        let names: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["env:ONE", "file:two"]);
    }
}
