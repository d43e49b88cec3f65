//! `kafkeep.toml`: the daemon itself, and the clusters and repositories that policies and commands name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::auth::server_config;
use crate::engine::size::Size;
use crate::memory::SMALLEST_BUDGET;
use crate::repository::Location;

use super::api_file::ApiFile;
use super::cluster_file::ClusterFile;
use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Count, Named, Text};
use super::reader::Reader;
use super::schema;
use super::secret::{CREDENTIALS, refuse_exposed_key};
use super::section::Section;

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct KafkeepFile {
    pub http: Http,
    pub api: Option<ApiFile>,
    pub clusters: Named<ClusterFile>,
    pub repositories: Named<RepositoryFile>,
    pub limits: Limits,
}

const HTTP: Key<Http> = Key::optional("http", "the daemon's port: metrics, health, status");
const API: Key<ApiFile> = Key::optional(
    "api",
    "the HTTP API: whose tokens it takes; without it there is none",
);
const CLUSTERS: Key<Named<ClusterFile>> = Key::optional("clusters", "Kafka clusters, by name");
const REPOSITORIES: Key<Named<RepositoryFile>> =
    Key::optional("repositories", "where backups lie, by name");
const LIMITS: Key<Limits> = Key::optional("limits", "how much at once");
const KEYS: Keys = &[&HTTP, &API, &CLUSTERS, &REPOSITORIES, &LIMITS];

const ELSEWHERE: &[(&str, &str)] = &[
    ("backup", "policies belong into policies.d/*.toml"),
    ("mirror", "policies belong into policies.d/*.toml"),
    ("drain", "policies belong into policies.d/*.toml"),
];

impl Kind for KafkeepFile {
    const WANTS: &'static str = "a table";

    fn schema() -> Value {
        schema::table(KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.elsewhere = ELSEWHERE;
        let section = Section::open::<Self>(node, KEYS, reader);
        reader.elsewhere = &[];
        let section = section?;
        Some(Self {
            http: section.value(&HTTP, reader).unwrap_or_default(),
            api: section.value(&API, reader),
            clusters: section.value(&CLUSTERS, reader).unwrap_or_default(),
            repositories: section.value(&REPOSITORIES, reader).unwrap_or_default(),
            limits: section.value(&LIMITS, reader).unwrap_or_default(),
        })
    }
}

/// The daemon's HTTP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it shows to prove who it is; without it nothing is encrypted.
    pub tls: Option<HttpTls>,
}

/// The port's certificate. Its files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTls {
    /// PEM: the certificate, and those that lead to an authority.
    pub cert_file: PathBuf,
    /// PEM: its key.
    pub key_file: PathBuf,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9644)),
            tls: None,
        }
    }
}

const LISTEN: Key<Text> = Key::optional("listen", "ADDRESS:PORT; 127.0.0.1:9644 by default");
const HTTP_TLS: Key<HttpTls> =
    Key::optional("tls", "the port's certificate: HTTPS alone is spoken then");
const ALLOW_PLAINTEXT: Key<bool> = Key::optional(
    "allow_plaintext",
    "whether to listen beyond this machine without TLS; false by default",
);
const HTTP_KEYS: Keys = &[&LISTEN, &HTTP_TLS, &ALLOW_PLAINTEXT];

const HTTP_CERT_FILE: Key<PathBuf> = Key::required(
    "cert_file",
    "PEM: the certificate, and those that lead to an authority",
);
const HTTP_KEY_FILE: Key<PathBuf> = Key::required("key_file", "PEM: its key");
const HTTP_TLS_KEYS: Keys = &[&HTTP_CERT_FILE, &HTTP_KEY_FILE];

impl Kind for HttpTls {
    const WANTS: &'static str = "a table such as { cert_file = …, key_file = … }";

    fn schema() -> Value {
        schema::table(HTTP_TLS_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, HTTP_TLS_KEYS, reader)?;
        let cert_file = section.get(&HTTP_CERT_FILE, reader);
        let key_file = section.get(&HTTP_KEY_FILE, reader);
        let (cert_file, key_file) = (cert_file?, key_file?);
        if reader.looks_at_files && !is_out_of_reach(&cert_file.value) {
            check_certificate(&cert_file, &key_file, reader);
        }
        refuse_exposed_key(&key_file, reader);
        Some(Self {
            cert_file: cert_file.value,
            key_file: key_file.value,
        })
    }
}

