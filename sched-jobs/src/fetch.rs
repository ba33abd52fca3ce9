//! One HTTP client for every kind: rustls, few redirects, bounded answers.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, Response};
use sched_core::{JobError, RunContext};

/// Answers are read up to here.
pub(crate) const ANSWER_LIMIT: usize = 1024 * 1024;

/// The shared client.
pub(crate) fn client() -> Result<Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let build = || {
        // A provider that is installed already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .user_agent(concat!("sched/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::limited(5))
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| explain(&error))
    };
    CLIENT.get_or_init(build).clone()
}

/// An error with its causes, and without the query of a URL.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Reads at most `limit` bytes of an answer; the flag says whether there was more.
pub(crate) async fn body(mut response: Response, limit: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut kept = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((kept, true));
        }
    }
    Ok((kept, false))
}

/// Does something unless the run is told to stop first.
pub(crate) async fn unless_cancelled<T>(ctx: &RunContext, work: impl Future<Output = T>) -> Result<T, JobError> {
    tokio::select! {
        done = work => Ok(done),
        () = ctx.cancelled() => Err(JobError::new("cancelled")),
    }
}
