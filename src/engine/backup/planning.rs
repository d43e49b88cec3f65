//! Plans a backup: fixes the bounds of every partition before the first fetch.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::chain::{ChainEnd, Chains, Generation, find_chains};
use crate::engine::refusal::{Part, Refusal};
use crate::engine::topic_configuration::TopicConfiguration;
use crate::engine::topics::{Candidate, refuse_unseen};
use crate::engine::transactions::OpenTransactions;
use crate::kafka::{
    BrokerId, Client, ConfigEntry, KafkaError, Metadata, TopicMetadata, TopicPartition, Topics,
};
use crate::record::{LeaderEpoch, Offset, PartitionId};
use crate::repository::{OffsetBound, PartitionEntry, Repository, Selection};

use super::adopt::Adoptable;
use super::bounds::LogBounds;
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
    let (client, options) = (means.client, means.options);
    let metadata = client.metadata(Topics::All).await?;
    refuse_unseen(client, &metadata, &options.topics).await?;
    let chosen = choose(&metadata, options)?;
    let partitions = chosen_partitions(&chosen, options.selection.as_ref())?;
    let mut warnings = Vec::new();
    // Before the high watermarks: no group may be ahead of the records that are backed up with it.
    let groups = groups::capture(client, &options.groups, &partitions, &mut warnings).await?;
    // A coordinator that is away may have been waited for until the deadline.
    means.watchdog.moved();
    let bounds = LogBounds::read(client, &partitions).await?;
    warnings.extend(told(bounds.tell_hanging(client).await));
    let configurations = configurations(client, &chosen, &mut warnings).await?;
    let planning = Planning {
        cluster_id: &metadata.cluster_id,
        chosen,
        bounds,
        options,
        forked,
    };
    let wanted = planning.generations();
    let reading = "the thread that reads the chains";
    let read = in_repository(means.repository, reading, |repository| {
        held(repository, wanted)
    });
    let (mut chains, mut adoptable, unusable) = read.await?;
    warnings.extend(unusable);
    let topics = planning.topics(&mut chains, configurations)?;
    let going_on = go_on(
        means,
        &metadata.cluster_id,
        topics,
        &mut adoptable,
        forked,
        &mut warnings,
    );
    let mut topics = going_on.await?;
    warnings.extend(told(adoption(&topics)));
    warnings.extend(told(restarts(&topics)));
    if let Some(room) = &options.room {
        room.refuse_too_large(client, &topics, &mut warnings)
            .await?;
    }
    if let Some(selection) = &options.selection {
        warnings.extend(told(unmet_bounds(&topics, selection)));
        limit_messages(&mut topics, selection.max_messages);
    }
    warnings.extend(passed_over(&chains));
    Ok(BackupPlan {
        cluster_id: metadata.cluster_id.clone(),
        topics,
        groups,
        warnings,
        adoptable,
    })
}

/// Warnings that are the same for every reader.
fn told(warnings: impl IntoIterator<Item = String>) -> impl Iterator<Item = Refusal> {
    warnings.into_iter().map(Refusal::from)
}

/// The topics' own settings; none, and a warning, where the cluster cannot tell them.
async fn configurations(
    client: &Client,
    chosen: &BTreeMap<&str, &TopicMetadata>,
    warnings: &mut Vec<Refusal>,
) -> Result<BTreeMap<String, Vec<ConfigEntry>>, EngineError> {
    let names: Vec<String> = chosen.keys().map(|name| (*name).to_owned()).collect();
    match client.describe_configs(&names).await {
        Err(error @ KafkaError::Unsupported { .. }) => {
            warnings.push(format!("topic configurations are not backed up: {error}").into());
            Ok(BTreeMap::new())
        }
        configurations => Ok(configurations?),
    }
}

