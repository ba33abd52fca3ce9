//! `http_call`: one HTTP request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sched_core::{Job, JobError, Output, ParamError, Registry, RunContext, async_trait, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fetch::{body, client, explain, unless_cancelled};
use crate::{JobEnv, secret};

/// How much of the answer the record keeps.
const KEPT: usize = 64 * 1024;
/// A server that asks for a longer wait (`Retry-After`) is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// Parameters of `http_call`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where; a URL that begins with `/` is below `BASE_URL`.
    url: String,
    /// The method.
    #[serde(default = "get")]
    method: String,
    /// Headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text, or anything else as JSON.
    #[serde(default)]
    body: Option<Value>,
    /// A bearer token, as `env:NAME` or `file:PATH`.
    #[serde(default)]
    bearer: Option<String>,
    /// The whole request's time limit.
    #[serde(default = "half_a_minute", with = "duration_text")]
    #[schemars(with = "String")]
    timeout: Duration,
    /// Status codes that are success; 200 to 299 unless set.
    #[serde(default)]
    expect_status: Vec<u16>,
}

fn get() -> String {
    "GET".into()
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

struct HttpCall {
    params: Params,
    method: Method,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("http_call", "Sends one HTTP request", move |params: Params| {
        let method = Method::from_bytes(params.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| ParamError::new("method", format!("`{}` is no HTTP method", params.method)))?;
        let relative = params.url.starts_with('/');
        if relative && env.base_url.is_none() {
            return Err(ParamError::new("url", "a URL that begins with `/` needs BASE_URL to be set"));
        }
        if !relative && !params.url.starts_with("http://") && !params.url.starts_with("https://") {
            return Err(ParamError::new("url", "a URL begins with http://, https:// or /"));
        }
        if params.bearer.as_deref().is_some_and(|bearer| !secret::is_reference(bearer)) {
            return Err(ParamError::new("bearer", "write \"env:NAME\" or \"file:PATH\", not the token itself"));
        }
        Ok(HttpCall { params, method, env: env.clone() })
    });
}

impl HttpCall {
    async fn send(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let params = &self.params;
        let mut request = client()
            .map_err(JobError::new)?
            .request(self.method.clone(), self.env.url(&params.url))
            .header("Idempotency-Key", ctx.run_id().to_string())
            .timeout(params.timeout);
        for (name, value) in &params.headers {
            request = request.header(name, value);
        }
        if let Some(reference) = &params.bearer {
            request = request.bearer_auth(secret::resolve(reference, &self.env.base_dir).map_err(JobError::permanent)?);
        }
        request = match &params.body {
            Some(Value::String(text)) => request.body(text.clone()),
            Some(value) => request.json(value),
            None => request,
        };
        let response = request.send().await.map_err(|error| JobError::new(explain(&error)))?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let (bytes, cut) = body(response, KEPT).await.map_err(|error| JobError::new(explain(&error)))?;
        let text = String::from_utf8_lossy(&bytes);
        let data = json!({ "status": status.as_u16(), "body": text, "body_cut": cut });
        let expected = match params.expect_status.as_slice() {
            [] => status.is_success(),
            listed => listed.contains(&status.as_u16()),
        };
        if expected {
            return Ok(Output::summary(format!("answered {status}")).with_data(data));
        }
        let may_pass = !status.is_client_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        let message = format!("answered {status}");
        let mut error = if may_pass { JobError::new(message) } else { JobError::permanent(message) };
        if let Some(seconds) = wait {
            error = error.retry_after(Duration::from_secs(seconds).min(LONGEST_WAIT));
        }
        Err(error.with_data(data))
    }
}

#[async_trait]
impl Job for HttpCall {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        unless_cancelled(ctx, self.send(ctx)).await?
    }
}
