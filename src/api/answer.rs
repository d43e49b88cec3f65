//! The documented answers, made from the engine's reports.

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::backup::BackupReport;
use crate::engine::drain::{DrainReport, Verdict};
use crate::engine::mirror::MirrorReport;
use crate::engine::refusal::{Reader, Refusal};
use crate::engine::restore::{Offsets, RestoreReport};
use crate::engine::verify::{Depth, Soundness, VerifyReport};
use crate::record::{Compression, Offset, PartitionId};
use crate::repository::{Completion, Gap};

use super::order::{BackupOrder, DrainOrder, MigrateOrder, RestoreOrder, ValidateOrder};

/// What a call came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Answer {
    /// A backup was made.
    Backup(BackupAnswer),
    /// A topic was restored.
    Restore(RestoreAnswer),
    /// A topic was copied.
    Migrate(MigrationAnswer),
    /// A group was watched.
    Drain(DrainAnswer),
    /// A backup was verified.
    Validate(ValidationAnswer),
}

impl Answer {
    /// Whether a part of what was asked for is missing.
    pub fn is_incomplete(&self) -> bool {
        let status = match self {
            Self::Backup(answer) => answer.status,
            Self::Restore(answer) => answer.status,
            Self::Migrate(answer) => answer.status,
            Self::Drain(_) | Self::Validate(_) => return false,
        };
        status == Completion::Incomplete
    }

    /// How it falls short of what was asked for, as a log says it; none when it does not.
    pub fn shortfall(&self) -> Option<String> {
        let first = |texts: &[String]| texts.first().cloned().unwrap_or_default();
        match self {
            Self::Backup(answer) if self.is_incomplete() => {
                Some(format!("is incomplete: {}", first(&answer.warnings)))
            }
            Self::Restore(answer) if self.is_incomplete() => {
                Some(format!("is incomplete: {}", first(&answer.notes)))
            }
            Self::Migrate(answer) if self.is_incomplete() => {
                Some(format!("is incomplete: {}", first(&answer.warnings)))
            }
            Self::Drain(answer) if answer.status != Verdict::Drained => Some(format!(
                "ended before the group was drained: {}",
                answer.reason
            )),
            Self::Validate(answer) if answer.status != Soundness::Sound => {
                let count = answer.findings_count;
                Some(format!("found the backup damaged in {count} places"))
            }
            _ => None,
        }
    }
}

/// A backup that was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupAnswer {
    /// Its id.
    pub backup_id: String,
    /// The topic.
    pub topic: String,
    /// The cluster's name in the configuration.
    pub cluster_id: String,
    /// Kafka's own id of the cluster.
    pub kafka_cluster_id: String,
    /// The repository's name in the configuration.
    pub repository: String,
    /// What most of the backup is compressed with in the repository: where earlier backups copied it, their codec. What was asked for
    /// where nothing is compressed but by its producers.
    pub compression: Compression,
    /// Records in the backup, however much of it was copied earlier.
    pub total_messages: u64,
    /// Bytes of record batches in it, as Kafka holds them.
    pub total_size_bytes: u64,
    /// The same as they lie in the repository.
    pub compressed_size_bytes: u64,
    /// Stored by total; 1 where there is nothing.
    pub compression_ratio: f64,
    /// How long it took.
    pub duration_ms: u64,
    /// Its partitions.
    pub partitions: Vec<BackedUpPartition>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// Incomplete where the source had deleted records before they were copied.
    pub status: Completion,
    /// Records that this run copied.
    pub new_messages: u64,
    /// Bytes that this run copied.
    pub new_bytes: u64,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

/// A partition of a backup.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackedUpPartition {
    /// Its number.
    pub partition: i32,
    /// Records in the backup.
    pub messages_count: u64,
    /// The first offset.
    pub start_offset: i64,
    /// The first offset beyond it.
    pub end_offset: i64,
    /// Offsets in between that the source no longer had.
    pub gap_offsets: u64,
}

