//! Locks on a repository: backups are added and read under shared ones, things are removed under an exclusive one.
//!
//! A lock is an object below `locks/`. Who wants one writes it and then looks for others that do not go together with it:
//! of two that try at once, at least one sees the other.

use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use super::lock_file::{lock_name, read_lock, write_lock};
pub use super::lock_guard::{ExclusiveLock, LockGuard};
use super::lock_holder::Process;
pub use super::lock_holder::{LockHolder, LockId, LockKind, STALE_AFTER};
use super::{Repository, RepositoryError};

const LOCK_LIMIT: u64 = 64 << 10;
const REFRESH_EVERY: Duration = Duration::from_secs(4 * 60);

impl Repository {
    /// Takes a lock for reading or adding backups; `purpose` names the work, as in `backup`.
    pub fn lock_shared(&self, purpose: &str) -> Result<LockGuard, RepositoryError> {
        self.lock(LockKind::Shared, purpose, REFRESH_EVERY)
    }

    /// Takes a lock for reading. Where this process can write nothing, be it that the disk is full, there is none: whoever
    /// removes things there is not told of this reader.
    pub fn lock_to_read(&self, purpose: &str) -> Result<Option<LockGuard>, RepositoryError> {
        match self.lock_shared(purpose) {
            Err(error) if error.takes_no_writes() => Ok(None),
            lock => lock.map(Some),
        }
    }

    /// Takes a lock for removing; fails with [`RepositoryError::Locked`] while anybody holds any.
    pub fn lock_exclusive(&self, purpose: &str) -> Result<ExclusiveLock, RepositoryError> {
        self.lock(LockKind::Exclusive, purpose, REFRESH_EVERY)
            .map(ExclusiveLock::new)
    }

    /// Does `work` under a lock for reading, where there is one, and releases it.
    pub fn read_locked<T, E: From<RepositoryError>>(
        &self,
        purpose: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        match self.lock_to_read(purpose)? {
            Some(lock) => lock.during(|_| work()),
            None => work(),
        }
    }

    /// All locks, those of gone processes included.
    pub fn locks(&self) -> Result<Vec<LockHolder>, RepositoryError> {
        loop {
            // Ends: locks come and go far more slowly than they are looked at.
            if let Some(holders) = self.look_at_locks()? {
                return Ok(holders);
            }
        }
    }

    /// None when a lock vanished under the eye: it may have been refreshed under a name that the listing did not show.
    fn look_at_locks(&self) -> Result<Option<Vec<LockHolder>>, RepositoryError> {
        let mut holders = Vec::new();
        for object in self.storage().list("locks/")? {
            match self.storage().get(&object.name, LOCK_LIMIT) {
                Ok(content) => holders.push(read_lock(&object.name, &content)?),
                Err(error) if error.is_missing() => return Ok(None),
                // A link, a FIFO or a directory: nobody locks with one.
                Err(RepositoryError::ObjectDamaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(holders))
    }

    /// Removes somebody's lock, by the operator's word. Whose lock it was writes nothing more.
    pub fn break_lock(&self, lock: LockId) -> Result<(), RepositoryError> {
        self.storage().delete(&lock_name(lock)?)
    }

    pub(super) fn lock(
        &self,
        kind: LockKind,
        purpose: &str,
        refresh_every: Duration,
    ) -> Result<LockGuard, RepositoryError> {
        let now = Utc::now().trunc_subsecs(3);
        let holder = LockHolder {
            lock_id: LockId(Uuid::now_v7()),
            kind,
            purpose: purpose.to_owned(),
            started_at: now,
            refreshed_at: now,
            process: Process::this(),
        };
        self.refuse_conflicts(&holder, Instant::now())?;
        self.write_own_lock(&holder)?;
        let guard = LockGuard::keep(self.storage().clone(), holder.clone(), refresh_every)?;
        // Those that came between the first look and the write.
        match self.refuse_conflicts(&holder, Instant::now()) {
            Ok(()) => {
                if kind == LockKind::Shared {
                    // For whoever has to remove something when there is no space; this work needs none of it.
                    self.storage().keep_reserve().ok();
                }
                Ok(guard)
            }
            Err(error) => {
                guard.release();
                Err(error)
            }
        }
    }

    /// Writes a new lock. On a full disk, the reserve makes room for one under which space is freed.
    fn write_own_lock(&self, holder: &LockHolder) -> Result<(), RepositoryError> {
        match write_lock(self.storage(), holder) {
            Err(full @ RepositoryError::NoSpace { .. }) if holder.kind == LockKind::Exclusive => {
                if self.storage().use_reserve()? {
                    write_lock(self.storage(), holder)
                } else {
                    Err(full)
                }
            }
            written => written,
        }
    }

    pub(super) fn refuse_conflicts(
        &self,
        own: &LockHolder,
        now: Instant,
    ) -> Result<(), RepositoryError> {
        let others = self.locks()?;
        self.lock_watch().saw(&others, now);
        for other in others {
            if other.lock_id == own.lock_id || !other.conflicts_with(own.kind) {
                continue;
            }
            let is_abandoned = self.lock_watch().is_abandoned(other.lock_id, now);
            if is_abandoned || other.process.is_gone(&own.process) {
                self.break_lock(other.lock_id)?;
                continue;
            }
            return Err(RepositoryError::Locked {
                holder: Box::new(other),
            });
        }
        Ok(())
    }
}
