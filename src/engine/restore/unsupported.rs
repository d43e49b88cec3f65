//! Settings that the target does not take: found before anything is created, one by one, and left out or refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::refusal::Refusal;
use crate::engine::settings::{SettingsChoice, UnsupportedConfig, is_about_settings};
use crate::kafka::{Client, KafkaError, NewTopic, TopicAnswers};

use super::configuration::is_essential;
use super::plan::{RestorePlan, TopicAction, TopicRestore};

/// A setting to be tried alone.
type Setting = (String, String);

impl TopicRestore {
    /// All that the topic is to be set to, while records are written and at the end.
    fn settings_to_try(&self) -> BTreeSet<Setting> {
        let TopicAction::Create {
            configuration,
            afterwards,
            ..
        } = &self.action
        else {
            return BTreeSet::new();
        };
        let during = configuration.clone().into_iter();
        let final_ones = afterwards.iter();
        let final_ones =
            final_ones.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        during.chain(final_ones).collect()
    }

    /// The topic under the settings that it has at the end.
    fn at_the_end(&self) -> Option<NewTopic> {
        let mut topic = self.new_topic()?;
        if let TopicAction::Create { afterwards, .. } = &self.action {
            for (name, value) in afterwards {
                match value {
                    Some(value) => topic.configs.insert(name.clone(), value.clone()),
                    None => topic.configs.remove(name),
                };
            }
        }
        Some(topic)
    }

    fn leave_out(&mut self, (name, value): &Setting, why: &KafkaError) {
        if let TopicAction::Create {
            configuration,
            afterwards,
            ..
        } = &mut self.action
        {
            configuration.retain(|known, set| known != name || set != value);
            afterwards.retain(|known, set| known != name || set.as_ref() != Some(value));
        }
        self.notes.push(format!(
            "{name}={value} is left out, since the target does not take it: {why}"
        ));
    }
}

/// Tries the plan's settings in the target, and leaves out of the plan those that it does not take. What it refuses besides
/// remains the answer to creating the topic. `answers` are the target's to the new topics of the plan, as they are.
pub(super) async fn leave_out(
    client: &Client,
    plan: &mut RestorePlan,
    answers: TopicAnswers,
    choice: &SettingsChoice,
) -> Result<(), EngineError> {
    let mut doubtful = doubtful(client, plan, answers).await?;
    if doubtful.is_empty() {
        return Ok(());
    }
    // Who is refused without any setting is refused for another reason.
    let bare = doubtful.keys().map(|target| (target.clone(), None));
    for target in refused(client, plan, bare.collect()).await?.into_keys() {
        doubtful.remove(&target);
    }
    while doubtful.values().any(|settings| !settings.is_empty()) {
        let next = doubtful
            .iter_mut()
            .filter_map(|(target, settings)| Some((target.clone(), Some(settings.pop_first()?))));
        let next: BTreeMap<String, Option<Setting>> = next.collect();
        for (target, why) in refused(client, plan, next.clone()).await? {
            let Some(Some(setting)) = next.get(&target) else {
                continue;
            };
            let (name, value) = setting;
            let must_be = choice.overrides.contains_key(name) || is_essential(name, value);
            if must_be || choice.unsupported == UnsupportedConfig::Fail {
                plan.refused.push(Refusal::from(format!(
                    "topic {target} is to have {name}={value}, which the target does not take: {why}"
                )));
            } else if let Some(topic) = topic_of(plan, &target) {
                topic.leave_out(setting, &why);
            }
        }
    }
    Ok(())
}

fn topic_of<'a>(plan: &'a mut RestorePlan, target: &str) -> Option<&'a mut TopicRestore> {
    plan.topics
        .iter_mut()
        .find(|topic| topic.target_topic == target)
}

/// What is to be tried one by one of the topics that the target refuses as a whole.
async fn doubtful(
    client: &Client,
    plan: &RestorePlan,
    answers: TopicAnswers,
) -> Result<BTreeMap<String, BTreeSet<Setting>>, EngineError> {
    let topics = plan.topics.iter();
    let at_the_end: Vec<NewTopic> = topics.filter_map(TopicRestore::at_the_end).collect();
    let at_the_end = client.create_topics(&at_the_end, true).await?;
    let mut doubtful = BTreeMap::new();
    for (target, answer) in answers.into_iter().chain(at_the_end) {
        if !answer.is_err_and(|error| is_about_settings(&error)) {
            continue;
        }
        let topic = plan
            .topics
            .iter()
            .find(|topic| topic.target_topic == target);
        let settings = topic.map(TopicRestore::settings_to_try);
        doubtful.insert(target, settings.unwrap_or_default());
    }
    Ok(doubtful)
}

/// Of topics with one setting, or none, those that the target would not create for the setting's sake.
async fn refused(
    client: &Client,
    plan: &RestorePlan,
    asked: BTreeMap<String, Option<Setting>>,
) -> Result<BTreeMap<String, KafkaError>, EngineError> {
    let topics = plan.new_topics().into_iter().filter_map(|topic| {
        let setting = asked.get(&topic.name)?;
        Some(NewTopic {
            configs: setting.iter().cloned().collect(),
            ..topic
        })
    });
    let topics: Vec<NewTopic> = topics.collect();
    let answers = client.create_topics(&topics, true).await?.into_iter();
    let refused = answers.filter_map(|(target, answer)| Some((target, answer.err()?)));
    Ok(refused
        .filter(|(_, error)| is_about_settings(error))
        .collect())
}
