//! Changes of topics: tried again while they fail in passing, also where nobody knows whether the last try was carried out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, IncrementalAlterConfigsRequest,
};

use super::admin::{AT_ONCE, TIMEOUT_MS, TOPIC, named, refused, text};
use super::retry::settled;
use super::{Client, KafkaError, Topics};

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name to create it under.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas of each.
    pub replication_factor: i16,
    /// Settings to create it with; the cluster has defaults for the others.
    pub configs: BTreeMap<String, String>,
}

/// What became of each topic.
pub type TopicAnswers = BTreeMap<String, Result<(), KafkaError>>;

/// What is known after some tries.
#[derive(Default)]
struct Tries {
    /// Answers that trying again would not change.
    settled: TopicAnswers,
    /// Whether a try failed that may have been carried out.
    may_be_done: bool,
}

fn locked(tries: &Mutex<Tries>) -> MutexGuard<'_, Tries> {
    tries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tries {
    /// Takes note of a try that failed as a whole.
    fn failed(&mut self, error: &KafkaError) {
        self.may_be_done |= !matches!(error, KafkaError::Unreachable { .. });
    }

    /// Takes note of a topic's answer; returns it where the topic is to be tried again.
    fn answered(&mut self, topic: String, answer: Result<(), KafkaError>) -> Option<KafkaError> {
        let answer = match answer {
            Err(error) if error.is_transient() => {
                self.may_be_done = true;
                return Some(error);
            }
            Err(error) if self.may_be_done && error.is_topic_there() => Ok(()),
            answer => answer,
        };
        self.settled.insert(topic, answer);
        None
    }
}

fn altered(topic: &str, settings: &BTreeMap<String, Option<String>>) -> AlterConfigsResource {
    let configs = settings.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(i8::from(value.is_none()))
            .with_value(value.as_deref().map(text))
    });
    AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(configs.collect())
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let configs = topic.configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(named(&topic.name))
        .with_num_partitions(i32::try_from(topic.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(topic.replication_factor)
        .with_configs(configs.collect())
}

impl Client {
    /// Creates topics, or only asks whether they could be. Where the answer of a try was lost, a topic that is there by the
    /// next one counts as created by us: the caller must know that it was not there before.
    ///
    /// # Errors
    ///
    /// By topic, what the cluster refuses; for all, when the cluster cannot be asked before the deadline.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<TopicAnswers, KafkaError> {
        let tries = Mutex::new(Tries::default());
        let create = || self.create_once(topics, validate_only, &tries);
        self.retry().run(create).await?;
        let tries = tries.into_inner();
        Ok(tries.unwrap_or_else(PoisonError::into_inner).settled)
    }

    async fn create_once(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        tries: &Mutex<Tries>,
    ) -> Result<(), KafkaError> {
        let left: Vec<CreatableTopic> = {
            let tries = locked(tries);
            let is_left = |topic: &&NewTopic| !tries.settled.contains_key(&topic.name);
            topics.iter().filter(is_left).map(creatable).collect()
        };
        let request = CreateTopicsRequest::default()
            .with_topics(left)
            .with_timeout_ms(TIMEOUT_MS)
            .with_validate_only(validate_only);
        let asked = async { self.controller().await?.call(request).await }.await;
        let mut tries = locked(tries);
        let response = asked.inspect_err(|error| tries.failed(error))?;
        let mut again = None;
        for topic in response.topics {
            let answer = match topic.error_code.err() {
                Some(code) => Err(refused(code, "CREATE", &topic.name, topic.error_message)),
                None => Ok(()),
            };
            again = tries.answered(topic.name.to_string(), answer).or(again);
        }
        again.map_or(Ok(()), Err)
    }

    /// Gives topics more partitions: as many as the number says, all in all. Those that have as many stay as they are.
    ///
    /// # Errors
    ///
    /// By topic, what the cluster refuses; for all, when it cannot be asked before the deadline.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<String, u32>,
    ) -> Result<TopicAnswers, KafkaError> {
        self.retry()
            .run(|| self.create_partitions_once(counts))
            .await
    }

    async fn create_partitions_once(
        &self,
        counts: &BTreeMap<String, u32>,
    ) -> Result<TopicAnswers, KafkaError> {
        let names: Vec<String> = counts.keys().cloned().collect();
        // An earlier try may have been carried out.
        let there = self.metadata_now(Topics::Named(&names)).await?.topics;
        let topics = counts.iter().filter(|(topic, count)| {
            let known = there.get(*topic);
            known.is_none_or(|known| known.partitions.len() < **count as usize)
        });
        let topics = topics.map(|(topic, count)| {
            CreatePartitionsTopic::default()
                .with_name(named(topic))
                .with_count(i32::try_from(*count).unwrap_or(i32::MAX))
                .with_assignments(None)
        });
        let request = CreatePartitionsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(TIMEOUT_MS);
        if request.topics.is_empty() {
            return Ok(TopicAnswers::new());
        }
        let response = self.controller().await?.call(request).await?;
        let answers = response.results.into_iter().map(|topic| {
            let answer = match topic.error_code.err() {
                Some(code) => Err(refused(code, "ALTER", &topic.name, topic.error_message)),
                None => Ok(()),
            };
            (topic.name.to_string(), answer)
        });
        settled(answers.collect())
    }

    /// Changes settings of topics, or only asks whether they could be; `None` goes back to the default. What is not named
    /// stays as it is (KIP-339).
    ///
    /// # Errors
    ///
    /// By topic, what the cluster refuses; for all, when the cluster cannot be asked before the deadline.
    pub async fn incremental_alter_configs(
        &self,
        changes: &BTreeMap<String, BTreeMap<String, Option<String>>>,
        validate_only: bool,
    ) -> Result<TopicAnswers, KafkaError> {
        let mut answers = TopicAnswers::new();
        let resources: Vec<AlterConfigsResource> = changes
            .iter()
            .filter(|(_, settings)| !settings.is_empty())
            .map(|(topic, settings)| altered(topic, settings))
            .collect();
        for resources in resources.chunks(AT_ONCE) {
            // To set the same again changes nothing.
            let alter = || self.alter_once(resources, validate_only);
            answers.extend(self.retry().run(alter).await?);
        }
        Ok(answers)
    }

    async fn alter_once(
        &self,
        resources: &[AlterConfigsResource],
        validate_only: bool,
    ) -> Result<TopicAnswers, KafkaError> {
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(resources.to_vec())
            .with_validate_only(validate_only);
        let response = self.controller().await?.call(request).await?;
        let answers = response.responses.into_iter().map(|altered| {
            let topic = altered.resource_name.to_string();
            let answer = match altered.error_code.err() {
                Some(code) => {
                    let error = refused(code, "ALTER_CONFIGS", &topic, altered.error_message);
                    // All is asked again: to set the same once more changes nothing.
                    if error.is_transient() {
                        return Err(error);
                    }
                    Err(error)
                }
                None => Ok(()),
            };
            Ok((topic, answer))
        });
        answers.collect()
    }
}
