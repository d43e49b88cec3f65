//! What nothing in a repository references any more, and its removal.

use crate::repository::{
    BackupId, ExclusiveLock, Manifest, ObjectInfo, Repository, RepositoryError,
};

use super::EngineError;
use super::refusal::{Advice, Refusal};

/// All manifests. One that cannot be read references nobody knows what, so nothing at all can be taken away.
pub(super) fn manifests(repository: &Repository) -> Result<Vec<Manifest>, EngineError> {
    let ids = repository.backup_ids()?;
    let location = repository.location();
    let mut manifests = Vec::with_capacity(ids.len());
    for id in ids {
        let manifest = repository.manifest(&id).map_err(|error| {
            let advice = format!(
                "when it is beyond repair, remove backups/{id}.json, then record that it is gone: kafkeep expire --repository {location} --forget-lost {id}"
            );
            unknowable(&id, error, &advice)
        });
        manifests.push(manifest?);
    }
    Ok(manifests)
}

/// What neither these backups nor unfinished runs reference.
pub(super) fn unreferenced(
    repository: &Repository,
    manifests: &[Manifest],
) -> Result<Vec<ObjectInfo>, EngineError> {
    let mut walk = repository.reference_walk();
    let mut kept = walk.of_runs()?;
    for manifest in manifests {
        let needs = walk.of_backup(manifest);
        let advice = "verify tells what is damaged";
        kept.extend(&needs.map_err(|error| unknowable(&manifest.backup_id, error, advice))?);
    }
    Ok(repository.unreferenced(&kept)?)
}

/// What follows from not knowing what a backup needs.
pub(super) fn unknowable(id: &BackupId, error: RepositoryError, advice: &str) -> EngineError {
    if error.is_damage() {
        let why = format!("nothing is removed, since what backup {id} needs cannot be known");
        // It is another backup than the caller's.
        let why = Refusal::new(why)
            .for_callers("nothing is removed, since what another backup needs cannot be known");
        let advice = Advice::Repair(format!("{error}; {advice}"));
        EngineError::conflict(why.advise(advice))
    } else {
        error.into()
    }
}

/// Removes what [`unreferenced`] found. Returns the bytes that became free.
pub(super) fn remove_all(
    repository: &Repository,
    lock: &ExclusiveLock,
    objects: &[ObjectInfo],
) -> Result<u64, EngineError> {
    let mut freed = 0;
    for object in objects {
        repository.remove_unreferenced(lock, object)?;
        freed += object.size;
    }
    Ok(freed)
}
