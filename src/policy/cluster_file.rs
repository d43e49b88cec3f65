//! A cluster as a file says it: the keys of `[clusters.NAME]`, and of a file given as `--kafka-config`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kafka::{Address, ClientCredentials, Cluster, Sasl, Tls, TokenSource};
use crate::words::words;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::Text;
use super::reader::Reader;
use super::secret::{SecretReference, fetched, refuse_exposed_key, refuse_unreadable};
use super::section::Section;
use super::source::Place;
use super::{PolicyError, schema};

/// The keys of a cluster; its secrets are not fetched yet.
#[derive(Debug, Clone)]
pub(super) struct ClusterFile {
    place: Place,
    bootstrap_servers: Vec<String>,
    tls: Option<Tls>,
    sasl: Option<SaslFile>,
}

#[derive(Debug, Clone)]
struct SaslFile {
    place: Place,
    mechanism: At<Mechanism>,
    username: Option<At<Text>>,
    password: Option<At<SecretReference>>,
    token_file: Option<At<PathBuf>>,
    token_endpoint: Option<At<Text>>,
    client_id: Option<At<Text>>,
    client_secret: Option<At<SecretReference>>,
    scope: Option<At<Text>>,
    token_endpoint_ca_file: Option<At<PathBuf>>,
}

words! {
    /// A SASL mechanism, as Kafka calls it.
    enum Mechanism {
        /// A name and a password, as they are (RFC 4616).
        Plain = "PLAIN",
        /// Salted challenge and response (RFC 5802).
        ScramSha256 = "SCRAM-SHA-256",
        /// The same with SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
        /// A token (RFC 7628).
        OauthBearer = "OAUTHBEARER",
    }
}

const BOOTSTRAP_SERVERS: Key<Vec<At<Server>>> =
    Key::optional("bootstrap_servers", "brokers to ask first, as HOST:PORT");
const TLS: Key<TlsKind> = Key::optional("tls", "encryption; {} for the system's authorities");
const SASL: Key<SaslFile> = Key::optional("sasl", "authentication");

const CA_FILE: Key<PathBuf> = Key::optional(
    "ca_file",
    "PEM: who may vouch for a broker; the system's authorities by default",
);
const CERT_FILE: Key<PathBuf> = Key::optional("cert_file", "PEM: the client's certificate");
const KEY_FILE: Key<PathBuf> = Key::optional("key_file", "PEM: its key");

const MECHANISM: Key<Mechanism> = Key::required("mechanism", "how to prove who one is");
const USERNAME: Key<Text> = Key::optional("username", "who; for PLAIN and SCRAM");
const PASSWORD: Key<SecretReference> = Key::optional("password", "the proof; for PLAIN and SCRAM");
const TOKEN_FILE: Key<PathBuf> = Key::optional(
    "token_file",
    "a bearer token, read anew at each connection; for OAUTHBEARER",
);
const TOKEN_ENDPOINT: Key<Text> = Key::optional(
    "token_endpoint",
    "URL that gives bearer tokens; for OAUTHBEARER",
);
const CLIENT_ID: Key<Text> = Key::optional("client_id", "who; for token_endpoint");
const CLIENT_SECRET: Key<SecretReference> =
    Key::optional("client_secret", "the proof; for token_endpoint");
const SCOPE: Key<Text> = Key::optional("scope", "what for; for token_endpoint");
const TOKEN_ENDPOINT_CA_FILE: Key<PathBuf> = Key::optional(
    "token_endpoint_ca_file",
    "PEM: who may vouch for token_endpoint",
);

const CLUSTER_KEYS: Keys = &[&BOOTSTRAP_SERVERS, &TLS, &SASL];
const TLS_KEYS: Keys = &[&CA_FILE, &CERT_FILE, &KEY_FILE];
const SASL_KEYS: Keys = &[
    &MECHANISM,
    &USERNAME,
    &PASSWORD,
    &TOKEN_FILE,
    &TOKEN_ENDPOINT,
    &CLIENT_ID,
    &CLIENT_SECRET,
    &SCOPE,
    &TOKEN_ENDPOINT_CA_FILE,
];

