//! A request as it is written in params, and sending it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use sched_core::{ParamError, RunContext, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Answer, Failure};
use super::client::client;
use super::contact::Contact;
use super::hop::Hop;
use super::network::Network;
use crate::{JobEnv, secret};

/// A user and a password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Basic {
    /// The user.
    user: String,
    /// The password, as "env:NAME" or "file:PATH".
    password: String,
}

/// One request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Where; a URL that begins with `/` is below `BASE_URL`. One that is a secret is written "env:NAME" or "file:PATH".
    pub(crate) url: String,
    /// The method.
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Headers; a value that is a secret is written "env:NAME" or "file:PATH".
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A text, or anything else as JSON.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// A bearer token, as "env:NAME" or "file:PATH".
    #[serde(default)]
    pub(crate) bearer: Option<String>,
    /// A user and a password.
    #[serde(default)]
    pub(crate) basic: Option<Basic>,
    /// The limit of all of it: connecting, redirects, and reading the answer.
    #[serde(default = "half_a_minute", with = "duration_text")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
    /// How it goes out, and how much comes back.
    #[serde(default)]
    pub(crate) network: Network,
}

pub(crate) fn get() -> String {
    "GET".into()
}

pub(crate) const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

/// Whether a URL is one to send to: `http://` or `https://`.
pub(crate) fn is_absolute(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// What a request bears of the run that sends it.
#[derive(Debug, Clone)]
pub(crate) struct Marks(Vec<(HeaderName, HeaderValue)>);

impl Marks {
    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// `traceparent` (W3C Trace Context): the trace is the run, the span its attempt.
    pub(crate) fn of(ctx: &RunContext) -> Self {
        let run = ctx.run_id().as_uuid();
        // The variant bits of a UUID keep this from being zero, which would be no span.
        let span = run.as_u64_pair().1 ^ u64::from(ctx.attempt());
        let value = HeaderValue::from_str(&format!("00-{}-{span:016x}-01", run.simple()));
        Self(value.ok().into_iter().map(|value| (HeaderName::from_static("traceparent"), value)).collect())
    }

    /// With `Idempotency-Key`: the same for every attempt of a run, so that a server can do it once.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        let value = HeaderValue::from_str(key).ok();
        self.0.extend(value.map(|value| (HeaderName::from_static("idempotency-key"), value)));
        self
    }
}

