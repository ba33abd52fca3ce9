//! References to secrets, resolved only when a run needs them.

use std::io::Read as _;
use std::path::Path;

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
    let mut text = String::new();
    let read =
        std::fs::File::open(base_dir.join(path)).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    if read.map_err(|error| format!("{path}: {error}"))? as u64 > LONGEST {
        return Err(format!("{path}: more than {LONGEST} bytes are no secret"));
    }
    Ok(text.trim_end().to_owned())
}
