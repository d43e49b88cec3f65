//! The certificate by which the daemon's port proves who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::files;

/// Why the port cannot prove who it is.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the port cannot be used: {}: {why}; see [http] tls", .file.display())]
pub struct CertificateError {
    /// The file that is wrong.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Chains of certificates take a few KiB.
const LARGEST_FILE: u64 = 1 << 20;

/// TLS 1.2 and 1.3 by the certificate in `cert_file`, with those that lead to an authority, and its key in `key_file`; both are PEM.
pub fn server_config(cert_file: &Path, key_file: &Path) -> Result<ServerConfig, CertificateError> {
    let wrong = |file: &Path, why: &dyn std::fmt::Display| CertificateError {
        file: file.to_owned(),
        why: why.to_string(),
    };
    let read = |file| files::read(file, LARGEST_FILE).map_err(|error| wrong(file, &error));
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&read(cert_file)?).collect();
    let certificates = certificates.map_err(|error| wrong(cert_file, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key_file)?);
    let key = key.map_err(|error| wrong(key_file, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certificates, key));
    let mut config = config.map_err(|error| wrong(cert_file, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
