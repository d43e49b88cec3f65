//! TLS 1.2 and 1.3, with certificates from PEM files that are read anew for each connection.

mod pem;
mod problem;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{KafkaError, Tls};

pub(super) use problem::explain;

/// What was being done when a connection broke during the handshake.
pub(super) const HANDSHAKE: &str = "the TLS handshake";

/// Reads the files. This is done for every connection, so that renewed certificates are taken up.
pub(super) async fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, KafkaError> {
    let tls = tls.clone();
    tokio::task::spawn_blocking(move || read(&tls))
        .await
        .unwrap_or_else(|error| Err(KafkaError::Configuration(error.to_string())))
}

fn read(tls: &Tls) -> Result<Arc<ClientConfig>, KafkaError> {
    let configuration =
        |error: &dyn std::fmt::Display| KafkaError::Configuration(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| configuration(&error))?
        .with_root_certificates(roots(tls)?);
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let certificates = pem::certificates(cert_file)?;
            let key = pem::private_key(key_file)?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| {
                    configuration(&format_args!(
                        "tls: {} and {} do not make a client certificate ({error}): give a certificate and its own key",
                        cert_file.display(),
                        key_file.display()
                    ))
                })?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(configuration(
                &"tls: cert_file and key_file belong together",
            ));
        }
    };
    Ok(Arc::new(config))
}

/// Those who may vouch for a broker.
fn roots(tls: &Tls) -> Result<RootCertStore, KafkaError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in pem::certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| KafkaError::file(path, error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(KafkaError::Configuration(
                    "tls: this system has no certificate authorities: install ca-certificates, or give ca_file".into(),
                ));
            }
        }
    }
    Ok(roots)
}

/// Shakes hands. The peer has then proved that it is `host`: a DNS name or an IP address of its certificate.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    host: &str,
    address: &str,
    stream: S,
) -> Result<TlsStream<S>, KafkaError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        KafkaError::Configuration(format!("`{host}` is no name that a certificate can be for"))
    })?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|source| {
            explain(address, source)
                .unwrap_or_else(|source| KafkaError::disconnected(address, HANDSHAKE, source))
        })
}

#[cfg(test)]
mod tests;
