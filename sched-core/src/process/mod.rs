//! The processes of runs: programs with all that they start, and what is left of them when a scheduler has died.
//!
//! Must not know: jobs.

mod sweep;
#[cfg(all(feature = "process", target_os = "linux"))]
mod tree;

pub use sweep::sweep;
#[cfg(all(feature = "process", target_os = "linux"))]
pub use tree::{
    Conditions, Ending, Lines, Printed, Program, StartError, Tree, Waiting, close_inherited, init, init_within,
    is_worker, signal_name,
};
#[cfg(all(feature = "process", target_os = "linux"))]
pub(crate) use tree::{decode, encode, is_ready, worker};
