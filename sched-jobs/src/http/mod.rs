//! HTTP as every kind speaks it: rustls, few redirects, bounded answers, secrets that stay with their origin, and a guard
//! of addresses that looks at what is connected to.
//!
//! Must not know: what an answer means to a kind.

mod answer;
mod client;
mod connect;
mod contact;
mod guard;
mod hop;
mod network;
mod request;

pub(crate) use answer::{Answer, Failure};
#[cfg(feature = "postgres")]
pub(crate) use client::of_the_system as tls_config;
pub(crate) use client::provider;
pub(crate) use connect::{connect, host_and_port};
pub(crate) use network::Network;
pub(crate) use request::{Basic, Marks, Request, get, half_a_minute};

use sched_core::{JobError, RunContext};

/// Does something unless the run is told to stop first.
pub(crate) async fn unless_cancelled<T>(ctx: &RunContext, work: impl Future<Output = T>) -> Result<T, JobError> {
    tokio::select! {
        done = work => Ok(done),
        () = ctx.cancelled() => Err(JobError::new("cancelled")),
    }
}
