//! Which backups a command speaks of: `--policy`, `--cluster`, ids and `latest`.

use std::sync::Arc;

use clap::Args;

use crate::engine::backup_filter::BackupFilter;
use crate::engine::held_backups::{HeldBackups, find_backup};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::engine::{EngineError, blocking};
use crate::repository::{BackupId, Repository};

use super::CliError;

/// By what backups are chosen, besides topics.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only backups of this policy; `-` for those that no policy made
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Only backups of this cluster: its name in kafkeep.toml when the backup was made, or Kafka's id
    #[arg(long, value_name = "NAME|ID")]
    cluster: Option<String>,
}

impl FilterArgs {
    /// With the topics of the command line.
    pub fn with(&self, topics: &[TopicPattern]) -> BackupFilter {
        BackupFilter {
            policy: self.policy.clone(),
            cluster: self.cluster.clone(),
            topics: TopicPatterns::new(topics.to_vec()),
        }
    }
}

const FINDING: &str = "the thread that finds a backup";

/// The backup that `text` names: an id, the start of one, or `latest` of those that the filter chooses.
pub async fn find(
    repository: &Arc<Repository>,
    text: &str,
    filter: BackupFilter,
) -> Result<BackupId, CliError> {
    let (repository, text) = (Arc::clone(repository), text.to_owned());
    let finding = blocking(FINDING, move || find_backup(&repository, &text, &filter));
    Ok(finding.await?)
}

/// The backups that the texts name, in this order; without texts, those that the filter chooses, and an empty list
/// where it chooses all.
pub async fn find_all(
    repository: &Arc<Repository>,
    texts: &[String],
    filter: BackupFilter,
) -> Result<Vec<BackupId>, CliError> {
    let (repository, texts) = (Arc::clone(repository), texts.to_vec());
    let finding = blocking(FINDING, move || {
        if texts.is_empty() && filter.is_all() {
            return Ok::<_, EngineError>(Vec::new());
        }
        if texts.is_empty() {
            let held = HeldBackups::read(&repository)?;
            return held.chosen_or_damaged(&filter);
        }
        let texts = texts.iter();
        let found = texts.map(|text| find_backup(&repository, text, &filter));
        found.collect()
    });
    Ok(finding.await?)
}
