//! Makes a backup of what was stored: index layers, configurations, and the manifest last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::engine::EngineError;
use crate::engine::chain::lacks;
use crate::engine::extents::{Held, held_between};
use crate::engine::refusal::Refusal;
use crate::record::{LeaderEpoch, PartitionId};
use crate::repository::{
    BatchEvidence, Completion, Extent, Layer, LockGuard, Manifest, PackRef, PartitionEntry, Place,
    Repository, RepositoryError, Sha256, TopicEntry, Totals,
};

use super::adopt::Adoptable;
use super::fetch::Copy;
use super::held_batch::{evidence, held_at, last_held};
use super::plan::{PartitionPlan, TopicPlan};
use super::store::{Stored, StoredPartition};
use super::{BackupOptions, BackupReport};

/// The run that a manifest is written for.
pub(super) struct Run {
    pub place: Place,
    pub started_at: DateTime<Utc>,
    pub clock: Instant,
    pub options: BackupOptions,
}

/// Publishes the backup. All that the manifest references is durable before it is written.
pub(super) fn conclude(
    repository: &Repository,
    lock: &LockGuard,
    run: Run,
    copy: Copy,
) -> Result<BackupReport, EngineError> {
    let Copy {
        plan,
        stored,
        failed,
    } = copy;
    let stored_bytes = |stored: &StoredPartition| stored.held().stored_bytes;
    let new_stored_bytes = stored.partitions.values().map(stored_bytes).sum();
    let topics = conclude_topics(repository, &plan.cluster_id, plan.topics, stored, &failed)?;
    let groups = plan.groups.map(|mut groups| {
        groups.compare_with(&topics);
        groups
    });
    let groups_state = groups
        .as_ref()
        .map(|groups| repository.put_state(groups))
        .transpose()?;
    let place = run.place;
    let mut manifest = Manifest {
        format: crate::repository::FORMAT,
        backup_id: place.backup_id,
        sequence: repository.sequence_at(place.backup_id)?,
        previous: place.previous,
        policy: run.options.policy,
        kafkeep_version: env!("CARGO_PKG_VERSION").to_owned(),
        repository_id: repository.id(),
        cluster_id: plan.cluster_id,
        cluster_name: run.options.cluster_name,
        started_at: run.started_at,
        finished_at: Utc::now(),
        status: Completion::unless(!failed.is_empty() || have_gaps(&topics)),
        selection: run.options.selection,
        totals: totals(&topics, new_stored_bytes),
        topics,
        groups: groups_state,
    };
    let losses = publish(repository, lock, &mut manifest, plan.adoptable)?;
    let duration_ms = u64::try_from(run.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(BackupReport::of(
        &manifest,
        groups.unwrap_or_default(),
        duration_ms,
        failures(failed)
            .chain(losses)
            .chain(place.warnings.into_iter().map(Refusal::from))
            .chain(place.lost.map(Refusal::from))
            .chain(plan.warnings)
            .collect(),
    ))
}

/// Writes the manifest, and forgets the runs that it makes needless. Gives what the repository lacks of what the backup builds on.
fn publish(
    repository: &Repository,
    lock: &LockGuard,
    manifest: &mut Manifest,
    adoptable: Adoptable,
) -> Result<Option<Refusal>, EngineError> {
    let losses = losses(repository, manifest)?;
    if losses.is_some() {
        manifest.status = Completion::Incomplete;
    }
    // Without it, what the manifest references may have been taken for unused and removed.
    lock.check()?;
    repository.publish(manifest)?;
    let mut over = adoptable.superseded(manifest);
    over.push(manifest.backup_id);
    repository.forget_runs(&over)?;
    Ok(losses)
}

fn have_gaps(topics: &[TopicEntry]) -> bool {
    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| !partition.gaps.is_empty())
}

