//! What a backup tells of itself when it is done.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::engine::groups::GroupsState;
use crate::engine::refusal::Refusal;
use crate::kafka::GroupType;
use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{BackupId, Completion, Gap, Manifest};

/// The report of one run; `--json` prints it as it is.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The new backup.
    pub backup_id: BackupId,
    /// Whether all that was due is there.
    pub status: Completion,
    /// The source.
    pub cluster_id: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: u64,
    /// By name.
    pub topics: Vec<TopicReport>,
    /// Consumer groups whose committed offsets it holds, by name.
    pub groups: Vec<GroupReport>,
    /// Records in the backup, however much of it was copied earlier.
    pub total_messages: u64,
    /// Bytes of record batches in the backup, as Kafka holds them.
    pub total_size_bytes: u64,
    /// The same as they lie in the repository.
    pub compressed_size_bytes: u64,
    /// Stored by total; 1 where there is nothing.
    pub compression_ratio: f64,
    /// Records that this run copied.
    pub new_messages: u64,
    /// Bytes that this run copied.
    pub new_bytes: u64,
    /// The same as they were stored.
    pub new_stored_bytes: u64,
    /// Bytes that earlier backups had copied.
    pub reused_bytes: u64,
    /// What did not stop the run, but should be looked at.
    pub warnings: Vec<Refusal>,
}

/// One consumer group of a report.
#[derive(Debug, Clone, Serialize)]
pub struct GroupReport {
    /// Its id.
    pub group: String,
    /// Its type.
    #[serde(rename = "type")]
    pub group_type: GroupType,
    /// How many partitions of the backup it had committed offsets for.
    pub offsets: usize,
}

/// One topic of a report.
#[derive(Debug, Clone, Serialize)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// By number.
    pub partitions: Vec<PartitionReport>,
}

/// One partition of a report.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    /// Its number.
    pub partition: PartitionId,
    /// The first offset of the backup.
    pub start_offset: Offset,
    /// The first offset beyond it.
    pub end_offset: Offset,
    /// Below it no transaction was open.
    pub last_stable_offset: Offset,
    /// Records in the backup.
    pub records: u64,
    /// Bytes of record batches.
    pub bytes: u64,
    /// Offsets that the source no longer had when they were due.
    pub gaps: Vec<Gap>,
}

impl BackupReport {
    pub(super) fn of(
        manifest: &Manifest,
        groups: GroupsState,
        duration_ms: u64,
        warnings: Vec<Refusal>,
    ) -> Self {
        let groups = groups.groups.into_iter().map(|group| GroupReport {
            offsets: group.offsets(),
            group: group.group,
            group_type: group.group_type,
        });
        let totals = &manifest.totals;
        let compression_ratio = if totals.bytes == 0 {
            1.0
        } else {
            totals.stored_bytes as f64 / totals.bytes as f64
        };
        Self {
            backup_id: manifest.backup_id,
            status: manifest.status,
            cluster_id: manifest.cluster_id.clone(),
            started_at: manifest.started_at,
            duration_ms,
            topics: manifest.topics.iter().map(TopicReport::of).collect(),
            groups: groups.collect(),
            total_messages: totals.records,
            total_size_bytes: totals.bytes,
            compressed_size_bytes: totals.stored_bytes,
            compression_ratio,
            new_messages: totals.new_records,
            new_bytes: totals.new_bytes,
            new_stored_bytes: totals.new_stored_bytes,
            reused_bytes: totals.reused_bytes,
            warnings,
        }
    }
}

impl TopicReport {
    fn of(topic: &crate::repository::TopicEntry) -> Self {
        let partitions = topic.partitions.iter().map(|entry| PartitionReport {
            partition: entry.partition,
            start_offset: entry.start_offset,
            end_offset: entry.end_offset,
            last_stable_offset: entry.last_stable_offset,
            records: entry.records,
            bytes: entry.bytes,
            gaps: entry.gaps.clone(),
        });
        Self {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    }
}
