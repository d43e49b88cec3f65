use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::bounds::{rate, topic, within};
use crate::api::{Problem, ProblemKind, RestoreOrder, integers};
use crate::engine::rate::RateLimit;
use crate::engine::renames::{Rename, Renames};
use crate::engine::restore::{Offsets, RestoreOptions};
use crate::engine::topics::TopicPatterns;
use crate::repository::BackupId;

use super::schema::TopicName;

/// `POST /api/kafka/clusters/{cluster-id}/restore`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The backup.
    #[schema(example = "20261124T021500000Z-3f9a1c")]
    pub backup_id: String,
    /// What the topic is to be called in the target. It must not be there.
    #[schema(value_type = TopicName, example = "events-restored")]
    pub target_topic: String,
    /// How many partitions it gets; by default as many as the source had. With another number records go where their key's hash puts them.
    #[schema(minimum = 1, maximum = 100000)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub target_partitions: Option<u32>,
    /// Its replication factor; by default that of the source.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub replication_factor: Option<i16>,
    /// Whether every record gets the offset that it had. Where that cannot be, the restore is refused before anything is created.
    #[schema(default = false)]
    pub preserve_offsets: Option<bool>,
    /// Records a second; by default what the configuration says, 5000 where it says nothing.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub rate_limit_per_second: Option<u64>,
    /// Whether the whole backup is verified before anything is created. What is read is verified in any case.
    #[schema(default = true)]
    pub validate_checksum: Option<bool>,
    /// Addition: which of the backup's topics, where it holds several.
    pub topic: Option<String>,
}

impl RestoreRequest {
    /// The backup that is meant.
    pub fn backup(&self) -> Result<BackupId, Problem> {
        backup_id("backup_id", &self.backup_id)
    }

    /// Into this cluster, from this repository; `topics` are those of the backup.
    pub fn order(
        &self,
        cluster: &str,
        repository: &str,
        topics: &[String],
        default_rate: RateLimit,
    ) -> Result<RestoreOrder, Problem> {
        let source = match (&self.topic, topics) {
            (None, [one]) => one.clone(),
            (None, _) => {
                let message = format!(
                    "the backup holds {} topics: say which one in topic",
                    topics.len()
                );
                return Err(Problem::new(ProblemKind::InvalidRequest, message).with_field("topic"));
            }
            (Some(topic), topics) if topics.contains(topic) => topic.clone(),
            (Some(topic), _) => {
                return Err(Problem::not_found(
                    "topic",
                    topic,
                    "the backup holds no such topic",
                ));
            }
        };
        let target_partitions = self
            .target_partitions
            .map(|count| within("target_partitions", count, 1..=100_000));
        let replication_factor = self
            .replication_factor
            .map(|factor| within("replication_factor", factor, 1..=100));
        let backup_id = self.backup()?;
        let target_topic = topic("target_topic", &self.target_topic)?;
        Ok(RestoreOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            backup_id,
            validate: self.validate_checksum.unwrap_or(true),
            options: RestoreOptions {
                topics: TopicPatterns::literal(&source),
                renames: Renames::new(vec![Rename::literal(&source, &target_topic)]),
                partition_count: target_partitions.transpose()?,
                replication_factor: replication_factor.transpose()?,
                offsets: match self.preserve_offsets.unwrap_or(false) {
                    true => Offsets::Exact,
                    false => Offsets::Mapped,
                },
                rate_limit: Some(rate(self.rate_limit_per_second)?.unwrap_or(default_rate)),
                ..RestoreOptions::default()
            },
            topic: source,
            target_topic,
        })
    }
}

/// A backup's id as it stands in a path or a body.
fn backup_id(field: &str, text: &str) -> Result<BackupId, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found(field, text, "there is no such backup"))
}

#[cfg(test)]
mod tests {
    use super::super::field_of;
    use super::*;
    use crate::api::read;

    const RATE: RateLimit = RateLimit::Records(5_000);

    #[test]
    fn a_restore_of_a_backup_with_several_topics_says_which() {
        let restore = |body: &str, topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            read::<RestoreRequest>(body.as_bytes())
                .and_then(|request| request.order("dr", "main", &topics, RATE))
        };
        let one = r#"{"backup_id": "20261124T021500000Z-3f9a1c", "target_topic": "t"}"#;
        let order = restore(one, &["a"]).unwrap();
        assert_eq!(
            (order.topic.as_str(), order.validate, order.options.offsets),
            ("a", true, Offsets::Mapped)
        );
        assert_eq!(field_of(restore(one, &["a", "b"])), "topic");
        let named =
            r#"{"backup_id": "20261124T021500000Z-3f9a1c", "target_topic": "t", "topic": "b"}"#;
        assert_eq!(restore(named, &["a", "b"]).unwrap().topic, "b");
        assert_eq!(
            restore(named, &["a"]).unwrap_err().kind,
            ProblemKind::NotFound
        );
        let nulls = r#"{"backup_id": "20261124T021500000Z-3f9a1c", "target_topic": "t", "target_partitions": null,
            "replication_factor": null, "preserve_offsets": null, "rate_limit_per_second": null, "validate_checksum": null,
            "topic": null}"#;
        let order = restore(nulls, &["a"]).unwrap();
        assert_eq!(
            (order.validate, order.options.offsets),
            (true, Offsets::Mapped)
        );
        let bad = r#"{"backup_id": "backup-1", "target_topic": "t"}"#;
        assert_eq!(
            restore(bad, &["a"]).unwrap_err().kind,
            ProblemKind::NotFound
        );
    }
}
