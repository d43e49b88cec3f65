//! A restore that was interrupted, and is gone on with.
//!
//! Before a restore changes anything in the target, it notes down in the repository what it is about to write to, where the
//! logs ended, and as which idempotent producer it writes. What it sends is the same for the same backup and options, batch
//! by batch. So a later restore takes what lies in the target behind those ends for what the first one wrote only when it
//! is, in the same batches, what this one would send first. It goes on as the same producer with the next sequence number:
//! a batch of the dead process that is still under way is then either in front of all that comes, or refused, never twice there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::kafka::{
    Client, ConfigSource, KafkaError, ProducerIdentity, TopicMetadata, TopicPartition,
};
use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{
    BackupId, Repository, RepositoryError, RestoreId, Sha256, UnfinishedRestore, UnfinishedTopic,
};

use super::configuration::TIMESTAMP_BOUND_BEFORE_3_6;
use super::plan::{Interrupted, RestorePlan, TopicAction, TopicRestore};
use super::{RestoreOptions, target};

/// Changes whenever the same backup and options give other batches than before.
const BATCHING: u32 = 1;

/// What writes to the repository.
const NOTING: &str = "the thread that notes the restore down";

/// The unfinished restores into a cluster, as they noted themselves down.
pub(super) struct Unfinished(Vec<UnfinishedRestore>);

/// What an unfinished restore means for a topic that is there.
pub(super) enum Remains {
    /// The restore asked for is the same, and goes on with it.
    GoOn(Interrupted),
    /// All is done to it.
    Finished,
    /// It cannot be gone on with, and why.
    Refused(Refusal),
}

impl Unfinished {
    /// As if there were none.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Those into `cluster_id`.
    pub fn into(repository: &Repository, cluster_id: &str) -> Result<Self, EngineError> {
        let mut restores = repository.unfinished_restores()?;
        restores.retain(|restore| restore.cluster_id == cluster_id);
        Ok(Self(restores))
    }

    /// The last one that wrote to `topic`, which has this id now.
    pub fn of(
        &self,
        topic: &str,
        topic_id: TopicId,
    ) -> Option<(&UnfinishedRestore, &UnfinishedTopic)> {
        self.0.iter().rev().find_map(|restore| {
            let found = restore
                .topics
                .iter()
                .find(|noted| noted.target_topic == topic)?;
            let known = !found.topic_id.is_zero() && !topic_id.is_zero();
            // A topic with another id was created anew: what was written to the old one is gone with it.
            (!known || found.topic_id == topic_id).then_some((restore, found))
        })
    }
}

/// Whether the restore asked for is the one that left `noted`, and how far that had come with the topic.
pub(super) async fn remains(
    client: &Client,
    (restore, noted): (&UnfinishedRestore, &UnfinishedTopic),
    backup_id: &BackupId,
    topic: &mut TopicRestore,
    existing: &TopicMetadata,
    options: &RestoreOptions,
) -> Result<Remains, EngineError> {
    let began = began(restore, &topic.target_topic);
    let created = noted.created;
    let target = topic.target_topic.clone();
    let refused = |why: String, advice: Advice| {
        let refusal = Refusal::new(why).of(Part::TargetTopic, &target);
        Ok(Remains::Refused(refusal.advise(advice)))
    };
    if restore.backup_id != *backup_id
        || noted.fingerprint != fingerprint(backup_id, topic, options)
    {
        return refused(began, Advice::GoOnOrForget { created });
    }
    if existing.partitions.len() != topic.target_partitions as usize {
        let why = format!(
            "{began}, but the topic has {} partitions now, not {}",
            existing.partitions.len(),
            topic.target_partitions
        );
        return refused(why, Advice::Forget { created });
    }
    if noted.created {
        match is_as_created(client, topic).await? {
            Some(true) => {}
            None => return refused(began, Advice::Forget { created }),
            // They are changed last of all.
            Some(false) if noted.written => return Ok(Remains::Finished),
            Some(false) => {
                let why = format!("{began}, but somebody changed the topic's settings since");
                return refused(why, Advice::Forget { created });
            }
        }
    }
    Ok(Remains::GoOn(Interrupted {
        restore_id: restore.restore_id,
        started_at: restore.started_at,
        producer: ProducerIdentity {
            producer_id: restore.producer_id,
            producer_epoch: restore.producer_epoch,
        },
        end_offsets: noted.end_offsets.clone(),
    }))
}

fn began(restore: &UnfinishedRestore, target: &str) -> String {
    format!(
        "a restore of backup {} into topic {target} began at {} and did not finish",
        restore.backup_id,
        restore
            .started_at
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    )
}

/// Whether a topic has the settings yet that a restore created it with; none where the plan does not create it.
async fn is_as_created(
    client: &Client,
    topic: &mut TopicRestore,
) -> Result<Option<bool>, EngineError> {
    let settings = settings_of(client, &topic.target_topic).await?;
    if settings.contains_key(TIMESTAMP_BOUND_BEFORE_3_6) {
        topic.use_old_timestamp_bound();
    }
    let TopicAction::Create { configuration, .. } = &topic.action else {
        return Ok(None);
    };
    let mut configuration = configuration.iter();
    let is_as_created = configuration.all(|(name, value)| settings.get(name) == Some(value));
    Ok(Some(is_as_created))
}

/// What is set for a topic itself that a restore created.
async fn settings_of(
    client: &Client,
    topic: &str,
) -> Result<BTreeMap<String, String>, EngineError> {
    // Settings wait to be altered, which implies to describe them.
    let described = client.describe_configs(&[topic.to_owned()]).await;
    let altering = |error: KafkaError| error.implied_by("ALTER_CONFIGS", &format!("topic {topic}"));
    let mut described = described.map_err(altering)?;
    let entries = described.remove(topic).unwrap_or_default();
    Ok(entries
        .into_iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopicConfig)
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect())
}

