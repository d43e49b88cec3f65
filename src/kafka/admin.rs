//! Administration: configurations, producer ids.

use std::collections::BTreeMap;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    DescribeConfigsRequest, InitProducerIdRequest, ProducerId as WireProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use crate::quote::quote;
use crate::record::ProducerId;

use super::{Client, ErrorCode, KafkaError};

/// Kafka's number for a topic among the things that can be configured.
pub(super) const TOPIC: i8 = 2;
pub(super) const TIMEOUT_MS: i32 = 30_000;
/// So many topics are asked for at once.
pub(super) const AT_ONCE: usize = 500;

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
    /// Nowhere: it is Kafka's default.
    DefaultConfig,
    /// In a place that Kafka has added since.
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
    /// Its name, such as `retention.ms`.
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

/// A producer as the cluster knows it (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id that the cluster gave it.
    pub producer_id: ProducerId,
    /// Counts how often the id was taken over; an older epoch is fenced.
    pub producer_epoch: i16,
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn named(name: &str) -> TopicName {
    TopicName(text(name))
}

/// What a code means that came for an administrative question about a topic.
pub(super) fn refused(
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
                .map(|message| format!(" ({})", quote(message)))
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
