//! The port's certificate, read again when its files change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;

use crate::auth::{CertificateError, Renewed, server_config};
use crate::policy::HttpTls;

/// What is shown to clients at the moment.
#[derive(Default)]
pub(super) struct Certificates {
    shown: Mutex<Option<(HttpTls, Arc<Renewed<TlsAcceptor>>)>>,
}

impl Certificates {
    /// How to speak TLS with the next client. New files that cannot be used are logged, and the old ones stay.
    pub fn acceptor(&self, tls: &HttpTls) -> Result<TlsAcceptor, CertificateError> {
        let renewed = self.of(tls)?;
        renewed.look("the certificate", || {
            let acceptor = read(tls)?;
            tracing::info!("the certificate of the port is renewed");
            Ok::<_, CertificateError>(acceptor)
        });
        Ok(renewed.value())
    }

    /// Whether what is shown is what is in the files now.
    pub fn is_readable(&self, tls: &HttpTls) -> bool {
        let read = self.acceptor(tls).and_then(|_| self.of(tls));
        read.is_ok_and(|renewed| renewed.failing_for().is_none())
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
    let config = server_config(&tls.cert_file, &tls.key_file)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
