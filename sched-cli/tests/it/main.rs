//! The program as a user meets it: real processes, real folders, real signals, a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod browser;
mod command;
mod crash;
mod daemon;
mod docs;
mod faults;
mod frames;
mod import;
mod journal;
mod matrix;
mod meddling;
mod notify;
mod operations;
mod packaging;
mod peers;
mod readme;
mod reconcile;
mod shell;
mod snapshots;
mod supervise;
mod systemd;
mod terminal;
mod time;
mod turns;
mod waiting;
mod world;
