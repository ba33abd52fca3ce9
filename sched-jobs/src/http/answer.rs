//! What came back, or why nothing did.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

/// A server that asks for a longer wait is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

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

    /// The wait that the server asks for: seconds, or a date (RFC 9110, 10.2.3); a day at most.
    pub(crate) fn retry_after(&self, now: DateTime<Utc>) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let until = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
                (until - now).to_std().unwrap_or_default()
            }
        };
        Some(wait.min(LONGEST_WAIT))
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

    pub(super) fn of(error: &reqwest::Error) -> Self {
        Self { message: explain(error), sent: !error.is_connect() && !error.is_builder() }
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
        if !text.ends_with(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
        cause = error.source();
    }
    if text.is_empty() { "the request could not be made".into() } else { text }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date_and_bounded() {
        let now = "1994-11-06T08:49:07Z".parse().unwrap();
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers, body: Vec::new(), cut: false }.retry_after(now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date), Some(Duration::from_secs(30)), "{date}");
        }
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Sat, 06 Nov 2094 08:00:00 GMT"), Some(LONGEST_WAIT));
        assert_eq!(read("9000000000000"), Some(LONGEST_WAIT));
        assert_eq!((read("soon"), read("-1")), (None, None));
    }
}
