//! Job kinds: one file a kind, each with its typed `Params`; [`register_all`] is the one line to add.
//!
//! A kind reaches its scheduler only through `RunContext`. Must not know: the engine, stores, HTTP serving.

mod brief;
mod command;
mod file;
mod history;
mod http;
mod http_call;
mod notify;
mod render;
mod report;
mod retention;
mod secret;
mod self_heal;
mod size;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sched_core::Registry;

/// What kinds need to know of the place they run in.
#[derive(Debug, Clone)]
pub struct JobEnv {
    /// Relative paths resolve here: the folder of the configuration.
    pub base_dir: PathBuf,
    /// Where the scheduler keeps artifacts and output.
    pub data_dir: PathBuf,
    /// Relative URLs resolve here.
    pub base_url: Option<String>,
}

impl JobEnv {
    fn path(&self, path: &Path) -> PathBuf {
        self.base_dir.join(path)
    }

    fn url(&self, url: &str) -> String {
        match &self.base_url {
            Some(base) if url.starts_with('/') => format!("{}{url}", base.trim_end_matches('/')),
            _ => url.to_owned(),
        }
    }
}

/// Adds every kind of job, and every kind of channel.
///
/// ```
/// use sched_core::Registry;
/// use sched_jobs::{JobEnv, register_all};
///
/// let mut registry = Registry::new();
/// let env = JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None };
/// register_all(&mut registry, &env);
/// let kinds: Vec<_> = registry.kinds().map(|(name, _)| name).collect();
/// assert_eq!(kinds, ["ceo_brief", "command", "http_call", "report", "retention", "self_heal"]);
/// ```
pub fn register_all(registry: &mut Registry, env: &JobEnv) {
    let env = Arc::new(env.clone());
    brief::register(registry, &env);
    command::register(registry, &env);
    http_call::register(registry, &env);
    notify::register(registry, &env);
    report::register(registry, &env);
    retention::register(registry, &env);
    self_heal::register(registry, &env);
}