/// What the repository holds of the generations: chains, and what interrupted runs had sealed; and warnings about what
/// of that cannot be used.
fn held(
    repository: &Repository,
    wanted: Vec<Generation>,
) -> Result<(Chains, Adoptable, Vec<Refusal>), EngineError> {
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

/// Tells whose chains start again.
fn restarts(topics: &[TopicPlan]) -> impl Iterator<Item = String> {
    topics.iter().filter_map(|topic| {
        let reason = topic.chain_restarted.as_ref()?;
        Some(format!(
            "topic {} is copied anew, since {reason}",
            topic.topic
        ))
    })
}

/// Tells which earlier backups could not be read.
fn passed_over(chains: &Chains) -> impl Iterator<Item = Refusal> {
    let unreadable = chains.unreadable.iter();
    unreadable.map(|(id, error)| {
        Refusal::by(error, |error| {
            format!("backup {id} is passed over: {error}")
        })
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
            let count = topic.partitions.len();
            let why = format!("topic {name} has no partition {missing}; it has {count}");
            return Err(EngineError::refused(
                Refusal::new(why).of(Part::Partitions, missing),
            ));
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

/// What the plans of all topics are made from.
struct Planning<'a> {
    cluster_id: &'a str,
    chosen: BTreeMap<&'a str, &'a TopicMetadata>,
    bounds: LogBounds,
    options: &'a BackupOptions,
    forked: &'a BTreeMap<Generation, u32>,
}

/// A partition as its log is when the plan is made.
struct Log {
    partition: PartitionId,
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    start: Offset,
    high_watermark: Offset,
}

impl Planning<'_> {
    fn generation(&self, name: &str, topic: &TopicMetadata) -> Generation {
        Generation {
            cluster_id: self.cluster_id.to_owned(),
            topic: name.to_owned(),
            topic_id: topic.topic_id,
        }
    }

    /// The generations whose chains go on; none with a selection.
    fn generations(&self) -> Vec<Generation> {
        if self.options.selection.is_some() {
            return Vec::new();
        }
        let chosen = self.chosen.iter();
        chosen
            .map(|(name, topic)| self.generation(name, topic))
            .collect()
    }

    /// Plans the topics by their chains, which it takes out of `chains`.
    fn topics(
        &self,
        chains: &mut Chains,
        mut configurations: BTreeMap<String, Vec<ConfigEntry>>,
    ) -> Result<Vec<TopicPlan>, EngineError> {
        let mut topics = Vec::with_capacity(self.chosen.len());
        for (name, topic) in &self.chosen {
            let mut entries = configurations.remove(*name).unwrap_or_default();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let generation = self.generation(name, topic);
            let chain = chains.ends.remove(&generation);
            let restarted = self.restarted(&generation, chains);
            let configuration = TopicConfiguration { entries };
            topics.push(self.topic(name, topic, configuration, chain, restarted)?);
        }
        Ok(topics)
    }

    /// Why the chain of a topic starts again, whatever its log holds.
    fn restarted(&self, generation: &Generation, chains: &Chains) -> Option<String> {
        if self.forked.get(generation) > Some(&1) {
            let why = "the log was rewritten while it was read (unclean leader election)";
            return Some(why.to_owned());
        }
        if let Some(lacks) = chains.broken.get(generation) {
            return Some(format!(
                "{lacks}: earlier backups of the topic are damaged: verify them"
            ));
        }
        let earlier = chains.recreated.get(generation)?;
        Some(format!(
            "the topic was deleted and created anew since backup {earlier}"
        ))
    }

    fn topic(
        &self,
        name: &str,
        topic: &TopicMetadata,
        configuration: TopicConfiguration,
        chain: Option<ChainEnd>,
        restarted: Option<String>,
    ) -> Result<TopicPlan, EngineError> {
        let logs = self.logs(name, topic)?;
        let restarted = restarted.or_else(|| refuted(chain.as_ref()?, topic, &logs));
        let chain = chain.filter(|_| restarted.is_none());
        let selection = self.options.selection.as_ref();
        let partitions = logs.iter();
        let partitions = partitions.map(|log| plan_partition(log, chain.as_ref(), selection));
        let replicas = topic.partitions.values();
        let replicas = replicas.map(|partition| partition.replicas.len()).max();
        Ok(TopicPlan {
            topic: name.to_owned(),
            topic_id: topic.topic_id,
            partition_count: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            replication_factor: i16::try_from(replicas.unwrap_or(1)).unwrap_or(i16::MAX),
            configuration,
            partitions: partitions.collect(),
            chain,
            chain_restarted: restarted,
        })
    }

    /// The logs of the topic's chosen partitions.
    fn logs(&self, name: &str, topic: &TopicMetadata) -> Result<Vec<Log>, EngineError> {
        let mut logs = Vec::new();
        for (id, partition) in &topic.partitions {
            let key = TopicPartition {
                topic: name.to_owned(),
                partition: *id,
            };
            if !self.bounds.has(&key) {
                continue; // not chosen
            }
            let (start, high_watermark) = self.bounds.of(&key)?;
            logs.push(Log {
                partition: *id,
                // One that has lost its leader since then is read when there is another.
                leader: partition.leader.unwrap_or(BrokerId(-1)),
                leader_epoch: partition.leader_epoch,
                start,
                high_watermark,
            });
        }
        Ok(logs)
    }
}

/// Why the logs cannot be those that the chain continues.
fn refuted(chain: &ChainEnd, topic: &TopicMetadata, logs: &[Log]) -> Option<String> {
    let truncated = logs.iter().find_map(|log| {
        let (id, end) = (log.partition, log.high_watermark);
        let held = chain.resume_offset(id)?;
        (held > end)
            .then(|| format!("partition {id} ends at {end}, below {held} that the chain holds"))
    });
    truncated.or_else(|| {
        let gone = |id: &&PartitionId| !topic.partitions.contains_key(id);
        let id = chain.partitions.keys().find(gone)?;
        Some(format!("the topic has no partition {id} any more"))
    })
}

fn plan_partition(
    log: &Log,
    chain: Option<&ChainEnd>,
    selection: Option<&Selection>,
) -> PartitionPlan {
    let resolve = |bound: Option<OffsetBound>, default: OffsetBound| {
        bound
            .unwrap_or(default)
            .resolve(log.start, log.high_watermark)
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

    let previous = chain.and_then(|chain| chain.partitions.get(&log.partition));
    let held = previous.map(|entry| entry.end_offset);
    let gaps = gap(held, log.start);
    PartitionPlan {
        partition: log.partition,
        leader: log.leader,
        leader_epoch: log.leader_epoch,
        start,
        resume: held.map_or(start, |held| held.max(log.start)),
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

/// Shares a limit of messages, if there is one, among all partitions of the run.
fn limit_messages(topics: &mut [TopicPlan], limit: Option<u64>) {
    let Some(limit) = limit else { return };
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
