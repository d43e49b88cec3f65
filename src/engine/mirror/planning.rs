//! Makes the plan of a session: asks both clusters, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::groups::GroupSelection;
use crate::engine::internal_topics::refuse_target;
use crate::engine::settings::{ExistingConfig, Settings};
use crate::engine::topics::{Candidate, refuse_unseen};
use crate::engine::{EngineError, open_transactions};
use crate::kafka::{Client, Metadata, TopicPartition, Topics};

use super::configuration::{changes, followed};
use super::offsets::Offsets;
use super::plan::{MirrorBounds, MirrorPlan, TopicPlan};
use super::planner::{Chosen, Planner, key};
use super::target_logs::TargetLogs;
use super::{MirrorOptions, OnError};

pub(super) async fn plan(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
) -> Result<MirrorPlan, EngineError> {
    plan_within(source, target, options, &MirrorBounds::default()).await
}

/// Plans a session.
pub(super) async fn plan_within(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
    bounds: &MirrorBounds,
) -> Result<MirrorPlan, EngineError> {
    let from = source.metadata(Topics::All).await?;
    let to = target.metadata(Topics::All).await?;
    refuse_unseen(source, &from, &options.topics).await?;
    let chosen = choose(&from, &to, options)?;
    let dead_letter_topic = dead_letter_topic(options, &chosen)?;
    let written = chosen.iter().map(|topic| &topic.target);
    let mut written = written.chain(&dead_letter_topic);
    if let Some(refusal) = written.find_map(|name| refuse_target(name, &to)) {
        return Err(EngineError::refused(refusal));
    }
    if options.changes_keys() && options.groups != GroupSelection::None {
        return Err(EngineError::refused(
            "groups cannot follow where key_transformation puts records into other partitions: leave groups out",
        ));
    }
    let targets: Vec<String> = chosen.iter().map(|topic| topic.target.clone()).collect();
    let logs = TargetLogs::read(target, &to, &targets, options).await?;
    let partitions = chosen.iter().flat_map(|topic| {
        let partitions = topic.metadata.partitions.keys();
        partitions.map(|partition| key(topic.name, *partition))
    });
    let partitions: Vec<TopicPartition> = partitions.collect();
    let planner = Planner {
        options,
        to: &to,
        offsets: Offsets::read(source, &partitions, options).await?,
        logs,
        from: &from,
        bounds,
    };
    let topics = plan_topics(source, target, &planner, &chosen).await?;
    let mut warnings: Vec<String> = topics.iter().flat_map(TopicPlan::warnings).collect();
    warnings.extend(tell_hanging(source, &topics).await);
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

/// Plans the topics, with what their settings are in both clusters.
async fn plan_topics(
    source: &Client,
    target: &Client,
    planner: &Planner<'_>,
    chosen: &[Chosen<'_>],
) -> Result<Vec<TopicPlan>, EngineError> {
    let wanted = &planner.options.settings;
    let names: Vec<String> = chosen.iter().map(|topic| topic.name.to_owned()).collect();
    let mut source_settings = described(source, &names).await?;
    let there = chosen
        .iter()
        .filter(|topic| planner.to.topics.contains_key(&topic.target));
    let there: Vec<String> = there.map(|topic| topic.target.clone()).collect();
    let target_settings = described(target, &there).await?;
    let mut topics = Vec::with_capacity(chosen.len());
    for topic in chosen {
        let mut settings = source_settings.remove(topic.name).unwrap_or_default();
        settings.extend(wanted.overrides.clone());
        let before = planner.bounds.settings.get(topic.name);
        let there = target_settings.get(&topic.target);
        let changes = there.map(|there| changes(&settings, before, there));
        let mut topic = planner.topic(topic, settings, changes)?;
        heed_existing(&mut topic, wanted.existing);
        topics.push(topic);
    }
    Ok(topics)
}

/// What becomes of the settings of a topic that exists. A topic that was mirrored to before is the mirror's own.
fn heed_existing(topic: &mut TopicPlan, existing: ExistingConfig) {
    match existing {
        ExistingConfig::Apply => {}
        ExistingConfig::Keep => topic.settings.clear(),
        ExistingConfig::Fail if topic.was_mirrored() || topic.settings.is_empty() => {}
        ExistingConfig::Fail => {
            let names: Vec<&str> = topic.settings.keys().map(String::as_str).collect();
            let why = format!(
                "topic {} of the target has other settings than it is to have ({}): change them there, or let them be kept or \
                 applied (--existing-topic-config)",
                topic.target_topic,
                names.join(", ")
            );
            topic.refuse(0, &why);
            topic.settings.clear();
        }
    }
}

/// Says of each transaction that may hang in the source whose it is: it holds the mirror back.
async fn tell_hanging(source: &Client, topics: &[TopicPlan]) -> Vec<String> {
    let mut held_back = Vec::new();
    for topic in topics {
        let partitions = topic.partitions.iter();
        let partitions = partitions.filter(|partition| partition.held_back > 0);
        held_back.extend(partitions.map(|partition| key(&topic.topic, partition.partition)));
    }
    open_transactions::tell_hanging(source, &held_back).await
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
    if !allow_empty && let Some(rename) = options.renames.unmatched(names.iter().copied()) {
        return Err(EngineError::refused(format!(
            "rename `{rename}` matches none of the topics that are mirrored"
        )));
    }
    let is_same = from.cluster_id == to.cluster_id;
    if is_same {
        // What the mirror itself makes is nothing for it to copy.
        let dead_letters = options.transform();
        let dead_letters = dead_letters.and_then(|it| it.dead_letter_topic.clone());
        let made: BTreeSet<String> = names
            .iter()
            .map(|name| options.renames.apply(name))
            .chain(dead_letters)
            .collect();
        if names
            .iter()
            .any(|name| options.renames.apply(name) == *name)
        {
            return Err(EngineError::refused(
                "source and target are one cluster: give a rename that changes every name",
            ));
        }
        names.retain(|name| !made.contains(*name));
    }
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let target = options.renames.apply(name);
        if let Some(other) = taken.insert(target.clone(), name) {
            return Err(EngineError::refused(format!(
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
        return Err(EngineError::refused(
            "on_error = \"dead_letter\" needs a dead_letter_topic",
        ));
    };
    if chosen.iter().any(|chosen| chosen.target == *topic) {
        return Err(EngineError::refused(format!(
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
