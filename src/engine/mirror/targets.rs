//! Between what a session copies: partitions of the source, and partitions of the target that their records go to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::engine::EngineError;
use crate::engine::producer::{PartitionIndex, TargetLeader};
use crate::kafka::{Client, KafkaError, Metadata, PartitionMetadata, TopicPartition, Topics};
use crate::record::{LeaderEpoch, Offset, PartitionId, ProducerId, RecordError, TopicId};

use super::plan::MirrorPlan;
use super::progress::Note;
use super::ready::Destination;
use super::state::{Advance, PartitionState};

/// One partition of the source.
pub(super) struct Origin {
    pub source: TopicPartition,
    /// The partition of the target with the same number: its progress is committed under that name.
    pub key: TopicPartition,
    pub note: Note,
    pub leader_epoch: LeaderEpoch,
    /// What the transaction has of it.
    pub advance: Option<Advance>,
    /// Where its records lie in the partition of the same number.
    pub acknowledged: Vec<(Offset, Offset, u32)>,
}

impl Origin {
    pub fn wrong_batch(&self, source: RecordError) -> EngineError {
        EngineError::Batch {
            topic: self.source.topic.clone(),
            partition: self.source.partition,
            offset: self.advance.map_or(Offset(0), |advance| advance.next),
            source,
        }
    }
}

/// All of a session.
pub(super) struct Targets {
    /// By the partition's place in the session's table; none for those that stand still.
    pub origins: Vec<Option<Origin>>,
    /// Partitions of the target, by their place in the producer.
    pub leaders: Vec<TargetLeader>,
    /// The ids of the topics that are mirrored to.
    pub topic_ids: BTreeMap<String, TopicId>,
    places: HashMap<TopicPartition, PartitionIndex>,
    /// The topic for dead letters, and how many partitions it has.
    dead_letters: Option<(String, u32)>,
}

impl Targets {
    /// Every partition that goes on, when all that are written to have a leader.
    pub async fn find(
        client: &Client,
        plan: &MirrorPlan,
        producer_id: ProducerId,
    ) -> Result<Self, KafkaError> {
        let topics = plan.topics.iter().map(|topic| &topic.target_topic);
        let dead_letter_topic = plan.dead_letter_topic.as_ref();
        let names: BTreeSet<&String> = topics.chain(dead_letter_topic).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let metadata = client.metadata_now(Topics::Named(&names)).await?;
        let mut targets = Self {
            origins: origins(plan, producer_id),
            leaders: Vec::new(),
            topic_ids: topic_ids(plan, &metadata),
            places: HashMap::new(),
            dead_letters: None,
        };
        for origin in targets.origins.iter_mut().flatten() {
            let id = targets.topic_ids.get(&origin.key.topic);
            origin.note.target_topic_id = id.copied();
        }
        for key in written(plan, &targets.origins) {
            let found = metadata.topics.get(&key.topic);
            let found = found.and_then(|found| found.partitions.get(&key.partition));
            targets.add(key, found)?;
        }
        if let Some(topic) = dead_letter_topic {
            let missing = || KafkaError::leaderless(topic, PartitionId(0));
            let found = metadata.topics.get(topic).ok_or_else(missing)?;
            let count = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
            for (id, partition) in &found.partitions {
                let key = TopicPartition {
                    topic: topic.clone(),
                    partition: *id,
                };
                targets.add(key, Some(partition))?;
            }
            if count == 0 {
                return Err(missing());
            }
            targets.dead_letters = Some((topic.clone(), count));
        }
        Ok(targets)
    }

    fn add(
        &mut self,
        key: TopicPartition,
        found: Option<&PartitionMetadata>,
    ) -> Result<(), KafkaError> {
        let leader = found.and_then(|found| Some((found.leader?, found.leader_epoch)));
        let missing = || KafkaError::leaderless(&key.topic, key.partition);
        let (leader, leader_epoch) = leader.ok_or_else(missing)?;
        self.places
            .insert(key.clone(), PartitionIndex(self.leaders.len()));
        self.leaders.push(TargetLeader {
            key,
            leader,
            leader_epoch,
        });
        Ok(())
    }

