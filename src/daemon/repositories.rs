//! What the repositories tell: of the time before the daemon started, and how they are now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustix::fs::{Access, access};
use serde::Serialize;
use tokio::sync::watch;

use crate::engine::EngineError;
use crate::engine::expire::{Foreseen, Preview};
use crate::policy::{DaemonConfiguration, RepositoryLocation};
use crate::repository::{BackupStatus, RepositoryError};

use super::metrics::Metrics;
use super::run::open_existing;
use super::state::Remembered;

/// One repository, when it was last looked at.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub repository: String,
    /// Where it lies.
    pub location: String,
    /// When it was looked at.
    pub looked_at: DateTime<Utc>,
    /// Whether something could be written there.
    pub writable: bool,
    /// Why it cannot be written, or not be read.
    pub error: Option<String>,
    /// Bytes that all its objects take.
    pub size_bytes: u64,
    /// Bytes that are free where it lies; none where that has no bounds.
    pub free_bytes: Option<u64>,
    /// Backups in it.
    pub backups: u64,
    /// What retention would take away now.
    pub retention: Vec<RetentionStatus>,
}

/// What the retention of one policy would do now.
#[derive(Debug, Clone, Serialize)]
pub struct RetentionStatus {
    /// The policy.
    pub policy: String,
    /// Its backups, and why each stays or goes.
    #[serde(flatten)]
    pub foreseen: Foreseen,
}

/// Asks every repository for the last complete backup of each policy. One that cannot be read is logged: its policies then
/// count from now, or from what else is remembered.
pub(super) fn remember(configuration: &DaemonConfiguration, remembered: &mut Remembered) {
    for (name, location) in &configuration.repositories {
        if let Err(error) = remember_of(name, location, configuration, remembered) {
            tracing::warn!(repository = %name, "repository {name}: its backups are not known: {error}");
        }
    }
}

fn remember_of(
    name: &str,
    location: &RepositoryLocation,
    configuration: &DaemonConfiguration,
    remembered: &mut Remembered,
) -> Result<(), RepositoryError> {
    let Some(repository) = open_existing(location)? else {
        return Ok(());
    };
    let policies = configuration.backups.iter();
    let mut unknown: Vec<&str> = policies
        .filter(|policy| policy.repository == name)
        .map(|policy| policy.name.as_str())
        .collect();
    for id in repository.backup_ids()?.iter().rev() {
        // The newest tell of every policy that still runs: the long tail is not read.
        if unknown.is_empty() {
            break;
        }
        let manifest = match repository.manifest(id) {
            Ok(manifest) => manifest,
            Err(error) if error.is_damage() => continue,
            Err(error) => return Err(error),
        };
        if let (Some(policy), BackupStatus::Completed) = (manifest.policy, manifest.status)
            && let Some(place) = unknown.iter().position(|name| *name == policy)
        {
            unknown.swap_remove(place);
            remembered.backup(&policy, manifest.started_at, manifest.finished_at);
        }
    }
    Ok(())
}

/// Looks at all repositories, again and again.
#[derive(Default)]
pub(super) struct Observer {
    previews: BTreeMap<String, Preview>,
}

impl Observer {
    /// Looks once; the metrics and `told` are up to date then.
    pub fn look(
        &mut self,
        configuration: &DaemonConfiguration,
        metrics: &Metrics,
        told: &watch::Sender<Arc<Vec<RepositoryStatus>>>,
    ) {
        let names = &configuration.repositories;
        self.previews.retain(|name, _| names.contains_key(name));
        let all = names.iter().map(|(name, location)| {
            let status = self.look_at(name, location, configuration);
            let (size, free) = (status.size_bytes, status.free_bytes);
            metrics.repository_holds(name, size, status.backups, free);
            if let Some(error) = &status.error {
                tracing::warn!(repository = %name, "repository {name} cannot be used as it is: {error}");
            }
            status
        });
        told.send_replace(Arc::new(all.collect()));
    }

    fn look_at(
        &mut self,
        name: &str,
        location: &RepositoryLocation,
        configuration: &DaemonConfiguration,
    ) -> RepositoryStatus {
        let mut status = RepositoryStatus {
            repository: name.to_owned(),
            location: location.path.display().to_string(),
            looked_at: Utc::now(),
            writable: false,
            error: None,
            size_bytes: 0,
            free_bytes: None,
            backups: 0,
            retention: Vec::new(),
        };
        if let Err(error) = self.fill(&mut status, location, configuration) {
            status.error = Some(error.to_string());
        }
        status
    }

    fn fill(
        &mut self,
        status: &mut RepositoryStatus,
        location: &RepositoryLocation,
        configuration: &DaemonConfiguration,
    ) -> Result<(), EngineError> {
        let Some(repository) = open_existing(location)? else {
            status.writable = can_be_made(&location.path);
            return match status.writable {
                true => Ok(()),
                false => Err(EngineError::Refused(
                    "its directory is not there, and cannot be made: make it, or let the service write above it".into(),
                )),
            };
        };
        status.size_bytes = repository.size()?;
        status.free_bytes = repository.free_bytes()?;
        let preview = self.previews.entry(status.repository.clone()).or_default();
        preview.look(&repository)?;
        status.backups = preview.count() as u64;
        for policy in configuration
            .backups
            .iter()
            .filter(|policy| policy.repository == status.repository)
        {
            let now = Utc::now().with_timezone(&policy.time_zone);
            let foreseen = preview.of(&policy.name, &policy.retention, &now);
            status
                .retention
                .extend(foreseen.into_iter().map(|foreseen| RetentionStatus {
                    policy: policy.name.clone(),
                    foreseen,
                }));
        }
        repository.storage().probe()?;
        status.writable = true;
        Ok(())
    }
}

/// Whether a repository could be made in a directory that is empty, or not there yet.
fn can_be_made(path: &Path) -> bool {
    let above = path.ancestors().find(|above| above.exists());
    let above = above
        .filter(|above| !above.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    above.is_dir() && access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
