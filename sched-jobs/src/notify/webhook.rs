//! `webhook`: JSON to a URL, signed as the Standard Webhooks specification has it, so that whoever gets it can check
//! with a library that it is ours, whole and fresh.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use sched_core::{Body, Channel, DeliveryError, Message, ParamError, Registry, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{TIMEOUT, post, words};
use crate::http::{Marks, Network, Request};
use crate::{JobEnv, secret};

/// Parameters of `webhook`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where; a URL that is a secret is written "env:NAME" or "file:PATH".
    url: String,
    /// With what it is signed, as "env:NAME" or "file:PATH": "whsec_" and base64, or any text of 24 bytes and more.
    #[serde(default)]
    secret: Option<String>,
    /// Headers; a value that is a secret is written "env:NAME" or "file:PATH".
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// A bearer token, as "env:NAME" or "file:PATH".
    #[serde(default)]
    bearer: Option<String>,
    /// How it goes out.
    #[serde(default)]
    network: Network,
}

struct Webhook {
    params: Params,
    env: Arc<JobEnv>,
}

pub(super) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_channel("webhook", "Posts signed JSON to a URL", move |params: Params| {
        request(&params).check("", &env)?;
        if params.secret.as_deref().is_some_and(|reference| !secret::is_reference(reference)) {
            return Err(ParamError::new("secret", "write \"env:NAME\" or \"file:PATH\", not the secret itself"));
        }
        Ok(Webhook { params, env: env.clone() })
    });
}

fn request(params: &Params) -> Request {
    Request {
        method: "POST".into(),
        headers: params.headers.clone(),
        bearer: params.bearer.clone(),
        timeout: TIMEOUT,
        network: params.network.clone(),
        ..Request::to(params.url.clone())
    }
}

/// The key within a secret.
fn key(text: &str) -> Result<Vec<u8>, String> {
    const SHORTEST: usize = 24;
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64.decode(encoded).map_err(|_| "what follows whsec_ is not base64")?,
        None => text.as_bytes().to_vec(),
    };
    if key.len() < SHORTEST {
        return Err(format!("a secret has at least {SHORTEST} bytes"));
    }
    Ok(key)
}

/// `v1,` and the signature of id, time and body.
fn signature(key: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(tag))
}

fn document(message: &Message) -> Value {
    let mut document = json!({
        "schema": 1,
        "id": message.id,
        "channel": message.channel,
        "attempt": message.attempt,
        "sent_at": words::text(message.at),
        "subject": words::subject(message),
    });
    match &message.body {
        Body::Letter(letter) => document["letter"] = json!(letter),
        Body::Notices(told) => {
            let notice = |told: &sched_core::Told| {
                let mut notice = json!(told.notice);
                notice["output"] = json!(told.output);
                notice["remedy"] = json!(told.notice.remedy());
                notice
            };
            document["notices"] = told.iter().map(notice).collect();
        }
    }
    document
}

#[async_trait]
impl Channel for Webhook {
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let mut request = request(&self.params);
        let (id, seconds) = (message.id.to_string(), message.at.timestamp());
        let body = document(message).to_string();
        let headers = &mut request.headers;
        headers.entry("content-type".into()).or_insert_with(|| "application/json".into());
        headers.insert("webhook-id".into(), id.clone());
        headers.insert("webhook-timestamp".into(), seconds.to_string());
        if let Some(reference) = &self.params.secret {
            let text = secret::resolve(reference, &self.env.base_dir).and_then(|text| key(&text));
            let key = text.map_err(|error| DeliveryError::new(format!("secret: {error}")))?;
            headers.insert("webhook-signature".into(), signature(&key, &id, seconds, &body));
        }
        request.body = Some(body.into());
        post(&request, &self.env, &Marks::none().with_key(&id), message.at).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification's reference libraries.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        assert_eq!(key("short").unwrap_err(), "a secret has at least 24 bytes");
        assert_eq!(key("whsec_?").unwrap_err(), "what follows whsec_ is not base64");
    }
}
