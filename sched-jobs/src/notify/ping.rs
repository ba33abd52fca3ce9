//! `ping`: a dead-man's switch in the convention of healthchecks.io. A service that hears nothing in time raises the
//! alarm itself, so it notices also that the scheduler is gone.

use std::sync::Arc;

use sched_core::{
    Body, Channel, ChannelPolicy, DeliveryError, Message, Notice, NoticeKind, ParamError, Registry, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{TIMEOUT, post, words};
use crate::http::{Marks, Network, Request};
use crate::{JobEnv, secret};

/// Such services keep no more of a ping's text, in bytes.
const KEPT: usize = 10_000;

/// Parameters of `ping`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The URL to ping: `/start`, `/fail` and `/log` are added to it, and nothing for a success. `{schedule}` in it
    /// becomes the schedule's name. It is a secret, as "env:NAME" or "file:PATH", or is written as it is.
    url: String,
    /// How it goes out.
    #[serde(default)]
    network: Network,
}

struct Ping {
    params: Params,
    env: Arc<JobEnv>,
}

pub(super) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_channel("ping", "Pings a dead-man's switch at each run", move |params: Params| {
        request(&params, params.url.clone()).check("", &env)?;
        if params.url.contains(['?', '#']) {
            return Err(ParamError::new("url", "a ping's URL has no query: what happened is added to its path"));
        }
        Ok(Ping { params, env: env.clone() })
    });
}

fn request(params: &Params, url: String) -> Request {
    Request { method: "POST".into(), timeout: TIMEOUT, network: params.network.clone(), ..Request::to(url) }
}

/// What is added to the URL.
const fn suffix(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Started => "/start",
        NoticeKind::Succeeded | NoticeKind::Recovered => "",
        NoticeKind::Failed | NoticeKind::Missed => "/fail",
        _ => "/log",
    }
}

impl Ping {
    async fn ping(&self, message: &Message, notice: &Notice, text: String) -> Result<(), DeliveryError> {
        let resolved = || secret::resolve(&self.params.url, &self.env.base_dir);
        let base = if secret::is_reference(&self.params.url) {
            resolved().map_err(|error| DeliveryError::new(format!("url: {error}")))?
        } else {
            self.params.url.clone()
        };
        let name = notice.schedule.as_ref().map_or("scheduler", |name| name.as_str());
        let base = base.trim_end_matches('/').replace("{schedule}", name);
        // The service pairs a start with its end by this.
        let run = notice.run_id.map_or(String::new(), |run| format!("?rid={run}"));
        let body: String = text.chars().take(KEPT / 4).collect();
        let mut request = request(&self.params, format!("{base}{}{run}", suffix(notice.kind)));
        request.body = Some(body.into());
        let marks = Marks::none().with_key(&message.id.to_string());
        post(&request, &self.env, &marks, message.at).await
    }
}

#[async_trait]
impl Channel for Ping {
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let told = match &message.body {
            Body::Notices(told) => told,
            // There is nobody to read it.
            Body::Letter(_) => return Err(DeliveryError::permanent("a ping carries no letters; name another channel")),
        };
        for told in told {
            self.ping(message, &told.notice, words::plain(message)).await?;
        }
        Ok(())
    }

    fn policy(&self) -> ChannelPolicy {
        ChannelPolicy::each_run()
    }
}
