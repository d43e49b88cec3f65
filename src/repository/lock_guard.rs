//! A held lock: a thread of its own keeps it alive, and removes it when it is released.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use super::lock_file::{lock_name, write_lock};
use super::lock_holder::{LockHolder, LockId, STALE_AFTER};
use super::{BlockingStorage, RepositoryError};

/// So often is tried to remove a lock that is released.
const REMOVALS: usize = 3;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(5);

/// A held lock: refreshed in the background until [`LockGuard::release`].
///
/// Dropped, it is released as well, but nobody knows when it is gone: its thread removes it as soon as the storage
/// answers, unless the process ends before. A drop never waits for the storage.
#[derive(Debug)]
pub struct LockGuard {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

/// The lock under which things may be removed: nobody else holds any.
#[derive(Debug)]
pub struct ExclusiveLock(LockGuard);

impl ExclusiveLock {
    pub(super) fn new(lock: LockGuard) -> Self {
        Self(lock)
    }

    /// What the lock's object says.
    pub fn holder(&self) -> LockHolder {
        self.0.holder()
    }

    /// Whether the lock still holds. Blocks.
    pub fn check(&self) -> Result<(), RepositoryError> {
        self.0.check()
    }

    /// Removes the lock. Blocks until it is gone.
    pub fn release(self) {
        self.0.release();
    }

    /// Does `work` under the lock, then releases it. Blocks.
    pub fn during<T>(self, work: impl FnOnce(&Self) -> T) -> T {
        let done = work(&self);
        self.release();
        done
    }
}

/// What the holder and the keeping thread share. The mutex is held for moments only, never while the storage is called.
#[derive(Debug)]
struct Shared {
    storage: BlockingStorage,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone)]
struct State {
    holder: LockHolder,
    refreshed: Instant,
    released: bool,
    lost: bool,
    /// Locks of this guard under former names that could not be removed yet.
    left_behind: Vec<LockId>,
}

impl LockGuard {
    /// Keeps a lock that was written already.
    pub(super) fn keep(
        storage: BlockingStorage,
        holder: LockHolder,
        refresh_every: Duration,
    ) -> Result<Self, RepositoryError> {
        let state = State {
            holder,
            refreshed: Instant::now(),
            released: false,
            lost: false,
            left_behind: Vec::new(),
        };
        let shared = Arc::new(Shared {
            storage,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let keeping = Arc::clone(&shared);
        let keeper = std::thread::Builder::new()
            .name("lock-refresher".to_owned())
            .spawn(move || keeping.keep_until_released(refresh_every))
            .map_err(|source| {
                shared.remove();
                RepositoryError::Io {
                    action: "start a thread to refresh",
                    path: "the lock".to_owned(),
                    source,
                }
            })?;
        Ok(Self {
            shared,
            keeper: Some(keeper),
        })
    }

    /// What the lock's object says.
    pub fn holder(&self) -> LockHolder {
        self.shared.state().holder.clone()
    }

    /// Whether the lock still holds: ask before a manifest is published or anything is removed. Blocks.
    pub fn check(&self) -> Result<(), RepositoryError> {
        loop {
            let known = self.shared.state().clone();
            if !known.lost
                && self.shared.is_there(known.holder.lock_id)?
                && known.refreshed.elapsed() < STALE_AFTER
            {
                return Ok(());
            }
            let mut state = self.shared.state();
            if !state.lost && state.holder.lock_id != known.holder.lock_id {
                // It was refreshed meanwhile, under another name.
                continue;
            }
            state.lost = true;
            return Err(RepositoryError::LockLost {
                purpose: known.holder.purpose,
            });
        }
    }

    /// Removes the lock. Blocks until it is gone; where it cannot be removed, others find it stale, or its process gone.
    pub fn release(mut self) {
        self.shared.let_go();
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
    }

    /// Does `work` under the lock, then releases it. Blocks.
    pub fn during<T>(self, work: impl FnOnce(&Self) -> T) -> T {
        let done = work(&self);
        self.release();
        done
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the keeping thread to remove the lock.
    fn let_go(&self) {
        self.state().released = true;
        self.changed.notify_all();
    }

    fn keep_until_released(&self, every: Duration) {
        while self.is_held_for(every) {
            // A refresh that fails is tried again; `check` says when it failed for too long.
            self.refresh().ok();
        }
        self.remove();
    }

    /// Waits for `period`, or until the lock is released; whether it is still held.
    fn is_held_for(&self, period: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), period, |state| !state.released)
            .unwrap_or_else(PoisonError::into_inner);
        !state.released
    }

    fn is_there(&self, lock: LockId) -> Result<bool, RepositoryError> {
        match self.storage.size(&lock_name(lock)?) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the lock under all its names, and tries again where that fails. What stays behind all the same is found stale,
    /// or its process gone.
    fn remove(&self) {
        for attempt in 0..REMOVALS {
            if attempt > 0 {
                std::thread::sleep(BETWEEN_REMOVALS);
            }
            let State {
                holder,
                left_behind,
                ..
            } = self.state().clone();
            let all = left_behind.into_iter().chain([holder.lock_id]);
            let left: Vec<LockId> = all.filter(|lock| !self.is_removed(*lock)).collect();
            if left.is_empty() {
                return;
            }
            self.state().left_behind = left;
        }
    }

    fn is_removed(&self, lock: LockId) -> bool {
        let removed = lock_name(lock).and_then(|name| self.storage.delete(&name));
        removed.is_ok()
    }

    /// Writes the lock under a new name, then removes the old one: there is no moment without it. Only the keeping
    /// thread does, so nobody else changes the holder.
    fn refresh(&self) -> Result<(), RepositoryError> {
        let State { holder, lost, .. } = self.state().clone();
        if lost {
            return Ok(());
        }
        if !self.is_there(holder.lock_id)? {
            self.state().lost = true;
            return Ok(());
        }
        let old_lock = holder.lock_id;
        let old = lock_name(old_lock)?;
        let holder = LockHolder {
            lock_id: LockId(Uuid::now_v7()),
            refreshed_at: Utc::now().trunc_subsecs(3),
            ..holder
        };
        write_lock(&self.storage, &holder)?;
        let new = lock_name(holder.lock_id)?;
        {
            let mut state = self.state();
            state.holder = holder;
            state.refreshed = Instant::now();
        }
        // Those of earlier refreshes as well.
        let mut left_behind = std::mem::take(&mut self.state().left_behind);
        left_behind.retain(|lock| !self.is_removed(*lock));
        self.state().left_behind = left_behind;
        let is_there = self.is_there(old_lock);
        // Broken while the new one was written: the word of the operator stands.
        if matches!(is_there, Ok(false)) {
            self.state().lost = true;
            return self.storage.delete(&new);
        }
        let removed = is_there.and_then(|_| self.storage.delete(&old));
        removed.inspect_err(|_| self.state().left_behind.push(old_lock))
    }
}
