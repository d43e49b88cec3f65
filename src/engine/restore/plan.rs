//! What a restore is going to do: a value to be printed, or applied.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::backup::TopicConfiguration;
use crate::engine::topics::renamed;
use crate::kafka::{Client, KafkaError, Metadata, NewTopic, TopicMetadata, Topics};
use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{BackupId, Repository, Sha256, TopicEntry};

use super::configuration::{
    SettingChanges, Settings, TIMESTAMP_BOUND_BEFORE_3_6, TIMESTAMP_BOUNDS, notes_on_existing,
    settings,
};
use super::groups::{self, GroupRestore};
use super::{IfExists, RestoreOptions, evidence};

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
    /// Consumer groups whose offsets are set afterwards; those of the backup that were asked for.
    pub groups: Vec<GroupRestore>,
    /// Why this plan cannot be applied; empty when it can.
    pub refused: Vec<String>,
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
    /// How many partitions the target has.
    pub target_partitions: u32,
    /// Whether records go where their key's murmur2 hash puts them, since the number of partitions differs.
    pub partitioned_by_key: bool,
    /// What is read, by source partition.
    pub partitions: Vec<PartitionRestore>,
    /// What the operator should know.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(super) index: Option<Sha256>,
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

impl RestorePlan {
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

    /// The settings that wait for the end, by target topic.
    pub(super) fn afterwards(&self) -> BTreeMap<String, SettingChanges> {
        let created = self.topics.iter().filter_map(|topic| match &topic.action {
            TopicAction::Create { afterwards, .. } => {
                Some((topic.target_topic.clone(), afterwards.clone()))
            }
            TopicAction::Append => None,
        });
        created.collect()
    }

    /// The refusals as one error, when there are any.
    pub fn refuse(&self) -> Result<(), EngineError> {
        if self.refused.is_empty() {
            Ok(())
        } else {
            Err(EngineError::Refused(self.refused.join("; ")))
        }
    }
}

pub(super) async fn plan(
    client: &Client,
    repository: &Repository,
    backup_id: &BackupId,
    options: &RestoreOptions,
) -> Result<RestorePlan, EngineError> {
    let manifest = repository.manifest(backup_id)?;
    let chosen = options.topics.choose_of(&manifest)?;
    let metadata = client.metadata(Topics::All).await?;
    let mut refused = Vec::new();
    let mut topics = Vec::with_capacity(chosen.len());
    for topic in chosen {
        let configuration: TopicConfiguration = repository.state(&topic.configuration)?;
        topics.push(
            plan_topic(
                client,
                topic,
                &configuration,
                &metadata,
                options,
                &mut refused,
            )
            .await?,
        );
    }
    refuse_shared_targets(&topics, &mut refused);
    refused.extend(evidence::missing(repository, &manifest, &topics)?);
    let groups = groups::plan(
        client,
        repository,
        &manifest,
        &topics,
        &options.groups,
        &mut refused,
    )
    .await?;
    let mut plan = RestorePlan {
        backup_id: *backup_id,
        cluster_id: metadata.cluster_id.clone(),
        from: options.from,
        until: options.until,
        topics,
        groups,
        refused,
    };
    if plan.refused.is_empty() {
        ask_the_target(client, &mut plan).await?;
    }
    Ok(plan)
}

async fn plan_topic(
    client: &Client,
    topic: &TopicEntry,
    configuration: &TopicConfiguration,
    metadata: &Metadata,
    options: &RestoreOptions,
    refused: &mut Vec<String>,
) -> Result<TopicRestore, EngineError> {
    let target_topic = renamed(&topic.topic, &options.renames);
    let partitions = partitions(topic, options, refused);
    let largest_batch = topic
        .partitions
        .iter()
        .map(|partition| partition.largest_batch)
        .max()
        .unwrap_or(0);
    let mut notes = gap_notes(topic, &partitions);
    notes.extend(left_out_note(topic, &partitions));
    let (action, target_partitions) = match metadata.topics.get(&target_topic) {
        Some(existing) => {
            append(
                client,
                &target_topic,
                existing,
                largest_batch,
                options,
                &mut notes,
                refused,
            )
            .await?
        }
        None => {
            let replication_factor = options
                .replication_factor
                .unwrap_or(topic.replication_factor);
            refuse_too_many_replicas(&target_topic, replication_factor, metadata, refused);
            let settings = settings(
                configuration,
                options.topic_config,
                options.retention,
                largest_batch,
                replication_factor,
            );
            notes.extend(settings.notes);
            let action = TopicAction::Create {
                replication_factor,
                configuration: settings.during,
                afterwards: settings.afterwards,
            };
            (
                action,
                options.partition_count.unwrap_or(topic.partition_count),
            )
        }
    };
    let partitioned_by_key = target_partitions != topic.partition_count;
    if partitioned_by_key {
        notes.push(format!(
            "{} partitions become {target_partitions}: records go where their key's murmur2 hash puts them, \
             those without a key stay together by source partition",
            topic.partition_count
        ));
    }
    Ok(TopicRestore {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        target_topic,
        action,
        target_partitions,
        partitioned_by_key,
        partitions,
        notes,
        index: topic.index,
    })
}

