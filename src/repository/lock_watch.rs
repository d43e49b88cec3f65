//! The locks of others as this process saw them: what nobody refreshed for long enough is nobody's any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::lock_holder::{LockHolder, LockId, STALE_AFTER};

/// When each lock was seen first. Only the observer's own steady clock counts: the times in a lock are of another clock.
#[derive(Debug, Default)]
pub(super) struct LockWatch(Mutex<BTreeMap<LockId, Instant>>);

impl LockWatch {
    /// Takes note of all the locks that are there at `now`.
    pub fn saw(&self, holders: &[LockHolder], now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = holders.iter().map(|holder| {
            let first = seen.get(&holder.lock_id).copied();
            (holder.lock_id, first.unwrap_or(now))
        });
        *seen = there.collect();
    }

    /// Whether a lock was seen for longer than [`STALE_AFTER`] under one id. Its holder gives it up after the same time
    /// without a refresh, which began earlier.
    pub fn is_abandoned(&self, lock: LockId, now: Instant) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.get(&lock);
        first.is_some_and(|first| now.saturating_duration_since(*first) > STALE_AFTER)
    }
}
