//! The port's certificate, read again when its files change.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::policy::HttpTls;

/// The files are looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the port cannot prove who it is.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the port cannot be used: {0}; see [http] tls")]
pub struct CertificateError(String);

/// What is shown to clients at the moment.
#[derive(Default)]
pub(super) struct Certificates {
    shown: Mutex<Option<Shown>>,
}

struct Shown {
    of: HttpTls,
    looked_at: Instant,
    mark: Mark,
    acceptor: TlsAcceptor,
}

/// Another one, and a file is another.
type Mark = [Option<(u64, i64, i64)>; 2];

fn mark(tls: &HttpTls) -> Mark {
    [&tls.cert_file, &tls.key_file].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.ctime(), found.ctime_nsec()))
    })
}

impl Certificates {
    /// How to speak TLS with the next client. New files that cannot be used are logged, and the old ones stay.
    pub fn acceptor(&self, tls: &HttpTls) -> Result<TlsAcceptor, CertificateError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = shown.as_mut().filter(|shown| shown.of == *tls) {
            if shown.looked_at.elapsed() >= LOOK_EVERY {
                shown.look();
            }
            return Ok(shown.acceptor.clone());
        }
        // Before they are read: what changes meanwhile is read again.
        let mark = mark(tls);
        let acceptor = read(tls)?;
        *shown = Some(Shown {
            of: tls.clone(),
            looked_at: Instant::now(),
            mark,
            acceptor: acceptor.clone(),
        });
        Ok(acceptor)
    }
}

impl Shown {
    fn look(&mut self) {
        self.looked_at = Instant::now();
        let now = mark(&self.of);
        if now == self.mark {
            return;
        }
        self.mark = now;
        match read(&self.of) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                tracing::info!("the certificate of the port is renewed");
            }
            Err(error) => tracing::error!("the certificate stays what it was: {error}"),
        }
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
