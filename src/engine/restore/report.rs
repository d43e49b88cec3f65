//! What a restore tells of itself when it is done.

use serde::Serialize;

use crate::engine::refusal::{Reader, Refusal};
use crate::engine::settings::RefusedSetting;
use crate::kafka::GroupType;
use crate::record::{Offset, PartitionId};
use crate::repository::{BackupId, Completion};
use crate::words::words;

use super::Offsets;
use super::set_aside::SetAside;

/// The report of one restore; `--json` prints it as it is.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The backup restored from.
    pub backup_id: BackupId,
    /// The cluster restored to.
    pub cluster_id: String,
    /// `completed`, or `incomplete` when a part of the backup is damaged, or some group's offsets, or some setting, could not be set.
    pub status: Completion,
    /// How long it took.
    pub duration_ms: u64,
    /// By target.
    pub topics: Vec<RestoredTopic>,
    /// Topics of the target that an interrupted restore of the same backup had already finished.
    pub finished: Vec<String>,
    /// Records that are in the target now.
    pub messages_restored: u64,
    /// Of them, those that an interrupted restore had written and this one found to be what it would have sent.
    pub messages_found: u64,
    /// Bytes of batches that are in the target now.
    pub total_size_bytes: u64,
    /// How offsets of the source relate to those of the target.
    pub offsets: Offsets,
    /// Consumer groups that were asked for, and what became of their offsets.
    pub groups: Vec<RestoredGroup>,
    /// Every block's CRC32 and every batch's CRC32C was checked on the way, and was right.
    pub checksum_validated: bool,
    /// Everything was read back from the target, and was what had been sent.
    pub read_back: bool,
    /// Partitions of which a part could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedPartition>,
    /// Whether the same restore can go on, since a part was damaged: topics have not their final settings yet, and no group's
    /// offsets are set.
    #[serde(rename = "unfinished", skip_serializing_if = "std::ops::Not::not")]
    pub is_unfinished: bool,
    /// Settings that the target did not take at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_settings: Vec<RefusedSetting>,
    /// Settings of the source that were not set, since they could delete what was restored, and the commands that set them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
}

/// A partition of the backup that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedPartition {
    /// Its topic in the backup.
    pub topic: String,
    /// Its number there.
    pub partition: PartitionId,
    /// From this offset of the source on nothing of it is restored.
    pub from_offset: Offset,
    /// What is wrong.
    pub problem: Refusal,
}

impl DamagedPartition {
    /// What is missing of it, and why.
    pub fn text_for(&self, reader: Reader) -> String {
        let Self {
            topic,
            partition,
            from_offset,
            problem,
        } = self;
        let problem = problem.text_for(reader);
        format!("{topic}-{partition} is restored up to offset {from_offset} only: {problem}")
    }
}

impl std::fmt::Display for DamagedPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text_for(Reader::Operator))
    }
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
    /// Records that are there now.
    pub records: u64,
    /// Of them, those that an interrupted restore had written.
    pub found_records: u64,
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

/// One consumer group of a report.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredGroup {
    /// Its id.
    pub group: String,
    /// Its type in the source.
    #[serde(rename = "type")]
    pub group_type: GroupType,
    /// The gravest of its offsets' outcomes.
    pub outcome: OffsetOutcome,
    /// Why nothing at all was committed for it.
    pub reason: Option<String>,
    /// One by one.
    pub offsets: Vec<RestoredOffset>,
}

impl RestoredGroup {
    /// Whether something that was asked for was not done.
    pub fn is_refused(&self) -> bool {
        self.outcome == OffsetOutcome::Refused
    }
}

/// One offset of a group.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredOffset {
    /// The topic in the backup.
    pub topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// The partition, in both.
    pub partition: PartitionId,
    /// What the group had committed in the source.
    pub source_offset: Offset,
    /// What stands for it in the target: committed, unless the outcome says otherwise. None where nothing does.
    pub target_offset: Option<Offset>,
    /// What the group had committed in the target before.
    pub replaced_offset: Option<Offset>,
    /// What the client had written beside it.
    pub metadata: String,
    /// What became of it.
    pub outcome: OffsetOutcome,
    /// Why, unless it was applied.
    pub reason: Option<String>,
}

words! {
    /// What became of a group's offset; the graver the greater.
    pub enum OffsetOutcome {
        /// Its topic or partition was not restored: nothing was to be done.
        Skipped = "skipped",
        /// The group goes on in the target with the record that it would have read next in the source.
        Applied = "applied",
        /// The group goes on with the nearest record that there is.
        Clamped = "clamped",
        /// Nothing was committed.
        Refused = "refused",
    }
}
