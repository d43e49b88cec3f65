//! What a backup is going to copy: the bounds of every partition, fixed before the first fetch.

use crate::engine::chain::{ChainEnd, Generation};
use crate::engine::groups::GroupsState;
use crate::engine::refusal::Refusal;
use crate::engine::topic_configuration::TopicConfiguration;
use crate::engine::transactions::OpenTransactions;
use crate::kafka::{BrokerId, TopicPartition};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::repository::{Gap, PartitionEntry};

use super::adopt::{Adoptable, SealedExtent};

/// What a run is going to copy, topic by topic.
#[derive(Debug)]
pub struct BackupPlan {
    /// The source.
    pub cluster_id: String,
    /// The chosen topics, by name.
    pub topics: Vec<TopicPlan>,
    /// Where consumer groups stood before the bounds were read; none when they are not wanted.
    pub groups: Option<GroupsState>,
    /// What should be looked at, such as manifests that could not be read.
    pub warnings: Vec<Refusal>,
    /// What interrupted runs had sealed.
    pub(super) adoptable: Adoptable,
}

/// One topic of a plan.
#[derive(Debug)]
pub struct TopicPlan {
    /// Its name.
    pub topic: String,
    /// Its id; zero where the brokers are older than topic ids.
    pub topic_id: TopicId,
    /// How many partitions it has, chosen or not.
    pub partition_count: u32,
    /// How many replicas a partition has.
    pub replication_factor: i16,
    /// What was set for it, and where.
    pub configuration: TopicConfiguration,
    /// What earlier backups hold of this generation.
    pub chain: Option<ChainEnd>,
    /// Why the chain that there was is not continued.
    pub chain_restarted: Option<String>,
    /// The chosen partitions.
    pub partitions: Vec<PartitionPlan>,
}

/// The bounds of one partition.
#[derive(Debug, Clone)]
pub struct PartitionPlan {
    /// Which partition.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: BrokerId,
    /// Under which epoch.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that belongs to the backup.
    pub start: Offset,
    /// The first offset to fetch: the chain's end where there is one.
    pub resume: Offset,
    /// The epoch of the last batch that the chain holds, to detect a fork.
    pub resume_epoch: Option<LeaderEpoch>,
    /// The first offset beyond the backup: the high watermark now.
    pub end: Offset,
    /// How many messages to take at most.
    pub max_messages: Option<u64>,
    /// Offsets that the source no longer had when they were due.
    pub gaps: Vec<Gap>,
    /// What interrupted runs had sealed behind the chain's end; `resume` lies behind it.
    pub(super) adopted: Vec<SealedExtent>,
    /// Transactions that have begun and not ended below `resume`.
    pub(super) open: OpenTransactions,
}

impl BackupPlan {
    /// The partitions with their topics; a partition's place among them is its slot in the run's table.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&TopicPlan, &PartitionPlan)> {
        self.topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |partition| (topic, partition))
        })
    }

    /// How many offsets are to be copied: an upper bound of the records.
    pub fn offsets_ahead(&self) -> u64 {
        self.topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| {
                partition
                    .max_messages
                    .unwrap_or(span(partition.resume, partition.end))
            })
            .sum()
    }
}

/// How many offsets `[start, end)` has.
pub(super) fn span(start: Offset, end: Offset) -> u64 {
    u64::try_from(end.0.saturating_sub(start.0)).unwrap_or(0)
}

impl TopicPlan {
    /// One of its partitions, by name and number.
    pub(super) fn key(&self, partition: PartitionId) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition,
        }
    }

    /// Which life of the topic this is.
    pub(super) fn generation(&self, cluster_id: &str) -> Generation {
        Generation {
            cluster_id: cluster_id.to_owned(),
            topic: self.topic.clone(),
            topic_id: self.topic_id,
        }
    }

    /// What the chain holds of a partition.
    pub(super) fn entry(&self, partition: PartitionId) -> Option<&PartitionEntry> {
        self.chain.as_ref()?.partitions.get(&partition)
    }

    /// One past what the chain and interrupted runs hold of a partition.
    pub(super) fn held(&self, partition: &PartitionPlan) -> Option<Offset> {
        let adopted = partition.adopted.last();
        let chain = self.entry(partition.partition);
        adopted
            .map(|last| last.extent.end_offset())
            .or(chain.map(|entry| entry.end_offset))
    }
}

/// What a log that starts at `log_start` no longer has of what was due from `held` on.
pub(super) fn gap(held: Option<Offset>, log_start: Offset) -> Option<Gap> {
    held.filter(|held| *held < log_start).map(|held| Gap {
        start_offset: held,
        end_offset: log_start,
        reason: "the source deleted them before they were backed up (retention or DeleteRecords)"
            .to_owned(),
    })
}
