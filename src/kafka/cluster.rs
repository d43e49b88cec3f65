//! A cluster as the operator knows it: where it is, and how to be let in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

use super::KafkaError;

/// Where a cluster is, and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Brokers to ask first, as `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// Encryption; without it, plain text.
    pub tls: Option<Tls>,
    /// Authentication; without it, none beyond a client certificate.
    pub sasl: Option<Sasl>,
    /// What brokers' logs and quotas call this client.
    pub client_id: String,
}

impl Cluster {
    /// A cluster that lets everybody in, in plain text.
    pub fn new(bootstrap_servers: Vec<String>) -> Self {
        Self {
            bootstrap_servers,
            tls: None,
            sasl: None,
            client_id: "kafkeep".to_owned(),
        }
    }
}

/// TLS. The files are PEM, and read at each connection, so that renewed ones are taken up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may vouch for a broker; without it, the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, for mutual TLS.
    pub cert_file: Option<PathBuf>,
    /// The private key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// How to authenticate, with what the mechanism needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    /// A name and a password, as they are (PLAIN, RFC 4616).
    Plain {
        /// The user's name.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// RFC 5802 with SHA-256.
    ScramSha256 {
        /// The user's name.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// RFC 5802 with SHA-512.
    ScramSha512 {
        /// The user's name.
        username: String,
        /// The user's password.
        password: Secret,
    },
    /// A bearer token (OAUTHBEARER, RFC 7628).
    OauthBearer(TokenSource),
}

/// Where bearer tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, read at each connection.
    File(PathBuf),
    /// A token endpoint, asked again before a token expires.
    ClientCredentials(ClientCredentials),
}

/// OAuth 2.0 client credentials (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// URL of the token endpoint.
    pub token_endpoint: String,
    /// The client's id at the endpoint.
    pub client_id: String,
    /// The client's secret at the endpoint.
    pub client_secret: Secret,
    /// The scopes to ask for, separated by blanks; the endpoint's default without it.
    pub scope: Option<String>,
    /// Who may vouch for the endpoint; without it, the system's authorities.
    pub ca_file: Option<PathBuf>,
}

/// A secret: never printed. One that lies in a file is read anew whenever it is needed, so that a renewed one is taken up.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// No secret, token or password has more bytes.
    pub const LARGEST: u64 = 1 << 20;

    /// A secret that is in no file, so it is never renewed.
    pub fn new(secret: impl Into<String>) -> Self {
        Self {
            text: secret.into(),
            file: None,
        }
    }

    /// A text without one trailing line break.
    pub fn of_line(text: String) -> Self {
        Self::new(one_line(text))
    }

    /// What a file holds, without one trailing line break.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        Ok(Self {
            text: one_line(files::read_text(path, Self::LARGEST)?),
            file: Some(path.to_owned()),
        })
    }

    /// The secret as it is now.
    pub(super) async fn renewed(&self) -> Result<Self, KafkaError> {
        let Some(path) = &self.file else {
            return Ok(self.clone());
        };
        let text = one_line(read_secret(path).await?);
        if text.is_empty() {
            return Err(KafkaError::file(path, "the file is empty"));
        }
        Ok(Self {
            text,
            file: self.file.clone(),
        })
    }

    /// The secret itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// What a secret's file holds.
pub(super) async fn read_secret(path: &Path) -> Result<String, KafkaError> {
    let file = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || files::read_text(&file, Secret::LARGEST));
    let read = reading
        .await
        .unwrap_or_else(|lost| Err(io::Error::other(lost)));
    read.map_err(|source| KafkaError::unreadable(path, source))
}

/// A trailing line break is not part of a secret.
fn one_line(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = || Secret::new("swordfish");
        let user = || ("alice".to_owned(), secret());
        let (username, password) = user();
        let plain = Sasl::Plain { username, password };
        let (username, password) = user();
        let scram = Sasl::ScramSha512 { username, password };
        let bearer = Sasl::OauthBearer(TokenSource::ClientCredentials(ClientCredentials {
            token_endpoint: "https://idp/token".into(),
            client_id: "kafkeep".into(),
            client_secret: secret(),
            scope: None,
            ca_file: None,
        }));
        for sasl in [plain, scram, bearer] {
            let mut cluster = Cluster::new(vec!["k:9092".into()]);
            cluster.sasl = Some(sasl);
            let printed = format!("{cluster:?} {cluster:#?}");
            assert!(
                printed.contains("<secret>") && !printed.contains("swordfish"),
                "{printed}"
            );
        }
    }
}
