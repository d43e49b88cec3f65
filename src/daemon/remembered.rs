//! What the repositories tell of the time before the daemon started.

use std::sync::Arc;

use crate::policy::{DaemonConfiguration, RepositoryLocation};
use crate::repository::{BackupStatus, DirectoryStorage, Repository, RepositoryError};

use super::metrics::Metrics;
use super::supervisor::{LastBackup, Remembered};

/// Asks every repository for the last complete backup of each policy. One that cannot be read is logged: its policies then
/// count from now.
pub(super) fn remembered(configuration: &DaemonConfiguration) -> Remembered {
    let mut remembered = Remembered::new();
    for (name, location) in &configuration.repositories {
        if let Err(error) = remember(location, configuration, &mut remembered) {
            tracing::warn!(repository = %name, %error, "its backups are not known");
        }
    }
    remembered
}

fn remember(
    location: &RepositoryLocation,
    configuration: &DaemonConfiguration,
    remembered: &mut Remembered,
) -> Result<(), RepositoryError> {
    let Some(repository) = open(location)? else {
        return Ok(());
    };
    for id in repository.backup_ids()?.iter().rev() {
        // The newest tell of every policy that still runs: the long tail is not read.
        let mut policies = configuration.backups.iter();
        if policies.all(|policy| remembered.contains_key(&policy.name)) {
            break;
        }
        let manifest = match repository.manifest(id) {
            Ok(manifest) => manifest,
            Err(error) if error.is_damage() => continue,
            Err(error) => return Err(error),
        };
        if let (Some(policy), BackupStatus::Completed) = (manifest.policy, manifest.status) {
            remembered.entry(policy).or_insert(LastBackup {
                started_at: manifest.started_at,
                finished_at: manifest.finished_at,
            });
        }
    }
    Ok(())
}

/// None when nothing is there yet: the first backup makes it.
fn open(location: &RepositoryLocation) -> Result<Option<Repository>, RepositoryError> {
    if !location.path.exists() {
        return Ok(None);
    }
    let storage = DirectoryStorage::open(&location.path)?;
    match Repository::open(Arc::new(storage)) {
        Ok(repository) => Ok(Some(repository)),
        Err(RepositoryError::NotARepository { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Measures every repository for the metrics.
pub(super) fn measure(configuration: &DaemonConfiguration, metrics: &Metrics) {
    for (name, location) in &configuration.repositories {
        let measured = open(location).and_then(|repository| {
            let Some(repository) = repository else {
                return Ok(());
            };
            let backups = repository.backup_ids()?.len() as u64;
            metrics.repository_holds(name, repository.size()?, backups, repository.free_bytes()?);
            Ok(())
        });
        if let Err(error) = measured {
            tracing::warn!(repository = %name, %error, "it could not be measured");
        }
    }
}
