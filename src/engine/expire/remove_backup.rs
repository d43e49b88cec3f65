//! Taking one backup away because somebody says so.

use chrono::{DateTime, Utc};

use crate::engine::EngineError;
use crate::engine::refusal::{Part, Refusal};
use crate::engine::unreferenced::manifests;
use crate::repository::{
    BackupId, Completion, ExclusiveLock, Manifest, Repository, RepositoryError,
};

use super::{needed_by_restores, remove_doomed};

/// Takes away one backup and what only it references, while nobody else uses the repository; the bytes that became free.
///
/// # Errors
///
/// [`EngineError::Conflict`] when fewer than `min_backups` complete ones of its policy and cluster would be left, or when an interrupted
/// restore may go on from it. Nothing is changed then.
pub fn remove_one(
    repository: &Repository,
    backup_id: BackupId,
    min_backups: u32,
    now: DateTime<Utc>,
) -> Result<u64, EngineError> {
    let lock = repository.lock_exclusive("delete")?;
    lock.during(|lock| remove_one_locked(repository, lock, backup_id, min_backups, now))
}

fn remove_one_locked(
    repository: &Repository,
    lock: &ExclusiveLock,
    backup_id: BackupId,
    min_backups: u32,
    now: DateTime<Utc>,
) -> Result<u64, EngineError> {
    let all = manifests(repository)?;
    let stays = |why: String| EngineError::conflict(Refusal::new(why).of(Part::Backup, backup_id));
    let Some(doomed) = all
        .iter()
        .find(|manifest| manifest.backup_id == backup_id)
        .cloned()
    else {
        return Err(RepositoryError::UnknownBackup {
            id: backup_id.to_string(),
            nearest: Vec::new(),
        }
        .into());
    };
    let is_beside = |other: &&Manifest| {
        other.backup_id != backup_id
            && other.policy == doomed.policy
            && other.cluster_id == doomed.cluster_id
            && other.status == Completion::Completed
    };
    let left = all.iter().filter(is_beside).count();
    if doomed.status == Completion::Completed && left < min_backups as usize {
        let of = match &doomed.policy {
            Some(policy) => format!("policy {policy}"),
            None => format!("cluster {} made without a policy", doomed.cluster_id),
        };
        return Err(stays(format!(
            "backup {backup_id} stays: {left} complete backups of {of} would be left, and min_backups is {min_backups}"
        )));
    }
    if needed_by_restores(repository, now)?.contains(&backup_id) {
        return Err(stays(format!(
            "backup {backup_id} stays: a restore from it was interrupted, and may go on"
        )));
    }
    let stay: Vec<Manifest> = all
        .into_iter()
        .filter(|manifest| manifest.backup_id != backup_id)
        .collect();
    remove_doomed(repository, lock, &doomed, &stay, now)
}