/// Of everything that decides which batches of the topic go where, and in which order.
fn fingerprint(backup_id: &BackupId, topic: &TopicRestore, options: &RestoreOptions) -> Sha256 {
    #[derive(Serialize)]
    struct Deciding<'a> {
        batching: u32,
        backup_id: &'a BackupId,
        topic: &'a str,
        topic_id: TopicId,
        partitions: Vec<(PartitionId, Offset, Offset)>,
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
        target_partitions: u32,
        partitioned_by_key: bool,
    }
    let partitions = topic.partitions.iter();
    let deciding = Deciding {
        batching: BATCHING,
        backup_id,
        topic: &topic.topic,
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|partition| {
                (
                    partition.partition,
                    partition.start_offset,
                    partition.end_offset,
                )
            })
            .collect(),
        from: options.from,
        until: options.until,
        target_partitions: topic.target_partitions,
        partitioned_by_key: topic.partitioned_by_key,
    };
    // Of text, numbers and times: nothing that JSON could refuse.
    Sha256::of(&serde_json::to_vec(&deciding).unwrap_or_default())
}

/// Notes the plan's topics down, but for those that an interrupted restore noted down already. Where the repository
/// takes no writes there is no note, and the restore could not go on after an interruption.
pub(super) async fn note_down(
    client: &Client,
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    options: &RestoreOptions,
    producer: ProducerIdentity,
) -> Result<(), EngineError> {
    let mut topics = Vec::new();
    for topic in plan
        .topics
        .iter()
        .filter(|topic| topic.interrupted.is_none())
    {
        topics.push(UnfinishedTopic {
            target_topic: topic.target_topic.clone(),
            topic_id: topic.target_topic_id,
            created: topic.action != TopicAction::Append,
            end_offsets: end_offsets(client, topic).await?,
            fingerprint: fingerprint(&plan.backup_id, topic, options),
            written: false,
        });
    }
    if topics.is_empty() {
        return Ok(());
    }
    let restore = UnfinishedRestore {
        restore_id: RestoreId::now(),
        started_at: Utc::now().trunc_subsecs(3),
        backup_id: plan.backup_id,
        cluster_id: plan.cluster_id.clone(),
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        topics,
    };
    let noting = in_repository(repository, NOTING, move |repository| {
        match repository.record_restore(&restore) {
            Err(error) if error.takes_no_writes() => {
                tracing::warn!(
                    "the repository takes no writes: if this restore is interrupted, it cannot go on"
                );
                Ok(())
            }
            result => result,
        }
    });
    noting.await
}

async fn end_offsets(
    client: &Client,
    topic: &TopicRestore,
) -> Result<BTreeMap<PartitionId, Offset>, EngineError> {
    if topic.action != TopicAction::Append {
        return Ok(BTreeMap::new());
    }
    let keys = (0..topic.target_partitions).map(|number| TopicPartition {
        topic: topic.target_topic.clone(),
        partition: PartitionId(i32::try_from(number).unwrap_or(i32::MAX)),
    });
    let ends = target::ends(client, keys.collect()).await?;
    Ok(ends
        .into_iter()
        .map(|(key, end)| (key.partition, end))
        .collect())
}

/// All records of the plan's topics are there.
pub(super) async fn note_written(
    repository: &Arc<Repository>,
    plan: &RestorePlan,
) -> Result<(), EngineError> {
    note_anew(repository, plan, |topic, of_plan| {
        let written = topic.written || of_plan;
        Some(UnfinishedTopic { written, ..topic })
    })
    .await
}

/// The plan's topics are finished: no note speaks of them any more.
pub(super) async fn finish(
    repository: &Arc<Repository>,
    plan: &RestorePlan,
) -> Result<(), EngineError> {
    note_anew(repository, plan, |topic, of_plan| {
        (!of_plan).then_some(topic)
    })
    .await
}

/// Replaces the notes that speak of topics of the plan: what `change` makes of each of their topics, with whether it is the
/// plan's, is noted first.
async fn note_anew(
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    change: impl Fn(UnfinishedTopic, bool) -> Option<UnfinishedTopic> + Send + 'static,
) -> Result<(), EngineError> {
    let topics = plan.topics.iter().map(|topic| &topic.target_topic);
    let planned: BTreeSet<String> = topics.chain(&plan.finished).cloned().collect();
    let cluster_id = plan.cluster_id.clone();
    let noting = in_repository(repository, NOTING, move |repository| {
        replace_notes(repository, &cluster_id, &planned, change)
    });
    noting.await
}

fn replace_notes(
    repository: &Repository,
    cluster_id: &str,
    planned: &BTreeSet<String>,
    change: impl Fn(UnfinishedTopic, bool) -> Option<UnfinishedTopic>,
) -> Result<(), RepositoryError> {
    let is_planned = |topic: &UnfinishedTopic| planned.contains(&topic.target_topic);
    for restore in repository.unfinished_restores()? {
        if restore.cluster_id != cluster_id || !restore.topics.iter().any(is_planned) {
            continue;
        }
        let old = restore.restore_id;
        let topics = restore.topics.into_iter();
        let changed: Vec<_> = topics
            .filter_map(|topic| {
                let of_plan = is_planned(&topic);
                change(topic, of_plan)
            })
            .collect();
        let noted = if changed.is_empty() {
            Ok(())
        } else {
            repository.record_restore(&UnfinishedRestore {
                restore_id: RestoreId::now(),
                topics: changed,
                ..restore
            })
        };
        match noted.and_then(|()| repository.forget_restore(old)) {
            Err(error) if error.takes_no_writes() => {}
            result => result?,
        }
    }
    Ok(())
}
