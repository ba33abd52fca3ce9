//! Programs and everything that they start, as trees that end as a whole.
//!
//! A tree hangs below a *shim*: this very executable, run again under another name before anything else in its main
//! ([`init`]). The shim is the subreaper of the tree (prctl(2)), so whoever leaves the tree's process group or session,
//! or loses its parent, is still below it: it sees them all, and when it has no child, nothing is left. It has a session
//! of its own, and it kills the tree when its scheduler dies. It has no runtime and keeps nothing; when its tree is
//! gone it serves the next, so that a run costs one start of a process and not two.
//!
//! What a program gets beside pipes and environment (user, umask, limits) is set by a *stage*, the same executable
//! once more, between the shim and the program: a shim changes nothing of itself but its folder.

mod account;
mod descent;
mod entry;
mod frame;
mod hold;
mod launch;
mod lines;
mod order;
mod pool;
mod printed;
mod shim;
mod stage;

pub use entry::{close_inherited, init, init_within, is_worker};
pub(crate) use entry::{is_ready, worker};
pub(crate) use frame::{decode, encode};
pub use hold::{StartError, Tree, Waiting};
pub use lines::Lines;
pub use order::{Conditions, Ending, Program, signal_name};
pub use printed::Printed;
