//! What was asked for, within its bounds, with clusters and repositories by their names in the configuration.

use crate::engine::backup::BackupOptions;
use crate::engine::drain::{DrainOptions, Patience};
use crate::engine::mirror::MirrorOptions;
use crate::engine::restore::RestoreOptions;
use crate::engine::verify::Depth;
use crate::repository::BackupId;
use crate::words::words;

/// Something to be carried out.
#[derive(Debug, Clone)]
pub enum Order {
    /// A backup.
    Backup(BackupOrder),
    /// A restore.
    Restore(RestoreOrder),
    /// A migration.
    Migrate(MigrateOrder),
    /// Waiting until a group has consumed what there is.
    Drain(DrainOrder),
    /// A verification of a backup.
    Validate(ValidateOrder),
}

words! {
    /// What kind of order.
    pub enum OrderKind {
        /// A backup.
        Backup = "backup",
        /// A restore.
        Restore = "restore",
        /// A migration.
        Migrate = "migrate",
        /// Waiting until a group has consumed what there is.
        Drain = "drain",
        /// A verification of a backup.
        Validate = "validate",
    }
}

/// Back a topic up.
#[derive(Debug, Clone)]
pub struct BackupOrder {
    /// The cluster.
    pub cluster: String,
    /// The repository.
    pub repository: String,
    /// The topic.
    pub topic: String,
    /// How it is backed up.
    pub options: BackupOptions,
}

/// Restore a topic.
#[derive(Debug, Clone)]
pub struct RestoreOrder {
    /// The target.
    pub cluster: String,
    /// The repository.
    pub repository: String,
    /// The backup.
    pub backup_id: BackupId,
    /// The topic in the backup.
    pub topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// Whether the backup is verified first.
    pub validate: bool,
    /// How it is restored.
    pub options: RestoreOptions,
}

/// Copy a topic from cluster to cluster.
#[derive(Debug, Clone)]
pub struct MigrateOrder {
    /// The source.
    pub source: String,
    /// The target.
    pub target: String,
    /// The topic in the source.
    pub source_topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// How it is copied. The mirror is named after the job.
    pub options: MirrorOptions,
}

/// Wait until a group has consumed what there is.
#[derive(Debug, Clone)]
pub struct DrainOrder {
    /// The cluster.
    pub cluster: String,
    /// The group.
    pub group_id: String,
    /// The topics, by name.
    pub topics: Vec<String>,
    /// What is watched.
    pub options: DrainOptions,
    /// How long.
    pub patience: Patience,
}

/// Verify a backup.
#[derive(Debug, Clone)]
pub struct ValidateOrder {
    /// The cluster that the backup is of: a name in the configuration, or Kafka's own id where none is known.
    pub cluster: String,
    /// The repository.
    pub repository: String,
    /// The backup.
    pub backup_id: BackupId,
    /// Its topics.
    pub topics: Vec<String>,
    /// How deep.
    pub depth: Depth,
}

impl OrderKind {
    /// Whether such an order writes to a topic.
    pub fn writes(self) -> bool {
        match self {
            Self::Restore | Self::Migrate => true,
            Self::Backup | Self::Drain | Self::Validate => false,
        }
    }
}

impl Order {
    /// What kind.
    pub fn kind(&self) -> OrderKind {
        match self {
            Self::Backup(_) => OrderKind::Backup,
            Self::Restore(_) => OrderKind::Restore,
            Self::Migrate(_) => OrderKind::Migrate,
            Self::Drain(_) => OrderKind::Drain,
            Self::Validate(_) => OrderKind::Validate,
        }
    }

    /// The cluster that it is about: of a migration the target.
    pub fn cluster(&self) -> &str {
        match self {
            Self::Backup(order) => &order.cluster,
            Self::Restore(order) => &order.cluster,
            Self::Migrate(order) => &order.target,
            Self::Drain(order) => &order.cluster,
            Self::Validate(order) => &order.cluster,
        }
    }

    /// The repository that it reads or writes.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Backup(order) => Some(&order.repository),
            Self::Restore(order) => Some(&order.repository),
            Self::Validate(order) => Some(&order.repository),
            Self::Migrate(_) | Self::Drain(_) => None,
        }
    }

    /// The topic that it writes to, with its cluster.
    pub fn target(&self) -> Option<(&str, &str)> {
        let last = self.touches().pop();
        last.filter(|_| self.kind().writes())
    }

    /// The topics that it touches, with their clusters: the one that it writes to is the last.
    pub fn touches(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Backup(order) => vec![(order.cluster.as_str(), order.topic.as_str())],
            Self::Restore(order) => vec![(order.cluster.as_str(), order.target_topic.as_str())],
            Self::Migrate(order) => vec![
                (order.source.as_str(), order.source_topic.as_str()),
                (order.target.as_str(), order.target_topic.as_str()),
            ],
            Self::Drain(order) => pairs(&order.cluster, &order.topics),
            Self::Validate(order) => pairs(&order.cluster, &order.topics),
        }
    }
}

fn pairs<'a>(cluster: &'a str, topics: &'a [String]) -> Vec<(&'a str, &'a str)> {
    topics
        .iter()
        .map(|topic| (cluster, topic.as_str()))
        .collect()
}
