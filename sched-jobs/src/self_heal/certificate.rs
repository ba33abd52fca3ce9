//! How long the certificates that a server shows are valid, whether or not they are trusted.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::http::{connect, provider};

/// Looks at what a server shows, and lets it pass: nothing is said to it.
#[derive(Debug)]
struct Look {
    shown: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(own).chain(others).map(|certificate| certificate.clone().into_owned());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// When the first of a server's certificates ends.
pub(super) async fn valid_until(host: &str, port: u16, name: &str) -> Result<DateTime<Utc>, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is not the name of a server"))?;
    let look = Arc::new(Look { shown: Mutex::default(), provider: provider() });
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| format!("TLS: {error}"))?;
    let config = config.dangerous().with_custom_certificate_verifier(look.clone()).with_no_client_auth();
    let stream = connect(host, port).await?;
    let hands = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = hands.map_err(|error| format!("TLS: {error}"))?;
    drop(stream);
    let shown = std::mem::take(&mut *look.shown.lock().unwrap_or_else(PoisonError::into_inner));
    let end = |certificate: &CertificateDer<'_>| {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|error| format!("certificate: {error}"))?;
        let end = certificate.validity().not_after.timestamp();
        Ok(DateTime::from_timestamp(end, 0).unwrap_or(DateTime::<Utc>::MAX_UTC))
    };
    let ends = shown.iter().map(end).collect::<Result<Vec<_>, String>>()?;
    ends.into_iter().min().ok_or_else(|| "the server showed no certificate".into())
}