impl BackedUpPartition {
    /// With so many records and these gaps between its bounds.
    pub(super) fn new(
        partition: PartitionId,
        records: u64,
        bounds: Range<Offset>,
        gaps: &[Gap],
    ) -> Self {
        Self {
            partition: partition.0,
            messages_count: records,
            start_offset: bounds.start.0,
            end_offset: bounds.end.0,
            gap_offsets: gaps.iter().map(Gap::offsets).sum(),
        }
    }
}

impl BackupAnswer {
    /// Of a backup of one topic, which is stored with this codec.
    pub fn new(order: &BackupOrder, report: BackupReport, stored: Option<Compression>) -> Self {
        let partitions = report.topics.iter().flat_map(|topic| &topic.partitions);
        let partitions = partitions.map(|partition| {
            let bounds = partition.start_offset..partition.end_offset;
            BackedUpPartition::new(
                partition.partition,
                partition.records,
                bounds,
                &partition.gaps,
            )
        });
        Self {
            backup_id: report.backup_id.to_string(),
            topic: order.topic.clone(),
            cluster_id: order.cluster.clone(),
            kafka_cluster_id: report.cluster_id,
            repository: order.repository.clone(),
            compression: stored.unwrap_or(order.options.compression),
            total_messages: report.total_messages,
            total_size_bytes: report.total_size_bytes,
            compressed_size_bytes: report.compressed_size_bytes,
            compression_ratio: report.compression_ratio,
            duration_ms: report.duration_ms,
            partitions: partitions.collect(),
            created_at: report.started_at,
            status: report.status,
            new_messages: report.new_messages,
            new_bytes: report.new_bytes,
            warnings: for_callers(&report.warnings),
        }
    }
}

/// A topic that was restored.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RestoreAnswer {
    /// The backup restored from.
    pub backup_id: String,
    /// The topic in the backup.
    pub topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// The cluster's name in the configuration.
    pub cluster_id: String,
    /// Kafka's own id of the cluster.
    pub kafka_cluster_id: String,
    /// Records that the target holds now.
    pub total_messages: u64,
    /// Bytes of batches that it holds now.
    pub total_size_bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The same as total_messages.
    pub messages_restored: u64,
    /// The partitions of the topic.
    pub partitions_created: Vec<RestoredPartition>,
    /// Incomplete where a part of the backup is damaged.
    pub status: Completion,
    /// Whether every checksum was checked: it always is, on the way.
    pub checksum_validated: bool,
    /// How offsets of the source relate to those of the target.
    pub offsets: Offsets,
    /// Records that were left out, of aborted and open transactions.
    pub messages_skipped: u64,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// A partition of a restored topic.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RestoredPartition {
    /// Its number.
    pub partition: i32,
    /// Records in it.
    pub messages_count: u64,
    /// The first offset written.
    pub start_offset: i64,
    /// The first offset beyond what was written.
    pub end_offset: i64,
}

impl RestoreAnswer {
    /// Of a restore of one topic.
    pub fn new(order: &RestoreOrder, report: RestoreReport) -> Self {
        let partitions = report.topics.iter().flat_map(|topic| &topic.partitions);
        let partitions = partitions.map(|partition| RestoredPartition {
            partition: partition.partition.0,
            messages_count: partition.records,
            start_offset: partition.start_offset.0,
            end_offset: partition.end_offset.0,
        });
        let skipped = report
            .topics
            .iter()
            .map(|topic| topic.skipped.aborted + topic.skipped.open);
        let damaged = report.damaged.iter();
        let damaged = damaged.map(|damaged| damaged.text_for(Reader::Caller));
        let notes = report.topics.iter().flat_map(|topic| topic.notes.clone());
        Self {
            backup_id: report.backup_id.to_string(),
            topic: order.topic.clone(),
            target_topic: order.target_topic.clone(),
            cluster_id: order.cluster.clone(),
            kafka_cluster_id: report.cluster_id.clone(),
            total_messages: report.messages_restored,
            total_size_bytes: report.total_size_bytes,
            duration_ms: report.duration_ms,
            messages_restored: report.messages_restored,
            partitions_created: partitions.collect(),
            status: report.status,
            checksum_validated: report.checksum_validated,
            offsets: order.options.offsets,
            messages_skipped: skipped.sum(),
            notes: damaged.chain(notes).collect(),
        }
    }
}

