//! Channels: how people, and other programs, are told. One file a kind, each with its `Params`; [`register`] is the one
//! line to add.
//!
//! Must not know: the engine, the outbox.

mod email;
mod ping;
mod slack;
mod webhook;
mod words;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::{DeliveryError, Registry};

use crate::JobEnv;
use crate::http::{Answer, Marks, Request};

/// What one request of a channel gets, within the half minute of a delivery.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    email::register(registry, env);
    ping::register(registry, env);
    slack::register(registry, env);
    webhook::register(registry, env);
}

/// Sends a request that is to be taken with success.
async fn post(request: &Request, env: &JobEnv, marks: &Marks, now: DateTime<Utc>) -> Result<(), DeliveryError> {
    let answer = request.send(env, marks).await.map_err(|failure| DeliveryError::new(failure.message))?;
    if answer.status.is_success() { Ok(()) } else { Err(refused(&answer, now)) }
}

/// A refusal. What is wrong with the message itself stays wrong; a wrong URL or token may be put right meanwhile.
fn refused(answer: &Answer, now: DateTime<Utc>) -> DeliveryError {
    const SHOWN: usize = 200;
    const OF_THE_MESSAGE: [u16; 4] = [400, 413, 415, 422];
    let text = String::from_utf8_lossy(&answer.body);
    let said: String = text.trim().chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    // A page for people says nothing here.
    let said = if said.is_empty() || said.starts_with('<') { String::new() } else { format!(": {said}") };
    let message = format!("answered {}{said}", answer.status);
    if OF_THE_MESSAGE.contains(&answer.status.as_u16()) {
        return DeliveryError::permanent(message);
    }
    let error = DeliveryError::new(message);
    match answer.retry_after(now) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}
