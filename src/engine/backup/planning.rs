//! Plans a backup: fixes the bounds of every partition before the first fetch.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::chain::{ChainEnd, Chains, Generation, find_chains};
use crate::engine::topic_configuration::TopicConfiguration;
use crate::engine::topics::{Candidate, refuse_unseen};
use crate::engine::transactions::OpenTransactions;
use crate::kafka::{BrokerId, KafkaError, Metadata, TopicMetadata, TopicPartition, Topics};
use crate::record::{LeaderEpoch, Offset, PartitionId};
use crate::repository::{OffsetBound, PartitionEntry, Repository, Selection};

use super::adopt::Adoptable;
use super::bounds::Bounds;
use super::held_batch::last_held;
use super::means::Means;
use super::plan::{BackupPlan, PartitionPlan, TopicPlan, gap, span};
use super::proof::go_on;
use super::share::share;
use super::{BackupOptions, groups};

/// Fixes the bounds, and proves that chains and what interrupted runs had sealed are still parts of the logs. `forked`
/// tells how often logs were found to be rewritten while this run read them: the second time, their chains start again.
pub(super) async fn plan(
    means: &Means<'_>,
    forked: &BTreeMap<Generation, u32>,
) -> Result<BackupPlan, EngineError> {
    let &Means {
        client,
        repository,
        options,
        watchdog,
        ..
    } = means;
    let metadata = client.metadata(Topics::All).await?;
    refuse_unseen(client, &metadata, &options.topics).await?;
    let chosen = choose(&metadata, options)?;
    let partitions = chosen_partitions(&chosen, options.selection.as_ref())?;
    let mut warnings = Vec::new();
    // Before the high watermarks: no group may be ahead of the records that are backed up with it.
    let groups = groups::capture(client, &options.groups, &partitions, &mut warnings).await?;
    // A coordinator that is away may have been waited for until the deadline.
    watchdog.moved();
    let bounds = Bounds::read(client, &partitions).await?;
    warnings.extend(bounds.tell_hanging(client).await);
    let names: Vec<String> = chosen.keys().map(|name| (*name).to_owned()).collect();
    let mut configurations = match client.describe_configs(&names).await {
        Err(error @ KafkaError::Unsupported { .. }) => {
            warnings.push(format!("topic configurations are not backed up: {error}"));
            BTreeMap::new()
        }
        configurations => configurations?,
    };

    let generation = |name: &str, topic: &TopicMetadata| Generation {
        cluster_id: metadata.cluster_id.clone(),
        topic: name.to_owned(),
        topic_id: topic.topic_id,
    };
    let wanted: Vec<Generation> = match options.selection {
        Some(_) => Vec::new(),
        None => chosen
            .iter()
            .map(|(name, topic)| generation(name, topic))
            .collect(),
    };
    let read = in_repository(
        repository,
        "the thread that reads the chains",
        |repository| held(repository, wanted),
    );
    let (mut chains, mut adoptable, unusable) = read.await?;
    warnings.extend(unusable);

    let mut topics = Vec::with_capacity(chosen.len());
    for (name, topic) in &chosen {
        let mut entries = configurations.remove(*name).unwrap_or_default();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let generation = generation(name, topic);
        let chain = chains.ends.remove(&generation);
        let restarted = if forked.get(&generation) > Some(&1) {
            Some("the log was rewritten while it was read (unclean leader election)".to_owned())
        } else if let Some(lacks) = chains.broken.get(&generation) {
            Some(format!(
                "{lacks}: earlier backups of the topic are damaged, see kafkeep verify"
            ))
        } else {
            chains.recreated.get(&generation).map(|earlier| {
                format!("the topic was deleted and created anew since backup {earlier}")
            })
        };
        topics.push(plan_topic(
            name,
            topic,
            TopicConfiguration { entries },
            chain,
            restarted,
            &bounds,
            options,
        )?);
    }
    let cluster_id = &metadata.cluster_id;
    let mut topics = go_on(
        means,
        cluster_id,
        topics,
        &mut adoptable,
        forked,
        &mut warnings,
    )
    .await?;
    warnings.extend(adoption(&topics));
    warnings.extend(topics.iter().filter_map(|topic| {
        let reason = topic.chain_restarted.as_ref()?;
        Some(format!(
            "topic {} is copied anew, since {reason}",
            topic.topic
        ))
    }));
    if let Some(room) = &options.room {
        room.refuse_too_large(client, &topics, &mut warnings)
            .await?;
    }
    if let Some(selection) = &options.selection {
        warnings.extend(unmet_bounds(&topics, selection));
    }
    if let Some(limit) = options
        .selection
        .as_ref()
        .and_then(|selection| selection.max_messages)
    {
        limit_messages(&mut topics, limit);
    }
    warnings.extend(
        chains
            .unreadable
            .iter()
            .map(|(id, error)| format!("backup {id} is passed over: {error}")),
    );
    Ok(BackupPlan {
        cluster_id: metadata.cluster_id.clone(),
        topics,
        groups,
        warnings,
        adoptable,
    })
}

