//! Makes the plan of a restore: asks the repository, and the target, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::held_backups::require_topics;
use crate::engine::internal_topics::refuse_target;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::engine::settings::{ExistingConfig, Settings};
use crate::engine::topic_configuration::TopicConfiguration;
use crate::kafka::{Client, ErrorCode, KafkaError, Metadata, TopicMetadata, Topics};
use crate::record::TopicId;
use crate::repository::{BackupId, Manifest, Repository, Sha256, TopicEntry};

use super::configuration::{
    TIMESTAMP_BOUNDS, is_compacted, judged_under, notes_on_existing, settings,
};
use super::content::Judged;
use super::evidence::Missing;
use super::interrupted::{self, Remains, Unfinished};
use super::plan::{PartitionRestore, RestorePlan, TopicAction, TopicRestore};
use super::{IfExists, Offsets, RestoreOptions, evidence, exact, groups, unsupported};

/// A topic that was created a moment ago is not shown by every broker yet; it is waited for so often.
const LOOKS: u32 = 6;

/// What looks at the repository while a restore is planned.
const READING: &str = "the thread that reads the backup";

pub(super) async fn plan(
    client: &Client,
    repository: &Arc<Repository>,
    backup_id: &BackupId,
    options: &RestoreOptions,
) -> Result<RestorePlan, EngineError> {
    let mut looks = 0;
    loop {
        let mut plan = plan_once(client, repository, backup_id, options).await?;
        if !plan.refused.is_empty() {
            return Ok(plan);
        }
        let just_created = ask_the_target(client, &mut plan, options).await?;
        looks += 1;
        if !just_created || looks == LOOKS {
            return Ok(plan);
        }
        tokio::time::sleep(client.retry().backoff(looks)).await;
    }
}

async fn plan_once(
    client: &Client,
    repository: &Arc<Repository>,
    backup_id: &BackupId,
    options: &RestoreOptions,
) -> Result<RestorePlan, EngineError> {
    let manifest = read_manifest(repository, *backup_id, options).await?;
    let chosen = options.topics.choose_of(&manifest)?;
    let names = chosen.iter().map(|topic| topic.topic.as_str());
    let targets = names.clone().map(|topic| options.renames.apply(topic));
    let metadata = look_at(client, targets).await?;
    let recorded = recorded(repository, &chosen, &metadata.cluster_id, options).await?;
    let mut planning = Planning {
        client,
        backup_id,
        metadata: &metadata,
        unfinished: recorded.unfinished,
        options,
        finished: Vec::new(),
        refused: Vec::new(),
        is_conflict: false,
    };
    let topics = planning.topics(&chosen, &recorded.configurations).await?;
    let mut refused = planning.refused;
    refuse_needless_rename(names, options, &mut refused);
    refuse_shared_targets(&topics, &mut refused);
    if options.offsets == Offsets::Exact {
        refused.extend(exact::obstacles(&topics, options));
    }
    let mut held = evidence_of(repository, manifest, topics, recorded.unreadable).await?;
    let sound = refused.len();
    let lacks = heed_missing(&mut held, options, &mut refused);
    let is_damaged = refused.len() > sound;
    let (manifest, topics) = (&held.manifest, &held.topics);
    let wanted = &options.groups;
    let groups = groups::plan(client, repository, manifest, topics, wanted, &mut refused);
    let groups = groups.await?;
    Ok(RestorePlan {
        backup_id: *backup_id,
        cluster_id: metadata.cluster_id.clone(),
        from: options.from,
        until: options.until,
        topics: held.topics,
        finished: planning.finished,
        groups,
        offsets: options.offsets,
        refused,
        lacks,
        is_conflict: planning.is_conflict || is_damaged,
    })
}

/// The backup's manifest, which must hold the topics that are asked for.
async fn read_manifest(
    repository: &Arc<Repository>,
    backup_id: BackupId,
    options: &RestoreOptions,
) -> Result<Manifest, EngineError> {
    let patterns = options.topics.clone();
    let reading = in_repository(repository, READING, move |repository| {
        let manifest = repository.manifest(&backup_id)?;
        require_topics(repository, &manifest, &patterns)?;
        Ok::<_, EngineError>(manifest)
    });
    reading.await
}

/// What the repository has on record.
struct Recorded {
    /// The topics' configurations, in their order; empty where one cannot be read.
    configurations: Vec<TopicConfiguration>,
    /// Those that cannot be read.
    unreadable: Vec<Missing>,
    /// The unfinished restores into the cluster.
    unfinished: Unfinished,
}

