//! URLs that must answer with success, and are only told of when they do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sched_core::RunContext;
use serde::Serialize;
use tokio::task::JoinSet;

use super::params::Params;
use crate::JobEnv;
use crate::http::{Marks, Request};

/// What a URL answered.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    url: String,
    pub(super) ok: bool,
    status: Option<u16>,
    error: Option<String>,
    ms: u64,
}

#[expect(clippy::disallowed_methods, reason = "measures how long an answer took, decides nothing")]
async fn check(url: String, env: Arc<JobEnv>, marks: Marks, limit: Duration) -> Health {
    let begun = Instant::now();
    let answer = Request { timeout: limit, ..Request::to(url.clone()) }.send(&env, &marks).await;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(answer) => {
            let error = (!answer.status.is_success()).then(|| format!("answered {}", answer.status));
            Health { url, ok: error.is_none(), status: Some(answer.status.as_u16()), error, ms }
        }
        Err(failure) => Health { url, ok: false, status: None, error: Some(failure.message), ms },
    }
}

/// Asks all of them at the same time, in the order configured.
pub(super) async fn ask(ctx: &RunContext, env: &Arc<JobEnv>, params: &Params) -> Vec<Health> {
    let mut checks = JoinSet::new();
    for (index, url) in params.health_urls.iter().enumerate() {
        let check = check(url.clone(), env.clone(), Marks::of(ctx), params.timeout);
        checks.spawn(async move { (index, check.await) });
    }
    let mut done = BTreeMap::new();
    loop {
        tokio::select! {
            next = checks.join_next() => match next {
                Some(Ok((index, health))) => { done.insert(index, health); }
                Some(Err(_)) => {}
                None => break,
            },
            () = ctx.cancelled() => break,
        }
    }
    done.into_values().collect()
}
