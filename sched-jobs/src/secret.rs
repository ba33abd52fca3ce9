//! References to secrets, resolved only when a run needs them.

use std::path::Path;

use crate::file;

/// No secret is longer.
const LONGEST: u64 = 64 * 1024;

/// Whether a text is a reference: `env:NAME` or `file:PATH`.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// The secret behind a reference. Errors name the reference, never the secret.
pub(crate) fn resolve(reference: &str, base_dir: &Path) -> Result<String, String> {
    if let Some(name) = reference.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| format!("environment variable {name} is not set"));
    }
    let Some(path) = reference.strip_prefix("file:") else {
        return Err("a secret is written as \"env:NAME\" or \"file:PATH\"".into());
    };
    let bytes = file::read(&base_dir.join(path), LONGEST).map_err(|error| format!("{path}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{path}: not text"))?;
    Ok(text.trim_end().to_owned())
}