impl Request {
    /// Of this URL, and else as unset.
    pub(crate) fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: get(),
            headers: BTreeMap::new(),
            body: None,
            bearer: None,
            basic: None,
            timeout: half_a_minute(),
            network: Network::default(),
        }
    }

    /// What of it cannot work; `at` is where it stands in the params, with its dot.
    pub(crate) fn check(&self, at: &str, env: &JobEnv) -> Result<(), ParamError> {
        let fault = |key: &str, message: String| Err(ParamError::new(format!("{at}{key}"), message));
        self.check_url(env).or_else(|why| fault("url", why))?;
        if self.method().is_none() {
            return fault("method", format!("`{}` is no HTTP method", self.method));
        }
        for (name, value) in &self.headers {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return fault("headers", format!("`{name}` is not the name of a header"));
            }
            if HeaderValue::from_str(value).is_err() {
                return fault(&format!("headers.{name}"), "the value has characters that no header may have".into());
            }
        }
        if self.bearer.as_deref().is_some_and(|bearer| !secret::is_reference(bearer)) {
            return fault("bearer", "write \"env:NAME\" or \"file:PATH\", not the token itself".into());
        }
        if self.basic.as_ref().is_some_and(|basic| !secret::is_reference(&basic.password)) {
            return fault("basic.password", "write \"env:NAME\" or \"file:PATH\", not the password itself".into());
        }
        if self.basic.as_ref().is_some_and(|basic| basic.user.contains(':')) {
            return fault("basic.user", "a user of basic authentication has no colon in its name".into());
        }
        if self.bearer.is_some() && self.basic.is_some() {
            return fault("basic", "a request has one authorization: write `bearer` or `basic`".into());
        }
        if self.timeout.is_zero() {
            return fault("timeout", "must be longer than nothing".into());
        }
        self.network.check(at)
    }

    /// Why there can be no request to its URL.
    pub(crate) fn check_url(&self, env: &JobEnv) -> Result<(), String> {
        if self.url.starts_with('/') {
            let known = env.base_url.is_some();
            return known.then_some(()).ok_or_else(|| "a URL that begins with `/` needs BASE_URL to be set".into());
        }
        if secret::is_reference(&self.url) {
            return Ok(());
        }
        if !is_absolute(&self.url) {
            return Err("a URL begins with http://, https:// or /".into());
        }
        let parsed = Url::parse(&self.url).map_err(|error| format!("not a URL: {error}"))?;
        if parsed.password().is_some() {
            return Err("it has a password in it: write the URL as \"env:NAME\" or \"file:PATH\"".into());
        }
        Ok(())
    }

    /// The method, if it is one.
    pub(crate) fn method(&self) -> Option<Method> {
        Method::from_bytes(self.method.to_ascii_uppercase().as_bytes()).ok()
    }

    fn resolve(&self, key: &str, reference: &str, env: &JobEnv) -> Result<String, String> {
        secret::resolve(reference, &env.base_dir).map_err(|error| format!("{key}: {error}"))
    }

    /// What goes out first, its secrets resolved. Errors name references, never what is behind them.
    fn hop(&self, env: &JobEnv, marks: &Marks) -> Result<Hop, String> {
        let url =
            if secret::is_reference(&self.url) { self.resolve("url", &self.url, env)? } else { env.url(&self.url) };
        let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // The URL itself may be a secret that was resolved elsewhere.
        let what = if secret::is_reference(&self.url) { self.url.as_str() } else { "it" };
        let url = url.ok_or_else(|| format!("url: what {what} gives is no http URL"))?;
        let mut headers = HeaderMap::from_iter(marks.0.iter().cloned());
        for (name, value) in &self.headers {
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not the name of a header"))?;
            let reference = secret::is_reference(value);
            let text = if reference { self.resolve(&format!("headers.{name}"), value, env)? } else { value.clone() };
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| format!("headers.{name}: not the value of a header"))?;
            if reference {
                value.set_sensitive(true);
            }
            headers.insert(key, value);
        }
        let authorization = match (&self.bearer, &self.basic) {
            (Some(reference), _) => Some(format!("Bearer {}", self.resolve("bearer", reference, env)?)),
            (None, Some(basic)) => {
                let password = self.resolve("basic.password", &basic.password, env)?;
                Some(format!("Basic {}", BASE64.encode(format!("{}:{password}", basic.user))))
            }
            (None, None) => None,
        };
        if let Some(text) = authorization {
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| "the secret has a line break or the like in it")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let body = match &self.body {
            None => None,
            Some(Value::String(text)) => Some(text.clone().into_bytes()),
            Some(value) => {
                let json = HeaderValue::from_static("application/json");
                headers.entry(CONTENT_TYPE).or_insert(json);
                Some(value.to_string().into_bytes())
            }
        };
        let method = self.method().ok_or_else(|| format!("`{}` is no HTTP method", self.method))?;
        Ok(Hop { method, url, headers, body })
    }

    /// Sends it and reads the answer, all within its time.
    pub(crate) async fn send(&self, env: &JobEnv, marks: &Marks) -> Result<Answer, Failure> {
        let hop = self.hop(env, marks).map_err(Failure::unsent)?;
        let contact = Contact::default();
        let exchanged = tokio::time::timeout(self.timeout, self.exchange(hop, env, &contact)).await;
        let late = || format!("no answer within {}s", self.timeout.as_secs_f64());
        exchanged.unwrap_or_else(|_| Err(Failure { message: late(), sent: contact.made() }))
    }

    async fn exchange(&self, mut hop: Hop, env: &JobEnv, contact: &Contact) -> Result<Answer, Failure> {
        let guard = Arc::new(self.network.guard());
        let via = self.network.via(env).map_err(Failure::unsent)?;
        let ca = self.network.ca_file.as_deref().map(|path| env.path(path));
        let client = client(guard.clone(), &via, ca.as_deref(), contact.clone()).map_err(Failure::unsent)?;
        let mut followed = 0;
        loop {
            contact.forget();
            guard.check(&hop.url).map_err(Failure::unsent)?;
            let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
            if let Some(body) = &hop.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| Failure::of(&error, contact.made()))?;
            let next = if self.network.redirects == 0 {
                None
            } else {
                hop.next(response.status(), response.headers()).map_err(Failure::unsent)?
            };
            match next {
                Some(_) if followed == self.network.redirects => {
                    let message = format!("it redirects more than {followed} times (network.redirects)");
                    return Err(Failure::unsent(message));
                }
                Some(next) => hop = next,
                None => {
                    let limit = usize::try_from(self.network.max_answer.0).unwrap_or(usize::MAX);
                    let answer = Answer::read(response, limit).await;
                    return answer.map_err(|error| Failure::of(&error, true));
                }
            }
            followed += 1;
        }
    }
}