/// A port whose certificate cannot be used answers nobody: better not to begin, and not to reload.
fn check_certificate(cert_file: &At<PathBuf>, key_file: &At<PathBuf>, reader: &mut Reader) {
    if let Err(error) = server_config(&cert_file.value, &key_file.value) {
        let place = match error.file == key_file.value {
            true => key_file.place,
            false => cert_file.place,
        };
        let message = format!("{}: {}", error.file.display(), error.why);
        let help =
            "both must be PEM, belong together, and be readable by the user that kafkeep runs as";
        reader.problem(place, message, help);
    }
}

/// What systemd shows to the service alone (systemd.exec(5), LoadCredential=).
fn is_out_of_reach(path: &Path) -> bool {
    path.starts_with("/run/credentials") && std::env::var_os(CREDENTIALS).is_none()
}

impl Kind for Http {
    const WANTS: &'static str = "a table such as { listen = \"127.0.0.1:9644\" }";

    fn schema() -> Value {
        schema::table(HTTP_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, HTTP_KEYS, reader)?;
        let tls = section.value(&HTTP_TLS, reader);
        let allow_plaintext = section.value(&ALLOW_PLAINTEXT, reader).unwrap_or(false);
        let Some(listen) = section.get(&LISTEN, reader) else {
            return Some(Self {
                tls,
                ..Self::default()
            });
        };
        let Text(text) = listen.value;
        match text.parse::<SocketAddr>() {
            Ok(address)
                if address.ip().is_loopback() || section.has(&HTTP_TLS) || allow_plaintext =>
            {
                Some(Self {
                    listen: address,
                    tls,
                })
            }
            Ok(address) => {
                let message = format!(
                    "{} is beyond this machine, where all could be read on the way",
                    address.ip()
                );
                let help = format!(
                    "listen on 127.0.0.1:{}, give tls = {{ cert_file = …, key_file = … }}, or say allow_plaintext = true",
                    address.port()
                );
                reader.problem(listen.place, message, help);
                None
            }
            Err(_) => {
                let message = format!("`{text}` is no ADDRESS:PORT");
                reader.problem(
                    listen.place,
                    message,
                    "write an IP address and a port, such as 127.0.0.1:9644",
                );
                None
            }
        }
    }
}

/// How much the daemon does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Backups that run at the same time.
    pub max_concurrent_backups: u32,
    /// Backups of one cluster that run at the same time.
    pub backups_per_cluster: u32,
    /// The same for restores.
    pub restores_per_cluster: u32,
    /// Migrations that are accepted.
    pub migrations: u32,
    /// Drains that are accepted.
    pub drains: u32,
    /// Validations that are accepted.
    pub validations: u32,
    /// How long a job of the API may run, and the longest timeout of a drain.
    pub longest_job: Duration,
    /// Calls of the API that a user may make in a minute.
    pub calls_per_minute: u32,
    /// A backup that would add more is refused before it starts.
    pub max_backup_size: Option<Size>,
    /// Bytes of records in memory, shared by all runs.
    pub memory: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_backups: 3,
            backups_per_cluster: 10,
            restores_per_cluster: 5,
            migrations: 3,
            drains: 50,
            validations: 5,
            longest_job: Duration::from_secs(24 * 3600),
            calls_per_minute: 100,
            max_backup_size: None,
            memory: Size(256 << 20),
        }
    }
}

const MAX_CONCURRENT_BACKUPS: Key<Count<1>> = Key::optional(
    "max_concurrent_backups",
    "backups that run at the same time; 3 by default",
);
const BACKUPS_PER_CLUSTER: Key<Count<1>> = Key::optional(
    "backups_per_cluster",
    "backups of one cluster that run at the same time, and that are accepted over HTTP; 10 by default",
);
const RESTORES_PER_CLUSTER: Key<Count<1>> = Key::optional(
    "restores_per_cluster",
    "restores into one cluster that are accepted over HTTP; 5 by default",
);
const MIGRATIONS: Key<Count<1>> = Key::optional(
    "migrations",
    "migrations that are accepted over HTTP; 3 by default",
);
const DRAINS: Key<Count<1>> = Key::optional(
    "drains",
    "drains that are accepted over HTTP; 50 by default",
);
const VALIDATIONS: Key<Count<1>> = Key::optional(
    "validations",
    "validations that are accepted over HTTP; 5 by default",
);
const LONGEST_JOB: Key<Duration> = Key::optional(
    "longest_job",
    "how long a job of the HTTP API may run, and the longest timeout_seconds of a drain; 24h by default",
);
const CALLS_PER_MINUTE: Key<Count<1>> = Key::optional(
    "calls_per_minute",
    "calls of the API that a user may make in a minute; 100 by default",
);
const MAX_BACKUP_SIZE: Key<Size> = Key::optional(
    "max_backup_size",
    "a backup that would add more is refused before it starts; no limit by default",
);
const MEMORY: Key<Size> = Key::optional(
    "memory",
    "for records in memory, shared by all runs; 256MiB by default",
);
const LIMITS_KEYS: Keys = &[
    &MAX_CONCURRENT_BACKUPS,
    &BACKUPS_PER_CLUSTER,
    &RESTORES_PER_CLUSTER,
    &MIGRATIONS,
    &DRAINS,
    &VALIDATIONS,
    &LONGEST_JOB,
    &CALLS_PER_MINUTE,
    &MAX_BACKUP_SIZE,
    &MEMORY,
];