fn partitions(
    topic: &TopicEntry,
    options: &RestoreOptions,
    refused: &mut Vec<String>,
) -> Vec<PartitionRestore> {
    for wanted in options.partitions.iter().flatten() {
        if !topic
            .partitions
            .iter()
            .any(|partition| partition.partition == *wanted)
        {
            refused.push(format!(
                "the backup of topic {} has no partition {wanted}",
                topic.topic
            ));
        }
    }
    topic
        .partitions
        .iter()
        .filter(|entry| {
            options
                .partitions
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&entry.partition))
        })
        .map(|entry| PartitionRestore {
            partition: entry.partition,
            start_offset: entry.start_offset,
            end_offset: entry.end_offset,
            records: entry.records,
            bytes: entry.bytes,
            control_records: entry.control_records,
            open_transactions: entry.open_transactions.len() as u64,
        })
        .collect()
}

/// What the source no longer had when it was backed up, of the partitions to be restored.
fn gap_notes(topic: &TopicEntry, restored: &[PartitionRestore]) -> Vec<String> {
    let wanted = |number| {
        restored
            .iter()
            .any(|partition| partition.partition == number)
    };
    let entries = topic
        .partitions
        .iter()
        .filter(|entry| wanted(entry.partition));
    entries
        .flat_map(|entry| {
            entry.gaps.iter().map(|gap| {
                format!(
                    "offsets {} to {} of partition {} are not in the backup: {}",
                    gap.start_offset,
                    gap.end_offset.0 - 1,
                    entry.partition,
                    gap.reason
                )
            })
        })
        .collect()
}

/// Which partitions of the backup stay out.
fn left_out_note(topic: &TopicEntry, restored: &[PartitionRestore]) -> Option<String> {
    let left_out: Vec<String> = topic
        .partitions
        .iter()
        .map(|entry| entry.partition)
        .filter(|number| {
            !restored
                .iter()
                .any(|partition| partition.partition == *number)
        })
        .map(|number| number.to_string())
        .collect();
    (!left_out.is_empty()).then(|| format!("not chosen: partition(s) {}", left_out.join(", ")))
}

async fn append(
    client: &Client,
    target: &str,
    existing: &TopicMetadata,
    largest_batch: u32,
    options: &RestoreOptions,
    notes: &mut Vec<String>,
    refused: &mut Vec<String>,
) -> Result<(TopicAction, u32), EngineError> {
    let count = u32::try_from(existing.partitions.len()).unwrap_or(u32::MAX);
    if let Some(code) = existing.error {
        return Err(KafkaError::for_topic(code, "DESCRIBE", target).into());
    }
    if options.if_exists == IfExists::Fail {
        refused.push(format!(
            "topic {target} exists in the target; restore under another name with --rename, or behind what is there with --if-exists append"
        ));
        return Ok((TopicAction::Append, count));
    }
    if let Some(wanted) = options.partition_count.filter(|wanted| *wanted != count) {
        refused.push(format!(
            "topic {target} exists with {count} partitions, not {wanted}; leave --partitions out"
        ));
    }
    let mut settings = match client.describe_configs(&[target.to_owned()]).await {
        Err(KafkaError::Unsupported { .. }) => BTreeMap::new(),
        settings => settings?,
    };
    let settings: Settings = settings
        .remove(target)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect();
    notes.extend(notes_on_existing(&settings));
    let limit = settings
        .get("max.message.bytes")
        .and_then(|value| value.parse::<u64>().ok());
    if let Some(limit) = limit.filter(|limit| u64::from(largest_batch) > *limit) {
        refused.push(format!(
            "the largest batch has {largest_batch} bytes, topic {target} takes {limit}: raise its max.message.bytes"
        ));
    }
    Ok((TopicAction::Append, count))
}

fn refuse_too_many_replicas(
    target: &str,
    factor: i16,
    metadata: &Metadata,
    refused: &mut Vec<String>,
) {
    let brokers = metadata.brokers.len();
    if usize::try_from(factor).unwrap_or(0) > brokers {
        refused.push(format!(
            "topic {target} wants {factor} replicas, the target has {brokers} broker(s): pass --replication-factor {brokers}"
        ));
    }
}

fn refuse_shared_targets(topics: &[TopicRestore], refused: &mut Vec<String>) {
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for topic in topics {
        sources
            .entry(&topic.target_topic)
            .or_default()
            .push(&topic.topic);
    }
    for (target, sources) in sources.iter().filter(|(_, sources)| sources.len() > 1) {
        refused.push(format!(
            "topics {} would all become {target}: change --rename",
            sources.join(", ")
        ));
    }
}

impl TopicRestore {
    /// Whether it reads this partition of the source.
    pub(super) fn restores(&self, partition: PartitionId) -> bool {
        self.partitions
            .iter()
            .any(|restored| restored.partition == partition)
    }

    /// The topic as it must be created, when it must.
    pub(super) fn new_topic(&self) -> Option<NewTopic> {
        match &self.action {
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
    fn use_old_timestamp_bound(&mut self) {
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

/// Lets the target's controller check what would be created, and takes its refusals over.
async fn ask_the_target(client: &Client, plan: &mut RestorePlan) -> Result<(), EngineError> {
    let new: Vec<NewTopic> = plan
        .topics
        .iter()
        .filter_map(TopicRestore::new_topic)
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut answers = client.create_topics(&new, true).await?;
    let old_names = answers.values().any(
        |answer| matches!(answer, Err(error) if error.to_string().contains(TIMESTAMP_BOUNDS[0])),
    );
    if old_names {
        plan.topics
            .iter_mut()
            .for_each(TopicRestore::use_old_timestamp_bound);
        let new: Vec<NewTopic> = plan
            .topics
            .iter()
            .filter_map(TopicRestore::new_topic)
            .collect();
        answers = client.create_topics(&new, true).await?;
    }
    for (topic, answer) in answers {
        if let Err(error) = answer {
            plan.refused
                .push(format!("topic {topic} cannot be created: {error}"));
        }
    }
    Ok(())
}
