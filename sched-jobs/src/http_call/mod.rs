//! `http_call`: one HTTP request, and what its answer must be.

mod expect;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sched_core::{Job, JobError, Output, ParamError, Registry, RunContext, async_trait, duration_text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::expect::{Codes, Expectation, check_pointer, extract};
use crate::JobEnv;
use crate::http::{Answer, Basic, Failure, Marks, Network, Request, get, half_a_minute, unless_cancelled};

/// How much of the answer the record keeps.
const KEPT: usize = 64 * 1024;
/// So many expectations, and so many values, are taken from one answer.
const MOST: usize = 100;

/// Parameters of `http_call`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where; a URL that begins with `/` is below `BASE_URL`. One that is a secret is written "env:NAME" or "file:PATH".
    url: String,
    /// The method.
    #[serde(default = "get")]
    method: String,
    /// Headers; a value that is a secret is written "env:NAME" or "file:PATH".
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text, or anything else as JSON.
    #[serde(default)]
    body: Option<Value>,
    /// A template of the body: `{{ run_id }}`, `{{ schedule }}`, `{{ nominal_at }}`, `{{ attempt }}`, `{{ values.x }}`;
    /// `{{ values.x | tojson }}` within JSON.
    #[serde(default)]
    body_template: Option<String>,
    /// What the template finds as `values`; a trigger by hand may replace them.
    #[serde(default)]
    values: Map<String, Value>,
    /// A bearer token, as "env:NAME" or "file:PATH".
    #[serde(default)]
    bearer: Option<String>,
    /// A user and a password.
    #[serde(default)]
    basic: Option<Basic>,
    /// The limit of all of it: connecting, redirects, and reading the answer.
    #[serde(default = "half_a_minute", with = "duration_text")]
    #[schemars(with = "String")]
    timeout: Duration,
    /// How it goes out, and how much comes back.
    #[serde(default)]
    network: Network,
    /// Status codes that are success, as numbers or such as "2xx" or "200-204"; "2xx" unless set.
    #[serde(default)]
    expect_status: Vec<Codes>,
    /// What the answer must say, as JSON.
    #[serde(default)]
    expect: Vec<Expectation>,
    /// Values to take from the answer as JSON: a name for each JSON Pointer. They become `data.extracted`.
    #[serde(default)]
    extract: BTreeMap<String, String>,
    /// Whether sending it twice does no harm. Unless set, it does none for GET, HEAD, OPTIONS, TRACE,
    /// PUT and DELETE.
    #[serde(default)]
    idempotent: Option<bool>,
}

struct HttpCall {
    request: Request,
    body_template: Option<String>,
    values: Map<String, Value>,
    expect_status: Vec<Codes>,
    expect: Vec<Expectation>,
    extract: BTreeMap<String, String>,
    repeatable: bool,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("http_call", "Sends one HTTP request", move |params: Params| HttpCall::new(params, env.clone()));
}

/// Whether HTTP says that a request of this method may be sent twice (RFC 9110, 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

impl HttpCall {
    fn new(params: Params, env: Arc<JobEnv>) -> Result<Self, ParamError> {
        let request = Request {
            url: params.url,
            method: params.method,
            headers: params.headers,
            body: params.body,
            bearer: params.bearer,
            basic: params.basic,
            timeout: params.timeout,
            network: params.network,
        };
        request.check("", &env)?;
        if request.body.is_some() && params.body_template.is_some() {
            return Err(ParamError::new("body_template", "a request has one body: write `body` or `body_template`"));
        }
        if let Some(text) = &params.body_template {
            template::check(text).map_err(|error| ParamError::new("body_template", error))?;
        }
        if params.expect.len() > MOST || params.extract.len() > MOST {
            return Err(ParamError::new("expect", format!("at most {MOST} expectations and {MOST} values to extract")));
        }
        for (index, expectation) in params.expect.iter().enumerate() {
            expectation.check(&format!("expect[{index}]"))?;
        }
        for (name, pointer) in &params.extract {
            check_pointer(&format!("extract.{name}"), pointer)?;
        }
        let repeatable =
            params.idempotent.unwrap_or_else(|| request.method().is_some_and(|method| is_idempotent(&method)));
        Ok(Self {
            request,
            body_template: params.body_template,
            values: params.values,
            expect_status: params.expect_status,
            expect: params.expect,
            extract: params.extract,
            repeatable,
            env,
        })
    }

