use serde::de::Error;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::api::bounds::{rate, topic, within};
use crate::api::{MigrateOrder, Problem, integers};
use crate::engine::mirror::{InvalidExpression, MirrorOptions, Transform};
use crate::engine::renames::{Rename, Renames};
use crate::engine::topics::TopicPatterns;

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
    #[serde(default, deserialize_with = "pairs")]
    #[schema(value_type = Option<Vec<HeaderAddition>>, max_items = 100)]
    pub header_additions: Option<Vec<(String, String)>>,
    /// A CEL expression that gives a record its new key, and so its partition.
    #[schema(max_length = 4096)]
    pub key_transformation: Option<String>,
}

/// Lists of two texts each. As a tuple, a longer one would be told as broken JSON.
fn pairs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<(String, String)>>, D::Error> {
    let Some(additions) = Option::<Vec<Vec<String>>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let pairs = additions.into_iter().map(|addition| {
        let pair: Result<[String; 2], _> = addition.try_into();
        pair.map(|[name, value]| (name, value)).map_err(|addition| {
            let count = addition.len();
            D::Error::custom(format!(
                "each header must be a pair of a name and a value, not a list of {count}"
            ))
        })
    });
    pairs.collect::<Result<_, _>>().map(Some)
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
                renames: Renames::new(vec![Rename::literal(&source_topic, &target_topic)]),
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
    use utoipa::PartialSchema;

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
        for additions in [r#"[["a"]]"#, r#"[["a", "b"], ["a", "b", "c"]]"#, r#"[[]]"#] {
            let problem = migrate(&format!(r#"{{"header_additions": {additions}}}"#)).unwrap_err();
            let field = problem.details.field.as_deref();
            assert_eq!(field, Some("transformation.header_additions"));
            assert!(problem.message.contains("a pair of a name and a value"));
        }
        let nulls =
            r#"{"filter_expression": null, "header_additions": null, "key_transformation": null}"#;
        assert_eq!(migrate(nulls).unwrap().options.transform, None);
        let field = "transformation.filter_expression";
        assert_eq!(
            field_of(migrate(r#"{"filter_expression": "value.("}"#)),
            field
        );
    }

    #[test]
    fn an_expression_may_be_as_long_as_the_schema_says() {
        let schema = serde_json::to_value(MessageTransformation::schema()).unwrap();
        for field in ["filter_expression", "key_transformation"] {
            let longest = &schema["properties"][field]["maxLength"];
            let longest = usize::try_from(longest.as_u64().unwrap()).unwrap();
            let of_length = |length: usize| {
                let text = format!("'{}'", "x".repeat(length - 2));
                text.parse::<crate::engine::mirror::Expression>()
            };
            assert!(of_length(longest).is_ok(), "{field}: {longest}");
            assert!(of_length(longest + 1).is_err(), "{field}: {longest}");
        }
    }
}
