//! The process: who holds the data folder, how it starts, runs, stops, and how it is and was from outside.

mod death;
mod engine;
mod life;
mod log;
pub(crate) mod marker;
mod origin;
mod parent;
mod peer;
pub(crate) mod place;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
mod supervisor;
mod turn;
mod watched;
pub(crate) mod witness;