/// What is said of topics that failed.
fn failures(failed: BTreeMap<Arc<str>, EngineError>) -> impl Iterator<Item = Refusal> {
    let failed = failed.into_iter();
    failed.map(|(topic, error)| {
        let say = |error: &str| format!("topic {topic} is not in this backup: {error}");
        match &error {
            EngineError::Repository(error) => Refusal::by(error, say),
            error => say(&error.to_string()).into(),
        }
    })
}

/// What the repository lacks of all that the backup builds on: lost since the plan, which leaves out what was lost before.
fn losses(repository: &Repository, manifest: &Manifest) -> Result<Option<Refusal>, EngineError> {
    let say = |lacks: &str| {
        format!(
            "the backup is damaged already: {lacks}; back up again, the next one copies anew what is lost"
        )
    };
    match repository.reference_walk().of_backup(manifest) {
        Ok(references) => {
            let lacks = lacks(&references, &repository.packs()?.into_iter().collect());
            Ok(lacks.map(|lacks| say(&lacks).into()))
        }
        Err(error) if error.is_damage() || error.is_missing() => Ok(Some(Refusal::by(&error, say))),
        Err(error) => Err(error.into()),
    }
}

/// The topics of a plan with what was stored of them, without those that failed.
fn conclude_topics(
    repository: &Repository,
    cluster_id: &str,
    planned: Vec<TopicPlan>,
    mut stored: Stored,
    failed: &BTreeMap<Arc<str>, EngineError>,
) -> Result<Vec<TopicEntry>, EngineError> {
    let mut topics = Vec::with_capacity(planned.len());
    let mut slot = 0;
    for topic in planned {
        let mut new = BTreeMap::new();
        for partition in &topic.partitions {
            new.insert(
                partition.partition,
                stored.partitions.remove(&slot).unwrap_or_default(),
            );
            slot += 1;
        }
        if failed.contains_key(topic.topic.as_str()) {
            continue;
        }
        topics.push(conclude_topic(
            repository,
            cluster_id,
            topic,
            new,
            &stored.packs,
        )?);
    }
    Ok(topics)
}

