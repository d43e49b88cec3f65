//! Where a command reads and writes: `--cluster` or `--bootstrap-servers`, and `--repository`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::kafka::{Client, Cluster, Retry};
use crate::policy::{Configuration, load_cluster};
use crate::repository::{BackupId, DirectoryStorage, Repository, RepositoryError};

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
        let cluster: Cluster = match &self.cluster {
            Some(name) => Configuration::load(&global.config)?.cluster(name)?,
            None => load_cluster(&self.bootstrap_servers, self.kafka_config.as_deref())?,
        };
        let retry = Retry {
            deadline: Duration::from_secs(self.deadline.max(1)),
            ..Retry::default()
        };
        Ok(Client::connect(cluster, retry).await?)
    }
}

/// The repository.
#[derive(Debug, Args)]
pub struct RepositoryArgs {
    /// A directory, or a repository of kafkeep.toml by its name
    #[arg(long, value_name = "NAME|PATH")]
    repository: String,
}

impl RepositoryArgs {
    /// Opens a repository that must be there.
    pub fn open(&self, global: &Global) -> Result<Arc<Repository>, CliError> {
        Ok(Arc::new(Repository::open(Arc::new(
            self.directory(global, DirectoryStorage::open)?,
        ))?))
    }

    /// Opens a repository, or makes one where nothing is.
    pub fn open_or_init(&self, global: &Global) -> Result<Arc<Repository>, CliError> {
        Ok(Arc::new(Repository::open_or_init(Arc::new(
            self.directory(global, DirectoryStorage::create)?,
        ))?))
    }

    fn by_name(&self, global: &Global) -> Result<PathBuf, CliError> {
        let found = Configuration::load(&global.config)
            .and_then(|configuration| configuration.repository(&self.repository));
        match found {
            Ok(location) => Ok(location.path),
            Err(error) if Path::new(&self.repository).exists() => Err(CliError::Usage(format!(
                "repository {0} is taken for a name, and {error}; for the directory of this name, write ./{0}",
                self.repository
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn directory(
        &self,
        global: &Global,
        open: impl FnOnce(&Path) -> Result<DirectoryStorage, RepositoryError>,
    ) -> Result<DirectoryStorage, CliError> {
        if self.repository.contains("://") {
            return Err(CliError::Usage(format!(
                "repository {}: this kafkeep knows directories only; give a path",
                self.repository
            )));
        }
        let is_path = self.repository.contains(['/', '.']);
        let path = if is_path {
            PathBuf::from(&self.repository)
        } else {
            self.by_name(global)?
        };
        Ok(open(&path)?)
    }
}

/// The backup that `text` names; `latest` is the newest, be it damaged: an older one is not what was asked for.
pub fn backup_id(repository: &Repository, text: &str) -> Result<BackupId, CliError> {
    if text == "latest"
        && let Some(newest) = repository.backup_ids()?.pop()
    {
        return Ok(newest);
    }
    Ok(repository.find_backup(text)?)
}
