//! `slack`: an incoming webhook of Slack, and of what takes the same: Mattermost, Rocket.Chat, Zulip, and Discord below
//! `/slack`.

use std::sync::Arc;

use sched_core::{Body, Channel, DeliveryError, Message, Registry, Told, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{TIMEOUT, post, words};
use crate::JobEnv;
use crate::http::{Marks, Network, Request};

/// The longest text, in characters: beyond 4,000 Slack folds or cuts it.
const LONGEST: usize = 3500;

/// Parameters of `slack`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The webhook's URL, which is a secret: "env:NAME" or "file:PATH", or written as it is.
    url: String,
    /// Whom to call in each message, such as "<!here>" or "<@U012AB3CD>".
    #[serde(default)]
    mention: Option<String>,
    /// How it goes out.
    #[serde(default)]
    network: Network,
}

struct Slack {
    params: Params,
    env: Arc<JobEnv>,
}

pub(super) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_channel("slack", "Posts to a Slack-compatible webhook", move |params: Params| {
        request(&params).check("", &env)?;
        Ok(Slack { params, env: env.clone() })
    });
}

fn request(params: &Params) -> Request {
    let network = params.network.clone();
    Request { method: "POST".into(), timeout: TIMEOUT, network, ..Request::to(params.url.clone()) }
}

/// Words that call everybody after an `@` in Mattermost, Rocket.Chat, Zulip and Discord.
const EVERYBODY: [&str; 6] = ["all", "channel", "everyone", "here", "**all", "**everyone"];

/// The three characters that mean something (Slack, "Formatting text for app surfaces"), and calls to everybody, which
/// only `mention` makes.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut parts = text.split('@');
    let mut escaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let calls = |word: &&str| part.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        escaped.push_str(if EVERYBODY.iter().any(calls) { "@\u{200b}" } else { "@" });
        escaped.push_str(part);
    }
    escaped
}

fn told(told: &Told) -> String {
    let facts = words::facts(told);
    let sign = match facts.tone {
        "good" => ":large_green_circle:",
        "bad" => ":red_circle:",
        _ => ":white_circle:",
    };
    let mut text = format!("{sign} {}", escape(&facts.message));
    let shown = ["Planned", "Failing since", "Attempt", "Took"];
    let details: Vec<String> = facts
        .facts
        .iter()
        .filter(|(name, _)| shown.contains(name))
        .map(|(name, value)| format!("{} {}", name.to_lowercase(), escape(value)))
        .collect();
    if !details.is_empty() {
        text.push_str(&format!("\n_{}_", details.join(" · ")));
    }
    if !facts.output.is_empty() {
        // A fence in it would end ours.
        let output = escape(&facts.output.join("\n")).replace("```", "'''");
        text.push_str(&format!("\n```\n{output}\n```"));
    }
    if let Some(remedy) = &facts.remedy {
        text.push_str(&format!("\n`{}`", escape(remedy)));
    }
    text
}

fn text(message: &Message, mention: Option<&str>) -> String {
    let body = match &message.body {
        Body::Letter(letter) => format!("*{}*\n{}", escape(&letter.subject), escape(&letter.text)),
        Body::Notices(notices) => notices.iter().map(told).collect::<Vec<_>>().join("\n\n"),
    };
    let body = match body.char_indices().nth(LONGEST) {
        None => body,
        Some((end, _)) => {
            // A fence that was cut off is closed.
            let kept = &body[..end];
            let fence = if kept.matches("```").count() % 2 == 1 { "\n```" } else { "" };
            format!("{kept}…{fence}")
        }
    };
    mention.map_or_else(|| body.clone(), |mention| format!("{mention} {body}"))
}

#[async_trait]
impl Channel for Slack {
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let mut request = request(&self.params);
        request.body = Some(json!({ "text": text(message, self.params.mention.as_deref()) }));
        post(&request, &self.env, &Marks::none(), message.at).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_says_calls_nobody() {
        assert_eq!(
            escape("<!channel> a&b @Everyone @here, a@b.test @"),
            "&lt;!channel&gt; a&amp;b @\u{200b}Everyone @\u{200b}here, a@b.test @"
        );
    }
}
