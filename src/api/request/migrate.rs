use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::bounds::{rate, topic, within};
use crate::api::{MigrateOrder, Problem, integers};
use crate::engine::mirror::{InvalidExpression, MirrorOptions, Transform};
use crate::engine::topics::{NameTemplate, TopicPatterns};

use super::schema::{HeaderAddition, TopicName};

/// `POST /api/kafka/migrate`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {
    /// The source: a name in the configuration, or Kafka's own id.
    #[schema(example = "prod")]
    pub source_cluster: String,
    /// The topic there.
    #[schema(value_type = TopicName, example = "events")]
    pub source_topic: String,
    /// The target.
    #[schema(example = "dr")]
    pub target_cluster: String,
    /// What the topic is to be called there; it must be empty, or not be there.
    #[schema(value_type = TopicName, example = "events-dr")]
    pub target_topic: String,
    /// At most so many records; by default all that are there when it begins.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub max_messages: Option<u64>,
    /// How records change on their way.
    pub transformation: Option<MessageTransformation>,
    /// Records a second; by default without a limit.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub rate_limit_per_second: Option<u64>,
}

/// How records change on their way.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageTransformation {
    /// Only records that satisfy this CEL expression over key, value, headers, timestamp, partition, offset and topic.
    #[schema(max_length = 4096, example = "value.contains('important')")]
    pub filter_expression: Option<String>,
    /// Headers that every record gets: name and value.
    #[schema(value_type = Option<Vec<HeaderAddition>>, max_items = 100)]
    pub header_additions: Option<Vec<(String, String)>>,
    /// A CEL expression that gives a record its new key, and so its partition.
    #[schema(max_length = 4096)]
    pub key_transformation: Option<String>,
}

/// Headers that a record may get.
const HEADERS_LIMIT: usize = 100;

impl MessageTransformation {
    fn transform(&self) -> Result<Option<Transform>, Problem> {
        let headers = self.header_additions.clone().unwrap_or_default();
        if headers.len() > HEADERS_LIMIT {
            let message = format!("at most {HEADERS_LIMIT} headers can be added");
            return Err(Problem::invalid(
                "transformation.header_additions",
                headers.len(),
                message,
            ));
        }
        let expression = |field: &str, text: &Option<String>| {
            let parsed = text.as_ref().map(|text| {
                text.parse().map_err(|error: InvalidExpression| {
                    Problem::invalid(field, text, error.to_string())
                })
            });
            parsed.transpose()
        };
        let filter = expression("transformation.filter_expression", &self.filter_expression)?;
        let key = expression(
            "transformation.key_transformation",
            &self.key_transformation,
        )?;
        let transform = Transform {
            filter,
            headers,
            key_transformation: key,
            ..Transform::default()
        };
        Ok(Some(transform).filter(|transform| !transform.is_identity()))
    }
}

impl MigrateRequest {
    /// Between these clusters, by their names in the configuration.
    pub fn order(&self, source: &str, target: &str) -> Result<MigrateOrder, Problem> {
        let (source_topic, target_topic) = (
            topic("source_topic", &self.source_topic)?,
            topic("target_topic", &self.target_topic)?,
        );
        if source == target && source_topic == target_topic {
            let message = "source and target are the same topic";
            return Err(Problem::invalid("target_topic", target_topic, message));
        }
        if let Some(max_messages) = self.max_messages {
            within("max_messages", max_messages, 1..=u64::MAX)?;
        }
        let transformation = self.transformation.as_ref();
        let transform = transformation.map(MessageTransformation::transform);
        Ok(MigrateOrder {
            source: source.to_owned(),
            target: target.to_owned(),
            options: MirrorOptions {
                rename: NameTemplate::literal(&target_topic),
                transform: transform.transpose()?.flatten(),
                rate_limit: rate(self.rate_limit_per_second)?,
                max_messages: self.max_messages,
                ..MirrorOptions::new("", TopicPatterns::literal(&source_topic))
            },
            source_topic,
            target_topic,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::field_of;
    use super::*;
    use crate::api::read;

    #[test]
    fn an_expression_that_is_none_is_refused_by_its_field() {
        let migrate = |transformation: &str| {
            let body = format!(
                r#"{{"source_cluster": "a", "source_topic": "t", "target_cluster": "b", "target_topic": "t",
                    "transformation": {transformation}}}"#
            );
            read::<MigrateRequest>(body.as_bytes()).and_then(|request| request.order("a", "b"))
        };
        let kept = migrate(
            r#"{"filter_expression": "value.contains('x')", "header_additions": [["a", "b"]]}"#,
        )
        .unwrap();
        assert_eq!(
            kept.options.transform.unwrap().headers,
            [("a".to_owned(), "b".to_owned())]
        );
        assert_eq!(migrate("{}").unwrap().options.transform, None);
        let field = "transformation.filter_expression";
        assert_eq!(
            field_of(migrate(r#"{"filter_expression": "value.("}"#)),
            field
        );
    }
}