/// With less, one run cannot hold what it fetches.
const LEAST_MEMORY: Size = Size(SMALLEST_BUDGET);

impl Kind for Limits {
    const WANTS: &'static str = "a table such as { max_concurrent_backups = 3 }";

    fn schema() -> Value {
        schema::table(LIMITS_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, LIMITS_KEYS, reader)?;
        let default = Self::default();
        let memory = section.get(&MEMORY, reader);
        if let Some(At { value, place }) = &memory
            && *value < LEAST_MEMORY
        {
            reader.problem(
                *place,
                "this is too little memory for a run",
                format!("give {}MiB or more", LEAST_MEMORY.0 >> 20),
            );
        }
        let longest_job = section.get(&LONGEST_JOB, reader);
        if let Some(At { value, place }) = &longest_job
            && value.is_zero()
        {
            reader.problem(*place, "no job could run", "give 1s or more, such as 24h");
        }
        let mut count = |key: &Key<Count<1>>, default: u32| {
            section
                .value(key, reader)
                .map_or(default, |Count(count)| count)
        };
        Some(Self {
            max_concurrent_backups: count(&MAX_CONCURRENT_BACKUPS, default.max_concurrent_backups),
            backups_per_cluster: count(&BACKUPS_PER_CLUSTER, default.backups_per_cluster),
            restores_per_cluster: count(&RESTORES_PER_CLUSTER, default.restores_per_cluster),
            migrations: count(&MIGRATIONS, default.migrations),
            drains: count(&DRAINS, default.drains),
            validations: count(&VALIDATIONS, default.validations),
            longest_job: longest_job.map_or(default.longest_job, |longest| longest.value),
            calls_per_minute: count(&CALLS_PER_MINUTE, default.calls_per_minute),
            max_backup_size: section.value(&MAX_BACKUP_SIZE, reader),
            memory: memory.map_or(default.memory, |memory| memory.value),
        })
    }
}

/// `[repositories.NAME]`
#[derive(Debug)]
pub(super) struct RepositoryFile {
    pub at: At<Location>,
    pub max_size: Option<Size>,
    pub min_free: Option<Size>,
}

const PATH: Key<Location> = Key::optional("path", "a directory, as a path or a file:// URL");
const URL: Key<Text> = Key::optional("url", "not built yet");
const MAX_SIZE: Key<Size> = Key::optional("max_size", "what all backups in it may take together");
const MIN_FREE: Key<Size> = Key::optional(
    "min_free",
    "what must stay free on its file system: a backup that does not fit is refused before it starts",
);
const REPOSITORY_KEYS: Keys = &[&PATH, &URL, &MAX_SIZE, &MIN_FREE];

impl Kind for RepositoryFile {
    const WANTS: &'static str = "a table such as { path = \"/var/lib/kafkeep\" }";

    fn schema() -> Value {
        schema::table(REPOSITORY_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, REPOSITORY_KEYS, reader)?;
        let url = section.get(&URL, reader);
        if let Some(url) = &url {
            let help = "give path = \"/a/directory\"";
            reader.problem(
                url.place,
                "repositories in object storage are not built yet",
                help,
            );
        }
        let max_size = section.value(&MAX_SIZE, reader);
        let min_free = section.value(&MIN_FREE, reader);
        let at = section.get(&PATH, reader);
        if at.is_none() && url.is_none() && !section.has(&PATH) {
            let help = "path: the directory where backups lie";
            reader.problem(section.place, "`path` is missing", help);
        }
        Some(Self {
            at: at?,
            max_size,
            min_free,
        })
    }
}
