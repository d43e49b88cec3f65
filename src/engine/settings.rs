//! Settings of topics that are made though the cluster may not take all of them: one that is refused keeps no other from being
//! made.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kafka::{Client, ErrorCode, KafkaError};
use crate::words::words;

/// Settings by name, as Kafka writes them.
pub type Settings = BTreeMap<String, String>;

words! {
    /// What to do with settings that the target does not take.
    pub enum UnsupportedConfig {
        /// Leave them out, and name them.
        Skip = "skip",
        /// Refuse the topic before anything is written to it.
        Fail = "fail",
    }
    default Skip
}

words! {
    /// What to do where a target topic exists and has other settings.
    pub enum ExistingConfig {
        /// The target's settings stay.
        Keep = "keep",
        /// Set the source's.
        Apply = "apply",
        /// Refuse the topic before anything is written to it.
        Fail = "fail",
    }
    default Keep
}

/// What an operator wants of the settings of topics that are written to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsChoice {
    /// Settings that topics get whatever the source has.
    pub overrides: Settings,
    /// What becomes of settings that the target does not take.
    pub unsupported: UnsupportedConfig,
    /// What becomes of the settings of topics that exist.
    pub existing: ExistingConfig,
}

/// Settings to change, by topic and name; `None` goes back to the broker's default.
pub type Changes = BTreeMap<String, BTreeMap<String, Option<String>>>;

/// A setting that the cluster did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedSetting {
    /// The topic.
    pub topic: String,
    /// The setting's name.
    pub name: String,
    /// What it was to be; none for the broker's default.
    pub value: Option<String>,
    /// What the cluster says.
    pub why: String,
}

impl std::fmt::Display for RefusedSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.as_deref().unwrap_or("the broker's default");
        let Self {
            topic, name, why, ..
        } = self;
        write!(f, "topic {topic}: {name} cannot be set to {value}: {why}")
    }
}

/// Whether an answer is about a setting (`InvalidConfigurationException`), or may be: a policy of the brokers says no
/// (`create.topic.policy.class.name`).
pub fn is_about_settings(error: &KafkaError) -> bool {
    let codes = [ErrorCode::InvalidConfig, ErrorCode::PolicyViolation];
    matches!(error, KafkaError::Broker { code, .. } if codes.contains(code))
}

/// Makes all changes that the cluster takes; returns the others. The changes of a topic are made together, and one by one where
/// they are refused together.
///
/// # Errors
///
/// When the cluster cannot be asked before the deadline.
pub async fn change(client: &Client, changes: &Changes) -> Result<Vec<RefusedSetting>, KafkaError> {
    let answers = client.incremental_alter_configs(changes, false).await?;
    let mut left: Changes = changes.clone();
    left.retain(|topic, _| answers.get(topic).is_some_and(Result::is_err));
    let mut refused = Vec::new();
    while !left.is_empty() {
        let mut next = Changes::new();
        left.retain(|topic, settings| {
            next.extend(
                settings
                    .pop_first()
                    .map(|setting| (topic.clone(), [setting].into())),
            );
            !settings.is_empty()
        });
        for (topic, answer) in client.incremental_alter_configs(&next, false).await? {
            let (Err(error), Some(settings)) = (answer, next.remove(&topic)) else {
                continue;
            };
            let settings = settings.into_iter().map(|(name, value)| RefusedSetting {
                topic: topic.clone(),
                name,
                value,
                why: error.to_string(),
            });
            refused.extend(settings);
        }
    }
    Ok(refused)
}
