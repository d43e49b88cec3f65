//! What a session of a mirror is going to do: its topics, and from where to where each partition goes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::backup::GroupSelection;
use crate::engine::topics::{Candidate, refuse_unseen};
use crate::kafka::{
    BrokerId, Client, KafkaError, Metadata, NewTopic, OffsetSpec, TopicMetadata, TopicPartition,
    Topics,
};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};

use super::configuration::{SettingChanges, Settings, changes, followed};
use super::progress::{self, Note, Progress};
use super::range::{Offsets, listed};
use super::state::{Advance, PartitionState, PartitionStatus};
use super::{MirrorOptions, OnError};

/// What a mirror is going to do.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorPlan {
    /// The source.
    pub source_cluster_id: String,
    /// The target.
    pub target_cluster_id: String,
    /// How records go: `batches`, as they lie in the source, or `records`, one by one, where they change on their way.
    pub path: &'static str,
    /// The topic of the target for dead letters, if there is one.
    pub dead_letter_topic: Option<String>,
    /// Whether that is to be created.
    pub create_dead_letter_topic: bool,
    /// Whether records get new keys, and so may go to other partitions.
    #[serde(skip)]
    pub(super) changes_keys: bool,
    /// The topics, by name.
    pub topics: Vec<TopicPlan>,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

/// One topic.
#[derive(Debug, Clone, Serialize)]
pub struct TopicPlan {
    /// Its name in the source.
    pub topic: String,
    /// Its name in the target.
    pub target_topic: String,
    /// Whether it is to be created there.
    pub create: bool,
    /// How many partitions are to be added there.
    pub add_partitions: u32,
    /// Settings of the target that are to follow the source's.
    pub settings: SettingChanges,
    /// How many it has there then.
    pub target_partitions: u32,
    /// Its partitions.
    pub partitions: Vec<PartitionPlan>,
    #[serde(skip)]
    pub(super) topic_id: TopicId,
    #[serde(skip)]
    pub(super) replication_factor: i16,
    /// The source's settings now.
    #[serde(skip)]
    pub(super) source_settings: Settings,
}

/// One partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionPlan {
    /// Its number.
    pub partition: PartitionId,
    /// The first offset to be copied.
    pub start_offset: Offset,
    /// Where it ends: where the source's log ends now for readers of what was committed, or before, when a bound says so.
    pub end_offset: Offset,
    /// Offsets behind the source's end, which a transaction that is open there holds back.
    pub held_back: u64,
    /// Offsets that the source deleted before they were copied.
    pub lost_offsets: u64,
    /// Whether it goes on.
    pub state: PartitionState,
    /// Why it does not.
    pub problem: Option<String>,
    #[serde(skip)]
    pub(super) leader: Option<BrokerId>,
    #[serde(skip)]
    pub(super) leader_epoch: LeaderEpoch,
    /// How far it was mirrored, as the target says.
    #[serde(skip)]
    pub(super) committed_offset: Option<Offset>,
    /// The epoch of the last batch that was copied.
    #[serde(skip)]
    pub(super) last_epoch: Option<LeaderEpoch>,
    #[serde(skip)]
    pub(super) note: Note,
}

/// What outlasts sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    /// Where a bounded mirror ends, fixed when it first sees a partition.
    pub ends: BTreeMap<TopicPartition, Offset>,
    /// The source's settings when they were last looked at.
    pub settings: BTreeMap<String, Settings>,
    /// Partitions of which the target does not take a batch.
    pub refused: BTreeMap<TopicPartition, String>,
    /// How many records may still come into the target; none when there is no limit.
    pub left: Option<u64>,
    /// What a transaction held, by partition of the source, of which is not known whether it was committed.
    pub unconfirmed: BTreeMap<TopicPartition, Advance>,
}

