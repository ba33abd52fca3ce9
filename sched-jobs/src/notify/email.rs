//! `email`: by SMTP, as text and HTML, over TLS unless the server is this machine.

use std::path::PathBuf;
use std::sync::Arc;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use minijinja::{AutoEscape, Environment};
use sched_core::{Body, Channel, DeliveryError, Message, ParamError, Registry, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TIMEOUT, words};
use crate::{JobEnv, secret};

const PAGE: &str = include_str!("email.html");
/// So many people get a message at most.
const MOST_RECIPIENTS: usize = 50;

/// Parameters of `email`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The SMTP server.
    host: String,
    /// Its port; 587, or 465 for "tls" and 25 for "none", unless set.
    #[serde(default)]
    port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    security: Security,
    /// The user to log in as.
    #[serde(default)]
    user: Option<String>,
    /// The password, as "env:NAME" or "file:PATH".
    #[serde(default)]
    password: Option<String>,
    /// Who it comes from, such as "sched <sched@example.com>".
    from: String,
    /// Who gets it.
    to: Vec<String>,
    /// Who gets the answers.
    #[serde(default)]
    reply_to: Option<String>,
    /// What subjects begin with.
    #[serde(default = "prefix")]
    subject_prefix: String,
    /// A PEM file with certificates to trust beside the system's.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

fn prefix() -> String {
    "[sched]".into()
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Security {
    /// It begins in the clear and must change to TLS before anything is said (STARTTLS).
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

struct Email {
    params: Params,
    from: Mailbox,
    to: Vec<Mailbox>,
    reply_to: Option<Mailbox>,
    env: Arc<JobEnv>,
}

pub(super) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_channel("email", "Sends e-mail by SMTP", move |params: Params| Email::new(params, env.clone()));
}

fn mailbox(key: &str, text: &str) -> Result<Mailbox, ParamError> {
    text.parse().map_err(|error| ParamError::new(key, format!("`{text}` is no address: {error}")))
}

impl Email {
    fn new(params: Params, env: Arc<JobEnv>) -> Result<Self, ParamError> {
        let fault = |key: &str, message: &str| Err(ParamError::new(key, message));
        if params.host.trim().is_empty() {
            return fault("host", "write the name or address of the SMTP server");
        }
        if params.to.is_empty() || params.to.len() > MOST_RECIPIENTS {
            return fault("to", &format!("write from one to {MOST_RECIPIENTS} addresses"));
        }
        if params.password.as_deref().is_some_and(|password| !secret::is_reference(password)) {
            return fault("password", "write \"env:NAME\" or \"file:PATH\", not the password itself");
        }
        if params.user.is_some() != params.password.is_some() {
            return fault("password", "`user` and `password` go together");
        }
        let local = matches!(params.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if params.security == Security::None && params.user.is_some() && !local {
            return fault("security", "a password is not sent in the clear: write \"starttls\" or \"tls\"");
        }
        if params.subject_prefix.chars().any(char::is_control) {
            return fault("subject_prefix", "a prefix is one line");
        }
        let from = mailbox("from", &params.from)?;
        let to = params.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?;
        let reply_to = params.reply_to.as_deref().map(|text| mailbox("reply_to", text)).transpose()?;
        Ok(Self { params, from, to, reply_to, env })
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let params = &self.params;
        let tls = || -> Result<TlsParameters, String> {
            let mut tls = TlsParameters::builder(params.host.clone());
            if let Some(path) = &params.ca_file {
                let pem = std::fs::read(self.env.path(path)).map_err(|error| format!("ca_file: {error}"))?;
                let certificate = Certificate::from_pem(&pem).map_err(|error| format!("ca_file: {error}"))?;
                tls = tls.add_root_certificate(certificate);
            }
            tls.build_rustls().map_err(|error| format!("TLS: {error}"))
        };
        let (tls, port) = match params.security {
            Security::None => (Tls::None, 25),
            Security::Starttls => (Tls::Required(tls()?), 587),
            Security::Tls => (Tls::Wrapper(tls()?), 465),
        };
        let server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&params.host);
        let mut server = server.port(params.port.unwrap_or(port)).tls(tls).timeout(Some(TIMEOUT));
        if let (Some(user), Some(reference)) = (&params.user, &params.password) {
            let password =
                secret::resolve(reference, &self.env.base_dir).map_err(|error| format!("password: {error}"))?;
            server = server.credentials(Credentials::new(user.clone(), password));
        }
        Ok(server.build())
    }

    fn letter(&self, message: &Message) -> Result<lettre::Message, String> {
        let subject = format!("{} {}", self.params.subject_prefix, words::subject(message));
        let domain = self.from.email.domain();
        // The same in each try: a mail program can see that it has it.
        let id = format!("<{}.{}@{domain}>", message.id, message.channel);
        let mut builder: MessageBuilder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject.trim())
            .date(message.at.into())
            .message_id(Some(id))
            // No machine should answer it (RFC 3834).
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into()));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        let (plain, html) = (words::plain(message), html(message)?);
        let body = match html {
            Some(html) => MultiPart::alternative_plain_html(plain, html),
            None => return builder.body(plain).map_err(|error| error.to_string()),
        };
        builder.multipart(body).map_err(|error| error.to_string())
    }
}

/// The page; none for a letter that has none.
fn html(message: &Message) -> Result<Option<String>, String> {
    #[derive(Serialize)]
    struct Page {
        title: String,
        notices: Vec<words::Facts>,
        channel: String,
    }
    let told = match &message.body {
        Body::Letter(letter) => return Ok(letter.html.clone()),
        Body::Notices(told) => told,
    };
    let notices = told.iter().map(words::facts).collect();
    let page = Page { title: words::subject(message), notices, channel: message.channel.to_string() };
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    let rendered = pages.render_str(PAGE, minijinja::value::Serde(&page));
    rendered.map(Some).map_err(|error| format!("the page could not be rendered: {error:#}"))
}

/// A server's refusal of the message itself is for good; one of the login may be put right meanwhile.
fn failure(error: &lettre::transport::smtp::Error) -> DeliveryError {
    const OF_THE_LOGIN: [u16; 5] = [454, 530, 534, 535, 538];
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    let code = error.status().map(u16::from);
    if error.is_permanent() && code.is_none_or(|code| !OF_THE_LOGIN.contains(&code)) {
        DeliveryError::permanent(text)
    } else {
        DeliveryError::new(text)
    }
}

#[async_trait]
impl Channel for Email {
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let letter = self.letter(message).map_err(DeliveryError::permanent)?;
        let transport = self.transport().map_err(DeliveryError::new)?;
        transport.send(letter).await.map(drop).map_err(|error| failure(&error))
    }
}