async fn recorded(
    repository: &Arc<Repository>,
    topics: &[&TopicEntry],
    cluster_id: &str,
    options: &RestoreOptions,
) -> Result<Recorded, EngineError> {
    let states = topics.iter();
    let states = states.map(|topic| (topic.topic.clone(), topic.configuration));
    let states: Vec<(String, Sha256)> = states.collect();
    let (cluster_id, forget) = (cluster_id.to_owned(), options.forget_unfinished);
    let read = in_repository(repository, READING, move |repository| {
        let (configurations, unreadable) = evidence::configurations(repository, states)?;
        let unfinished = match forget {
            true => Unfinished::none(),
            false => Unfinished::into(repository, &cluster_id)?,
        };
        Ok::<_, EngineError>(Recorded {
            configurations,
            unreadable,
            unfinished,
        })
    });
    read.await
}

/// A backup, the topics to be restored from it, and what the repository lacks of what they need.
struct Held {
    manifest: Manifest,
    topics: Vec<TopicRestore>,
    missing: Vec<Missing>,
}

async fn evidence_of(
    repository: &Arc<Repository>,
    manifest: Manifest,
    topics: Vec<TopicRestore>,
    unreadable: Vec<Missing>,
) -> Result<Held, EngineError> {
    let looking = in_repository(repository, READING, move |repository| {
        let mut missing = unreadable;
        missing.extend(evidence::missing(repository, &manifest, &topics)?);
        Ok::<_, EngineError>(Held {
            manifest,
            topics,
            missing,
        })
    });
    looking.await
}

/// Notes what is missing, or refuses it. True when something is to be left out.
fn heed_missing(held: &mut Held, options: &RestoreOptions, refused: &mut Vec<Refusal>) -> bool {
    let mut lacks = false;
    for missing in std::mem::take(&mut held.missing) {
        let mut topics = held.topics.iter_mut();
        let topic = topics.find(|topic| topic.topic == missing.topic);
        match topic.filter(|_| options.allow_damage && missing.may_be_left_out) {
            Some(topic) => {
                lacks = true;
                topic.notes.push(missing.problem.to_string());
            }
            None => refused.push(missing.refusal()),
        }
    }
    lacks
}

/// Every topic of the target that may be seen, and those of `targets` that may not: only asked for by its name, such a topic
/// is told from one that does not exist.
async fn look_at(
    client: &Client,
    targets: impl Iterator<Item = String>,
) -> Result<Metadata, EngineError> {
    let mut metadata = client.metadata(Topics::All).await?;
    let unseen: Vec<String> = targets
        .filter(|target| !metadata.topics.contains_key(target))
        .collect();
    if !unseen.is_empty() {
        let mut asked = client.metadata(Topics::Named(&unseen)).await?.topics;
        asked.retain(|_, topic| topic.error == Some(ErrorCode::TopicAuthorizationFailed));
        metadata.topics.extend(asked);
    }
    Ok(metadata)
}

/// What the plan of every topic needs, and adds to.
struct Planning<'a> {
    client: &'a Client,
    backup_id: &'a BackupId,
    metadata: &'a Metadata,
    unfinished: Unfinished,
    options: &'a RestoreOptions,
    finished: Vec<String>,
    refused: Vec<Refusal>,
    is_conflict: bool,
}

