//! Taking note that backups were lost: from then on they are told as missing no more.

use chrono::{DateTime, Utc};

use crate::engine::EngineError;
use crate::repository::{BackupId, ExpiredBackup, Repository, WhyGone};

/// Records that these backups are gone and will not come back, while nobody else uses the repository.
///
/// # Errors
///
/// [`EngineError::Refused`] when one of them is there.
pub fn forget_lost(
    repository: &Repository,
    lost: &[BackupId],
    now: DateTime<Utc>,
) -> Result<(), EngineError> {
    let lock = repository.lock_exclusive("expire")?;
    lock.during(|lock| {
        let present = repository.backup_ids()?;
        if let Some(there) = lost.iter().find(|id| present.binary_search(id).is_ok()) {
            return Err(EngineError::refused(format!(
                "backup {there} is not lost: nothing is recorded; to take a backup away, expire it or delete it over the API"
            )));
        }
        let lost = lost.iter().map(|backup_id| ExpiredBackup {
            backup_id: *backup_id,
            sequence: 0,
            expired_at: now,
            why: WhyGone::Lost,
        });
        Ok(repository.record_expired(lock, lost)?)
    })
}