/// A broker's address, kept as it is written.
#[derive(Debug, Clone)]
struct Server(String);

impl Kind for Server {
    const WANTS: &'static str = "HOST:PORT";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(text) = Text::read(node, reader)?;
        if let Err(problem) = text.parse::<Address>() {
            reader.problem(reader.place(node.span()), problem, "");
            return None;
        }
        Some(Self(text))
    }
}

/// Reads a cluster: `bootstrap_servers` from the command line come before the file's.
pub fn load_cluster(
    bootstrap_servers: &[String],
    file: Option<&Path>,
) -> Result<Cluster, PolicyError> {
    let Some(path) = file else {
        return Ok(Cluster::new(bootstrap_servers.to_vec()));
    };
    let mut reader = Reader::default();
    let mut cluster: Option<ClusterFile> = reader.read(path);
    if let (Some(cluster), false) = (&mut cluster, bootstrap_servers.is_empty()) {
        cluster.bootstrap_servers = bootstrap_servers.to_vec();
    }
    let cluster = cluster.and_then(|cluster| cluster.cluster(&mut reader));
    reader.result(cluster)
}

impl Kind for ClusterFile {
    const WANTS: &'static str = "a table with bootstrap_servers";

    fn schema() -> Value {
        schema::table(CLUSTER_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, CLUSTER_KEYS, reader)?;
        let servers = section
            .value(&BOOTSTRAP_SERVERS, reader)
            .unwrap_or_default();
        Some(Self {
            place: section.place,
            bootstrap_servers: servers.into_iter().map(|at| at.value.0).collect(),
            tls: section.value(&TLS, reader).map(|TlsKind(tls)| tls),
            sasl: section.value(&SASL, reader),
        })
    }
}

impl ClusterFile {
    /// The domain type, with its secrets fetched; what is wrong is told to `reader`.
    pub fn cluster(&self, reader: &mut Reader) -> Option<Cluster> {
        if self.bootstrap_servers.is_empty() {
            let help = "name at least one, as in bootstrap_servers = [\"kafka1:9092\"]";
            reader.problem(self.place, "no bootstrap server is named", help);
            return None;
        }
        let mut cluster = Cluster::new(self.bootstrap_servers.clone());
        cluster.tls = self.tls.clone();
        if let Some(sasl) = &self.sasl {
            cluster.sasl = Some(sasl.sasl(reader)?);
        }
        Some(cluster)
    }

    /// The secrets that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &At<SecretReference>> {
        let sasl = self.sasl.iter();
        sasl.flat_map(|sasl| sasl.password.iter().chain(&sasl.client_secret))
    }
}

/// `tls = { … }`
struct TlsKind(Tls);

impl Kind for TlsKind {
    const WANTS: &'static str = "a table such as { ca_file = … }";

    fn schema() -> Value {
        schema::table(TLS_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, TLS_KEYS, reader)?;
        let ca_file = section.get(&CA_FILE, reader);
        let cert_file = section.get(&CERT_FILE, reader);
        let key_file = section.get(&KEY_FILE, reader);
        for file in [&ca_file, &cert_file, &key_file].into_iter().flatten() {
            refuse_unreadable(file, reader);
        }
        match (&cert_file, &key_file) {
            (Some(cert), None) => {
                reader.problem(cert.place, "cert_file needs its key_file", "");
            }
            (None, Some(key)) => {
                reader.problem(key.place, "key_file needs its cert_file", "");
            }
            (_, Some(key)) => refuse_exposed_key(key, reader),
            (None, None) => {}
        }
        Some(Self(Tls {
            ca_file: ca_file.map(|at| at.value),
            cert_file: cert_file.map(|at| at.value),
            key_file: key_file.map(|at| at.value),
        }))
    }
}

impl Kind for SaslFile {
    const WANTS: &'static str =
        "a table such as { mechanism = …, username = …, password = { file = … } }";

