//! The topics of the target: created, and waited for until every partition takes writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::EngineError;
use crate::engine::producer::TargetLeader;
use crate::engine::refusal::{Part, Refusal};
use crate::engine::settings::is_about_settings;
use crate::kafka::{
    BrokerId, Client, KafkaError, OffsetSpec, ProducerIdentity, Retry, TopicPartition, Topics,
};
use crate::record::{LeaderEpoch, Offset, PartitionId};

use super::content::Judged;
use super::plan::{Interrupted, RestorePlan};

/// A partition to be written to.
#[derive(Debug, Clone)]
pub(super) struct TargetPartition {
    /// Topic and number.
    pub key: TopicPartition,
    /// Who leads it.
    pub leader: BrokerId,
    /// Under which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where this restore's records begin: its log's end before the restore.
    pub start: Offset,
    /// Its log's end now: beyond `start` lies what an interrupted restore wrote.
    pub end: Offset,
    /// Who writes to it.
    pub producer: ProducerIdentity,
    /// How what was sent is compared with what it holds.
    pub judged: Judged,
}

impl TargetPartition {
    /// Where to send its batches.
    pub fn leader(&self) -> TargetLeader {
        TargetLeader {
            key: self.key.clone(),
            leader: self.leader,
            leader_epoch: self.leader_epoch,
        }
    }
}

/// Creates the topics that the plan creates; those that are there afterwards are added to `created`.
pub(super) async fn create(
    client: &Client,
    plan: &RestorePlan,
    created: &mut Vec<String>,
) -> Result<(), EngineError> {
    let new = plan.new_topics();
    if new.is_empty() {
        return Ok(());
    }
    let mut refused = Vec::new();
    // Since the plan was made, somebody else may have created one.
    let mut is_there = false;
    for (topic, answer) in client.create_topics(&new, false).await? {
        match answer {
            Ok(()) => created.push(topic),
            Err(error) => {
                is_there |= error.is_topic_there();
                let refusal = Refusal::new(format!("topic {topic} cannot be created: {error}"));
                refused.push(refusal.of(Part::TargetTopic, topic));
            }
        }
    }
    match (Refusal::all(&refused), is_there) {
        (None, _) => {}
        (Some(why), true) => return Err(EngineError::conflict(why)),
        (Some(why), false) => return Err(EngineError::refused(why)),
    }
    // Settings that wait for the end are asked for now: a right that is missing shows before the records are written.
    let answers = client
        .incremental_alter_configs(&plan.afterwards(), true)
        .await?;
    let mut refusals = answers.into_values().filter_map(Result::err);
    match refusals.find(|error| !is_about_settings(error)) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Every target partition of the plan, topic by topic, when all of them have a leader that answers: those of
/// a new topic become ready one by one, and a batch sent to one that is not would be refused. `producer` writes to those
/// that no interrupted restore's producer goes on with.
pub(super) async fn ready(
    client: &Client,
    plan: &RestorePlan,
    producer: ProducerIdentity,
) -> Result<Vec<TargetPartition>, EngineError> {
    let names: Vec<String> = plan
        .topics
        .iter()
        .map(|topic| topic.target_topic.clone())
        .collect();
    let retry = Retry {
        initial: Duration::from_millis(10),
        max: Duration::from_secs(1),
        ..client.retry()
    };
    let started = Instant::now();
    let mut attempts = 0;
    loop {
        let last = match try_ready(client, plan, &names, producer).await {
            Ok(partitions) => return Ok(partitions),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if started.elapsed() > retry.deadline {
            return Err(last);
        }
        tokio::time::sleep(retry.backoff(attempts)).await;
        attempts += 1;
    }
}

async fn try_ready(
    client: &Client,
    plan: &RestorePlan,
    names: &[String],
    producer: ProducerIdentity,
) -> Result<Vec<TargetPartition>, EngineError> {
    let metadata = client.metadata(Topics::Named(names)).await?;
    let mut leaders = Vec::new();
    for topic in &plan.topics {
        let found = metadata.topics.get(&topic.target_topic);
        if let Some(code) = found.and_then(|found| found.error) {
            return Err(KafkaError::for_topic(code, "WRITE", &topic.target_topic).into());
        }
        for number in 0..topic.target_partitions {
            let id = PartitionId(i32::try_from(number).unwrap_or(i32::MAX));
            let found = found.and_then(|topic| topic.partitions.get(&id));
            let leader = found.and_then(|found| Some((found.leader?, found.leader_epoch)));
            let leader = leader.ok_or_else(|| KafkaError::leaderless(&topic.target_topic, id))?;
            let key = TopicPartition {
                topic: topic.target_topic.clone(),
                partition: id,
            };
            leaders.push((topic, key, leader));
        }
    }
    let keys = leaders.iter().map(|(_, key, _)| key.clone());
    let mut ends = ends(client, keys.collect()).await?;
    let mut partitions = Vec::with_capacity(leaders.len());
    for (topic, key, (leader, leader_epoch)) in leaders {
        let end = ends
            .remove(&key)
            .ok_or_else(|| KafkaError::leaderless(&key.topic, key.partition))?;
        let interrupted = topic.interrupted.as_ref();
        let began_at = |interrupted: &Interrupted| {
            let noted = interrupted.end_offsets.get(&key.partition);
            noted.copied().unwrap_or_default()
        };
        partitions.push(TargetPartition {
            start: interrupted.map_or(end, began_at),
            producer: interrupted.map_or(producer, |interrupted| interrupted.producer),
            judged: topic.judged,
            key,
            leader,
            leader_epoch,
            end,
        });
    }
    Ok(partitions)
}

/// Where the logs end, as their leaders say.
pub(super) async fn ends(
    client: &Client,
    keys: Vec<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, Offset>, EngineError> {
    Ok(client.offsets_of(&keys, OffsetSpec::Latest).await?)
}

/// Where they begin.
pub(super) async fn starts(
    client: &Client,
    keys: Vec<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, Offset>, EngineError> {
    Ok(client.offsets_of(&keys, OffsetSpec::Earliest).await?)
}
