//! The port's certificate, read again when its files change.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::auth::Renewed;
use crate::policy::HttpTls;

/// Why the port cannot prove who it is.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the port cannot be used: {0}; see [http] tls")]
pub struct CertificateError(String);

/// What is shown to clients at the moment.
#[derive(Default)]
pub(super) struct Certificates {
    shown: Mutex<Option<(HttpTls, Arc<Renewed<TlsAcceptor>>)>>,
}

impl Certificates {
    /// How to speak TLS with the next client. New files that cannot be used are logged, and the old ones stay.
    pub fn acceptor(&self, tls: &HttpTls) -> Result<TlsAcceptor, CertificateError> {
        let renewed = self.of(tls)?;
        Ok(renewed.now("the certificate", || {
            let acceptor = read(tls)?;
            tracing::info!("the certificate of the port is renewed");
            Ok::<_, CertificateError>(acceptor)
        }))
    }

    fn of(&self, tls: &HttpTls) -> Result<Arc<Renewed<TlsAcceptor>>, CertificateError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, renewed)) = shown.as_ref().filter(|(of, _)| of == tls) {
            return Ok(Arc::clone(renewed));
        }
        let files = [tls.cert_file.as_path(), tls.key_file.as_path()];
        let renewed = Arc::new(Renewed::open(&files, || read(tls))?);
        *shown = Some((tls.clone(), Arc::clone(&renewed)));
        Ok(renewed)
    }
}

fn read(tls: &HttpTls) -> Result<TlsAcceptor, CertificateError> {
    let wrong = |path: &Path, why: String| CertificateError(format!("{}: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| wrong(&tls.cert_file, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file)
        .map_err(|error| wrong(&tls.key_file, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certificates, key));
    let mut config = config.map_err(|error| wrong(&tls.cert_file, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