    fn schema() -> Value {
        schema::table(SASL_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, SASL_KEYS, reader)?;
        let mechanism = section.get(&MECHANISM, reader);
        let username = section.get(&USERNAME, reader);
        let password = section.get(&PASSWORD, reader);
        let token_file = section.get(&TOKEN_FILE, reader);
        let token_endpoint = section.get(&TOKEN_ENDPOINT, reader);
        let client_id = section.get(&CLIENT_ID, reader);
        let client_secret = section.get(&CLIENT_SECRET, reader);
        let scope = section.get(&SCOPE, reader);
        let token_endpoint_ca_file = section.get(&TOKEN_ENDPOINT_CA_FILE, reader);
        if let Some(file) = &token_endpoint_ca_file {
            refuse_unreadable(file, reader);
        }
        Some(Self {
            place: section.place,
            mechanism: mechanism?,
            username,
            password,
            token_file,
            token_endpoint,
            client_id,
            client_secret,
            scope,
            token_endpoint_ca_file,
        })
    }
}

/// What a mechanism needs, and cannot do with.
const FOR_USERS: &str = "this mechanism takes username and password only";
const FOR_TOKENS: &str = "OAUTHBEARER takes either token_file, or token_endpoint with client_id, client_secret and, \
     if need be, scope and token_endpoint_ca_file";

impl SaslFile {
    fn sasl(&self, reader: &mut Reader) -> Option<Sasl> {
        let mechanism = self.mechanism.value;
        if mechanism == Mechanism::OauthBearer {
            return self.token_source(reader).map(Sasl::OauthBearer);
        }
        if let Some(place) = self.token_keys().next() {
            reader.problem(place, FOR_USERS, "");
            return None;
        }
        let (Some(username), Some(password)) = (&self.username, &self.password) else {
            let message = match &self.username {
                None => "this mechanism needs a username",
                Some(_) => "this mechanism needs a password",
            };
            let help = "username = \"…\", password = { file = … }";
            reader.problem(self.mechanism.place, message, help);
            return None;
        };
        let username = username.value.0.clone();
        let password = fetched(password, reader)?;
        Some(match mechanism {
            Mechanism::Plain | Mechanism::OauthBearer => Sasl::Plain { username, password },
            Mechanism::ScramSha256 => Sasl::ScramSha256 { username, password },
            Mechanism::ScramSha512 => Sasl::ScramSha512 { username, password },
        })
    }

    /// Where keys are that only OAUTHBEARER knows.
    fn token_keys(&self) -> impl Iterator<Item = Place> {
        let token_file = self.token_file.iter().map(|at| at.place);
        let endpoint = self.token_endpoint.iter().map(|at| at.place);
        token_file.chain(endpoint).chain(self.endpoint_keys())
    }

    /// Where keys are that say how to ask a token endpoint.
    fn endpoint_keys(&self) -> impl Iterator<Item = Place> {
        let id = self.client_id.iter().map(|at| at.place);
        let secret = self.client_secret.iter().map(|at| at.place);
        let scope = self.scope.iter().map(|at| at.place);
        let ca_file = self.token_endpoint_ca_file.iter().map(|at| at.place);
        id.chain(secret).chain(scope).chain(ca_file)
    }

    fn token_source(&self, reader: &mut Reader) -> Option<TokenSource> {
        let has_user = self.username.is_some() || self.password.is_some();
        let has_endpoint_keys = self.endpoint_keys().next().is_some();
        match (&self.token_file, &self.token_endpoint) {
            (Some(file), None) if !has_user && !has_endpoint_keys => {
                return Some(TokenSource::File(file.value.clone()));
            }
            (None, Some(endpoint)) if !has_user => {
                if let (Some(client_id), Some(secret)) = (&self.client_id, &self.client_secret) {
                    return Some(TokenSource::ClientCredentials(ClientCredentials {
                        token_endpoint: endpoint.value.0.clone(),
                        client_id: client_id.value.0.clone(),
                        client_secret: fetched(secret, reader)?,
                        scope: self.scope.as_ref().map(|scope| scope.value.0.clone()),
                        ca_file: self
                            .token_endpoint_ca_file
                            .as_ref()
                            .map(|at| at.value.clone()),
                    }));
                }
            }
            _ => {}
        }
        reader.problem(self.place, FOR_TOKENS, "");
        None
    }
}

#[cfg(test)]
mod tests;
