//! Administration: configurations, topics, producer ids.

use std::collections::BTreeMap;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ProducerId as WireProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use crate::record::ProducerId;

use super::{Client, ErrorCode, KafkaError};

/// Kafka's number for a topic among the things that can be configured.
const TOPIC: i8 = 2;
const TIMEOUT_MS: i32 = 30_000;
/// So many topics are asked for at once.
const AT_ONCE: usize = 500;

/// Where a setting was made (`ConfigEntry.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConfigSource {
    /// On the topic.
    DynamicTopicConfig,
    /// On one broker.
    DynamicBrokerConfig,
    /// On all brokers.
    DynamicDefaultBrokerConfig,
    /// In a broker's file.
    StaticBrokerConfig,
    /// Nowhere.
    DefaultConfig,
    /// Elsewhere.
    Unknown,
}

impl ConfigSource {
    fn of(code: i8) -> Self {
        match code {
            1 => Self::DynamicTopicConfig,
            2 => Self::DynamicBrokerConfig,
            3 => Self::DynamicDefaultBrokerConfig,
            4 => Self::StaticBrokerConfig,
            5 => Self::DefaultConfig,
            _ => Self::Unknown,
        }
    }
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; brokers do not tell sensitive ones.
    pub value: Option<String>,
    /// Where it was made.
    pub source: ConfigSource,
    /// Whether its value is a secret.
    pub is_sensitive: bool,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas of each.
    pub replication_factor: i16,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
}

/// A producer as the cluster knows it (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn named(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What a code means that came for an administrative question about a topic.
fn refused(
    code: ErrorCode,
    operation: &'static str,
    topic: &str,
    message: Option<StrBytes>,
) -> KafkaError {
    match code {
        ErrorCode::TopicAuthorizationFailed => KafkaError::Authorization {
            operation,
            resource: format!("topic {topic}"),
        },
        ErrorCode::ClusterAuthorizationFailed => KafkaError::Authorization {
            operation,
            resource: "the cluster".to_owned(),
        },
        code => {
            let said = message
                .map(|message| format!(" ({message})"))
                .unwrap_or_default();
            KafkaError::Broker {
                code,
                context: format!("topic {topic}{said}"),
            }
        }
    }
}

