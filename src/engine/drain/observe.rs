//! One look at a cluster: groups and their commits first, then the ends of the logs.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;

use crate::engine::refusal::{Part, Refusal};
use crate::engine::topics::{Candidate, TopicPatterns, nearest};
use crate::engine::{EngineError, open_transactions, own};
use crate::kafka::{
    Client, GroupDescription, GroupOffsets, GroupType, KafkaError, ListedGroup, ListedOffset,
    Metadata, OffsetSpec, PartitionMetadata, TopicMetadata, TopicPartition, Topics,
};
use crate::memory::MemoryBudget;
use crate::record::Offset;

use super::criteria::DrainOptions;
use super::history::History;
use super::observation::{Commit, Observation, SeenGroup, SeenLog, SeenTopic};
use super::tail;

/// Looks once. What should be told beside it are warnings.
pub(super) async fn observe(
    client: &Client,
    options: &DrainOptions,
    history: &History,
    memory: &MemoryBudget,
) -> Result<(Observation, Vec<String>), EngineError> {
    let mut warnings = Vec::new();
    let mut seen = Observation {
        at: Utc::now(),
        groups: groups(client, &options.groups, &mut warnings).await?,
        topics: BTreeMap::new(),
    };
    let chosen = match &options.topics {
        Some(patterns) => Some(chosen_topics(client, patterns).await?),
        None => None,
    };
    for group in seen.groups.values_mut() {
        group.topics = chosen.clone().unwrap_or_else(|| own_topics(group));
    }
    let names: BTreeSet<&String> = seen
        .groups
        .values()
        .flat_map(|group| &group.topics)
        .collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    if names.is_empty() {
        return Ok((seen, warnings));
    }
    let moment = options.criteria.strategy.moment(seen.at);
    seen.topics = client
        .retry()
        .run(|| async {
            let metadata = client.metadata_now(Topics::Named(&names)).await?;
            read_logs(client, &metadata, moment.map(OffsetSpec::Timestamp)).await
        })
        .await?;
    warnings.extend(forget_missing(&mut seen));
    name_open_transactions(client, &mut seen.topics).await;
    tail::look_ahead(client, &options.criteria, history, &mut seen, memory).await?;
    Ok((seen, warnings))
}

