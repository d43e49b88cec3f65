//! What a restore tells of itself when it is done.

use serde::Serialize;

use crate::record::{Offset, PartitionId};
use crate::repository::BackupId;

/// The report of one restore; `--json` prints it as it is.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The backup restored from.
    pub backup_id: BackupId,
    /// The cluster restored to.
    pub cluster_id: String,
    /// `completed`: a restore that could not be completed is an error instead.
    pub status: &'static str,
    /// How long it took.
    pub duration_ms: u64,
    /// By target.
    pub topics: Vec<RestoredTopic>,
    /// Records written.
    pub messages_restored: u64,
    /// Bytes of batches written.
    pub total_size_bytes: u64,
    /// How offsets of the source relate to those of the target.
    pub offsets: &'static str,
    /// Consumer groups whose offsets were set: none without being asked for.
    pub groups: Vec<String>,
    /// Every block's CRC32 and every batch's CRC32C was checked on the way.
    pub checksum_validated: bool,
}

/// One topic of a report.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredTopic {
    /// Its name in the backup.
    pub topic: String,
    /// Its name in the target.
    pub target_topic: String,
    /// Whether it was created.
    pub created: bool,
    /// By target partition.
    pub partitions: Vec<RestoredPartition>,
    /// What was left out of it, and why.
    pub skipped: Skipped,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// One target partition of a report.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredPartition {
    /// Its number in the target.
    pub partition: PartitionId,
    /// Records written.
    pub records: u64,
    /// The first offset written.
    pub start_offset: Offset,
    /// The first offset beyond what was written.
    pub end_offset: Offset,
}

/// Records that were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Their transaction was aborted.
    pub aborted: u64,
    /// Their transaction had no marker below the backup's end.
    pub open: u64,
    /// Transaction markers: the target writes its own.
    pub control: u64,
    /// Outside the times asked for.
    pub cut: u64,
}