/// A topic that was copied.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MigrationAnswer {
    /// The job's id, as the migration's.
    pub migration_id: String,
    /// The source's name in the configuration.
    pub source_cluster: String,
    /// The topic there.
    pub source_topic: String,
    /// The target's name in the configuration.
    pub target_cluster: String,
    /// The topic there.
    pub target_topic: String,
    /// Records of the source that were looked at.
    pub total_messages: u64,
    /// Records that came into the target.
    pub messages_migrated: u64,
    /// Records that the filter left out.
    pub messages_filtered: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Incomplete where a partition is permanently stopped.
    pub status: Completion,
    /// Whether records were transformed.
    pub transformation_applied: bool,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

impl MigrationAnswer {
    /// Of a migration under this id.
    pub fn new(order: &MigrateOrder, migration_id: String, report: MirrorReport) -> Self {
        let filtered: u64 = report
            .partitions
            .iter()
            .map(|partition| partition.filtered_records)
            .sum();
        let stand = report.partitions.iter().filter_map(|partition| {
            let problem = partition.problem.as_ref()?.text_for(Reader::Caller);
            Some(format!(
                "{}-{}: {problem}",
                partition.topic, partition.partition
            ))
        });
        let mut warnings: Vec<String> = stand.collect();
        warnings.extend(report.warnings);
        Self {
            migration_id,
            source_cluster: order.source.clone(),
            source_topic: order.source_topic.clone(),
            target_cluster: order.target.clone(),
            target_topic: order.target_topic.clone(),
            total_messages: report.records + filtered,
            messages_migrated: report.records,
            messages_filtered: filtered,
            duration_ms: report.duration_ms,
            status: report.status,
            transformation_applied: order.options.transform.is_some(),
            warnings,
        }
    }
}

/// A group that was watched.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DrainAnswer {
    /// The group.
    pub group_id: String,
    /// drained, or what it was when the time was over.
    pub status: Verdict,
    /// What is left in all partitions.
    pub total_lag: u64,
    /// Since the first check began.
    pub duration_ms: u64,
    /// Partitions in the last check.
    pub partitions_checked: u64,
    /// When the last check began.
    pub last_check_time: DateTime<Utc>,
    /// The partitions: of more than 1000 those with the most lag.
    pub partition_details: Vec<DrainedPartition>,
    /// The cluster's name in the configuration.
    pub cluster_id: String,
    /// Whether the time was over before the group was drained.
    pub timed_out: bool,
    /// The verdict in words, with what to do about it.
    pub reason: String,
    /// Seconds until it is drained, when it goes on like this.
    pub eta_seconds: Option<u64>,
    /// What else should be known.
    pub warnings: Vec<String>,
}

/// A group's place in a partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DrainedPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the group has committed; none when it has not.
    pub current_offset: Option<i64>,
    /// The end of the log as the group reads it.
    pub latest_offset: i64,
    /// What is left.
    pub lag: u64,
}

impl DrainAnswer {
    /// Of a watch over one group.
    pub fn new(order: &DrainOrder, report: DrainReport) -> Self {
        let group = report.groups.first();
        let reason = group.map(|group| group.reason.text_for(Reader::Caller));
        let partitions = report
            .partition_details
            .iter()
            .map(|partition| DrainedPartition {
                topic: partition.topic.clone(),
                partition: partition.partition.0,
                current_offset: partition.current_offset.map(|offset| offset.0),
                latest_offset: partition.latest_offset.0,
                lag: partition.lag,
            });
        Self {
            group_id: order.group_id.clone(),
            status: report.status,
            total_lag: report.total_lag,
            duration_ms: report.duration_ms,
            partitions_checked: report.partitions_checked,
            last_check_time: report.last_check_time,
            partition_details: most_lagging(partitions.collect()),
            cluster_id: order.cluster.clone(),
            timed_out: report.timed_out,
            reason: reason.unwrap_or_default(),
            eta_seconds: group.and_then(|group| group.eta_seconds),
            warnings: report.warnings.into_iter().take(TEXTS_LIMIT).collect(),
        }
    }
}

