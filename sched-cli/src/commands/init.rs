//! `sched init`: a configuration to begin with.

use std::io::Write as _;
use std::path::PathBuf;

use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

const BEGINNING: &str = include_str!("init.toml");

pub(crate) fn init(global: &Global) -> Outcome {
    let path = global.config.clone().unwrap_or_else(|| PathBuf::from("sched.toml"));
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::failed(format!("{} is there already; `sched check` says how it is", path.display()))
        }
        _ => Failure::failed(format!("{}: {error}", path.display())),
    };
    let mut file = std::fs::File::create_new(&path).map_err(fault)?;
    file.write_all(BEGINNING.as_bytes()).map_err(fault)?;
    if global.json {
        output::json(&serde_json::json!({ "ok": true, "file": path }));
    } else if !global.quiet {
        output::line(&format!("wrote {}; `sched check` checks it, `sched start` runs it", path.display()));
    }
    Ok(Exit::Done)
}