/// Topics of which one is enough, as the resource of an ACL.
fn any_of(topics: &[&str]) -> String {
    match topics {
        [] => "any topic".to_owned(),
        [topic] => format!("topic {topic}"),
        [topic, more @ ..] => format!("topic {topic} and {} more", more.len()),
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

impl Client {
    /// The settings of topics, with where each was made.
    pub async fn describe_configs(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Vec<ConfigEntry>>, KafkaError> {
        let mut configurations = BTreeMap::new();
        for topics in topics.chunks(AT_ONCE) {
            configurations.extend(self.retry().run(|| self.describe_once(topics)).await?);
        }
        Ok(configurations)
    }

    async fn describe_once(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Vec<ConfigEntry>>, KafkaError> {
        let resources = topics.iter().map(|topic| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(topic))
                .with_configuration_keys(None)
        });
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let response = self.any_connection().await?.call(request).await?;
        let mut configurations = BTreeMap::new();
        for result in response.results {
            if let Some(code) = result.error_code.err() {
                return Err(refused(
                    code,
                    "DESCRIBE_CONFIGS",
                    &result.resource_name,
                    result.error_message,
                ));
            }
            let entries = result.configs.into_iter().map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                source: ConfigSource::of(config.config_source),
                is_sensitive: config.is_sensitive,
                is_read_only: config.read_only,
            });
            configurations.insert(result.resource_name.to_string(), entries.collect());
        }
        Ok(configurations)
    }

    /// Creates topics, or only asks whether they could be.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<BTreeMap<String, Result<(), KafkaError>>, KafkaError> {
        let creatable = topics.iter().map(|topic| {
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
        });
        let request = CreateTopicsRequest::default()
            .with_topics(creatable.collect())
            .with_timeout_ms(TIMEOUT_MS)
            .with_validate_only(validate_only);
        let response = self.controller().await?.call(request).await?;
        let answers = response.topics.into_iter().map(|topic| {
            let answer = match topic.error_code.err() {
                Some(code) => Err(refused(code, "CREATE", &topic.name, topic.error_message)),
                None => Ok(()),
            };
            (topic.name.to_string(), answer)
        });
        Ok(answers.collect())
    }

    /// Gives topics more partitions: as many as the number says, all in all.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<String, u32>,
    ) -> Result<(), KafkaError> {
        let topics = counts.iter().map(|(topic, count)| {
            CreatePartitionsTopic::default()
                .with_name(named(topic))
                .with_count(i32::try_from(*count).unwrap_or(i32::MAX))
                .with_assignments(None)
        });
        let request = CreatePartitionsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(TIMEOUT_MS);
        let response = self.controller().await?.call(request).await?;
        for topic in response.results {
            if let Some(code) = topic.error_code.err() {
                return Err(refused(code, "ALTER", &topic.name, topic.error_message));
            }
        }
        Ok(())
    }

    /// Deletes topics.
    pub async fn delete_topics(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Result<(), KafkaError>>, KafkaError> {
        let states = topics
            .iter()
            .map(|topic| DeleteTopicState::default().with_name(Some(named(topic))));
        let connection = self.controller().await?;
        let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
        let by_state = connection.version::<DeleteTopicsRequest>(i16::MAX)? >= 6;
        let request = if by_state {
            request.with_topics(states.collect())
        } else {
            request.with_topic_names(topics.iter().map(|topic| named(topic)).collect())
        };
        let response = connection.call(request).await?;
        let answers = response.responses.into_iter().filter_map(|topic| {
            let name = topic.name?.to_string();
            let answer = topic
                .error_code
                .err()
                .map_or(Ok(()), |code| Err(refused(code, "DELETE", &name, None)));
            Some((name, answer))
        });
        Ok(answers.collect())
    }

    /// Changes settings of topics, or only asks whether they could be; `None` goes back to the default. What is not named
    /// stays as it is (KIP-339).
    pub async fn incremental_alter_configs(
        &self,
        changes: &BTreeMap<String, BTreeMap<String, Option<String>>>,
        validate_only: bool,
    ) -> Result<(), KafkaError> {
        let resources: Vec<AlterConfigsResource> = changes
            .iter()
            .filter(|(_, settings)| !settings.is_empty())
            .map(|(topic, settings)| altered(topic, settings))
            .collect();
        for resources in resources.chunks(AT_ONCE) {
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(resources.to_vec())
                .with_validate_only(validate_only);
            let response = self.controller().await?.call(request).await?;
            for answer in response.responses {
                if let Some(code) = answer.error_code.err() {
                    let topic = answer.resource_name.to_string();
                    return Err(refused(code, "ALTER_CONFIGS", &topic, answer.error_message));
                }
            }
        }
        Ok(())
    }

    /// Becomes an idempotent producer for `topics`. Who may write to any topic may become one (KIP-679, Kafka 2.8).
    pub async fn init_producer_id(&self, topics: &[&str]) -> Result<ProducerIdentity, KafkaError> {
        self.retry().run(|| self.init_once(topics)).await
    }

    async fn init_once(&self, topics: &[&str]) -> Result<ProducerIdentity, KafkaError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(TIMEOUT_MS)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        let response = self.any_connection().await?.call(request).await?;
        match response.error_code.err() {
            Some(ErrorCode::ClusterAuthorizationFailed) => Err(KafkaError::Authorization {
                operation: "WRITE",
                resource: any_of(topics),
            }),
            Some(code) => Err(KafkaError::Broker {
                code,
                context: "becoming a producer".to_owned(),
            }),
            None => Ok(ProducerIdentity {
                producer_id: ProducerId(response.producer_id.0),
                producer_epoch: response.producer_epoch,
            }),
        }
    }
}