/// What the repository holds of the generations: chains, and what interrupted runs had sealed; and warnings about what
/// of that cannot be used.
fn held(
    repository: &Repository,
    wanted: Vec<Generation>,
) -> Result<(Chains, Adoptable, Vec<String>), EngineError> {
    let mut warnings = Vec::new();
    let mut chains = find_chains(repository, &wanted)?;
    for chain in chains.ends.values_mut() {
        find_last_batches(repository, chain)?;
    }
    let adoptable = Adoptable::find(repository, &wanted, &mut warnings)?;
    Ok((chains, adoptable, warnings))
}

/// Reads from packs which batches a chain ends with, where its manifest is of a version that did not tell. What is damaged
/// stays unknown.
fn find_last_batches(repository: &Repository, chain: &mut ChainEnd) -> Result<(), EngineError> {
    let is_untold = |entry: &&mut PartitionEntry| entry.last_batch.is_none() && entry.bytes > 0;
    let mut untold = chain.partitions.values_mut().filter(is_untold).peekable();
    let (Some(index), Some(_)) = (chain.index, untold.peek()) else {
        return Ok(());
    };
    let index = match repository.index(&index) {
        Err(error) if error.is_damage() => return Ok(()),
        index => index?,
    };
    for entry in untold {
        entry.last_batch = match last_held(repository, &index, entry.partition) {
            Err(error) if error.is_damage() => None,
            found => found?,
        };
    }
    Ok(())
}

/// Tells what the run takes over from interrupted ones.
fn adoption(topics: &[TopicPlan]) -> Option<String> {
    let extents = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|partition| &partition.adopted);
    let bytes: u64 = extents.map(|sealed| sealed.extent.raw_bytes).sum();
    (bytes > 0).then(|| {
        format!("{bytes} bytes are taken over that an interrupted backup had copied already")
    })
}

fn choose<'a>(
    metadata: &'a Metadata,
    options: &BackupOptions,
) -> Result<BTreeMap<&'a str, &'a TopicMetadata>, EngineError> {
    let candidates = metadata.topics.iter().map(|(name, topic)| Candidate {
        name,
        is_internal: topic.is_internal,
    });
    let place = format!("cluster {}", metadata.cluster_id);
    let chosen = options
        .topics
        .choose(candidates, options.allow_empty, &place)?;
    let mut topics = BTreeMap::new();
    for name in chosen {
        let Some((name, topic)) = metadata.topics.get_key_value(name) else {
            continue;
        };
        if let Some(code) = topic.error {
            return Err(KafkaError::for_topic(code, "READ", name).into());
        }
        topics.insert(name.as_str(), topic);
    }
    Ok(topics)
}

/// Every chosen partition; `--partition` must name ones that exist.
fn chosen_partitions(
    topics: &BTreeMap<&str, &TopicMetadata>,
    selection: Option<&Selection>,
) -> Result<Vec<TopicPartition>, EngineError> {
    let only = selection
        .map(|selection| &selection.partitions)
        .filter(|only| !only.is_empty());
    let mut chosen = Vec::new();
    for (name, topic) in topics {
        if let Some(missing) = only
            .into_iter()
            .flatten()
            .find(|id| !topic.partitions.contains_key(id))
        {
            return Err(EngineError::Refused(format!(
                "topic {name} has no partition {missing}; it has {}",
                topic.partitions.len()
            )));
        }
        chosen.extend(
            topic
                .partitions
                .keys()
                .filter(|id| only.is_none_or(|only| only.contains(id)))
                .map(|id| TopicPartition {
                    topic: (*name).to_owned(),
                    partition: *id,
                }),
        );
    }
    Ok(chosen)
}

