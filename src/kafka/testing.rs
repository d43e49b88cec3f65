//! The tests' other side: brokers that follow a script, and an authority that issues certificates.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, MetadataResponse, RequestHeader, ResponseHeader,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A request as a broker reads it.
pub(super) struct Asked {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub body: Bytes,
}

impl Asked {
    /// The request's message.
    pub fn message<R: Request>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }
}

/// A broker's end of a connection.
pub(super) struct Peer<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// The next request; none when the client has hung up.
    pub async fn asked(&mut self) -> Option<Asked> {
        let length = self.0.read_u32().await.ok()?;
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).await.ok()?;
        let mut bytes = Bytes::from(bytes);
        let api = ApiKey::try_from((&bytes[..2]).get_i16()).unwrap();
        let version = (&bytes[2..4]).get_i16();
        let header = RequestHeader::decode(&mut bytes, api.request_header_version(version));
        Some(Asked {
            api,
            version,
            correlation_id: header.unwrap().correlation_id,
            body: bytes,
        })
    }

    /// Answers a request in its version.
    pub async fn answer<T: Encodable + HeaderVersion>(&mut self, asked: &Asked, answer: &T) {
        self.answer_in(asked, answer, asked.version).await;
    }

    /// Answers a request in another version.
    pub async fn answer_in<T: Encodable + HeaderVersion>(
        &mut self,
        asked: &Asked,
        answer: &T,
        version: i16,
    ) {
        let mut bytes = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(asked.correlation_id)
            .encode(&mut bytes, T::header_version(version))
            .unwrap();
        answer.encode(&mut bytes, version).unwrap();
        self.send(&bytes).await;
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &[u8]) {
        self.0.write_u32(frame.len() as u32).await.unwrap();
        self.0.write_all(frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Answers ApiVersions, and Metadata without a topic, until something else is asked.
    pub async fn greet(&mut self) -> Option<Asked> {
        loop {
            let asked = self.asked().await?;
            match asked.api {
                ApiKey::ApiVersions => self.answer(&asked, &every_version()).await,
                ApiKey::Metadata => self.answer(&asked, &metadata()).await,
                _ => return Some(asked),
            }
        }
    }

    /// Answers ApiVersions and SaslHandshake; the next request.
    pub async fn greet_with_sasl(&mut self, mechanism: &str) -> Option<Asked> {
        let asked = self.greet().await?;
        let handshake: SaslHandshakeRequest = asked.message();
        assert_eq!(handshake.mechanism.as_str(), mechanism);
        self.answer(&asked, &SaslHandshakeResponse::default()).await;
        self.asked().await
    }
}

/// All that is known here.
pub(super) fn every_version() -> ApiVersionsResponse {
    let version = |api: ApiKey| {
        let range = api.valid_versions();
        kafka_protocol::messages::api_versions_response::ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(range.min)
            .with_max_version(range.max)
    };
    let known = ApiKey::iter().map(version);
    ApiVersionsResponse::default().with_api_keys(known.collect())
}

/// A cluster of one broker, without topics.
pub(super) fn metadata() -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(1);
    metadata_without_brokers().with_brokers(vec![broker])
}

/// What a broker says before it has heard of any other, and of itself.
pub(super) fn metadata_without_brokers() -> MetadataResponse {
    MetadataResponse::default().with_cluster_id(Some(StrBytes::from_static_str("test")))
}

/// An authority, and a directory for its certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub directory: TempDir,
}

/// A certificate and its key, in files.
#[derive(Clone)]
pub(super) struct Identity {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for these names, under a file name; replaces an older one.
    pub fn issue(&self, file: &str, names: &[&str]) -> Identity {
        self.issue_until(file, names, 2096)
    }

    /// One that ends with a year.
    pub fn issue_until(&self, file: &str, names: &[&str], year: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            cert_file: self.directory.path().join(format!("{file}.pem")),
            key_file: self.directory.path().join(format!("{file}.key")),
        };
        std::fs::write(&identity.cert_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        identity
    }

    /// What a server with this identity needs; with `clients`, it wants certificates of that authority.
    pub fn server(identity: &Identity, clients: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let file = CertificateDer::from_pem_file(authority.ca_file());
                roots.add(file.unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let certificate = CertificateDer::from_pem_file(&identity.cert_file).unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
    }
}