impl Planning<'_> {
    async fn topics(
        &mut self,
        chosen: &[&TopicEntry],
        configurations: &[TopicConfiguration],
    ) -> Result<Vec<TopicRestore>, EngineError> {
        let mut topics = Vec::with_capacity(chosen.len());
        for (topic, configuration) in chosen.iter().zip(configurations) {
            topics.extend(self.topic(topic, configuration).await?);
        }
        Ok(topics)
    }

    /// Plans one topic; nothing when an interrupted restore had finished it, or when it may not be written to.
    async fn topic(
        &mut self,
        topic: &TopicEntry,
        configuration: &TopicConfiguration,
    ) -> Result<Option<TopicRestore>, EngineError> {
        let mut planned = self.wanted(topic);
        if let Some(refusal) = refuse_target(&planned.target_topic, self.metadata) {
            self.refused.push(refusal);
            return Ok(None);
        }
        let Some(existing) = self.metadata.topics.get(&planned.target_topic) else {
            planned.action = self.create(topic, configuration, &mut planned);
            self.refuse_too_many_replicas(&planned);
            planned.note_other_partitions(topic);
            return Ok(Some(planned));
        };
        if let Some(code) = existing.error {
            let error = KafkaError::for_topic(code, "WRITE", &planned.target_topic);
            if error.is_transient() {
                return Err(error.into());
            }
            let refusal = Refusal::new(error.to_string());
            let target = &planned.target_topic;
            self.refused.push(refusal.of(Part::TargetTopic, target));
            return Ok(None);
        }
        planned.target_topic_id = existing.topic_id;
        let left = self
            .unfinished
            .of(&planned.target_topic, existing.topic_id)
            .map(|(restore, noted)| (restore.clone(), noted.clone()));
        if left.as_ref().is_some_and(|(_, noted)| noted.created) {
            planned.action = self.create(topic, configuration, &mut planned);
        } else {
            self.append(topic, configuration, existing, &mut planned)
                .await?;
        }
        planned.note_other_partitions(topic);
        let Some((restore, noted)) = left else {
            return Ok(Some(planned));
        };
        let remains = interrupted::remains(
            self.client,
            (&restore, &noted),
            self.backup_id,
            &mut planned,
            existing,
            self.options,
        );
        match remains.await? {
            Remains::GoOn(interrupted) => planned.interrupted = Some(interrupted),
            Remains::Finished => {
                self.finished.push(planned.target_topic);
                return Ok(None);
            }
            Remains::Refused(why) => self.refused.push(why),
        }
        Ok(Some(planned))
    }

    /// What of the topic goes where, before anything is known of the target.
    fn wanted(&mut self, topic: &TopicEntry) -> TopicRestore {
        let partitions = partitions(topic, self.options, &mut self.refused);
        let mut notes = gap_notes(topic, &partitions);
        notes.extend(left_out_note(topic, &partitions));
        TopicRestore {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            target_topic: self.options.renames.apply(&topic.topic),
            action: TopicAction::Append,
            interrupted: None,
            target_partitions: self
                .options
                .partition_count
                .unwrap_or(topic.partition_count),
            partitioned_by_key: false,
            partitions,
            notes,
            index: topic.index,
            target_topic_id: TopicId::default(),
            judged: Judged::default(),
            apply_afterwards: BTreeMap::new(),
            set_aside: BTreeMap::new(),
        }
    }

    /// How the topic is created.
    fn create(
        &self,
        topic: &TopicEntry,
        configuration: &TopicConfiguration,
        planned: &mut TopicRestore,
    ) -> TopicAction {
        let replication_factor = self
            .options
            .replication_factor
            .unwrap_or(topic.replication_factor);
        let settings = settings(
            configuration,
            &self.options.wanted_settings(),
            largest_batch(topic),
            replication_factor,
        );
        planned.notes.extend(settings.notes);
        planned.set_aside = settings.set_aside;
        TopicAction::Create {
            replication_factor,
            configuration: settings.during,
            afterwards: settings.afterwards,
        }
    }

    /// What becomes of a topic that is there, and that no interrupted restore created.
    async fn append(
        &mut self,
        topic: &TopicEntry,
        configuration: &TopicConfiguration,
        existing: &TopicMetadata,
        planned: &mut TopicRestore,
    ) -> Result<(), EngineError> {
        let target = planned.target_topic.clone();
        let count = u32::try_from(existing.partitions.len()).unwrap_or(u32::MAX);
        planned.target_partitions = count;
        if self.options.if_exists == IfExists::Fail {
            self.is_conflict = true;
            let refusal = Refusal::new(format!("topic {target} exists in the target"));
            let refusal = refusal.of(Part::TargetTopic, &target);
            self.refused.push(refusal.advise(Advice::RenameOrAppend));
            return Ok(());
        }
        if let Some(wanted) = self
            .options
            .partition_count
            .filter(|wanted| *wanted != count)
        {
            let why = format!(
                "topic {target} exists with {count} partitions, not {wanted}; leave --partitions out"
            );
            let refusal = Refusal::new(why).of(Part::TargetPartitions, wanted);
            self.refused.push(refusal);
        }
        let settings = self.settings_of(&target).await?;
        planned.notes.extend(notes_on_existing(&settings));
        planned.judged = judged_under(&settings);
        self.compare_settings(configuration, &settings, planned);
        let largest_batch = largest_batch(topic);
        let limit = settings
            .get("max.message.bytes")
            .and_then(|value| value.parse::<u64>().ok());
        if let Some(limit) = limit.filter(|limit| u64::from(largest_batch) > *limit) {
            self.refused.push(Refusal::from(format!(
                "the largest batch has {largest_batch} bytes, topic {target} takes {limit}: raise its max.message.bytes"
            )));
        }
        if self.options.check && is_compacted(&settings) {
            self.refused.push(Refusal::from(format!(
                "topic {target} is compacted: what was written to it may be gone when it is read back; leave --check out"
            )));
        }
        Ok(())
    }

    /// What is to become of settings in which a topic that is there differs from what it would be created with.
    fn compare_settings(
        &mut self,
        configuration: &TopicConfiguration,
        existing: &Settings,
        planned: &mut TopicRestore,
    ) {
        let different = self
            .options
            .wanted_settings()
            .differing(configuration, existing);
        let target = &planned.target_topic;
        match self.options.settings.existing {
            ExistingConfig::Keep => {}
            ExistingConfig::Apply => planned.apply_afterwards = different,
            ExistingConfig::Fail => {
                self.refused
                    .extend(different.into_iter().map(|(name, value)| {
                        let found = existing.get(&name).map_or("unset", String::as_str);
                        let value = value.unwrap_or_default();
                        Refusal::from(format!("topic {target} has {name}={found}, not {value}: see --existing-topic-config"))
                    }));
            }
        }
    }

    /// All settings of a topic, defaults too; none where brokers do not tell.
    async fn settings_of(&self, topic: &str) -> Result<Settings, EngineError> {
        let mut settings = match self.client.describe_configs(&[topic.to_owned()]).await {
            Err(KafkaError::Unsupported { .. }) => BTreeMap::new(),
            settings => settings?,
        };
        let entries = settings.remove(topic).unwrap_or_default();
        Ok(entries
            .into_iter()
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    fn refuse_too_many_replicas(&mut self, planned: &TopicRestore) {
        let TopicAction::Create {
            replication_factor, ..
        } = planned.action
        else {
            return;
        };
        let brokers = self.metadata.brokers.len();
        if usize::try_from(replication_factor).unwrap_or(0) > brokers {
            let why = format!(
                "topic {} wants {replication_factor} replicas, the target has {brokers} broker(s)",
                planned.target_topic
            );
            let refusal = Refusal::new(why).of(Part::ReplicationFactor, replication_factor);
            self.refused
                .push(refusal.advise(Advice::FewerReplicas(brokers)));
        }
    }
}

fn largest_batch(topic: &TopicEntry) -> u32 {
    let largest = topic.partitions.iter();
    largest
        .map(|partition| partition.largest_batch)
        .max()
        .unwrap_or(0)
}

fn partitions(
    topic: &TopicEntry,
    options: &RestoreOptions,
    refused: &mut Vec<Refusal>,
) -> Vec<PartitionRestore> {
    for wanted in options.partitions.iter().flatten() {
        if !topic
            .partitions
            .iter()
            .any(|partition| partition.partition == *wanted)
        {
            let why = format!(
                "the backup of topic {} has no partition {wanted}",
                topic.topic
            );
            refused.push(Refusal::new(why).of(Part::Partitions, wanted));
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

/// A rename that matches nothing is a slip.
fn refuse_needless_rename<'a>(
    topics: impl Iterator<Item = &'a str> + Clone,
    options: &RestoreOptions,
    refused: &mut Vec<Refusal>,
) {
    if let Some(rename) = options.renames.unmatched(topics) {
        let why = format!("rename `{rename}` matches none of the topics that are restored");
        refused.push(Refusal::new(why));
    }
}

fn refuse_shared_targets(topics: &[TopicRestore], refused: &mut Vec<Refusal>) {
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for topic in topics {
        sources
            .entry(&topic.target_topic)
            .or_default()
            .push(&topic.topic);
    }
    for (target, sources) in sources.iter().filter(|(_, sources)| sources.len() > 1) {
        refused.push(Refusal::from(format!(
            "topics {} would all become {target}: change --rename",
            sources.join(", ")
        )));
    }
}

/// Lets the target's controller check what would be created, and takes its refusals over. True when it knows a topic that
/// the metadata did not show.
async fn ask_the_target(
    client: &Client,
    plan: &mut RestorePlan,
    options: &RestoreOptions,
) -> Result<bool, EngineError> {
    let new = plan.new_topics();
    if new.is_empty() {
        return Ok(false);
    }
    let mut answers = client.create_topics(&new, true).await?;
    let old_names = answers.values().any(
        |answer| matches!(answer, Err(error) if error.to_string().contains(TIMESTAMP_BOUNDS[0])),
    );
    if old_names {
        plan.topics
            .iter_mut()
            .for_each(TopicRestore::use_old_timestamp_bound);
        answers = client.create_topics(&plan.new_topics(), true).await?;
    }
    unsupported::leave_out(client, plan, answers, &options.settings).await?;
    let answers = client.create_topics(&plan.new_topics(), true).await?;
    let mut just_created = false;
    for (topic, answer) in answers {
        if let Err(error) = answer {
            just_created |= error.is_topic_there();
            plan.is_conflict |= error.is_topic_there();
            let refusal = Refusal::new(format!("topic {topic} cannot be created: {error}"));
            plan.refused.push(refusal.of(Part::TargetTopic, topic));
        }
    }
    Ok(just_created)
}
