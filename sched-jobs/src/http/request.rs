//! A request as it is written in params, and sending it.

use std::collections::BTreeMap;
use std::path::PathBuf;
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
use super::client::{Via, client};
use super::guard::Guard;
use super::hop::Hop;
use super::size;
use crate::{JobEnv, secret};

/// More of an answer cannot be asked for: it is held in memory.
const LARGEST_ANSWER: u64 = 64 << 20;
const MOST_REDIRECTS: u8 = 20;

/// How requests go out, and how much comes back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    /// Connect to public addresses only: not to loopback, private, link-local, shared, multicast or reserved ones. Names
    /// are judged by the addresses that are connected to, at each redirect again. No proxy is used then.
    deny_private: bool,
    /// Hosts that may be connected to whatever their address, as URLs name them.
    allow_hosts: Vec<String>,
    /// "none", or a proxy as "http://host:port", "env:NAME" or "file:PATH". Unless set, what HTTP_PROXY, HTTPS_PROXY and
    /// NO_PROXY say.
    proxy: Option<String>,
    /// So many redirects are followed; with 0 a redirect is the answer.
    redirects: u8,
    /// As much of an answer is read, such as "1 MiB"; 64 MiB at most.
    #[serde(deserialize_with = "size::deserialize")]
    #[schemars(with = "String")]
    max_answer: u64,
    /// A PEM file with certificates to trust beside the system's.
    ca_file: Option<PathBuf>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            deny_private: false,
            allow_hosts: Vec::new(),
            proxy: None,
            redirects: 5,
            max_answer: 1 << 20,
            ca_file: None,
        }
    }
}

impl Network {
    fn check(&self, at: &str) -> Result<(), ParamError> {
        let fault = |key: &str, message: String| Err(ParamError::new(format!("{at}network.{key}"), message));
        if self.redirects > MOST_REDIRECTS {
            return fault("redirects", format!("at most {MOST_REDIRECTS} are followed"));
        }
        if !(1..=LARGEST_ANSWER).contains(&self.max_answer) {
            return fault("max_answer", "must be from 1 byte to 64 MiB".into());
        }
        let Some(proxy) = self.proxy.as_deref().filter(|proxy| *proxy != "none") else { return Ok(()) };
        if self.deny_private {
            let why =
                "a proxy resolves names itself, so deny_private cannot judge their addresses: leave one of them out";
            return fault("proxy", why.into());
        }
        if secret::is_reference(proxy) {
            return Ok(());
        }
        match Url::parse(proxy) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.password().is_none() => Ok(()),
            Ok(url) if url.password().is_some() => fault("proxy", "with a password write it as \"env:NAME\"".into()),
            _ => fault("proxy", "write \"none\", \"http://host:port\", \"env:NAME\" or \"file:PATH\"".into()),
        }
    }

    fn via(&self, env: &JobEnv) -> Result<Via, String> {
        Ok(match self.proxy.as_deref() {
            None if !self.deny_private => Via::Environment,
            None | Some("none") => Via::Direct,
            Some(proxy) if secret::is_reference(proxy) => {
                Via::Proxy(secret::resolve(proxy, &env.base_dir).map_err(|error| format!("network.proxy: {error}"))?)
            }
            Some(proxy) => Via::Proxy(proxy.to_owned()),
        })
    }

    fn guard(&self) -> Guard {
        Guard { deny_private: self.deny_private, allow_hosts: self.allow_hosts.clone() }
    }
}

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
        if self.url.starts_with('/') {
            if env.base_url.is_none() {
                return fault("url", "a URL that begins with `/` needs BASE_URL to be set".into());
            }
        } else if !secret::is_reference(&self.url) {
            if !is_absolute(&self.url) {
                return fault("url", "a URL begins with http://, https:// or /".into());
            }
            if let Err(error) = Url::parse(&self.url) {
                return fault("url", format!("not a URL: {error}"));
            }
        }
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
        let url = url.ok_or_else(|| format!("url: what {} gives is no http URL", self.url))?;
        let mut headers = HeaderMap::from_iter(marks.0.iter().cloned());
        let mut secrets = Vec::new();
        for (name, value) in &self.headers {
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not the name of a header"))?;
            let reference = secret::is_reference(value);
            let text = if reference { self.resolve(&format!("headers.{name}"), value, env)? } else { value.clone() };
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| format!("headers.{name}: not the value of a header"))?;
            if reference {
                value.set_sensitive(true);
                secrets.push(key.clone());
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
        Ok(Hop { method, url, headers, body, secret: secrets })
    }

    /// Sends it and reads the answer, all within its time.
    pub(crate) async fn send(&self, env: &JobEnv, marks: &Marks) -> Result<Answer, Failure> {
        let hop = self.hop(env, marks).map_err(Failure::unsent)?;
        let late = || Failure { message: format!("no answer within {}s", self.timeout.as_secs_f64()), sent: true };
        tokio::time::timeout(self.timeout, self.exchange(hop, env)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn exchange(&self, mut hop: Hop, env: &JobEnv) -> Result<Answer, Failure> {
        let guard = Arc::new(self.network.guard());
        let via = self.network.via(env).map_err(Failure::unsent)?;
        let ca = self.network.ca_file.as_deref().map(|path| env.path(path));
        let client = client(guard.clone(), &via, ca.as_deref(), self.timeout).map_err(Failure::unsent)?;
        let mut followed = 0;
        loop {
            guard.check(&hop.url).map_err(Failure::unsent)?;
            let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
            if let Some(body) = &hop.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| Failure::of(&error))?;
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
                    let limit = usize::try_from(self.network.max_answer).unwrap_or(usize::MAX);
                    let answer = Answer::read(response, limit).await;
                    return answer.map_err(|error| Failure { sent: true, ..Failure::of(&error) });
                }
            }
            followed += 1;
        }
    }
}
