//! Backups as they are listed and shown.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::repository::{BackupId, Completion, Manifest};

use super::answer::BackedUpPartition;

/// Topics of a backup or a job that a list tells.
pub const LISTED_TOPICS: usize = 10;

/// A backup in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupSummary {
    /// Its id.
    #[schema(value_type = String)]
    pub backup_id: BackupId,
    /// The repository's name in the configuration.
    pub repository: String,
    /// The cluster's name: in the configuration or, where no configured cluster is known to be it, when the backup was made. None where
    /// neither is known.
    pub cluster_id: Option<String>,
    /// Kafka's own id of the cluster.
    pub kafka_cluster_id: String,
    /// The policy that made it; none when somebody asked for it.
    pub policy: Option<String>,
    /// completed or incomplete.
    #[schema(value_type = String)]
    pub status: Completion,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was durable.
    pub finished_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it is of a part alone, on which later backups do not build.
    pub one_off: bool,
    /// Its topics; in lists the first 10.
    pub topics: Vec<String>,
    /// How many topics it has.
    pub topics_count: usize,
    /// How many partitions they have in it.
    pub partitions: u64,
    /// Records in it.
    pub total_messages: u64,
    /// Bytes of record batches in it.
    pub total_size_bytes: u64,
    /// The same as they lie in the repository, shared with other backups.
    pub compressed_size_bytes: u64,
    /// Bytes that it was the first to copy.
    pub new_bytes: u64,
}

impl BackupSummary {
    /// The same with the name of its cluster, and with no more than so many topics.
    pub fn shown(&self, cluster_id: Option<&str>, most_topics: usize) -> Self {
        let topics = self.topics.iter().take(most_topics);
        Self {
            repository: self.repository.clone(),
            cluster_id: cluster_id.map(str::to_owned),
            kafka_cluster_id: self.kafka_cluster_id.clone(),
            policy: self.policy.clone(),
            topics: topics.cloned().collect(),
            ..*self
        }
    }

    /// Of a backup in this repository; its cluster's name is the one that it had when the backup was made.
    pub fn of(manifest: &Manifest, repository: &str) -> Self {
        let partitions = manifest
            .topics
            .iter()
            .map(|topic| topic.partitions.len() as u64);
        let took = (manifest.finished_at - manifest.started_at).num_milliseconds();
        Self {
            backup_id: manifest.backup_id,
            repository: repository.to_owned(),
            cluster_id: manifest.cluster_name.clone(),
            kafka_cluster_id: manifest.cluster_id.clone(),
            policy: manifest.policy.clone(),
            status: manifest.status,
            created_at: manifest.started_at,
            finished_at: manifest.finished_at,
            duration_ms: u64::try_from(took).unwrap_or(0),
            one_off: manifest.selection.is_some(),
            topics: manifest
                .topics
                .iter()
                .map(|topic| topic.topic.clone())
                .collect(),
            topics_count: manifest.topics.len(),
            partitions: partitions.sum(),
            total_messages: manifest.totals.records,
            total_size_bytes: manifest.totals.bytes,
            compressed_size_bytes: manifest.totals.stored_bytes,
            new_bytes: manifest.totals.new_bytes,
        }
    }
}

/// A page of backups, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupPage {
    /// The backups.
    pub backups: Vec<BackupSummary>,
    /// Give this as `after` for the next page; none on the last.
    pub next: Option<String>,
    /// Backups whose manifest is damaged; `kafkeep verify` tells more.
    pub damaged: Vec<String>,
}

/// A backup, in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackupDetails {
    /// What the list shows of it.
    #[serde(flatten)]
    pub summary: BackupSummary,
    /// Its topics, with their partitions.
    pub topic_details: Vec<BackedUpTopic>,
}

/// A topic of a backup.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackedUpTopic {
    /// Its name.
    pub topic: String,
    /// How many partitions it had.
    pub partition_count: u32,
    /// Its replication factor.
    pub replication_factor: i16,
    /// Its partitions in the backup.
    pub partitions: Vec<BackedUpPartition>,
}

impl BackupDetails {
    /// Of a backup that is listed like this.
    pub fn new(summary: BackupSummary, manifest: &Manifest) -> Self {
        let topics = manifest.topics.iter().map(|topic| BackedUpTopic {
            topic: topic.topic.clone(),
            partition_count: topic.partition_count,
            replication_factor: topic.replication_factor,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let bounds = partition.start_offset..partition.end_offset;
                    let (id, records) = (partition.partition, partition.records);
                    BackedUpPartition::new(id, records, bounds, &partition.gaps)
                })
                .collect(),
        });
        Self {
            summary,
            topic_details: topics.collect(),
        }
    }
}