/// Warnings as callers read them.
fn for_callers(warnings: &[Refusal]) -> Vec<String> {
    let warnings = warnings.iter().take(TEXTS_LIMIT);
    warnings
        .map(|warning| warning.text_for(Reader::Caller))
        .collect()
}

/// Partitions that are told of; partitions_checked counts all of them.
const DETAILS_LIMIT: usize = 1000;
/// Warnings that are told.
const TEXTS_LIMIT: usize = 100;

/// Those with the most lag, in their order.
fn most_lagging(mut partitions: Vec<DrainedPartition>) -> Vec<DrainedPartition> {
    if partitions.len() > DETAILS_LIMIT {
        partitions.sort_by_key(|partition| std::cmp::Reverse(partition.lag));
        partitions.truncate(DETAILS_LIMIT);
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    }
    partitions
}

/// A backup that was verified.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ValidationAnswer {
    /// The backup.
    pub backup_id: String,
    /// The repository's name in the configuration.
    pub repository: String,
    /// Whether something is wrong.
    pub status: Soundness,
    /// How deep.
    pub depth: Depth,
    /// Packs that were looked at.
    pub packs: u64,
    /// Blocks that were read and checked.
    pub blocks: u64,
    /// Record batches whose own checksum was checked.
    pub batches: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, at most 1000 of it.
    pub findings: Vec<ValidationFinding>,
    /// How much is wrong.
    pub findings_count: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ValidationFinding {
    /// What.
    pub problem: String,
    /// The topic that it touches.
    pub topic: Option<String>,
    /// The partition that it touches.
    pub partition: Option<i32>,
    /// The first offset that it touches.
    pub first_offset: Option<i64>,
    /// The last offset that it touches.
    pub last_offset: Option<i64>,
}

/// Of a repository that is gone altogether, more would tell nothing.
const FINDINGS_LIMIT: usize = 1000;

impl ValidationAnswer {
    /// Of one backup.
    pub fn new(order: &ValidateOrder, report: VerifyReport) -> Self {
        let findings_count = report.findings.len() as u64;
        let findings = report.findings.into_iter().take(FINDINGS_LIMIT);
        let findings = findings.map(|finding| ValidationFinding {
            problem: finding.problem.text_for(Reader::Caller),
            topic: finding.topic,
            partition: finding.partition.map(|partition| partition.0),
            first_offset: finding.first_offset.map(|offset| offset.0),
            last_offset: finding.last_offset.map(|offset| offset.0),
        });
        Self {
            backup_id: order.backup_id.to_string(),
            repository: order.repository.clone(),
            status: report.status,
            depth: report.depth,
            packs: report.packs,
            blocks: report.blocks,
            batches: report.batches,
            bytes: report.bytes,
            findings: findings.collect(),
            findings_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(status: Verdict) -> DrainAnswer {
        DrainAnswer {
            group_id: "g".to_owned(),
            status,
            total_lag: 1,
            duration_ms: 1,
            partitions_checked: 1,
            last_check_time: DateTime::UNIX_EPOCH,
            partition_details: Vec::new(),
            cluster_id: "prod".to_owned(),
            timed_out: true,
            reason: "1 record is left".to_owned(),
            eta_seconds: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_drain_that_is_not_drained_falls_short() {
        let shortfall = Answer::Drain(drained(Verdict::UnknownGroup)).shortfall();
        assert!(shortfall.unwrap().contains("1 record is left"));
        assert_eq!(Answer::Drain(drained(Verdict::Drained)).shortfall(), None);
    }

    #[test]
    fn of_many_partitions_those_with_the_most_lag_are_told_in_their_order() {
        let partition = |number: i32| DrainedPartition {
            topic: "t".to_owned(),
            partition: number,
            current_offset: None,
            latest_offset: 0,
            lag: u64::from(number % 2 == 1),
        };
        let told = most_lagging((0..2000).map(partition).collect());
        let numbers: Vec<i32> = told.iter().map(|partition| partition.partition).collect();
        assert_eq!(numbers, (0..1000).map(|n| 2 * n + 1).collect::<Vec<_>>());
    }
}
