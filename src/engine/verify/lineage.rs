//! What manifests say of those before them: each names the backup that it was planned on.

use std::collections::BTreeSet;

use crate::engine::EngineError;
use crate::engine::refusal::Refusal;
use crate::repository::{BackupId, ExpiredBackups, Manifest, Repository, RepositoryError};

use super::finding::Finding;

/// All backups that are there, and those that were taken away on purpose.
pub(super) struct Lineage<'a> {
    repository: &'a Repository,
    present: Vec<BackupId>,
    expired: ExpiredBackups,
}

impl<'a> Lineage<'a> {
    /// Reads it. The backups come first: what expires meanwhile is recorded.
    pub fn of(repository: &'a Repository) -> Result<Self, EngineError> {
        Ok(Self {
            repository,
            present: repository.backup_ids()?,
            expired: repository.expired_backups()?,
        })
    }

    /// Records of expired backups that cannot be read.
    pub fn unreadable_records(&mut self) -> Vec<Finding> {
        let unreadable = self.expired.unreadable.drain(..);
        let findings = unreadable.map(|error| {
            let problem = Refusal::by(&error, |error| {
                format!(
                    "{error}: it says which backups expired; remove it, and those will be told as lost"
                )
            });
            Finding::of(problem, BTreeSet::new())
        });
        findings.collect()
    }

    /// Whether the backup that this one was planned on is there and the same, or was taken away on purpose.
    pub fn check(&self, manifest: &Manifest) -> Result<Option<Finding>, EngineError> {
        let Some(previous) = manifest.previous else {
            return Ok(None);
        };
        let id = previous.backup_id;
        let finding = |problem: Refusal| Finding::of(problem, BTreeSet::from([manifest.backup_id]));
        if self.expired.is_lost(id, &self.present) {
            let told = self.repository.lost_backup(id, Some(manifest.backup_id));
            return Ok(Some(finding(told.into())));
        }
        if self.present.binary_search(&id).is_err() {
            return Ok(None);
        }
        match self.repository.manifest_with_digest(&id) {
            Ok((_, sha256)) if sha256 == previous.sha256 => Ok(None),
            Ok(_) => Ok(Some(finding(
                format!(
                    "backup {id} is not the one that backup {} was planned on: it was put in its place later",
                    manifest.backup_id
                )
                .into(),
            ))),
            // Expired meanwhile; or damaged, which is a finding of its own.
            Err(RepositoryError::UnknownBackup { .. }) => Ok(None),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