/// A backup that was taken away.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeletedBackup {
    /// Its id.
    #[schema(value_type = String)]
    pub backup_id: BackupId,
    /// deleted.
    pub status: &'static str,
    /// Bytes that became free.
    pub freed_bytes: u64,
}

/// `GET /api/kafka/metrics`
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BackupMetrics {
    /// Backups that work now.
    pub active_backups: u64,
    /// Backups that were completed since midnight (UTC).
    pub completed_backups_today: u64,
    /// What all repositories take, in units of 10^9 bytes.
    pub total_backup_size_gb: f64,
    /// How long the backups that are there took on average.
    pub average_backup_duration_ms: u64,
    /// How much smaller the backups that are there lie than Kafka holds them.
    pub compression_savings_percent: f64,
    /// Of the backups that ended since midnight (UTC), how many failed.
    pub error_rate_percent: f64,
}

impl BackupMetrics {
    /// From the backups that are there, and from what is counted elsewhere.
    pub fn new<'a>(
        backups: impl Iterator<Item = &'a BackupSummary>,
        repositories_bytes: u64,
        active: u64,
        failed_today: u64,
        now: DateTime<Utc>,
    ) -> Self {
        let (mut count, mut took, mut bytes, mut stored, mut today) =
            (0_u64, 0_u128, 0_u128, 0_u128, 0_u64);
        for backup in backups {
            count += 1;
            took += u128::from(backup.duration_ms);
            bytes += u128::from(backup.total_size_bytes);
            stored += u128::from(backup.compressed_size_bytes);
            let is_of_today = backup.finished_at.date_naive() == now.date_naive();
            today += u64::from(is_of_today && backup.status == Completion::Completed);
        }
        let average = took.checked_div(u128::from(count)).unwrap_or(0);
        let savings = match bytes {
            0 => 0.0,
            bytes => 100.0 * (1.0 - stored as f64 / bytes as f64),
        };
        let error_rate = match today + failed_today {
            0 => 0.0,
            ended => 100.0 * failed_today as f64 / ended as f64,
        };
        Self {
            active_backups: active,
            completed_backups_today: today,
            total_backup_size_gb: round(repositories_bytes as f64 / 1e9, 1e6),
            average_backup_duration_ms: u64::try_from(average).unwrap_or(u64::MAX),
            compression_savings_percent: round(savings, 10.0),
            error_rate_percent: round(error_rate, 10.0),
        }
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }

    fn finished(time: &str, status: Completion) -> BackupSummary {
        BackupSummary {
            backup_id: "20261124T235900000Z-3f9a1c".parse().unwrap(),
            repository: "main".to_owned(),
            cluster_id: None,
            kafka_cluster_id: "id".to_owned(),
            policy: None,
            status,
            created_at: at("2026-11-24T23:59:00Z"),
            finished_at: at(time),
            duration_ms: 30,
            one_off: false,
            topics: vec!["orders".to_owned()],
            topics_count: 1,
            partitions: 1,
            total_messages: 10,
            total_size_bytes: 1000,
            compressed_size_bytes: 250,
            new_bytes: 1000,
        }
    }

    #[test]
    fn a_list_tells_of_a_backup_a_few_topics_and_how_many_there_are() {
        let mut backup = finished("2026-11-25T00:00:00Z", Completion::Completed);
        backup.topics = (0..10_000).map(|n| format!("topic-{n}")).collect();
        backup.topics_count = backup.topics.len();
        let shown = backup.shown(Some("prod"), LISTED_TOPICS);
        assert_eq!(shown.topics, backup.topics[..10]);
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["topics_count"], 10_000);
        assert_eq!(json["cluster_id"], "prod");
        assert_eq!(backup.shown(None, usize::MAX).topics.len(), 10_000);
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let backups = [
            finished("2026-11-24T23:59:59.999Z", Completion::Completed),
            finished("2026-11-25T00:00:00Z", Completion::Completed),
            finished("2026-11-25T00:00:01Z", Completion::Completed),
            finished("2026-11-25T00:00:02Z", Completion::Incomplete),
        ];
        let of = |now: &str, failed| {
            let metrics = BackupMetrics::new(backups.iter(), 1_500_000_000, 1, failed, at(now));
            (metrics.completed_backups_today, metrics.error_rate_percent)
        };
        assert_eq!(of("2026-11-24T23:59:59.999Z", 1), (1, 50.0));
        assert_eq!(of("2026-11-25T23:59:59Z", 1), (2, 33.3));
        assert_eq!(of("2026-11-26T00:00:00Z", 0), (0, 0.0));
        let all = BackupMetrics::new(
            backups.iter(),
            1_500_000_000,
            1,
            0,
            at("2026-11-26T00:00:00Z"),
        );
        assert_eq!(
            (
                all.total_backup_size_gb,
                all.average_backup_duration_ms,
                all.compression_savings_percent
            ),
            (1.5, 30, 75.0)
        );
    }
}
