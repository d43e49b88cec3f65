//! Locks on a repository: backups are added and read under shared ones, things are removed under an exclusive one.
//!
//! A lock is an object below `locks/`. Who wants one writes it and then looks for others that do not go together with it:
//! of two that try at once, at least one sees the other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lock_holder::Process;
pub use super::lock_holder::{LockHolder, LockId, LockKind, STALE_AFTER};
use super::sealed_json::{self, FORMAT};
use super::storage::{ObjectName, Storage};
use super::{Repository, RepositoryError, objects};

const LOCK_LIMIT: u64 = 64 << 10;
const REFRESH_EVERY: Duration = Duration::from_secs(4 * 60);

#[derive(Serialize, Deserialize)]
struct LockFile {
    format: u32,
    #[serde(flatten)]
    holder: LockHolder,
}

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
            .map(ExclusiveLock)
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
        self.refuse_conflicts(&holder)?;
        write_lock(self.storage(), &holder)?;
        let guard = LockGuard::keep(
            Arc::clone(self.shared_storage()),
            holder.clone(),
            refresh_every,
        )?;
        // Those that came between the first look and the write.
        self.refuse_conflicts(&holder)?;
        Ok(guard)
    }

    fn refuse_conflicts(&self, own: &LockHolder) -> Result<(), RepositoryError> {
        for other in self.locks()? {
            if other.lock_id == own.lock_id || !other.conflicts_with(own.kind) {
                continue;
            }
            if other.process.is_gone(&own.process) {
                match self.break_lock(other.lock_id) {
                    Err(error) if !error.is_missing() => return Err(error),
                    _ => continue,
                }
            }
            return Err(RepositoryError::Locked {
                holder: Box::new(other),
            });
        }
        Ok(())
    }
}

fn lock_name(id: LockId) -> Result<ObjectName, RepositoryError> {
    ObjectName::new(format!("locks/{id}.json"))
}

fn write_lock(storage: &dyn Storage, holder: &LockHolder) -> Result<(), RepositoryError> {
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
    storage.put_new(&name, &json)
}

fn read_lock(name: &ObjectName, content: &[u8]) -> Result<LockHolder, RepositoryError> {
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

/// A held lock: refreshed in the background, given back when dropped.
#[derive(Debug)]
pub struct LockGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The lock under which things may be removed: nobody else holds any.
#[derive(Debug)]
pub struct ExclusiveLock(LockGuard);

impl ExclusiveLock {
    /// What the lock's object says.
    pub fn holder(&self) -> LockHolder {
        self.0.holder()
    }

    /// Whether the lock still holds.
    pub fn check(&self) -> Result<(), RepositoryError> {
        self.0.check()
    }
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    holder: LockHolder,
    refreshed: Instant,
    released: bool,
    lost: bool,
}

impl LockGuard {
    fn keep(
        storage: Arc<dyn Storage>,
        holder: LockHolder,
        refresh_every: Duration,
    ) -> Result<Self, RepositoryError> {
        let state = State {
            holder,
            refreshed: Instant::now(),
            released: false,
            lost: false,
        };
        let shared = Arc::new(Shared {
            storage,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let mut guard = Self {
            shared: Arc::clone(&shared),
            thread: None,
        };
        let thread = std::thread::Builder::new()
            .name("lock-refresher".to_owned())
            .spawn(move || shared.refresh_until_released(refresh_every))
            .map_err(|source| RepositoryError::Io {
                action: "start a thread to refresh",
                path: "the lock".to_owned(),
                source,
            })?;
        guard.thread = Some(thread);
        Ok(guard)
    }

    /// What the lock's object says.
    pub fn holder(&self) -> LockHolder {
        self.shared.state().holder.clone()
    }

    /// Whether the lock still holds: ask before a manifest is published or anything is removed.
    pub fn check(&self) -> Result<(), RepositoryError> {
        let mut state = self.shared.state();
        if !state.lost {
            match self.shared.storage.size(&lock_name(state.holder.lock_id)?) {
                Ok(_) if state.refreshed.elapsed() < STALE_AFTER => return Ok(()),
                Err(error) if !error.is_missing() => return Err(error),
                _ => state.lost = true,
            }
        }
        Err(RepositoryError::LockLost {
            purpose: state.holder.purpose.clone(),
        })
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.shared.state().released = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        if let Ok(name) = lock_name(self.shared.state().holder.lock_id) {
            // What stays behind is found stale, or its process gone.
            self.shared.storage.delete(&name).ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh_until_released(&self, every: Duration) {
        let mut state = self.state();
        while !state.released && !state.lost {
            let waited = self
                .changed
                .wait_timeout(state, every)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() && !state.released {
                // A refresh that fails is tried again; `check` says when it failed for too long.
                self.refresh(&mut state).ok();
            }
        }
    }

    /// Writes the lock under a new name, then removes the old one: there is no moment without it.
    fn refresh(&self, state: &mut State) -> Result<(), RepositoryError> {
        let old = lock_name(state.holder.lock_id)?;
        match self.storage.size(&old) {
            Err(error) if error.is_missing() => {
                state.lost = true;
                return Ok(());
            }
            found => found?,
        };
        let holder = LockHolder {
            lock_id: LockId(Uuid::now_v7()),
            refreshed_at: Utc::now().trunc_subsecs(3),
            ..state.holder.clone()
        };
        write_lock(self.storage.as_ref(), &holder)?;
        state.holder = holder;
        state.refreshed = Instant::now();
        match self.storage.delete(&old) {
            // Broken between looking and writing: the word of the operator stands.
            Err(error) if error.is_missing() => {
                state.lost = true;
                self.storage.delete(&lock_name(state.holder.lock_id)?)
            }
            result => result,
        }
    }
}
