//! What a restore is going to do: a value to be printed, or applied.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::refusal::Refusal;
use crate::engine::settings::Settings;
use crate::kafka::{GroupType, NewTopic, ProducerIdentity};
use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{BackupId, RestoreId, Sha256, TopicEntry};

use super::Offsets;
use super::configuration::{SettingChanges, TIMESTAMP_BOUND_BEFORE_3_6, TIMESTAMP_BOUNDS};
use super::content::Judged;

/// A restore, before it happens.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    /// The backup restored from.
    pub backup_id: BackupId,
    /// The cluster restored to.
    pub cluster_id: String,
    /// Records with earlier timestamps are left out.
    pub from: Option<DateTime<Utc>>,
    /// Records with this timestamp or a later one are left out.
    pub until: Option<DateTime<Utc>>,
    /// Topics, by their name in the backup.
    pub topics: Vec<TopicRestore>,
    /// Topics of the target that an interrupted restore of the same backup had already finished.
    pub finished: Vec<String>,
    /// Consumer groups whose offsets are set afterwards; those of the backup that were asked for.
    pub groups: Vec<GroupRestore>,
    /// How offsets of the source relate to those of the target.
    pub offsets: Offsets,
    /// Why this plan cannot be applied; empty when it can.
    pub refused: Vec<Refusal>,
    /// Whether what is damaged or missing is left out.
    #[serde(skip)]
    pub(super) lacks: bool,
    /// Whether among the reasons is something that no other request changes: a topic of the target is there, or the backup is damaged.
    #[serde(skip)]
    pub(super) is_conflict: bool,
}

/// One topic of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct TopicRestore {
    /// Its name in the backup.
    pub topic: String,
    /// Its id in the backup.
    pub topic_id: TopicId,
    /// Its name in the target.
    pub target_topic: String,
    /// What happens to the target topic.
    pub action: TopicAction,
    /// The interrupted restore that had begun with it, and is gone on with: what that wrote is compared, not written again.
    pub interrupted: Option<Interrupted>,
    /// How many partitions the target has.
    pub target_partitions: u32,
    /// Whether records go where their key's murmur2 hash puts them, since the number of partitions differs.
    pub partitioned_by_key: bool,
    /// What is read, by source partition.
    pub partitions: Vec<PartitionRestore>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Settings that a topic that is there gets at the end; empty where it keeps its own.
    #[serde(skip_serializing_if = "SettingChanges::is_empty")]
    pub apply_afterwards: SettingChanges,
    /// Settings that stay -1 until an operator puts them back: what they are in the source, none for the default.
    #[serde(skip_serializing_if = "SettingChanges::is_empty")]
    pub set_aside: SettingChanges,
    #[serde(skip)]
    pub(super) index: Option<Sha256>,
    /// Its id in the target; zero where it is to be created, or brokers know no ids.
    #[serde(skip)]
    pub(super) target_topic_id: TopicId,
    /// How what was sent is compared with what the target holds.
    #[serde(skip)]
    pub(super) judged: Judged,
}

/// What happens to a target topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicAction {
    /// It is created.
    Create {
        /// With so many replicas.
        replication_factor: i16,
        /// Under these settings while records are written.
        configuration: Settings,
        /// With these set at the end; `null` stands for the target's default.
        afterwards: SettingChanges,
    },
    /// It is there, and written to behind its end.
    Append,
}

/// One source partition of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionRestore {
    /// Its number in the source.
    pub partition: PartitionId,
    /// The first offset of the backup.
    pub start_offset: Offset,
    /// The first offset beyond it.
    pub end_offset: Offset,
    /// Records in the backup, before those of aborted and open transactions are left out.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Transaction markers, which are always left out.
    pub control_records: u64,
    /// Transactions without a marker below the backup's end, which are left out.
    pub open_transactions: u64,
}

/// The restore that a topic of a plan goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interrupted {
    /// Its id.
    pub restore_id: RestoreId,
    /// When it began.
    pub started_at: DateTime<Utc>,
    #[serde(skip)]
    pub(super) producer: ProducerIdentity,
    /// Where the logs ended before it; 0 for a partition that is not named.
    #[serde(skip)]
    pub(super) end_offsets: BTreeMap<PartitionId, Offset>,
}

/// One group of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct GroupRestore {
    /// Its id, in the source and in the target.
    pub group: String,
    /// Its type in the source.
    #[serde(rename = "type")]
    pub group_type: GroupType,
    /// Why nothing could be committed for it if the restore were done now: who is in the group.
    pub refused: Option<String>,
    /// One by one.
    pub offsets: Vec<OffsetRestore>,
}