    async fn send(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let marks = Marks::of(ctx).with_key(&ctx.run_id().to_string());
        let answer = match &self.body_template {
            None => self.request.send(&self.env, &marks).await,
            Some(text) => {
                let body = template::render(text, ctx.info(), &self.values).map_err(JobError::permanent)?;
                let request = Request { body: Some(Value::String(body)), ..self.request.clone() };
                request.send(&self.env, &marks).await
            }
        };
        answer.map_err(|failure| self.failed(&failure)).and_then(|answer| self.judge(ctx, &answer))
    }

    /// What a request without an answer comes to. Whether the server has acted is then unknown.
    fn failed(&self, failure: &Failure) -> JobError {
        if failure.sent && !self.repeatable {
            return JobError::permanent(format!(
                "{failure}; the server may have acted, so it is not asked again (idempotent = true would allow it)"
            ));
        }
        JobError::new(failure.message.clone())
    }

    fn judge(&self, ctx: &RunContext, answer: &Answer) -> Result<Output, JobError> {
        let status = answer.status;
        let kept = &answer.body[..answer.body.len().min(KEPT)];
        let mut data = json!({
            "status": status.as_u16(),
            "body": String::from_utf8_lossy(kept),
            "body_cut": answer.cut || answer.body.len() > KEPT,
        });
        let expected = match self.expect_status.as_slice() {
            [] => status.is_success(),
            listed => listed.iter().any(|codes| codes.contain(status.as_u16())),
        };
        if !expected {
            let message = format!("answered {status}");
            let again = may_pass(status, self.repeatable);
            let mut error = if again { JobError::new(message) } else { JobError::permanent(message) };
            if let Some(wait) = answer.retry_after(ctx.now()) {
                error = error.retry_after(wait);
            }
            return Err(error.with_data(data));
        }
        match self.read(answer) {
            Ok(extracted) => {
                if !self.extract.is_empty() {
                    data["extracted"] = extracted.into();
                }
                Ok(Output::summary(format!("answered {status}")).with_data(data))
            }
            Err(reason) => {
                let message = format!("answered {status}, but {reason}");
                // The server has done what it does: another request would do it again.
                let error = if self.repeatable { JobError::new(message) } else { JobError::permanent(message) };
                Err(error.with_data(data))
            }
        }
    }

    /// Holds the answer against what is expected of it, and takes the values out.
    fn read(&self, answer: &Answer) -> Result<Map<String, Value>, String> {
        if self.expect.is_empty() && self.extract.is_empty() {
            return Ok(Map::new());
        }
        let whole = answer.whole().map_err(|error| format!("it is {error} (network.max_answer)"))?;
        let document: Value = serde_json::from_slice(whole).map_err(|error| format!("it is not JSON: {error}"))?;
        let faults: Vec<String> = self.expect.iter().filter_map(|expectation| expectation.fault(&document)).collect();
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        extract(&document, &self.extract)
    }
}

/// Whether another attempt may be answered otherwise, and does no harm.
fn may_pass(status: StatusCode, repeatable: bool) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => true,
        _ if status.is_client_error() => false,
        // The server has acted, or a gateway does not know whether the server behind it has.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => repeatable,
        _ if status.is_success() => repeatable,
        _ => true,
    }
}

#[async_trait]
impl Job for HttpCall {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        unless_cancelled(ctx, self.send(ctx)).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_asked_for_again_only_where_that_does_no_harm() {
        let again = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            (may_pass(status, true), may_pass(status, false))
        };
        for status in [408, 425, 429, 500, 503] {
            assert_eq!(again(status), (true, true), "{status}");
        }
        for status in [200, 204, 502, 504] {
            assert_eq!(again(status), (true, false), "{status}");
        }
        for status in [400, 401, 404, 410, 422] {
            assert_eq!(again(status), (false, false), "{status}");
        }
    }
}
