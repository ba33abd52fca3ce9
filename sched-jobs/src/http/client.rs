//! The client below: TLS by rustls and ring, one connection a request, nothing followed by itself.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, Proxy, redirect, retry};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use super::contact::Contact;
use super::guard::{Guard, Guarded};

/// Connecting, TLS included, gets no longer than this, so that a machine that is gone does not take all of a long limit.
const CONNECT: Duration = Duration::from_secs(10);
/// So many certificates of a file are read.
const MOST_ROOTS: usize = 1000;

/// The cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// The certificates in a PEM file.
pub(crate) fn ca_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: rustls::pki_types::pem::Error| format!("ca_file {}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(fault)?.take(MOST_ROOTS);
    let roots: Vec<_> = found.collect::<Result<_, _>>().map_err(fault)?;
    if roots.is_empty() {
        return Err(format!("ca_file {}: no certificate in it", path.display()));
    }
    Ok(roots)
}

fn config(roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let verifier = Verifier::new_with_extra_roots(roots, provider()).map_err(|error| format!("TLS: {error}"))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS: {error}"))?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The system's certificates are read once.
pub(crate) fn of_the_system() -> Result<ClientConfig, String> {
    static CONFIG: OnceLock<Result<ClientConfig, String>> = OnceLock::new();
    CONFIG.get_or_init(|| config(Vec::new())).clone()
}

/// Which proxy requests go through.
pub(super) enum Via {
    /// What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say.
    Environment,
    Direct,
    Proxy(String),
}

/// A client for one request and where it is sent on to.
pub(super) fn client(guard: Arc<Guard>, via: &Via, ca: Option<&Path>, contact: Contact) -> Result<Client, String> {
    let tls = ca.map_or_else(of_the_system, |path| config(ca_roots(path)?))?;
    // A connection that was kept may have gone just when it is used again, and then nobody knows whether the request
    // arrived: so none is kept.
    let builder = Client::builder()
        .user_agent(concat!("sched/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .pool_max_idle_per_host(0)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .connect_timeout(CONNECT)
        .connector_layer(contact)
        .dns_resolver(Guarded(guard));
    let builder = match via {
        Via::Environment => builder,
        Via::Direct => builder.no_proxy(),
        // The URL may hold a password, so the message does not repeat it.
        Via::Proxy(url) => builder.proxy(Proxy::all(url).map_err(|_| "proxy: not the URL of a proxy".to_owned())?),
    };
    builder.build().map_err(|_| "no HTTP client could be made of these settings".into())
}