fn plan_topic(
    name: &str,
    topic: &TopicMetadata,
    configuration: TopicConfiguration,
    chain: Option<ChainEnd>,
    restarted: Option<String>,
    bounds: &Bounds,
    options: &BackupOptions,
) -> Result<TopicPlan, EngineError> {
    let mut limits = Vec::new();
    for (id, partition) in &topic.partitions {
        let key = TopicPartition {
            topic: name.to_owned(),
            partition: *id,
        };
        if !bounds.has(&key) {
            continue; // not chosen
        }
        // One that has lost its leader since then is read when there is another.
        let leader = partition.leader.unwrap_or(BrokerId(-1));
        limits.push((*id, leader, partition.leader_epoch, bounds.of(&key)?));
    }
    let truncated = chain.as_ref().and_then(|chain| {
        limits.iter().find_map(|(id, _, _, (_, end))| {
            let held = chain.resume_offset(*id)?;
            (held > *end)
                .then(|| format!("partition {id} ends at {end}, below {held} that the chain holds"))
        })
    });
    let shrunk = chain.as_ref().and_then(|chain| {
        let gone = |id: &&PartitionId| !topic.partitions.contains_key(id);
        let id = chain.partitions.keys().find(gone)?;
        Some(format!("the topic has no partition {id} any more"))
    });
    let chain_restarted = restarted.or(truncated).or(shrunk);
    let chain = chain.filter(|_| chain_restarted.is_none());
    let partitions = limits
        .into_iter()
        .map(|(id, leader, leader_epoch, limits)| {
            plan_partition(
                id,
                leader,
                leader_epoch,
                limits,
                chain.as_ref(),
                options.selection.as_ref(),
            )
        })
        .collect();
    let replicas = topic
        .partitions
        .values()
        .map(|partition| partition.replicas.len())
        .max()
        .unwrap_or(1);
    Ok(TopicPlan {
        topic: name.to_owned(),
        topic_id: topic.topic_id,
        partition_count: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        configuration,
        chain,
        chain_restarted,
        partitions,
    })
}

fn plan_partition(
    partition: PartitionId,
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    (log_start, high_watermark): (Offset, Offset),
    chain: Option<&ChainEnd>,
    selection: Option<&Selection>,
) -> PartitionPlan {
    let resolve = |bound: Option<OffsetBound>, default: OffsetBound| {
        bound.unwrap_or(default).resolve(log_start, high_watermark)
    };
    let start = resolve(
        selection.and_then(|selection| selection.start_offset),
        OffsetBound::Earliest,
    );
    let end = resolve(
        selection.and_then(|selection| selection.end_offset),
        OffsetBound::Latest,
    );
    let end = end.max(start);

    let previous = chain.and_then(|chain| chain.partitions.get(&partition));
    let held = previous.map(|entry| entry.end_offset);
    let gaps = gap(held, log_start);
    PartitionPlan {
        partition,
        leader,
        leader_epoch,
        start,
        resume: held.map_or(start, |held| held.max(log_start)),
        resume_epoch: previous
            .filter(|_| gaps.is_none())
            .map(|entry| entry.leader_epoch)
            .filter(|epoch| epoch.0 >= 0),
        end,
        max_messages: None,
        gaps: gaps.into_iter().collect(),
        adopted: Vec::new(),
        open: previous
            .map(|entry| OpenTransactions::resumed(&entry.open_transactions))
            .unwrap_or_default(),
    }
}

/// Where the logs do not have the offsets that were asked for.
fn unmet_bounds(topics: &[TopicPlan], selection: &Selection) -> Vec<String> {
    let start = selection.start_offset.and_then(OffsetBound::offset);
    let end = selection.end_offset.and_then(OffsetBound::offset);
    let mut warnings = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            let name = format!("{}-{}", topic.topic, partition.partition);
            if let Some(start) = start.filter(|start| *start < partition.start) {
                warnings.push(format!(
                    "{name} is backed up from offset {} on: the log no longer has {start}",
                    partition.start
                ));
            }
            let wanted = start.max(end);
            if let Some(wanted) = wanted.filter(|wanted| *wanted > partition.end) {
                warnings.push(format!(
                    "{name} is backed up to offset {}: the log does not reach {wanted} yet",
                    partition.end
                ));
            }
        }
    }
    warnings
}

/// Shares a limit of messages among all partitions of the run.
fn limit_messages(topics: &mut [TopicPlan], limit: u64) {
    let mut partitions: Vec<&mut PartitionPlan> = topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions)
        .collect();
    let spans: Vec<u64> = partitions
        .iter()
        .map(|partition| span(partition.resume, partition.end))
        .collect();
    for (partition, share) in partitions.iter_mut().zip(share(limit, &spans)) {
        partition.max_messages = Some(share);
    }
}