/// The chosen groups, with what they have committed.
async fn groups(
    client: &Client,
    patterns: &TopicPatterns,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, SeenGroup>, EngineError> {
    let (names, listed) = chosen_groups(client, patterns, warnings).await?;
    let mut described = client.describe_groups(&names).await?;
    let is_missing = |name: &&String| matches!(described.get(*name), None | Some(Ok(None)));
    let missing: Vec<String> = names.iter().filter(is_missing).cloned().collect();
    let listed = match listed {
        None if !missing.is_empty() => listed_if_possible(client).await?,
        listed => listed.unwrap_or_default(),
    };
    for name in &missing {
        refuse_unsupported(name, &listed)?;
    }
    let are_described: Vec<String> = names
        .iter()
        .filter(|name| described.get(*name).is_none_or(Result::is_ok))
        .cloned()
        .collect();
    let mut committed = client.committed_offsets_now(&are_described).await?;
    let mut groups = BTreeMap::new();
    let (mut own_groups, mut unread) = (Vec::new(), Vec::new());
    for name in names {
        let description = described.remove(&name).unwrap_or(Ok(None));
        let offsets = committed
            .remove(&name)
            .unwrap_or(Ok(GroupOffsets::default()));
        let (description, mut offsets) = match (description, offsets) {
            (Ok(description), Ok(offsets)) => (description, offsets),
            (Err(error), _) | (_, Err(error)) => {
                unread.push((name, error));
                continue;
            }
        };
        if offsets.leave_out_progress(&name) {
            own_groups.push(name);
            continue;
        }
        let similar = nearest(&name, listed.iter().map(|group| group.group.as_str()));
        let group = seen_group(description, offsets, similar);
        groups.insert(name, group);
    }
    refuse_own(
        &own_groups,
        patterns,
        groups.is_empty() && unread.is_empty(),
    )?;
    note_unread(&mut groups, unread)?;
    Ok(groups)
}

/// The names of the chosen groups, and all groups where they had to be listed for that.
async fn chosen_groups(
    client: &Client,
    patterns: &TopicPatterns,
    warnings: &mut Vec<String>,
) -> Result<(Vec<String>, Option<Vec<ListedGroup>>), EngineError> {
    let mut names: BTreeSet<String> = patterns.literals().map(str::to_owned).collect();
    let mut listed = None;
    if patterns.iter().any(|pattern| pattern.literal().is_none()) {
        let all = client.list_groups().await?;
        names.extend(matching(&all, patterns, client.cluster_id(), warnings)?);
        listed = Some(all);
    }
    if names.is_empty() {
        return Err(EngineError::refused(format!(
            "none of the chosen groups can be judged: {}",
            warnings.join("; ")
        )));
    }
    Ok((names.into_iter().collect(), listed))
}

/// One that cannot be looked at keeps no other from being judged, and is not drained.
fn note_unread(
    groups: &mut BTreeMap<String, SeenGroup>,
    unread: Vec<(String, KafkaError)>,
) -> Result<(), EngineError> {
    let is_any_seen = !groups.is_empty();
    for (name, error) in unread {
        let error = of_group(error, &name);
        if !is_any_seen {
            return Err(error);
        }
        let unread = SeenGroup {
            unread: Some(error.to_string()),
            ..SeenGroup::default()
        };
        groups.insert(name, unread);
    }
    Ok(())
}

/// What kafkeep keeps for itself is not judged: nobody consumes it. It is an error where it was asked for by its name, or where
/// nothing else was chosen.
fn refuse_own(
    own_groups: &[String],
    patterns: &TopicPatterns,
    is_all: bool,
) -> Result<(), EngineError> {
    let named: BTreeSet<&str> = patterns.literals().collect();
    let mut own_groups = own_groups.iter();
    match own_groups.find(|name| is_all || named.contains(name.as_str())) {
        Some(name) => Err(EngineError::refused(own::refusal(name))),
        None => Ok(()),
    }
}

/// Groups that are chosen by patterns, without those that drain cannot judge.
fn matching(
    listed: &[ListedGroup],
    patterns: &TopicPatterns,
    cluster_id: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, EngineError> {
    let candidate = |group: &&ListedGroup| {
        patterns.chooses(Candidate {
            name: &group.group,
            is_internal: false,
        })
    };
    let names = listed.iter().map(|group| group.group.as_str());
    let literals = patterns.literals();
    if let Some(pattern) = patterns.unmatched(names.chain(literals.collect::<Vec<_>>())) {
        return Err(EngineError::refused(format!(
            "no consumer group `{pattern}` in cluster {cluster_id}, or none that may be seen: \
             check the name, or grant ACL DESCRIBE on group {pattern}"
        )));
    }
    let literal: BTreeSet<&str> = patterns.literals().collect();
    let mut chosen = Vec::new();
    for group in listed.iter().filter(candidate) {
        match unsupported(group) {
            Some(why) if !literal.contains(group.group.as_str()) => {
                warnings.push(format!("group {}: {why}; it is left out", group.group));
            }
            _ => chosen.push(group.group.clone()),
        }
    }
    Ok(chosen)
}

/// Why a group of this type cannot be judged.
fn unsupported(group: &ListedGroup) -> Option<&'static str> {
    match group.group_type {
        GroupType::Classic | GroupType::Consumer => None,
        GroupType::Share => Some(
            "it is a share group, which acknowledges records one by one and commits no offsets; \
             ask `kafka-share-groups.sh --describe` for what is left",
        ),
        GroupType::Streams => Some(
            "it is a group of the streams protocol, which drain does not know; \
             ask `kafka-streams-groups.sh --describe` for its lag",
        ),
        GroupType::Unknown => Some("its type is none that drain knows"),
    }
}

fn refuse_unsupported(name: &str, listed: &[ListedGroup]) -> Result<(), EngineError> {
    let found = listed.iter().find(|group| group.group == name);
    match found.and_then(unsupported) {
        Some(why) => {
            let refusal = Refusal::new(format!("group {name}: {why}"));
            Err(EngineError::refused(refusal.of(Part::Group, name)))
        }
        None => Ok(()),
    }
}

/// What groups there are, to tell what is the matter with one that is not found; nothing where that cannot be asked.
async fn listed_if_possible(client: &Client) -> Result<Vec<ListedGroup>, KafkaError> {
    match client.list_groups().await {
        Err(KafkaError::Authorization { .. } | KafkaError::Unsupported { .. }) => Ok(Vec::new()),
        listed => listed,
    }
}

/// To know its topics is part of describing a group; to read them, which drain needs anyway, implies that.
fn of_group(error: KafkaError, group: &str) -> EngineError {
    let topics = format!("the topics that group {group} is subscribed to");
    error.implied_by("READ", &topics).into()
}

fn seen_group(
    description: Option<GroupDescription>,
    offsets: GroupOffsets,
    similar: Option<&str>,
) -> SeenGroup {
    let mut group = SeenGroup {
        description,
        similar: similar.map(str::to_owned),
        ..SeenGroup::default()
    };
    for (key, committed) in offsets.offsets {
        let commit = Commit {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
        };
        let topic = group.committed.entry(key.topic).or_default();
        topic.insert(key.partition, commit);
    }
    group
}

/// Where no topics are named: those on which the group has committed, and those that its members have been given.
fn own_topics(group: &SeenGroup) -> BTreeSet<String> {
    let members = group.description.iter().flat_map(|found| &found.members);
    let assigned = members.flat_map(|member| member.assignment.keys());
    group.committed.keys().chain(assigned).cloned().collect()
}

/// The topics that patterns choose. One that is named in full must be there.
async fn chosen_topics(
    client: &Client,
    patterns: &TopicPatterns,
) -> Result<BTreeSet<String>, EngineError> {
    let named: Vec<String> = patterns.literals().map(str::to_owned).collect();
    let mut metadata = client.metadata(Topics::Named(&named)).await?;
    for (name, topic) in &metadata.topics {
        refuse_faulty(name, topic)?;
    }
    let is_all = patterns.iter().all(|pattern| pattern.literal().is_some());
    if !is_all || metadata.topics.len() < named.len() {
        metadata = client.metadata(Topics::All).await?;
    }
    let candidates = metadata.topics.iter().map(|(name, topic)| Candidate {
        name,
        is_internal: topic.is_internal,
    });
    let place = format!("cluster {}", metadata.cluster_id);
    let chosen = patterns.choose(candidates, true, &place)?;
    let names = metadata.topics.keys().map(String::as_str);
    match patterns.unmatched(names) {
        Some(pattern) => Err(EngineError::refused(format!(
            "pattern `{pattern}` matches no topic in {place}, or none that may be seen"
        ))),
        None if chosen.is_empty() => Err(EngineError::refused(format!(
            "no topic is chosen in {place}"
        ))),
        None => Ok(chosen.into_iter().map(str::to_owned).collect()),
    }
}

fn refuse_faulty(name: &str, topic: &TopicMetadata) -> Result<(), KafkaError> {
    match topic.error {
        Some(code) => Err(of_topic(KafkaError::for_topic(code, "READ", name), name)),
        None => Ok(()),
    }
}

/// Who drains must read a topic, or look for what is no record in vain; that implies to describe it.
fn of_topic(error: KafkaError, topic: &str) -> KafkaError {
    error.implied_by("READ", &format!("topic {topic}"))
}

/// Where all logs begin and end, as their leaders say.
async fn read_logs(
    client: &Client,
    metadata: &Metadata,
    moment: Option<OffsetSpec>,
) -> Result<BTreeMap<String, SeenTopic>, KafkaError> {
    for (name, topic) in &metadata.topics {
        refuse_faulty(name, topic)?;
    }
    let mut listed = Listed::ask(client, metadata, moment).await?;
    let mut topics = BTreeMap::new();
    for (name, topic) in &metadata.topics {
        let mut seen = SeenTopic {
            topic_id: topic.topic_id,
            partitions: BTreeMap::new(),
        };
        for (partition, placed) in &topic.partitions {
            let key = TopicPartition {
                topic: name.clone(),
                partition: *partition,
            };
            seen.partitions
                .insert(*partition, listed.log(&key, placed)?);
        }
        topics.insert(name.clone(), seen);
    }
    Ok(topics)
}

/// Answers about offsets, by partition.
type Answers = BTreeMap<TopicPartition, Result<ListedOffset, KafkaError>>;

/// What leaders answered about their logs.
struct Listed {
    starts: Answers,
    stable: Answers,
    ends: Answers,
    /// None where time does not count.
    moments: Option<Answers>,
}

impl Listed {
    /// Asks each leader by one request a kind, for all its partitions together.
    async fn ask(
        client: &Client,
        metadata: &Metadata,
        moment: Option<OffsetSpec>,
    ) -> Result<Self, KafkaError> {
        let wanted = |spec: OffsetSpec| {
            let topics = metadata.topics.iter();
            let all =
                topics.flat_map(|(name, topic)| topic.partitions.keys().map(move |id| (name, id)));
            let all = all.map(|(topic, partition)| TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            });
            all.map(|key| (key, spec)).collect::<Vec<_>>()
        };
        let (starts, stable, ends, moments) = (
            wanted(OffsetSpec::Earliest),
            wanted(OffsetSpec::LastStable),
            wanted(OffsetSpec::Latest),
            moment.map(wanted),
        );
        let (starts, stable, ends, found) = tokio::try_join!(
            client.list_offsets_now(metadata, &starts),
            client.list_offsets_now(metadata, &stable),
            client.list_offsets_now(metadata, &ends),
            client.list_offsets_now(metadata, moments.as_deref().unwrap_or_default()),
        )?;
        Ok(Self {
            starts,
            stable,
            ends,
            moments: moments.map(|_| found),
        })
    }

    /// Takes out what was answered about one partition.
    fn log(
        &mut self,
        key: &TopicPartition,
        placed: &PartitionMetadata,
    ) -> Result<SeenLog, KafkaError> {
        let leaderless = || KafkaError::leaderless(&key.topic, key.partition);
        let take = |answers: &mut Answers| {
            let answer = answers.remove(key).unwrap_or_else(|| Err(leaderless()));
            answer.map_err(|error| of_topic(error, &key.topic))
        };
        let leader = placed.leader.ok_or_else(leaderless)?;
        let end = take(&mut self.ends)?;
        let moment = self.moments.as_mut().map(take).transpose()?;
        Ok(SeenLog {
            leader,
            leader_epoch: placed.leader_epoch.max(end.leader_epoch),
            start: take(&mut self.starts)?.offset,
            high_watermark: end.offset,
            last_stable: take(&mut self.stable)?.offset.min(end.offset),
            // -1 where no record is as late.
            moment: moment.map(|found| {
                if found.offset < Offset(0) {
                    end.offset
                } else {
                    found.offset
                }
            }),
            open: Vec::new(),
            ahead: BTreeMap::new(),
        })
    }
}

/// Asks whose transactions are open, where any is.
async fn name_open_transactions(client: &Client, topics: &mut BTreeMap<String, SeenTopic>) {
    let mut partitions = Vec::new();
    for (topic, seen) in &*topics {
        let open = seen.partitions.iter();
        let open = open.filter(|(_, log)| log.last_stable < log.high_watermark);
        partitions.extend(open.map(|(partition, _)| TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        }));
    }
    for (key, open) in open_transactions::ask(client, &partitions).await {
        let topic = topics.get_mut(&key.topic);
        if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(&key.partition)) {
            log.open = open;
        }
    }
}

/// Leaves out topics that do not exist any more.
fn forget_missing(seen: &mut Observation) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, group) in &mut seen.groups {
        let missing = group
            .topics
            .extract_if(.., |topic| !seen.topics.contains_key(topic));
        warnings.extend(missing.map(|topic| {
            format!("group {name} stands on topic {topic}, which does not exist any more")
        }));
    }
    warnings
}