/// One offset of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct OffsetRestore {
    /// The topic in the backup.
    pub topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// The partition, in both.
    pub partition: PartitionId,
    /// What the group had committed in the source.
    pub source_offset: Offset,
    /// What its client had written beside it.
    pub metadata: String,
    /// What shall become of it.
    #[serde(flatten)]
    pub action: OffsetAction,
}

/// What shall become of an offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum OffsetAction {
    /// It is committed, translated to where the record went that the group would have read next.
    Translate {
        /// The source's offset that is followed; not the group's own where that lies outside the backup.
        landmark: Offset,
        /// Why it is not the group's own.
        clamped: Option<String>,
    },
    /// Its topic or partition is not restored.
    Skip {
        /// Which.
        reason: String,
    },
    /// It cannot be translated.
    Refuse {
        /// Why.
        reason: String,
    },
}

impl RestorePlan {
    /// Whether something that was asked for would not be done: groups that are refused, or damage that is left out.
    pub fn is_incomplete(&self) -> bool {
        let is_refused =
            |offset: &OffsetRestore| matches!(offset.action, OffsetAction::Refuse { .. });
        let mut groups = self.groups.iter();
        let groups =
            groups.any(|group| group.refused.is_some() || group.offsets.iter().any(is_refused));
        groups || self.lacks
    }

    /// Records that will be read.
    pub fn records(&self) -> u64 {
        self.topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.records)
            .sum()
    }

    /// Bytes of batches that will be read.
    pub fn bytes(&self) -> u64 {
        self.topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.bytes)
            .sum()
    }

    /// The topics to be created.
    pub(super) fn new_topics(&self) -> Vec<NewTopic> {
        let topics = self.topics.iter();
        topics.filter_map(TopicRestore::new_topic).collect()
    }

    /// The settings that wait for the end, by target topic.
    pub(super) fn afterwards(&self) -> BTreeMap<String, SettingChanges> {
        let changes = self.topics.iter().map(|topic| {
            let changes = match &topic.action {
                TopicAction::Create { afterwards, .. } => afterwards,
                TopicAction::Append => &topic.apply_afterwards,
            };
            (topic.target_topic.clone(), changes.clone())
        });
        changes.collect()
    }

    /// The refusals as one error, when there are any.
    pub fn refuse(&self) -> Result<(), EngineError> {
        match Refusal::all(&self.refused) {
            None => Ok(()),
            Some(why) if self.is_conflict => Err(EngineError::conflict(why)),
            Some(why) => Err(EngineError::refused(why)),
        }
    }
}

impl TopicRestore {
    /// Whether it reads this partition of the source.
    pub(super) fn restores(&self, partition: PartitionId) -> bool {
        self.partitions
            .iter()
            .any(|restored| restored.partition == partition)
    }

    /// Sees to it that records go where their keys' hashes put them when the number of partitions is another.
    pub(super) fn note_other_partitions(&mut self, topic: &TopicEntry) {
        self.partitioned_by_key = self.target_partitions != topic.partition_count;
        if self.partitioned_by_key {
            self.notes.push(format!(
                "{} partitions become {}: records go where their key's murmur2 hash puts them, \
                 those without a key stay together by source partition",
                topic.partition_count, self.target_partitions
            ));
        }
    }

    /// The topic as it must be created, when it must.
    pub(super) fn new_topic(&self) -> Option<NewTopic> {
        match &self.action {
            _ if self.interrupted.is_some() => None,
            TopicAction::Append => None,
            TopicAction::Create {
                replication_factor,
                configuration,
                ..
            } => Some(NewTopic {
                name: self.target_topic.clone(),
                partitions: self.target_partitions,
                replication_factor: *replication_factor,
                configs: configuration.clone(),
            }),
        }
    }

    /// Writes the bounds of timestamps under the name that brokers before Kafka 3.6 know.
    pub(super) fn use_old_timestamp_bound(&mut self) {
        if let TopicAction::Create {
            configuration,
            afterwards,
            ..
        } = &mut self.action
        {
            for name in TIMESTAMP_BOUNDS {
                if let Some(value) = configuration.remove(name) {
                    configuration.insert(TIMESTAMP_BOUND_BEFORE_3_6.to_owned(), value);
                }
                afterwards.remove(name);
            }
            afterwards.insert(TIMESTAMP_BOUND_BEFORE_3_6.to_owned(), None);
        }
    }
}
