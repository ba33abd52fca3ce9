//! What came back, or why nothing did.

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};

/// An answer, read up to a bound.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether there was more than was read.
    pub(crate) cut: bool,
}

impl Answer {
    /// Reads an answer's body to its end, or to the bound.
    pub(super) async fn read(mut response: Response, limit: usize) -> Result<Self, reqwest::Error> {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await? {
            let room = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        Ok(Self { status, headers, body, cut })
    }

    /// The whole body, or why there is no whole one.
    pub(crate) fn whole(&self) -> Result<&[u8], String> {
        if self.cut { Err(format!("more than {} bytes", self.body.len())) } else { Ok(&self.body) }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Whether the server may have got the request all the same.
    pub(crate) sent: bool,
}

impl Failure {
    pub(super) fn unsent(message: impl Into<String>) -> Self {
        Self { message: message.into(), sent: false }
    }

    pub(super) fn of(error: &reqwest::Error, sent: bool) -> Self {
        Self { message: explain(error), sent }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error's causes. The error itself names the URL, which may hold a secret, so it has no part in it.
fn explain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no connection in time".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        // `client error (Connect)` and the like say less than what follows.
        if !text.ends_with(&words) && !words.starts_with("client error (") {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
        cause = error.source();
    }
    if text.is_empty() { "the request could not be made".into() } else { text }
}