impl MirrorPlan {
    /// The partitions with their topics, in the order of the session's table.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&TopicPlan, &PartitionPlan)> {
        let topics = self.topics.iter();
        topics.flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |partition| (topic, partition))
        })
    }

    /// Topics and partitions as far as a session depends on them: when they are others, it is begun anew.
    pub(super) fn shape(&self) -> Vec<(&str, TopicId, usize, u32)> {
        let topics = self.topics.iter();
        let shapes = topics.map(|topic| {
            let (name, partitions) = (topic.topic.as_str(), topic.partitions.len());
            (name, topic.topic_id, partitions, topic.target_partitions)
        });
        shapes.collect()
    }

    pub(super) fn statuses(&self) -> Vec<PartitionStatus> {
        let partitions = self.partitions().map(|(topic, partition)| {
            let mut status =
                PartitionStatus::new(&topic.topic, partition.partition, &topic.target_topic);
            status.state = partition.state;
            status.problem = partition.problem.clone();
            status.next_offset = partition.start_offset;
            status.end_offset = partition.end_offset;
            status.held_back = partition.held_back;
            status.lost_offsets = partition.lost_offsets;
            status
        });
        partitions.collect()
    }

    pub(super) fn new_topics(&self) -> Vec<NewTopic> {
        let new = self.topics.iter().filter(|topic| topic.create);
        let new = new.map(|topic| NewTopic {
            name: topic.target_topic.clone(),
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            replication_factor: topic.replication_factor,
            configs: topic.source_settings.clone(),
        });
        let replicas = self.topics.iter().map(|topic| topic.replication_factor);
        let dead_letter_topic = self.dead_letter_topic.as_ref();
        let dead_letter_topic = dead_letter_topic.filter(|_| self.create_dead_letter_topic);
        let dead_letter_topic = dead_letter_topic.map(|topic| NewTopic {
            name: topic.clone(),
            partitions: 1,
            replication_factor: replicas.max().unwrap_or(1),
            configs: Settings::new(),
        });
        new.chain(dead_letter_topic).collect()
    }
}

pub(super) async fn plan(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
) -> Result<MirrorPlan, EngineError> {
    plan_within(source, target, options, &Bounds::default()).await
}

/// Plans a session.
pub(super) async fn plan_within(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
    bounds: &Bounds,
) -> Result<MirrorPlan, EngineError> {
    let from = source.metadata(Topics::All).await?;
    let to = target.metadata(Topics::All).await?;
    refuse_unseen(source, &from, &options.topics).await?;
    let chosen = choose(&from, &to, options)?;
    let dead_letter_topic = dead_letter_topic(options, &chosen)?;
    if options.changes_keys() && options.groups != GroupSelection::None {
        return Err(EngineError::Refused(
            "groups cannot follow where key_transformation puts records into other partitions: leave groups out".into(),
        ));
    }
    let progress = progress::read(target, &options.id()).await?;
    let partitions = chosen.iter().flat_map(|topic| {
        let partitions = topic.metadata.partitions.keys();
        partitions.map(|partition| key(topic.name, *partition))
    });
    let partitions: Vec<TopicPartition> = partitions.collect();
    let planner = Planner {
        options,
        to: &to,
        offsets: Offsets::read(source, &partitions, options).await?,
        filled: filled(target, &to, &chosen).await?,
        progress,
        from: &from,
    };
    let names: Vec<String> = chosen.iter().map(|topic| topic.name.to_owned()).collect();
    let mut source_settings = described(source, &names).await?;
    let there = chosen
        .iter()
        .filter(|topic| to.topics.contains_key(&topic.target));
    let there: Vec<String> = there.map(|topic| topic.target.clone()).collect();
    let target_settings = described(target, &there).await?;
    let mut topics = Vec::with_capacity(chosen.len());
    for topic in &chosen {
        let settings = source_settings.remove(topic.name).unwrap_or_default();
        let before = bounds.settings.get(topic.name);
        let there = target_settings.get(&topic.target);
        let changes = there.map(|there| changes(&settings, before, there));
        topics.push(planner.topic(topic, settings, changes)?);
    }
    let warnings = topics.iter().flat_map(TopicPlan::warnings).collect();
    Ok(MirrorPlan {
        source_cluster_id: from.cluster_id.clone(),
        target_cluster_id: to.cluster_id.clone(),
        path: match options.transform() {
            None => "batches",
            Some(_) => "records",
        },
        create_dead_letter_topic: dead_letter_topic
            .as_ref()
            .is_some_and(|topic| !to.topics.contains_key(topic)),
        dead_letter_topic,
        changes_keys: options.changes_keys(),
        topics,
        warnings,
    })
}

/// A chosen topic.
struct Chosen<'a> {
    name: &'a str,
    target: String,
    metadata: &'a TopicMetadata,
}

