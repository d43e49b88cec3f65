//! Where transactions begin and end: what a restore must know to leave out those that were aborted or never ended.

use serde::{Deserialize, Serialize};

use crate::record::{Offset, PartitionId, ProducerId};

/// What happened to a producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransactionEventKind {
    /// Its first offset in this block or pack; it may have begun earlier.
    Begin,
    /// A marker that commits it.
    Commit,
    /// A marker that aborts it.
    Abort,
}

/// A producer's transaction begins or ends at an offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionEvent {
    /// The partition's number.
    pub partition: PartitionId,
    /// The producer whose transaction it is.
    pub producer_id: ProducerId,
    /// The producer's epoch, as in the batch.
    pub producer_epoch: i16,
    /// Base offset of the data batch or of the marker.
    pub offset: Offset,
    /// Whether it begins, commits or aborts.
    pub kind: TransactionEventKind,
}
