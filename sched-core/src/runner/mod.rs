//! Where a job runs. What it is, is the job's matter; when, the engine's.
//!
//! Must not know: schedules, stores.

mod pool;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
mod task;

use serde_json::Value;

use crate::context::RunContext;
use crate::id::RunId;
use crate::placement::Placement;
use crate::run::Outcome;

#[cfg(all(feature = "process", target_os = "linux"))]
pub use process::{ProcessRunner, serve};
pub use task::TaskRunner;

/// One attempt, handed to a [`Runner`].
pub struct Attempt {
    /// What the job is handed.
    pub ctx: RunContext,
    /// Its parameters.
    pub params: Value,
    /// What its schedule asked for.
    pub placement: Placement,
    /// Call once, when the attempt has really ended.
    pub report: Box<dyn FnOnce(Outcome) + Send>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("ctx", &self.ctx).finish_non_exhaustive()
    }
}

/// Makes attempts. Both methods return at once.
pub trait Runner: Send + Sync {
    /// Begins an attempt. `report` must be called exactly once, also when the attempt cannot begin.
    fn start(&self, attempt: Attempt);

    /// Takes an attempt away from its job by force, if it can be done. It still reports.
    fn drop_attempt(&self, run_id: RunId);
}
