//! What tells a batch from every other that a log could have in its place, without its bytes.

use serde::{Deserialize, Serialize};

use crate::record::{BatchRef, LeaderEpoch, Offset, Timestamp};

/// A batch's bounds, the leader that wrote it, and its sum.
///
/// Two logs that hold the same batch at the same offset under the same leader epoch are the same log up to there (KIP-101):
/// so evidence of one batch proves all that is before it. The log cleaner rewrites batches: it keeps their bounds and their
/// leader epoch, and changes the rest (`MemoryRecords.filterTo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchEvidence {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its last offset, whether or not a record is left there.
    pub last_offset: Offset,
    /// The epoch of the leader that wrote it; -1 where the log knows none.
    pub leader_epoch: LeaderEpoch,
    /// The producer's own sum, which covers all but the base offset and the leader epoch.
    pub crc32c: u32,
    /// The largest timestamp of a record.
    pub max_timestamp: Timestamp,
}

impl BatchEvidence {
    /// One past its last offset.
    pub fn end_offset(&self) -> Offset {
        Offset(self.last_offset.0.saturating_add(1))
    }

    /// Whether a batch can have such bounds.
    pub(super) fn is_possible(&self) -> bool {
        0 <= self.base_offset.0
            && self.base_offset <= self.last_offset
            && self.last_offset.0 < i64::MAX
    }
}

impl From<&BatchRef<'_>> for BatchEvidence {
    fn from(batch: &BatchRef<'_>) -> Self {
        Self {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            leader_epoch: batch.leader_epoch(),
            crc32c: batch.crc(),
            max_timestamp: batch.max_timestamp(),
        }
    }
}
