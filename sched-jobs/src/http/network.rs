//! How requests go out, and how much comes back, as it is written in params.

use std::path::PathBuf;

use reqwest::Url;
use sched_core::ParamError;
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::Via;
use super::guard::Guard;
use crate::size::Size;
use crate::{JobEnv, secret};

/// More of an answer cannot be asked for: it is held in memory.
const LARGEST_ANSWER: Size = Size(64 << 20);
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
    pub(super) redirects: u8,
    /// As much of an answer is read, such as "1 MiB"; 64 MiB at most.
    pub(super) max_answer: Size,
    /// A PEM file with certificates to trust beside the system's.
    pub(super) ca_file: Option<PathBuf>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            deny_private: false,
            allow_hosts: Vec::new(),
            proxy: None,
            redirects: 5,
            max_answer: Size(1 << 20),
            ca_file: None,
        }
    }
}

impl Network {
    pub(super) fn check(&self, at: &str) -> Result<(), ParamError> {
        let fault = |key: &str, message: String| Err(ParamError::new(format!("{at}network.{key}"), message));
        if self.redirects > MOST_REDIRECTS {
            return fault("redirects", format!("at most {MOST_REDIRECTS} are followed"));
        }
        if !(Size(1)..=LARGEST_ANSWER).contains(&self.max_answer) {
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

    pub(super) fn via(&self, env: &JobEnv) -> Result<Via, String> {
        Ok(match self.proxy.as_deref() {
            None if !self.deny_private => Via::Environment,
            None | Some("none") => Via::Direct,
            Some(proxy) if secret::is_reference(proxy) => {
                Via::Proxy(secret::resolve(proxy, &env.base_dir).map_err(|error| format!("network.proxy: {error}"))?)
            }
            Some(proxy) => Via::Proxy(proxy.to_owned()),
        })
    }

    pub(super) fn guard(&self) -> Guard {
        Guard { deny_private: self.deny_private, allow_hosts: self.allow_hosts.clone() }
    }
}
