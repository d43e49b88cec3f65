//! Topics of the target: created, grown and given their settings, as far as the target takes that.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::settings::{self, RefusedSetting, UnsupportedConfig, is_about_settings};
use crate::kafka::{Client, NewTopic, TopicAnswers};
use crate::quote::quote;

use super::MirrorOptions;
use super::plan::{MirrorPlan, TopicPlan};
use super::told::Told;

/// Why topics of the target, by name, are not mirrored to.
pub(super) type Refused = BTreeMap<String, Refusal>;

/// Why a topic, or a part of it, is not mirrored to.
#[derive(Debug)]
pub(super) struct Refusal {
    why: String,
    /// Whether only the partitions are concerned that the target lacks.
    only_missing: bool,
}

/// The target's topics, as they are made ready for a mirror. What the target does not take of one topic keeps no other from
/// being mirrored.
pub(super) struct TargetTopics<'a> {
    target: &'a Client,
    /// What becomes of settings that the target does not take.
    unsupported: UnsupportedConfig,
    /// What was said of what the target does not take.
    told: &'a Told,
}

impl<'a> TargetTopics<'a> {
    /// As the options of a mirror want them.
    pub fn new(target: &'a Client, options: &MirrorOptions, told: &'a Told) -> Self {
        Self {
            target,
            unsupported: options.settings.unsupported,
            told,
        }
    }

    /// Creates and changes what the plan wants.
    pub async fn make_ready(&self, plan: &MirrorPlan) -> Result<Refused, EngineError> {
        let mut refused = self.create(plan.new_topics()).await?;
        let dead_letters = plan.dead_letter_topic.as_ref();
        if let Some(refusal) = dead_letters.and_then(|topic| refused.remove(topic)) {
            return Err(EngineError::refused(refusal.why));
        }
        refused.extend(self.grow(plan).await?);
        refused.extend(self.follow_settings(plan).await?);
        Ok(refused)
    }

    async fn grow(&self, plan: &MirrorPlan) -> Result<Refused, EngineError> {
        let growing = plan.topics.iter();
        let growing = growing.filter(|topic| topic.add_partitions > 0 && !topic.create);
        let counts: BTreeMap<String, u32> = growing
            .map(|topic| {
                let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
                (topic.target_topic.clone(), count)
            })
            .collect();
        if counts.is_empty() {
            return Ok(Refused::new());
        }
        let answers = self.target.create_partitions(&counts).await?;
        let mut refused = self.refusals(answers, "cannot get more partitions in the target")?;
        // With new keys, records of every partition may belong into one that is missing.
        for refusal in refused.values_mut() {
            refusal.only_missing = !plan.changes_keys;
        }
        Ok(refused)
    }

    /// Creates topics: one whose settings the target does not take gets those that it takes.
    async fn create(&self, new: Vec<NewTopic>) -> Result<Refused, EngineError> {
        const WHAT: &str = "cannot be created in the target";
        if new.is_empty() {
            return Ok(Refused::new());
        }
        let mut answers = self.target.create_topics(&new, false).await?;
        let mut again = new;
        again.retain(|topic| {
            let error = answers.get(&topic.name).and_then(|it| it.as_ref().err());
            let may_be_left_out = self.unsupported == UnsupportedConfig::Skip;
            error.is_some_and(is_about_settings) && may_be_left_out && !topic.configs.is_empty()
        });
        answers.retain(|name, _| again.iter().all(|topic| topic.name != *name));
        let mut refused = self.refusals(answers, WHAT)?;
        let bare = again.iter().map(|topic| NewTopic {
            configs: BTreeMap::new(),
            ..topic.clone()
        });
        let bare: Vec<NewTopic> = bare.collect();
        if bare.is_empty() {
            return Ok(refused);
        }
        let answers = self.target.create_topics(&bare, false).await?;
        refused.extend(self.refusals(answers, WHAT)?);
        again.retain(|topic| !refused.contains_key(&topic.name));
        let wanted = again.into_iter().map(|topic| {
            let configs = topic.configs.into_iter();
            let configs = configs.map(|(name, value)| (name, Some(value)));
            (topic.name, configs.collect())
        });
        refused.extend(self.set(wanted.collect()).await?);
        Ok(refused)
    }

    /// The topics that the target refuses.
    fn refusals(&self, answers: TopicAnswers, what: &str) -> Result<Refused, EngineError> {
        let mut refused = Refused::new();
        for (topic, answer) in answers {
            let Err(error) = answer else { continue };
            if error.is_topic_there() {
                let what =
                    "was created by another hand just now, or the brokers do not all know it yet";
                return Err(EngineError::Changed(format!("topic {topic} {what}")));
            }
            let why = format!("topic {topic} {what}: {}", quote(error));
            refused.insert(topic, self.refuse(why));
        }
        Ok(refused)
    }

    fn refuse(&self, why: String) -> Refusal {
        if self.told.is_new(&why) {
            tracing::error!("{why}; the other topics are mirrored");
        }
        Refusal {
            why,
            only_missing: false,
        }
    }

    /// Gives topics the settings that the plan says.
    async fn follow_settings(&self, plan: &MirrorPlan) -> Result<Refused, EngineError> {
        let changes = plan.topics.iter();
        let changes = changes.filter(|topic| !topic.settings.is_empty());
        let changes = changes.map(|topic| (topic.target_topic.clone(), topic.settings.clone()));
        self.set(changes.collect()).await
    }

    /// Makes all changes that the target takes. No setting keeps records from being mirrored, unless that is wanted.
    async fn set(&self, changes: settings::Changes) -> Result<Refused, EngineError> {
        let mut refused = Refused::new();
        for setting in settings::change(self.target, &changes).await? {
            match self.unsupported {
                UnsupportedConfig::Skip => self.leave_out(&setting),
                UnsupportedConfig::Fail => {
                    let refusal = self.refuse(setting.to_string());
                    refused.insert(setting.topic, refusal);
                }
            }
        }
        Ok(refused)
    }

    fn leave_out(&self, setting: &RefusedSetting) {
        let told = setting.to_string();
        if self.told.is_new(&told) {
            tracing::warn!("{told}; the topic is mirrored without it");
        }
    }
}

/// Lets the partitions stand still that the target does not take.
///
/// # Errors
///
/// When the target takes none of the topics: then the mirror can do nothing at all.
pub(super) fn stop_refused(plan: &mut MirrorPlan, refused: &Refused) -> Result<(), EngineError> {
    let whole = |topic: &TopicPlan| {
        let refusal = refused.get(&topic.target_topic)?;
        (!refusal.only_missing).then(|| refusal.why.clone())
    };
    let none_is_taken: Option<Vec<String>> = plan.topics.iter().map(whole).collect();
    if let Some(why) = none_is_taken.and_then(|all| all.into_iter().next()) {
        return Err(EngineError::refused(why));
    }
    for topic in &mut plan.topics {
        if let Some(refusal) = refused.get(&topic.target_topic) {
            let missing = usize::try_from(topic.add_partitions).unwrap_or(usize::MAX);
            let first = match refusal.only_missing {
                true => topic.partitions.len().saturating_sub(missing),
                false => 0,
            };
            topic.refuse(first, &refusal.why);
        }
    }
    Ok(())
}
