//! What an export tells of itself when it is done.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{BackupId, Completion, Gap, PackId};

use super::ExportFormat;

/// The report of one export; `--json` prints it as it is.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    /// The backup exported from.
    pub backup_id: BackupId,
    /// `completed`; `incomplete` when a partition is damaged, or has gaps.
    pub status: Completion,
    /// What was written.
    pub format: ExportFormat,
    /// Where to.
    pub out: PathBuf,
    /// How long it took.
    pub duration_ms: u64,
    /// By topic.
    pub topics: Vec<ExportedTopic>,
    /// Records written, control records not counted.
    pub total_messages: u64,
    /// Bytes of segments or of JSON lines, indexes not counted.
    pub total_size_bytes: u64,
    /// The file that tells a broker where logs start within their first batch; none where none does.
    pub log_start_offset_checkpoint: Option<PathBuf>,
    /// Every block's CRC32 and every batch's CRC32C was checked on the way.
    pub checksum_validated: bool,
}

/// One topic of a report.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedTopic {
    /// Its name.
    pub topic: String,
    /// Its id; zero where the cluster knew none.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<ExportedPartition>,
}

/// One partition of a report.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedPartition {
    /// Its number.
    pub partition: PartitionId,
    /// Its directory or file; none when it is damaged and was left out.
    pub path: Option<PathBuf>,
    /// The first offset of the backup: where the log starts.
    pub start_offset: Offset,
    /// The first offset beyond the backup.
    pub end_offset: Offset,
    /// What was written.
    #[serde(flatten)]
    pub written: Written,
    /// Offsets that the backup does not hold.
    pub gaps: Vec<Gap>,
    /// What is wrong with it.
    pub damage: Option<Damage>,
}

/// What was written of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Records, control records not counted.
    pub records: u64,
    /// Control records, which only a log holds.
    pub control_records: u64,
    /// Bytes of segments or of JSON lines.
    pub bytes: u64,
    /// Records that were left out.
    pub omitted: Omitted,
    /// What is true of a log only.
    #[serde(flatten)]
    pub log: Option<WrittenLog>,
}

/// What was written as a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WrittenLog {
    /// How many segments.
    pub segments: u64,
    /// What the first segment is named after; below the start where the log starts within its first batch.
    pub first_segment: Offset,
    /// The first offset beyond the log.
    pub log_end_offset: Offset,
    /// Transactions that were aborted, as the `.txnindex` files list them.
    pub aborted_transactions: u64,
    /// Transactions that have no end in the log: it is stable only up to the first.
    pub open_transactions: u64,
}

/// Records that were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Omitted {
    /// Their transaction was aborted.
    pub aborted: u64,
    /// Their transaction had no marker below the backup's end.
    pub open: u64,
    /// Transaction markers.
    pub control: u64,
    /// Outside the backup's bounds, in a batch that reaches beyond them.
    pub cut: u64,
}

/// Why a partition could not be exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What is wrong.
    pub problem: String,
    /// The pack it lies in.
    pub pack: Option<PackId>,
    /// The topic it touches.
    pub topic: String,
    /// The partition it touches.
    pub partition: PartitionId,
    /// The first offset it touches.
    pub first_offset: Offset,
    /// The last offset it touches.
    pub last_offset: Offset,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = (&self.topic, self.partition);
        let (first, last) = (self.first_offset, self.last_offset);
        write!(f, "{topic}-{partition}, offsets {first} to {last}")?;
        if let Some(pack) = self.pack {
            write!(f, ", in pack {pack}")?;
        }
        write!(f, ": {}", self.problem)
    }
}