fn conclude_topic(
    repository: &Repository,
    cluster_id: &str,
    topic: TopicPlan,
    mut new: BTreeMap<PartitionId, StoredPartition>,
    packs: &[PackRef],
) -> Result<TopicEntry, EngineError> {
    let configuration = repository.put_state(&topic.configuration)?;
    let parent = topic.chain.as_ref().and_then(|chain| chain.index);
    let layer = layer(cluster_id, &topic, &new, packs)?;
    let index = if layer.weight == 0 {
        parent
    } else {
        Some(repository.extend_index(parent.as_ref(), layer)?)
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    let has_id = !topic.topic_id.is_zero();
    for partition in topic.partitions {
        let stored = new.remove(&partition.partition).unwrap_or_default();
        let previous = topic
            .chain
            .as_ref()
            .and_then(|chain| chain.partitions.get(&partition.partition));
        partitions.push(conclude_partition(
            repository,
            index.as_ref(),
            partition,
            stored,
            previous,
            has_id,
        )?);
    }
    Ok(TopicEntry {
        topic: topic.topic,
        topic_id: topic.topic_id,
        chain_restarted: topic.chain_restarted,
        partition_count: topic.partition_count,
        replication_factor: topic.replication_factor,
        index,
        configuration,
        partitions,
    })
}

/// The extents that a run added to a topic, with only the packs that they lie in.
fn layer(
    cluster_id: &str,
    topic: &TopicPlan,
    new: &BTreeMap<PartitionId, StoredPartition>,
    packs: &[PackRef],
) -> Result<Layer, EngineError> {
    let mut layer = Layer::new(&topic.topic, topic.topic_id, cluster_id);
    for (partition, stored) in new {
        for extent in &stored.extents {
            let pack = packs
                .get(extent.pack as usize)
                .ok_or(EngineError::Lost("the list of packs"))?;
            layer.push(*partition, pack, extent.clone())?;
        }
    }
    Ok(layer)
}

fn conclude_partition(
    repository: &Repository,
    index: Option<&Sha256>,
    plan: PartitionPlan,
    stored: StoredPartition,
    previous: Option<&PartitionEntry>,
    has_id: bool,
) -> Result<PartitionEntry, EngineError> {
    let (first_batch, last_batch) = ends(repository, index, &plan, &stored, previous, has_id)?;
    let new = stored.held();
    // An adopted run may have begun where the log started earlier.
    let begins_inside = plan
        .adopted
        .first()
        .is_none_or(|sealed| sealed.extent.base_offset >= plan.start);
    let held = match previous {
        None if begins_inside => new,
        Some(previous) if begins_inside && previous.start_offset == plan.start => {
            Held::of_entry(previous).with(new)
        }
        // The log's start has moved: what lies below it no longer belongs to the backup.
        _ => match index {
            Some(index) => held_between(repository, index, plan.partition, plan.start, plan.end)?,
            None => new,
        },
    };
    let newest = stored
        .extents
        .last()
        .map(|extent: &Extent| extent.leader_epoch);
    Ok(PartitionEntry {
        partition: plan.partition,
        start_offset: plan.start,
        end_offset: plan.end,
        last_stable_offset: stored.open.last_stable(plan.start, plan.end),
        leader_epoch: newest
            .or(previous.map(|entry| entry.leader_epoch))
            .unwrap_or(LeaderEpoch(-1)),
        records: held.records,
        control_records: held.control_records,
        bytes: held.bytes,
        stored_bytes: held.stored_bytes,
        new_records: new.records,
        new_bytes: new.bytes,
        largest_batch: held.largest_batch,
        open_transactions: stored.open.to_list(),
        gaps: plan.gaps,
        first_batch,
        last_batch,
    })
}

/// Evidence of the first and the last batch of a partition. Packs are read only for what interrupted runs had sealed, and,
/// where the cluster knows no topic ids, for the first batch behind a log start that has moved.
fn ends(
    repository: &Repository,
    index: Option<&Sha256>,
    plan: &PartitionPlan,
    stored: &StoredPartition,
    previous: Option<&PartitionEntry>,
    has_id: bool,
) -> Result<(Option<BatchEvidence>, Option<BatchEvidence>), EngineError> {
    let adopts = !plan.adopted.is_empty();
    let first = previous
        .and_then(|entry| entry.first_batch)
        .filter(|batch| batch.last_offset >= plan.start)
        .or(stored
            .ends
            .filter(|_| previous.is_none_or(|entry| entry.bytes == 0) && !adopts)
            .map(|(first, _)| first));
    let last = stored.ends.map(|(_, last)| last).or(previous
        .filter(|_| !adopts)
        .and_then(|entry| entry.last_batch)
        .filter(|batch| batch.last_offset >= plan.start));
    let holds_something =
        previous.is_some_and(|entry| entry.bytes > 0) || !stored.extents.is_empty();
    let wants_first = first.is_none() && !has_id && holds_something;
    let wants_last = last.is_none() && adopts;
    let (true, Some(index)) = (wants_first || wants_last, index) else {
        return Ok((first, last));
    };
    let look = || {
        let index = repository.index(index)?;
        let first = match wants_first {
            true => evidence(held_at(repository, &index, plan.partition, plan.start)?.as_ref())?,
            false => first,
        };
        let last = match wants_last {
            true => last_held(repository, &index, plan.partition)?,
            false => last,
        };
        Ok::<_, RepositoryError>((first, last))
    };
    match look() {
        // For want of evidence no backup fails: the next one looks again.
        Err(error) if error.is_damage() => Ok((first, last)),
        found => Ok(found?),
    }
}

fn totals(topics: &[TopicEntry], new_stored_bytes: u64) -> Totals {
    let mut totals = Totals {
        new_stored_bytes,
        ..Totals::default()
    };
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        totals.records += partition.records;
        totals.bytes += partition.bytes;
        totals.stored_bytes += partition.stored_bytes;
        totals.new_records += partition.new_records;
        totals.new_bytes += partition.new_bytes;
    }
    totals.reused_bytes = totals.bytes.saturating_sub(totals.new_bytes);
    totals
}