    pub fn origin(&self, slot: usize) -> Option<&Origin> {
        self.origins.get(slot)?.as_ref()
    }

    pub fn origin_mut(&mut self, slot: usize) -> Option<&mut Origin> {
        self.origins.get_mut(slot)?.as_mut()
    }

    /// Whether the topics are those that the plan was made for.
    pub fn are_planned(&self, plan: &MirrorPlan) -> bool {
        let mut known = plan.topics.iter().filter_map(|topic| {
            let planned = topic.target_topic_id?;
            Some((planned, self.topic_ids.get(&topic.target_topic)))
        });
        known.all(|(planned, found)| found == Some(&planned))
    }

    /// The place in the producer of the partition that an origin's progress is committed for.
    pub fn own_place(&self, origin: &Origin) -> Option<PartitionIndex> {
        self.places.get(&origin.key).copied()
    }

    /// Where a batch of a partition of the source goes.
    pub fn place(&self, slot: usize, destination: Destination) -> Option<PartitionIndex> {
        let same = &self.origin(slot)?.key;
        let key = match destination {
            Destination::Same => same.clone(),
            Destination::Partition(partition) => TopicPartition {
                topic: same.topic.clone(),
                partition,
            },
            // What is of one partition stays in its order.
            Destination::DeadLetter => {
                let (topic, count) = self.dead_letters.as_ref()?;
                let number = i64::from(same.partition.0) % i64::from(*count);
                TopicPartition {
                    topic: topic.clone(),
                    partition: PartitionId(i32::try_from(number).unwrap_or(0)),
                }
            }
        };
        self.places.get(&key).copied()
    }
}

fn topic_ids(plan: &MirrorPlan, metadata: &Metadata) -> BTreeMap<String, TopicId> {
    let topics = plan.topics.iter();
    let found = topics.filter_map(|topic| {
        let found = metadata.topics.get(&topic.target_topic)?;
        Some((topic.target_topic.clone(), found.topic_id))
    });
    found.collect()
}

fn origins(plan: &MirrorPlan, producer_id: ProducerId) -> Vec<Option<Origin>> {
    let partitions = plan.partitions().map(|(topic, partition)| {
        let key = |topic: &str| TopicPartition {
            topic: topic.to_owned(),
            partition: partition.partition,
        };
        let goes_on = partition.state == PartitionState::Mirroring;
        goes_on.then(|| {
            let mut note = partition.note.clone();
            note.wrote(producer_id);
            Origin {
                source: key(&topic.topic),
                key: key(&topic.target_topic),
                note,
                leader_epoch: partition.last_epoch.unwrap_or(LeaderEpoch(-1)),
                advance: Some(Advance {
                    next: partition.start_offset,
                    ..Advance::default()
                }),
                acknowledged: Vec::new(),
            }
        })
    });
    partitions.collect()
}

/// The partitions that records may go to: those of the same numbers, or with new keys all of the topic.
fn written(plan: &MirrorPlan, origins: &[Option<Origin>]) -> Vec<TopicPartition> {
    let same = origins.iter().flatten().map(|origin| origin.key.clone());
    if !plan.changes_keys {
        return same.collect();
    }
    let going: BTreeSet<String> = same.map(|key| key.topic).collect();
    let counts: BTreeMap<&String, u32> = plan
        .topics
        .iter()
        .map(|topic| (&topic.target_topic, topic.target_partitions))
        .collect();
    let all = going.into_iter().flat_map(|topic| {
        let count = counts.get(&topic).copied().unwrap_or(0);
        (0..count).map(move |number| TopicPartition {
            topic: topic.clone(),
            partition: PartitionId(i32::try_from(number).unwrap_or(i32::MAX)),
        })
    });
    all.collect()
}
