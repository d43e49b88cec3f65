//! From where to where each partition goes, and which does not go on, by what both clusters say.

use crate::engine::EngineError;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::engine::settings::Settings;
use crate::kafka::{KafkaError, Metadata, TopicMetadata, TopicPartition};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};

use super::configuration::SettingChanges;
use super::offsets::Offsets;
use super::plan::{MirrorBounds, PartitionPlan, TopicPlan};
use super::progress::{Note, Progress};
use super::state::PartitionState;
use super::target_logs::{self, TargetLogs};
use super::{IfExists, MirrorOptions};

/// A chosen topic.
pub(super) struct Chosen<'a> {
    pub name: &'a str,
    pub target: String,
    pub metadata: &'a TopicMetadata,
}

/// One partition of a topic, by name and number.
pub(super) fn key(topic: &str, partition: PartitionId) -> TopicPartition {
    TopicPartition {
        topic: topic.to_owned(),
        partition,
    }
}

/// All that the plan of a topic goes by.
pub(super) struct Planner<'a> {
    pub options: &'a MirrorOptions,
    pub from: &'a Metadata,
    pub to: &'a Metadata,
    pub offsets: Offsets,
    pub logs: TargetLogs,
    pub bounds: &'a MirrorBounds,
}

impl Planner<'_> {
    pub fn topic(
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
            mirrored_again: self.mirrored_again(topic, there),
            settings: changes.unwrap_or_default(),
            target_partitions: u32::try_from(
                wanted.max(there.map_or(0, |there| there.partitions.len())),
            )
            .unwrap_or(u32::MAX),
            partitions,
            topic_id: topic.metadata.topic_id,
            target_topic_id: there.map(|there| there.topic_id),
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
        match self.logs.progress.get(&target_key) {
            Some(progress) => self.resume(&mut plan, progress, &source_key, &target_key)?,
            None if self.holds_others(&target_key) => {
                plan.state = PartitionState::Unknown;
                let why = format!(
                    "{target_key} of the target holds records, and no progress of this mirror"
                );
                let refusal = Refusal::new(why).of(Part::TargetTopic, &topic.target);
                plan.problem = Some(refusal.advise(Advice::EmptyOrAppend));
            }
            None => {
                let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
                let first = self.first_known(&source_key, &target_key, plan.note.topic_id);
                let latest = self.offsets.latest(&source_key).unwrap_or(end);
                plan.start_offset = match first {
                    Some(first) => first.min(latest).max(start),
                    None => self.offsets.first(&source_key, start, end),
                };
                plan.note.first = first.or(Some(plan.start_offset));
            }
        }
        Ok(plan)
    }

    /// Where the mirroring of a partition of this topic of the source began that is mirrored again, as far as that is known.
    fn first_known(
        &self,
        source_key: &TopicPartition,
        target_key: &TopicPartition,
        topic_id: TopicId,
    ) -> Option<Offset> {
        let gone = self.logs.gone.get(target_key);
        let committed = gone.and_then(|gone| Some((gone.source_topic_id, gone.first?)));
        let seen = self.bounds.first.get(source_key).copied();
        let mut known = committed.into_iter().chain(seen);
        let of_topic = known.find(|(known, _)| *known == topic_id);
        of_topic.map(|(_, first)| first)
    }

    /// Why what was mirrored to a topic of the target is missing there.
    fn mirrored_again(&self, topic: &Chosen<'_>, there: Option<&TopicMetadata>) -> Option<String> {
        let partitions = topic.metadata.partitions.keys();
        let mut gone = partitions.filter_map(|id| self.logs.gone.get(&key(&topic.target, *id)));
        let written_to = self.bounds.target_topic_ids.get(&topic.target);
        let is_same = |id: &TopicId| there.is_some_and(|there| there.topic_id == *id);
        let why = match gone.next() {
            Some(gone) => gone.why,
            None if written_to.is_none_or(is_same) => return None,
            None if there.is_none() => target_logs::DELETED,
            None => target_logs::CREATED_AGAIN,
        };
        Some(why.to_owned())
    }

    /// Whether a partition of the target, of which no progress is known, holds records that are not of this mirror.
    fn holds_others(&self, key: &TopicPartition) -> bool {
        // With new keys the records of one partition go to all of the topic.
        let is_own = self.options.changes_keys()
            && self
                .logs
                .progress
                .keys()
                .any(|known| known.topic == key.topic);
        self.logs.filled.contains(key) && self.options.if_exists == IfExists::Fail && !is_own
    }

    /// Goes on behind what is committed.
    fn resume(
        &self,
        plan: &mut PartitionPlan,
        progress: &Progress,
        source_key: &TopicPartition,
        target_key: &TopicPartition,
    ) -> Result<(), EngineError> {
        if progress.note.cluster_id != self.from.cluster_id {
            return Err(EngineError::refused(format!(
                "{target_key} was mirrored from cluster {} under this name, and the source is {}: give the mirror another name",
                progress.note.cluster_id, self.from.cluster_id
            )));
        }
        let source_end = self.offsets.latest(source_key);
        let source_end = source_end.filter(|_| plan.leader.is_some());
        let stopped = if progress.note.topic_id != plan.note.topic_id {
            Some((PartitionState::Recreated, recreated()))
        } else if let Some(end) = source_end.filter(|end| *end < progress.next) {
            Some((PartitionState::Truncated, truncated(end, progress.next)))
        } else {
            let cut_off = self.logs.cut_off.get(target_key);
            cut_off.map(|end| {
                let why = format!(
                    "{target_key} of the target ends at offset {end}, below what this mirror wrote to it: the target lost records; {AGAIN}"
                );
                (PartitionState::TargetTruncated, why)
            })
        };
        if let Some((state, problem)) = stopped {
            plan.state = state;
            plan.problem = Some(problem.into());
        }
        plan.note.producers.clone_from(&progress.note.producers);
        plan.note.target_end = progress.note.target_end;
        plan.note.first = progress.note.first;
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

/// What helps where the two logs are not one any more.
const AGAIN: &str =
    "delete the topic in the target, and it is mirrored again from where the mirror began";

/// Why a partition stands still whose topic is another one in the source.
pub(super) fn recreated() -> String {
    format!("the source's topic was deleted and created again since it was mirrored: {AGAIN}")
}

/// Why a partition stands still whose log ends in the source below what was mirrored.
pub(super) fn truncated(end: Offset, next: Offset) -> String {
    format!(
        "the source's log ends at offset {end}, below {next}, up to which it was mirrored: it was truncated; {AGAIN}"
    )
}

/// Why a partition stands still whose log left the one that was mirrored, at `end`.
pub(super) fn forked(end: Offset) -> String {
    format!(
        "the source's log is another one from offset {end} on than what was mirrored (unclean leader election); {AGAIN}"
    )
}
