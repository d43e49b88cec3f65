//! Asks a daemon's port, from outside of the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Thousands of policies and backups take less.
const ANSWER_LIMIT: usize = 256 << 20;

/// Whom to believe that it is the daemon, over https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Whom the authorities vouch for that this system knows.
    System,
    /// Whom the authorities in this PEM file vouch for.
    Authorities(PathBuf),
    /// Whoever shows the first certificate in this PEM file, under whatever name: it is the daemon's own.
    Certificate(PathBuf),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Asked in a way that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Whoever is there does not answer, or not as a daemon does.
    #[error("{0}")]
    NoDaemon(String),
}

fn no_daemon(why: impl ToString) -> AskError {
    AskError::NoDaemon(why.to_string())
}

/// What is at `path` of the daemon at `uri`, which is `http://ADDRESS:PORT` or `https://ADDRESS:PORT`.
pub async fn ask(uri: &Uri, path: &str, trust: &Trust) -> Result<Bytes, AskError> {
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority())
    else {
        let message = format!("{uri}: write http://ADDRESS:PORT or https://ADDRESS:PORT");
        return Err(AskError::Usage(message));
    };
    let is_tls = scheme == "https";
    let port = authority
        .port_u16()
        .unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Usage(format!("{uri}: {error}")))?;
    let stream = TcpStream::connect((host, port)).await.map_err(no_daemon)?;
    if !is_tls {
        return converse(stream, request).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        AskError::Usage(format!(
            "{uri}: {host} is no name that a certificate can be for"
        ))
    })?;
    let connector = TlsConnector::from(Arc::new(config(trust)?));
    let stream = connector.connect(name, stream).await.map_err(no_daemon)?;
    converse(stream, request).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Bytes, AskError> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(no_daemon)?;
    // It ends with the sender, and what goes wrong is told there.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(no_daemon)?;
    if response.status() != StatusCode::OK {
        return Err(no_daemon(format_args!("it answers {}", response.status())));
    }
    let body = Limited::new(response.into_body(), ANSWER_LIMIT);
    Ok(body.collect().await.map_err(no_daemon)?.to_bytes())
}

fn config(trust: &Trust) -> Result<ClientConfig, AskError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| AskError::Usage(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Certificate(path) => Arc::new(Pinned {
            certificate: certificates(path)?.remove(0),
            provider,
        }),
        Trust::System => vouched(rustls_native_certs::load_native_certs().certs, provider)?,
        Trust::Authorities(path) => vouched(certificates(path)?, provider)?,
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

fn vouched(
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, AskError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map(|verifier| verifier as _).map_err(|error| {
        AskError::Usage(format!(
            "no authority is known ({error}): give a file with one"
        ))
    })
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AskError> {
    let wrong = |why: &dyn std::fmt::Display| AskError::Usage(format!("{}: {why}", path.display()));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| wrong(&error))?;
    match read.is_empty() {
        true => Err(wrong(&"holds no certificate")),
        false => Ok(read),
    }
}

/// Believes whoever shows this certificate and has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