fn choose<'a>(
    from: &'a Metadata,
    to: &Metadata,
    options: &MirrorOptions,
) -> Result<Vec<Chosen<'a>>, EngineError> {
    let candidates = from.topics.iter().map(|(name, topic)| Candidate {
        name,
        is_internal: topic.is_internal,
    });
    // Topics may come later to a mirror that goes on.
    let allow_empty = options.allow_empty || !options.until.is_bounded();
    let place = format!("cluster {}", from.cluster_id);
    let mut names = options.topics.choose(candidates, allow_empty, &place)?;
    let is_same = from.cluster_id == to.cluster_id;
    if is_same {
        // What the mirror itself makes is nothing for it to copy.
        let dead_letters = options.transform();
        let dead_letters = dead_letters.and_then(|it| it.dead_letter_topic.clone());
        let made: BTreeSet<String> = names
            .iter()
            .map(|name| options.rename.apply(name))
            .chain(dead_letters)
            .collect();
        if names.iter().any(|name| options.rename.apply(name) == *name) {
            return Err(EngineError::Refused(
                "source and target are one cluster: give a rename that changes every name".into(),
            ));
        }
        names.retain(|name| !made.contains(*name));
    }
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let target = options.rename.apply(name);
        if let Some(other) = taken.insert(target.clone(), name) {
            return Err(EngineError::Refused(format!(
                "topics {other} and {name} would both become {target}: give another rename"
            )));
        }
        if let Some(metadata) = from.topics.get(name) {
            chosen.push(Chosen {
                name,
                target,
                metadata,
            });
        }
    }
    Ok(chosen)
}

