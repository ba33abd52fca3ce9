//! The process: who holds the data folder, how it starts, runs, stops, and how it is from outside.

pub(crate) mod place;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
