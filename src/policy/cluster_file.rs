//! A cluster as a file says it: the keys of `[clusters.NAME]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kafka::{ClientCredentials, Cluster, Sasl, Tls, TokenSource};

use super::PolicyError;
use super::secret::SecretReference;

/// The keys of `[clusters.NAME]`, and of a file given as `--kafka-config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterFile {
    #[serde(default)]
    bootstrap_servers: Vec<String>,
    tls: Option<TlsFile>,
    sasl: Option<SaslFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SaslFile {
    mechanism: Mechanism,
    username: Option<String>,
    password: Option<SecretReference>,
    token_file: Option<PathBuf>,
    token_endpoint: Option<String>,
    client_id: Option<String>,
    client_secret: Option<SecretReference>,
    scope: Option<String>,
    token_endpoint_ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// Reads a cluster: `bootstrap_servers` from the command line come before the file's.
pub fn load_cluster(
    bootstrap_servers: &[String],
    file: Option<&Path>,
) -> Result<Cluster, PolicyError> {
    let Some(path) = file else {
        return Ok(Cluster::new(bootstrap_servers.to_vec()));
    };
    let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let mut cluster: ClusterFile =
        toml::from_str(&text).map_err(|source| PolicyError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
    if !bootstrap_servers.is_empty() {
        cluster.bootstrap_servers = bootstrap_servers.to_vec();
    }
    cluster.into_cluster(path)
}

impl ClusterFile {
    /// The domain type, with its secrets fetched.
    pub fn into_cluster(self, path: &Path) -> Result<Cluster, PolicyError> {
        let senseless = |problem: &str| PolicyError::Senseless {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        if self.bootstrap_servers.is_empty() {
            return Err(senseless(
                "bootstrap_servers is empty: name at least one HOST:PORT",
            ));
        }
        let mut cluster = Cluster::new(self.bootstrap_servers);
        if let Some(tls) = self.tls {
            if tls.cert_file.is_some() != tls.key_file.is_some() {
                return Err(senseless("tls: cert_file and key_file belong together"));
            }
            cluster.tls = Some(Tls {
                ca_file: tls.ca_file,
                cert_file: tls.cert_file,
                key_file: tls.key_file,
            });
        }
        cluster.sasl = self.sasl.map(|sasl| sasl.into_sasl(path)).transpose()?;
        Ok(cluster)
    }
}

impl SaslFile {
    fn into_sasl(self, path: &Path) -> Result<Sasl, PolicyError> {
        if let Mechanism::OauthBearer = self.mechanism {
            return self.into_oauth(path).map(Sasl::OauthBearer);
        }
        let senseless = |key: &str| PolicyError::Senseless {
            path: path.to_owned(),
            problem: format!("sasl: this mechanism needs {key}"),
        };
        let username = self.username.ok_or_else(|| senseless("username"))?;
        let password = self
            .password
            .ok_or_else(|| senseless("password = { file = … }"))?
            .fetch("sasl.password")?;
        Ok(match self.mechanism {
            Mechanism::Plain | Mechanism::OauthBearer => Sasl::Plain { username, password },
            Mechanism::ScramSha256 => Sasl::ScramSha256 { username, password },
            Mechanism::ScramSha512 => Sasl::ScramSha512 { username, password },
        })
    }

    fn into_oauth(self, path: &Path) -> Result<TokenSource, PolicyError> {
        let senseless = |problem: &str| PolicyError::Senseless {
            path: path.to_owned(),
            problem: format!("sasl: {problem}"),
        };
        match (self.token_file, self.token_endpoint) {
            (Some(file), None) => Ok(TokenSource::File(file)),
            (None, Some(token_endpoint)) => Ok(TokenSource::ClientCredentials(ClientCredentials {
                token_endpoint,
                client_id: self
                    .client_id
                    .ok_or_else(|| senseless("token_endpoint needs client_id"))?,
                client_secret: self
                    .client_secret
                    .ok_or_else(|| senseless("token_endpoint needs client_secret = { file = … }"))?
                    .fetch("sasl.client_secret")?,
                scope: self.scope,
                ca_file: self.token_endpoint_ca_file,
            })),
            _ => Err(senseless(
                "OAUTHBEARER needs either token_file, or token_endpoint with client_id and client_secret",
            )),
        }
    }
}
