//! `[[channel]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::de::DeValue;

use super::decode::{Faults, Reader, json_table, locate, tell};
use crate::channel::{Channels, ReadyChannel};
use crate::id::ChannelName;
use crate::notice::{NoticeKind, Quiet};
use crate::policy::duration_text;
use crate::registry::{ParamError, Registry};

/// A channel as it is written; what is left out is its kind's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// Its name.
    pub name: ChannelName,
    /// How it reaches people.
    pub kind: String,
    /// Parameters, typed by the kind. Secrets are references (`env:NAME`, `file:PATH`).
    #[serde(default)]
    pub params: Map<String, Value>,
    /// What it tells of.
    #[serde(default)]
    pub on: Option<BTreeSet<NoticeKind>>,
    /// It waits so long for more to tell in the same message.
    #[serde(default, serialize_with = "duration_or_null", deserialize_with = "some_duration")]
    pub group: Option<Duration>,
    /// It tells again so long after that a schedule goes on failing or missing fires.
    #[serde(default, serialize_with = "duration_or_null", deserialize_with = "some_duration")]
    pub repeat: Option<Duration>,
    /// It gives a delivery up after so long.
    #[serde(default, serialize_with = "duration_or_null", deserialize_with = "some_duration")]
    pub give_up: Option<Duration>,
    /// When it tells of nothing.
    #[serde(default)]
    pub quiet: Option<Quiet>,
}

fn duration_or_null<S: serde::Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => duration_text::serialize(span, to),
        None => to.serialize_none(),
    }
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration_text::deserialize(from).map(Some)
}

impl ChannelSpec {
    /// Makes the channel. Times of day are of `zone` unless they name another.
    ///
    /// # Errors
    /// When there is no such kind, or the parameters do not fit it.
    pub fn ready(&self, registry: &Registry, zone: Tz) -> Result<ReadyChannel, ParamError> {
        let channel = registry.channel_kind(&self.kind)?.build(&self.params)?;
        let mut policy = channel.policy();
        if let Some(on) = &self.on {
            policy.on.clone_from(on);
        }
        policy.group = self.group.unwrap_or(policy.group);
        policy.repeat = self.repeat.unwrap_or(policy.repeat);
        policy.give_up = self.give_up.unwrap_or(policy.give_up);
        if let Some(quiet) = &self.quiet {
            policy.quiet = Some(Quiet { timezone: quiet.timezone.or(Some(zone)), ..quiet.clone() });
        }
        Ok(ReadyChannel { policy, channel })
    }
}

impl super::Config {
    /// Makes the channels that are configured.
    ///
    /// # Errors
    /// When one does not fit its kind, with its name; a configuration that was read with this registry has none.
    pub fn channels(&self, registry: &Registry) -> Result<Channels, ParamError> {
        let ready = |spec: &ChannelSpec| Ok((spec.name.clone(), spec.ready(registry, self.timezone)?));
        self.channels.iter().map(ready).collect()
    }
}

pub(super) fn read_all(root: &mut Reader<'_>, zone: Tz, registry: &Registry, faults: &Faults<'_>) -> Vec<ChannelSpec> {
    let Some(place) = root.value("channel") else { return Vec::new() };
    let DeValue::Array(items) = place.get_ref() else {
        faults.add(place.span().start, "channels are written as [[channel]], with double brackets");
        return Vec::new();
    };
    let mut specs: Vec<ChannelSpec> = Vec::new();
    for item in items {
        let fault = |path: &str, message: String| faults.add(locate(item, path).span().start, message);
        let DeValue::Table(table) = item.get_ref() else {
            fault("", "channels are written as [[channel]], with double brackets".into());
            continue;
        };
        let written = json_table(table);
        if let Some(key) = ["name", "kind"].into_iter().find(|key| !written.contains_key(*key)) {
            fault("", format!("this channel has no `{key}`"));
            continue;
        }
        let spec: ChannelSpec = match serde_path_to_error::deserialize(Value::Object(written)) {
            Ok(spec) => spec,
            Err(error) => {
                tell(&error, &fault);
                continue;
            }
        };
        if let Err(error) = spec.ready(registry, zone) {
            let text = error.to_string();
            let known = registry.channel_kind(&spec.kind).is_ok();
            match known {
                true if text.starts_with("params") => fault(&format!("params.{}", error.path()), text),
                true => fault(&format!("params.{}", error.path()), format!("params: {text}")),
                false => fault("kind", text),
            }
        }
        if specs.iter().any(|other| other.name == spec.name) {
            fault("name", format!("two channels are named `{}`; choose another name for one of them", spec.name));
        }
        specs.push(spec);
    }
    specs
}