/// The topic for dead letters, when they go there.
fn dead_letter_topic(
    options: &MirrorOptions,
    chosen: &[Chosen<'_>],
) -> Result<Option<String>, EngineError> {
    let transform = options.transform();
    let Some(transform) = transform.filter(|it| it.on_error == OnError::DeadLetter) else {
        return Ok(None);
    };
    let Some(topic) = &transform.dead_letter_topic else {
        return Err(EngineError::Refused(
            "on_error = \"dead_letter\" needs a dead_letter_topic".into(),
        ));
    };
    if chosen.iter().any(|chosen| chosen.target == *topic) {
        return Err(EngineError::Refused(format!(
            "{topic} is a topic that the mirror writes: give dead letters another one"
        )));
    }
    Ok(Some(topic.clone()))
}

async fn described(
    client: &Client,
    topics: &[String],
) -> Result<BTreeMap<String, Settings>, EngineError> {
    let described = client.describe_configs(topics).await?;
    let followed = described
        .into_iter()
        .map(|(topic, entries)| (topic, followed(&entries)));
    Ok(followed.collect())
}

/// Which of the target's partitions have ever held records.
async fn filled(
    target: &Client,
    to: &Metadata,
    chosen: &[Chosen<'_>],
) -> Result<BTreeSet<TopicPartition>, EngineError> {
    let there = chosen.iter().filter_map(|topic| {
        let found = to.topics.get(&topic.target)?;
        Some(
            found
                .partitions
                .keys()
                .map(|partition| key(&topic.target, *partition)),
        )
    });
    let partitions: Vec<TopicPartition> = there.flatten().collect();
    let ends = listed(target, &partitions, OffsetSpec::Latest).await?;
    let filled = ends.into_iter().filter(|(_, end)| end.0 > 0);
    Ok(filled.map(|(partition, _)| partition).collect())
}

fn key(topic: &str, partition: PartitionId) -> TopicPartition {
    TopicPartition {
        topic: topic.to_owned(),
        partition,
    }
}

/// All that the plan of a topic goes by.
struct Planner<'a> {
    options: &'a MirrorOptions,
    from: &'a Metadata,
    to: &'a Metadata,
    offsets: Offsets,
    filled: BTreeSet<TopicPartition>,
    progress: BTreeMap<TopicPartition, Progress>,
}

impl Planner<'_> {
    fn topic(
        &self,
        topic: &Chosen<'_>,
        settings: Settings,
        changes: Option<SettingChanges>,
    ) -> Result<TopicPlan, EngineError> {
        if let Some(code) = topic.metadata.error {
            return Err(KafkaError::for_topic(code, "READ", topic.name).into());
        }
        let there = self.to.topics.get(&topic.target);
        let wanted = topic.metadata.partitions.len();
        let missing = there.map_or(0, |there| wanted.saturating_sub(there.partitions.len()));
        let replicas = topic.metadata.partitions.values().next();
        let replicas = replicas.map_or(1, |partition| partition.replicas.len());
        let replication_factor = replicas.min(self.to.brokers.len()).max(1);
        let mut partitions = Vec::with_capacity(wanted);
        for id in topic.metadata.partitions.keys() {
            partitions.push(self.partition(topic, *id)?);
        }
        Ok(TopicPlan {
            topic: topic.name.to_owned(),
            target_topic: topic.target.clone(),
            create: there.is_none(),
            add_partitions: u32::try_from(missing).unwrap_or(u32::MAX),
            settings: changes.unwrap_or_default(),
            target_partitions: u32::try_from(
                wanted.max(there.map_or(0, |there| there.partitions.len())),
            )
            .unwrap_or(u32::MAX),
            partitions,
            topic_id: topic.metadata.topic_id,
            replication_factor: i16::try_from(replication_factor).unwrap_or(1),
            source_settings: settings,
        })
    }

    fn partition(&self, topic: &Chosen<'_>, id: PartitionId) -> Result<PartitionPlan, EngineError> {
        let source_key = key(topic.name, id);
        let target_key = key(&topic.target, id);
        let start = self.offsets.starts.get(&source_key).copied();
        let end = self.offsets.ends.get(&source_key).copied();
        let known = topic.metadata.partitions.get(&id);
        let mut plan = PartitionPlan {
            partition: id,
            start_offset: start.unwrap_or_default(),
            end_offset: self.offsets.end(&source_key, end.unwrap_or_default()),
            held_back: self.offsets.held_back(&source_key, end.unwrap_or_default()),
            lost_offsets: 0,
            state: PartitionState::Mirroring,
            problem: None,
            leader: known
                .and_then(|partition| partition.leader)
                .filter(|_| start.is_some() && end.is_some()),
            leader_epoch: known.map_or(LeaderEpoch(-1), |partition| partition.leader_epoch),
            committed_offset: None,
            last_epoch: None,
            note: Note::new(&self.from.cluster_id, topic.metadata.topic_id),
        };
        match self.progress.get(&target_key) {
            Some(progress) => self.resume(&mut plan, progress, &target_key)?,
            None if self.holds_others(&target_key) => {
                plan.state = PartitionState::Unknown;
                plan.problem = Some(format!(
                    "{target_key} of the target holds records, and no progress of this mirror: delete the topic there, or append to it (--if-exists append)"
                ));
            }
            None => {
                let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
                plan.start_offset = self.offsets.first(&source_key, start, end);
            }
        }
        Ok(plan)
    }

    /// Whether a partition of the target, of which no progress is known, holds records that are not of this mirror.
    fn holds_others(&self, key: &TopicPartition) -> bool {
        // With new keys the records of one partition go to all of the topic.
        let is_own = self.options.changes_keys()
            && self.progress.keys().any(|known| known.topic == key.topic);
        self.filled.contains(key) && !self.options.append && !is_own
    }

    /// Goes on behind what is committed.
    fn resume(
        &self,
        plan: &mut PartitionPlan,
        progress: &Progress,
        target_key: &TopicPartition,
    ) -> Result<(), EngineError> {
        if progress.note.cluster_id != self.from.cluster_id {
            return Err(EngineError::Refused(format!(
                "{target_key} was mirrored from cluster {} under this name, and the source is {}: give the mirror another name",
                progress.note.cluster_id, self.from.cluster_id
            )));
        }
        if progress.note.topic_id != plan.note.topic_id {
            plan.state = PartitionState::Recreated;
            plan.problem = Some(format!(
                "the source's topic was deleted and created anew since {target_key} was mirrored from it: delete the topic in the target, or give the mirror another name and rename"
            ));
        }
        plan.note.producers.clone_from(&progress.note.producers);
        plan.committed_offset = Some(progress.next);
        let lost = plan.start_offset.0.saturating_sub(progress.next.0);
        if lost > 0 && plan.leader.is_some() {
            plan.lost_offsets = u64::try_from(lost).unwrap_or(0);
        } else {
            plan.start_offset = progress.next;
            plan.last_epoch = Some(progress.leader_epoch).filter(|epoch| epoch.0 >= 0);
        }
        Ok(())
    }
}

impl TopicPlan {
    fn warnings(&self) -> impl Iterator<Item = String> {
        let stopped = self.partitions.iter().filter_map(|partition| {
            let problem = partition.problem.as_ref()?;
            Some(format!(
                "{}-{} stands still: {problem}",
                self.topic, partition.partition
            ))
        });
        let lost = self
            .partitions
            .iter()
            .filter(|partition| partition.lost_offsets > 0);
        let lost = lost.map(|partition| {
            format!(
                "{}-{}: {} offsets were deleted in the source before they were mirrored",
                self.topic, partition.partition, partition.lost_offsets
            )
        });
        stopped.chain(lost)
    }
}
