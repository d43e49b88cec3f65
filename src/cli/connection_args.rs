//! Where a command reads and writes: `--cluster`, `--to` or `--bootstrap-servers`, and `--repository`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::engine::blocking;
use crate::kafka::{Client, Cluster, Retry};
use crate::policy::{Configuration, load_cluster};
use crate::repository::{InvalidLocation, Location, Repository};

use super::{CliError, Global};

/// The cluster to read from or to write to.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// A cluster of kafkeep.toml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bootstrap_servers", "kafka_config"])]
    cluster: Option<String>,
    /// Brokers to ask first, as HOST:PORT,…
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', required_unless_present_any = ["cluster", "kafka_config"])]
    bootstrap_servers: Vec<String>,
    /// TLS and SASL: a TOML file with the keys of [clusters.NAME]
    #[arg(long, value_name = "FILE")]
    kafka_config: Option<PathBuf>,
    /// Give up when nothing has moved for so many seconds; one broker may be silent for a sixth of that
    #[arg(long, value_name = "SECONDS", default_value_t = Retry::DEADLINE.as_secs())]
    deadline: u64,
}

impl ClusterArgs {
    /// Connects.
    pub async fn connect(&self, global: &Global) -> Result<Client, CliError> {
        let brokers = (&self.bootstrap_servers, self.kafka_config.as_deref());
        connect(self.name(), brokers, self.deadline, global).await
    }

    /// Its name in the configuration; none where it is given by its brokers.
    pub fn name(&self) -> Option<&str> {
        self.cluster.as_deref()
    }
}

/// The cluster that a restore writes to. `--cluster` is that of the backup, as in every verb.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The target: a cluster of kafkeep.toml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bootstrap_servers", "kafka_config"])]
    to: Option<String>,
    /// The target: brokers to ask first, as HOST:PORT,…
    #[arg(
        long,
        visible_alias = "to-bootstrap-servers",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    bootstrap_servers: Vec<String>,
    /// The target's TLS and SASL: a TOML file with the keys of [clusters.NAME]
    #[arg(long, visible_alias = "to-kafka-config", value_name = "FILE")]
    kafka_config: Option<PathBuf>,
    /// Give up when nothing has moved for so many seconds; one broker may be silent for a sixth of that
    #[arg(long, value_name = "SECONDS", default_value_t = Retry::DEADLINE.as_secs())]
    deadline: u64,
}

impl TargetArgs {
    /// Refuses a command line without a target.
    pub fn check(&self) -> Result<(), CliError> {
        if self.to.is_none() && self.bootstrap_servers.is_empty() && self.kafka_config.is_none() {
            return Err(CliError::Usage(
                "no target: give --to NAME, or --bootstrap-servers HOST:PORT; --cluster is the cluster that the backup is of"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Connects.
    pub async fn connect(&self, global: &Global) -> Result<Client, CliError> {
        let brokers = (&self.bootstrap_servers, self.kafka_config.as_deref());
        connect(self.to.as_deref(), brokers, self.deadline, global).await
    }
}

/// Connects to the cluster of this name, or else by these brokers and this file.
async fn connect(
    name: Option<&str>,
    (brokers, file): (&Vec<String>, Option<&Path>),
    deadline: u64,
    global: &Global,
) -> Result<Client, CliError> {
    let cluster: Cluster = match name {
        Some(name) => Configuration::load(&global.config)?.cluster(name)?,
        None => load_cluster(brokers, file)?,
    };
    let retry = Retry {
        deadline: Duration::from_secs(deadline.max(1)),
        ..Retry::default()
    };
    Ok(Client::connect(cluster, retry).await?)
}

/// The repository.
#[derive(Debug, Args)]
pub struct RepositoryArgs {
    /// A directory, as a path or a file:// URL, or a repository of kafkeep.toml by its name
    #[arg(long, value_name = "NAME|PATH")]
    repository: String,
}

impl RepositoryArgs {
    /// Opens a repository that must be there.
    pub async fn open(&self, global: &Global) -> Result<Arc<Repository>, CliError> {
        let location = self.location(global)?;
        let opened = blocking(OPENING, move || location.open());
        Ok(Arc::new(opened.await?))
    }

    /// The same, for verbs that are not async.
    pub fn open_blocking(&self, global: &Global) -> Result<Arc<Repository>, CliError> {
        Ok(Arc::new(self.location(global)?.open()?))
    }

    /// Opens a repository, or makes one where nothing is.
    pub async fn open_or_init(&self, global: &Global) -> Result<Arc<Repository>, CliError> {
        let location = self.location(global)?;
        let opened = blocking(OPENING, move || location.open_or_init());
        Ok(Arc::new(opened.await?))
    }

    fn by_name(&self, global: &Global) -> Result<Location, CliError> {
        let found = Configuration::load(&global.config)
            .and_then(|configuration| configuration.repository(&self.repository));
        match found {
            Ok(repository) => Ok(repository.at),
            Err(error) if Path::new(&self.repository).exists() => Err(CliError::Usage(format!(
                "repository {0} is taken for a name, and {error}; for the directory of this name, write ./{0}",
                self.repository
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn location(&self, global: &Global) -> Result<Location, CliError> {
        let is_name = !self.repository.contains(['/', '.']);
        if is_name {
            return self.by_name(global);
        }
        let location = self.repository.parse();
        location.map_err(|error: InvalidLocation| {
            CliError::Usage(format!("repository {}: {error}", self.repository))
        })
    }
}

const OPENING: &str = "the thread that opens the repository";
