//! A lock as it lies in the repository.

use serde::{Deserialize, Serialize};

use super::lock_holder::{LockHolder, LockId};
use super::sealed_json::{self, FORMAT};
use super::{BlockingStorage, ObjectName, RepositoryError, objects};

#[derive(Serialize, Deserialize)]
struct LockFile {
    format: u32,
    #[serde(flatten)]
    holder: LockHolder,
}

pub(super) fn lock_name(id: LockId) -> Result<ObjectName, RepositoryError> {
    ObjectName::new(format!("locks/{id}.json"))
}

pub(super) fn write_lock(
    storage: &BlockingStorage,
    holder: &LockHolder,
) -> Result<(), RepositoryError> {
    let name = lock_name(holder.lock_id)?;
    let file = LockFile {
        format: FORMAT,
        holder: holder.clone(),
    };
    let json =
        serde_json::to_vec_pretty(&file).map_err(|error| RepositoryError::ObjectDamaged {
            name: name.to_string(),
            detail: error.to_string(),
        })?;
    storage.put_new(&name, json).inspect_err(|error| {
        // It may be there, when its directory could not be synced, and nobody would hold it.
        if !matches!(error, RepositoryError::AlreadyExists { .. }) {
            storage.delete(&name).ok();
        }
    })
}

pub(super) fn read_lock(name: &ObjectName, content: &[u8]) -> Result<LockHolder, RepositoryError> {
    match sealed_json::parse::<LockFile>(content) {
        Ok(file) if lock_name(file.holder.lock_id)? == *name => Ok(file.holder),
        Ok(_) => Err(RepositoryError::ObjectDamaged {
            name: name.to_string(),
            detail: "it is another lock; when nothing uses the repository, remove it".to_owned(),
        }),
        Err(sealed_json::Unusable::Damaged(detail)) => Err(RepositoryError::ObjectDamaged {
            name: name.to_string(),
            detail: format!("{detail}; when nothing uses the repository, remove it"),
        }),
        Err(newer) => Err(objects::unusable(name, newer)),
    }
}
