//! What a session of a mirror is going to do: its topics, and from where to where each partition goes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::refusal::Refusal;
use crate::engine::settings::Settings;
use crate::kafka::{BrokerId, NewTopic, TopicPartition};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};

use super::configuration::SettingChanges;
use super::progress::Note;
use super::state::{Advance, PartitionState, PartitionStatus};
use super::told::Told;

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
    /// Why what was mirrored to it before is missing there, and is mirrored again.
    pub mirrored_again: Option<String>,
    /// Its partitions.
    pub partitions: Vec<PartitionPlan>,
    #[serde(skip)]
    pub(super) topic_id: TopicId,
    /// The id of the topic in the target; none where it is to be created.
    #[serde(skip)]
    pub(super) target_topic_id: Option<TopicId>,
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
    pub problem: Option<Refusal>,
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
pub(super) struct MirrorBounds {
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
    /// Where the mirroring of partitions of the source began, and in which topic: one that was created again begins anew.
    pub first: BTreeMap<TopicPartition, (TopicId, Offset)>,
    /// The topics of the target that the last session wrote to.
    pub target_topic_ids: BTreeMap<String, TopicId>,
    /// Where the logs of the target ended, and in which topic, when this run first wrote to them.
    pub began: BTreeMap<TopicPartition, (TopicId, Offset)>,
    /// What became of topics of the target.
    pub notices: Vec<String>,
    /// What was said of topics and settings that the target does not take: once is enough.
    pub told: Told,
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

    /// Topics and partitions as far as a session depends on them: when they are others, it is begun again.
    pub(super) fn shape(&self) -> Vec<TopicShape> {
        let topics = self.topics.iter();
        let shapes = topics.map(|topic| {
            let stopped = topic.partitions.iter();
            let stopped = stopped.filter(|partition| partition.state.is_stopped());
            TopicShape {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions: topic.partitions.len(),
                target_partitions: topic.target_partitions,
                stopped: stopped.map(|partition| partition.partition).collect(),
            }
        });
        shapes.collect()
    }

    /// Whether `now`, planned while a session goes on by this plan, shows that the session writes to logs of the target that
    /// are gone or cut off.
    pub(super) fn is_refuted_by(&self, now: &Self) -> bool {
        let planned = self.topics.iter();
        let planned: BTreeMap<&str, _> =
            planned.map(|topic| (topic.topic.as_str(), topic)).collect();
        now.topics.iter().any(|now| {
            let planned = planned.get(now.topic.as_str());
            planned.is_some_and(|planned| planned.is_refuted_by(now))
        })
    }

    pub(super) fn statuses(&self) -> Vec<PartitionStatus> {
        let partitions = self.partitions().map(|(topic, partition)| {
            let mut status =
                PartitionStatus::new(&topic.topic, partition.partition, &topic.target_topic);
            status.state = partition.state;
            status.problem.clone_from(&partition.problem);
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

impl TopicPlan {
    /// Whether any of it was mirrored to the target before.
    pub(super) fn was_mirrored(&self) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|partition| partition.committed_offset.is_some())
    }

    /// Whether it is written to, and no progress of this mirror is known of any of it.
    pub(super) fn begins(&self) -> bool {
        let mut partitions = self.partitions.iter();
        let is_written = partitions.any(|partition| partition.state == PartitionState::Mirroring);
        is_written && !self.was_mirrored()
    }

    /// Lets its partitions from this one on stand still, unless they do for another reason.
    pub(super) fn refuse(&mut self, first: usize, why: &str) {
        let goes_on = |partition: &&mut PartitionPlan| !partition.state.is_stopped();
        for partition in self.partitions.iter_mut().skip(first).filter(goes_on) {
            partition.state = PartitionState::Refused;
            partition.problem = Some(Refusal::from(why));
        }
    }

    fn is_refuted_by(&self, now: &Self) -> bool {
        let is_gone = |(planned, now): (&PartitionPlan, &PartitionPlan)| {
            let is_written = planned.state == PartitionState::Mirroring;
            // Where topics have no ids, Kafka has deleted the progress along with the topic.
            let is_unknown = now.committed_offset.is_none() && !self.has_target_topic_id();
            is_written && (is_unknown || now.state == PartitionState::TargetTruncated)
        };
        let mut partitions = self.partitions.iter().zip(&now.partitions);
        self.target_topic_id != now.target_topic_id
            || now.mirrored_again.is_some()
            || partitions.any(is_gone)
    }

    fn has_target_topic_id(&self) -> bool {
        self.target_topic_id.is_some_and(|id| !id.is_zero())
    }
}

/// What a session depends on of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicShape {
    topic: String,
    topic_id: TopicId,
    partitions: usize,
    target_partitions: u32,
    /// Partitions that do not go on.
    stopped: Vec<PartitionId>,
}

impl TopicPlan {
    /// What to say where it is mirrored again.
    pub(super) fn notice(&self) -> Option<String> {
        let why = self.mirrored_again.as_ref()?;
        Some(format!(
            "topic {} {why} after it was mirrored: it is mirrored again from where the mirror began",
            self.target_topic
        ))
    }

    /// What should be looked at.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
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
        self.notice().into_iter().chain(stopped).chain(lost)
    }
}
