//! Drives the machine in a real process: one thread steps it, one writes to the store, jobs run elsewhere.
//!
//! Must not know: HTTP, TOML, concrete jobs.

mod apply;
mod backfill;
mod deliver;
mod files;
mod handle;
mod inbox;
mod output;
mod port;
mod replies;
mod scheduler;
mod writer;

pub use apply::Wanted;
pub use backfill::{BackfillFire, BackfillOrder, Backfilled};
pub use files::{Files, FilesError};
pub use handle::{EngineError, Handle, views};
pub use scheduler::{Scheduler, SchedulerBuilder, StartError};
