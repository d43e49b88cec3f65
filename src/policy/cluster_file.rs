//! A cluster as a file says it: the keys of `[clusters.NAME]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kafka::{Address, ClientCredentials, Cluster, Sasl, Tls, TokenSource};

use super::secret::SecretReference;
use super::{PolicyError, toml_file};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
    let mut cluster: ClusterFile = toml_file::read(path)?;
    if !bootstrap_servers.is_empty() {
        cluster.bootstrap_servers = bootstrap_servers.to_vec();
    }
    cluster.into_cluster(path)
}

impl ClusterFile {
    /// The domain type, with its secrets fetched.
    pub fn into_cluster(self, path: &Path) -> Result<Cluster, PolicyError> {
        let senseless = |problem: String| PolicyError::Senseless {
            path: path.to_owned(),
            problem,
        };
        if self.bootstrap_servers.is_empty() {
            return Err(senseless(
                "bootstrap_servers is empty: name at least one HOST:PORT".to_owned(),
            ));
        }
        for server in &self.bootstrap_servers {
            if let Err(problem) = server.parse::<Address>() {
                return Err(senseless(format!("bootstrap_servers: {problem}")));
            }
        }
        let mut cluster = Cluster::new(self.bootstrap_servers);
        let tls = self.tls.map(TlsFile::into_tls).transpose();
        cluster.tls = tls.map_err(senseless)?;
        cluster.sasl = self.sasl.map(|sasl| sasl.into_sasl(path)).transpose()?;
        Ok(cluster)
    }
}

impl TlsFile {
    fn into_tls(self) -> Result<Tls, String> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Err("tls: cert_file needs its key_file".to_owned()),
            (None, Some(_)) => Err("tls: key_file needs its cert_file".to_owned()),
            _ => Ok(Tls {
                ca_file: self.ca_file,
                cert_file: self.cert_file,
                key_file: self.key_file,
            }),
        }
    }
}

/// What a mechanism needs, and cannot do with.
const FOR_USERS: &str = "this mechanism takes username and password only";
const FOR_TOKENS: &str = "OAUTHBEARER takes either token_file, or token_endpoint with client_id, client_secret and, if need be, scope and \
     token_endpoint_ca_file";

impl SaslFile {
    fn into_sasl(self, path: &Path) -> Result<Sasl, PolicyError> {
        let senseless = |problem: &str| PolicyError::Senseless {
            path: path.to_owned(),
            problem: format!("sasl: {problem}"),
        };
        if self.mechanism == Mechanism::OauthBearer {
            return self.into_token_source(path).map(Sasl::OauthBearer);
        }
        if self.has_token_keys() {
            return Err(senseless(FOR_USERS));
        }
        let username = self.username.filter(|name| !name.is_empty());
        let username = username.ok_or_else(|| senseless("this mechanism needs a username"))?;
        let password = self
            .password
            .ok_or_else(|| senseless("this mechanism needs a password = { file = … }"))?
            .fetch("sasl.password")?;
        Ok(match self.mechanism {
            Mechanism::Plain | Mechanism::OauthBearer => Sasl::Plain { username, password },
            Mechanism::ScramSha256 => Sasl::ScramSha256 { username, password },
            Mechanism::ScramSha512 => Sasl::ScramSha512 { username, password },
        })
    }

    fn has_token_keys(&self) -> bool {
        self.token_file.is_some() || self.token_endpoint.is_some() || self.has_endpoint_keys()
    }

    /// Whether it has keys that say how to ask a token endpoint.
    fn has_endpoint_keys(&self) -> bool {
        self.client_id.is_some()
            || self.client_secret.is_some()
            || self.scope.is_some()
            || self.token_endpoint_ca_file.is_some()
    }

    fn into_token_source(self, path: &Path) -> Result<TokenSource, PolicyError> {
        let senseless = || PolicyError::Senseless {
            path: path.to_owned(),
            problem: format!("sasl: {FOR_TOKENS}"),
        };
        let endpoint_keys = self.has_endpoint_keys();
        if self.username.is_some() || self.password.is_some() {
            return Err(senseless());
        }
        match (self.token_file, self.token_endpoint) {
            (Some(file), None) if !endpoint_keys => Ok(TokenSource::File(file)),
            (None, Some(token_endpoint)) => {
                let client_secret = self.client_secret.ok_or_else(senseless)?;
                Ok(TokenSource::ClientCredentials(ClientCredentials {
                    token_endpoint,
                    client_id: self.client_id.ok_or_else(senseless)?,
                    client_secret: client_secret.fetch("sasl.client_secret")?,
                    scope: self.scope,
                    ca_file: self.token_endpoint_ca_file,
                }))
            }
            _ => Err(senseless()),
        }
    }
}

#[cfg(test)]
mod tests;
