//! A source behind a URL.

use std::time::Duration;

use reqwest::StatusCode;
use sched_core::{ParamError, RunContext};

use super::Source;
use crate::JobEnv;
use crate::http::{Marks, Request, get};

const MOST_RETRIES: u8 = 5;
/// Before the first repetition; each later one waits twice as long.
const WAIT: Duration = Duration::from_millis(100);

impl Source {
    /// The request, of a source that has one.
    pub(super) fn request(&self) -> Option<Request> {
        Some(Request {
            url: self.url.clone()?,
            method: self.method.clone().unwrap_or_else(get),
            headers: self.headers.clone(),
            body: self.body.clone(),
            bearer: self.bearer.clone(),
            basic: self.basic.clone(),
            timeout: self.timeout,
            network: self.network.clone().unwrap_or_default(),
        })
    }

    pub(super) fn retries(&self) -> u8 {
        let safe = self.method.as_deref().is_none_or(is_safe);
        if safe { self.retries.unwrap_or(1) } else { 0 }
    }

    pub(super) fn check_request(&self, at: &str, env: &JobEnv) -> Result<(), ParamError> {
        if let Some(request) = self.request() {
            request.check(at, env)?;
            if let Some(retries) = self.retries {
                let fault = |message: &str| Err(ParamError::new(format!("{at}retries"), message));
                if retries > MOST_RETRIES {
                    return fault("at most 5 can be asked for");
                }
                if !self.method.as_deref().is_none_or(is_safe) {
                    return fault("only GET and HEAD are asked again: leave it out");
                }
            }
            return Ok(());
        }
        let keys = [
            ("method", self.method.is_some()),
            ("headers", !self.headers.is_empty()),
            ("body", self.body.is_some()),
            ("bearer", self.bearer.is_some()),
            ("basic", self.basic.is_some()),
            ("network", self.network.is_some()),
            ("retries", self.retries.is_some()),
        ];
        match keys.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(ParamError::new(format!("{at}{key}"), "is for a source with `url`")),
            None => Ok(()),
        }
    }
}

fn is_safe(method: &str) -> bool {
    ["GET", "HEAD"].iter().any(|safe| method.eq_ignore_ascii_case(safe))
}

/// Whether the same question may be answered another time.
fn may_pass(status: StatusCode) -> bool {
    let for_now = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || for_now.contains(&status)
}

/// What the URL answers; the caller limits the time of all tries together. A server that says when to come back is asked
/// then, and not at all when that is later than the limit.
pub(super) async fn fetch(request: &Request, retries: u8, env: &JobEnv, ctx: &RunContext) -> Result<Vec<u8>, String> {
    let (marks, begun) = (Marks::of(ctx), ctx.now());
    let mut left = retries;
    let mut wait = WAIT;
    loop {
        let (fault, asked) = match request.send(env, &marks).await {
            Ok(answer) if answer.status.is_success() => return answer.whole().map(<[u8]>::to_vec),
            Ok(answer) if !may_pass(answer.status) => return Err(format!("answered {}", answer.status)),
            Ok(answer) => (format!("answered {}", answer.status), answer.retry_after(ctx.now())),
            Err(failure) => (failure.message, None),
        };
        let Some(fewer) = left.checked_sub(1) else { return Err(fault) };
        left = fewer;
        let rest = request.timeout.saturating_sub((ctx.now() - begun).to_std().unwrap_or_default());
        if let Some(asked) = asked.filter(|asked| *asked >= rest) {
            return Err(format!("{fault}, and asks for {}s until it is asked again", asked.as_secs()));
        }
        tokio::time::sleep(wait.max(asked.unwrap_or_default())).await;
        wait *= 2;
    }
}
