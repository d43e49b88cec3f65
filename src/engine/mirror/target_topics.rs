//! Topics of the target: created, grown and given their settings, as far as the target takes that.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::settings::{self, is_about_settings};
use crate::kafka::{Client, NewTopic, TopicAnswers};

use super::plan::MirrorPlan;
use super::state::PartitionState;

/// Why topics of the target, by name, are not created or do not get more partitions.
pub(super) type Refused = BTreeMap<String, String>;

/// Creates and changes what the plan wants of the target's topics. What the target does not take of one topic keeps no other
/// from being mirrored. What is said of that is added to `told`, and said once.
pub(super) async fn make_ready(
    target: &Client,
    plan: &MirrorPlan,
    told: &mut BTreeSet<String>,
) -> Result<Refused, EngineError> {
    let mut refused = create(target, plan.new_topics(), told).await?;
    let dead_letters = plan.dead_letter_topic.as_ref();
    if let Some(why) = dead_letters.and_then(|topic| refused.get(topic)) {
        return Err(EngineError::Refused(why.clone()));
    }
    let growing = plan.topics.iter();
    let growing = growing.filter(|topic| topic.add_partitions > 0 && !topic.create);
    let grow: BTreeMap<String, u32> = growing
        .map(|topic| {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            (topic.target_topic.clone(), count)
        })
        .collect();
    if !grow.is_empty() {
        let answers = target.create_partitions(&grow).await?;
        let what = "cannot get more partitions in the target";
        refused.extend(refusals(answers, what, told)?);
    }
    follow_settings(target, plan, told).await?;
    Ok(refused)
}

/// Lets the partitions stand still that the target does not take.
pub(super) fn stop_refused(plan: &mut MirrorPlan, refused: &Refused) {
    for topic in &mut plan.topics {
        let Some(why) = refused.get(&topic.target_topic) else {
            continue;
        };
        let missing = usize::try_from(topic.add_partitions).unwrap_or(usize::MAX);
        // With new keys, records of every partition may belong into one that is missing.
        let there = match topic.create || plan.changes_keys {
            true => 0,
            false => topic.partitions.len().saturating_sub(missing),
        };
        for partition in topic.partitions.iter_mut().skip(there) {
            partition.state = PartitionState::Refused;
            partition.problem = Some(why.clone());
        }
    }
}

/// Creates topics: one whose settings the target does not take gets those that it takes.
pub(super) async fn create(
    target: &Client,
    new: Vec<NewTopic>,
    told: &mut BTreeSet<String>,
) -> Result<Refused, EngineError> {
    const WHAT: &str = "cannot be created in the target";
    if new.is_empty() {
        return Ok(Refused::new());
    }
    let mut answers = target.create_topics(&new, false).await?;
    let mut again = new;
    again.retain(|topic| {
        let error = answers.get(&topic.name).and_then(|it| it.as_ref().err());
        error.is_some_and(is_about_settings) && !topic.configs.is_empty()
    });
    answers.retain(|name, _| again.iter().all(|topic| topic.name != *name));
    let mut refused = refusals(answers, WHAT, told)?;
    let bare = again.iter().map(|topic| NewTopic {
        configs: BTreeMap::new(),
        ..topic.clone()
    });
    let bare: Vec<NewTopic> = bare.collect();
    if bare.is_empty() {
        return Ok(refused);
    }
    let answers = target.create_topics(&bare, false).await?;
    refused.extend(refusals(answers, WHAT, told)?);
    again.retain(|topic| !refused.contains_key(&topic.name));
    let wanted = again.into_iter().map(|topic| {
        let configs = topic.configs.into_iter();
        let configs = configs.map(|(name, value)| (name, Some(value)));
        (topic.name, configs.collect())
    });
    set_what_is_taken(target, wanted.collect(), told).await?;
    Ok(refused)
}

/// The topics that the target refuses, each told once.
fn refusals(
    answers: TopicAnswers,
    what: &str,
    told: &mut BTreeSet<String>,
) -> Result<Refused, EngineError> {
    let mut refused = Refused::new();
    for (topic, answer) in answers {
        let Err(error) = answer else { continue };
        if error.is_topic_there() {
            let what =
                "was created by another hand just now, or the brokers do not all know it yet";
            return Err(EngineError::Changed(format!("topic {topic} {what}")));
        }
        let why = format!("topic {topic} {what}: {error}");
        if told.insert(why.clone()) {
            tracing::error!("{why}; the other topics are mirrored");
        }
        refused.insert(topic, why);
    }
    Ok(refused)
}

/// Gives topics of the target the settings that the plan says.
pub(super) async fn follow_settings(
    target: &Client,
    plan: &MirrorPlan,
    told: &mut BTreeSet<String>,
) -> Result<(), EngineError> {
    let changes = plan.topics.iter();
    let changes = changes.filter(|topic| !topic.settings.is_empty());
    let changes = changes.map(|topic| (topic.target_topic.clone(), topic.settings.clone()));
    set_what_is_taken(target, changes.collect(), told).await
}

/// No setting keeps records from being mirrored.
async fn set_what_is_taken(
    target: &Client,
    changes: settings::Changes,
    told: &mut BTreeSet<String>,
) -> Result<(), EngineError> {
    for refused in settings::change(target, &changes).await? {
        let refused = refused.to_string();
        if !told.contains(&refused) {
            tracing::warn!("{refused}; the topic is mirrored without it");
            told.insert(refused);
        }
    }
    Ok(())
}
