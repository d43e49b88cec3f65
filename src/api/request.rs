//! The bodies of requests, field by field as documented, and the bounds of their values.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::engine::backup::OffsetBound;
use crate::engine::drain::{Criteria, DrainOptions, Patience, Strategy, TimeBound};
use crate::engine::mirror::Transform;
use crate::engine::rate::RateLimit;
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::kafka::Isolation;
use crate::record::{Compression, PartitionId, Timestamp};
use crate::repository::{BackupId, Selection};

use super::bounds::{name, rate, topic, within};
use super::order::{BackupOrder, DrainOrder, MigrateOrder, RestoreOrder, ValidateOrder};
use super::{Problem, ProblemKind};

/// `POST /api/kafka/clusters/{cluster-id}/backup`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The topic.
    #[schema(
        min_length = 1,
        max_length = 249,
        pattern = "^[a-zA-Z0-9._-]+$",
        example = "events"
    )]
    pub topic: String,
    /// For batches that the producer did not compress: none, gzip, snappy, lz4 or zstd.
    #[schema(default = "gzip", value_type = Option<CompressionType>)]
    pub compression: Option<String>,
    /// At most so many records, shared evenly among the partitions; by default all.
    #[schema(minimum = 1)]
    pub max_messages: Option<u64>,
    /// Where to start; by default earliest.
    pub start_offset: Option<RequestedOffset>,
    /// Where to end, exclusive: latest or an offset; by default latest.
    pub end_offset: Option<RequestedOffset>,
    /// Only these partitions; by default all.
    #[schema(max_items = 10000)]
    pub partitions: Option<Vec<i32>>,
    /// Whether headers are kept.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_headers: bool,
    /// Whether keys are kept.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_keys: bool,
    /// Records a second; by default what the configuration says, 10000 where it says nothing.
    #[schema(minimum = 1)]
    pub rate_limit_per_second: Option<u64>,
    /// Addition: the repository's name in the configuration; may be left out where there is one, or a default is configured.
    pub repository: Option<String>,
}

/// A codec.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum CompressionType {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// earliest, latest, or an offset: as a number, or as text that is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "write earliest, latest or an offset from 0")]
pub enum RequestedOffset {
    /// An offset.
    Number(u64),
    /// In words.
    Word(String),
}

fn yes() -> bool {
    true
}

impl RequestedOffset {
    fn bound(&self, field: &str) -> Result<OffsetBound, Problem> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word.clone(),
        };
        text.parse().map_err(|_| {
            let message = format!("{field} must be earliest, latest or an offset from 0");
            Problem::invalid(field, &text, message)
        })
    }
}

/// One-off backups of many single partitions are no use that is known.
const PARTITIONS_LIMIT: usize = 10_000;

impl BackupRequest {
    /// Of this cluster, into this repository.
    pub fn order(
        &self,
        cluster: &str,
        repository: &str,
        default_rate: RateLimit,
    ) -> Result<BackupOrder, Problem> {
        let compression = match &self.compression {
            None => Compression::Gzip,
            Some(codec) => codec.parse().map_err(|_| {
                let message = "compression must be none, gzip, snappy, lz4 or zstd";
                Problem::invalid("compression", codec, message)
            })?,
        };
        Ok(BackupOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            topic: topic("topic", &self.topic)?,
            compression,
            selection: self.selection()?,
            rate_limit: rate(self.rate_limit_per_second)?.unwrap_or(default_rate),
        })
    }

    /// What it is cut down to; none where it is of the whole topic, and so part of its chain.
    fn selection(&self) -> Result<Option<Selection>, Problem> {
        let bound = |field, offset: &Option<RequestedOffset>| {
            offset
                .as_ref()
                .map(|offset| offset.bound(field))
                .transpose()
        };
        let start = bound("start_offset", &self.start_offset)?
            .filter(|start| *start != OffsetBound::Earliest);
        let end = bound("end_offset", &self.end_offset)?.filter(|end| *end != OffsetBound::Latest);
        if end == Some(OffsetBound::Earliest) {
            return Err(Problem::invalid(
                "end_offset",
                "earliest",
                "end_offset must be latest or an offset",
            ));
        }
        if let (Some(OffsetBound::At(start)), Some(OffsetBound::At(end))) = (start, end)
            && start > end
        {
            let message = format!("end_offset must not be less than start_offset, {start}");
            return Err(Problem::invalid("end_offset", end, message));
        }
        if let Some(max_messages) = self.max_messages {
            within("max_messages", max_messages, 1..=u64::MAX)?;
        }
        let selection = Selection {
            partitions: self.chosen_partitions()?,
            start_offset: start.map(|bound| bound.to_string()),
            end_offset: end.map(|bound| bound.to_string()),
            max_messages: self.max_messages,
            no_keys: !self.include_keys,
            no_headers: !self.include_headers,
        };
        Ok((selection != Selection::default()).then_some(selection))
    }

    fn chosen_partitions(&self) -> Result<Vec<PartitionId>, Problem> {
        let Some(wanted) = &self.partitions else {
            return Ok(Vec::new());
        };
        within("partitions", wanted.len(), 1..=PARTITIONS_LIMIT).map_err(|_| {
            let message =
                format!("partitions must name 1 to {PARTITIONS_LIMIT}; leave it out for all");
            Problem::invalid("partitions", format!("{} of them", wanted.len()), message)
        })?;
        let mut chosen = BTreeSet::new();
        for partition in wanted {
            within("partitions", *partition, 0..=i32::MAX)?;
            if !chosen.insert(PartitionId(*partition)) {
                return Err(Problem::invalid(
                    "partitions",
                    partition,
                    "partitions must name each one once",
                ));
            }
        }
        Ok(chosen.into_iter().collect())
    }
}

/// `POST /api/kafka/clusters/{cluster-id}/restore`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The backup.
    #[schema(example = "20261124T021500000Z-3f9a1c")]
    pub backup_id: String,
    /// What the topic is to be called in the target. It must not be there.
    #[schema(
        min_length = 1,
        max_length = 249,
        pattern = "^[a-zA-Z0-9._-]+$",
        example = "events-restored"
    )]
    pub target_topic: String,
    /// How many partitions it gets; by default as many as the source had. With another number records go where their key's hash puts them.
    #[schema(minimum = 1, maximum = 100000)]
    pub target_partitions: Option<u32>,
    /// Its replication factor; by default that of the source.
    #[schema(minimum = 1, maximum = 100)]
    pub replication_factor: Option<i16>,
    /// Whether every record gets the offset that it had. Where that cannot be, the restore is refused before anything is created.
    #[serde(default)]
    #[schema(default = false)]
    pub preserve_offsets: bool,
    /// Records a second; by default what the configuration says, 5000 where it says nothing.
    #[schema(minimum = 1)]
    pub rate_limit_per_second: Option<u64>,
    /// Whether the whole backup is verified before anything is created. What is read is verified in any case.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub validate_checksum: bool,
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
        Ok(RestoreOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            backup_id: self.backup()?,
            topic: source,
            target_topic: topic("target_topic", &self.target_topic)?,
            target_partitions: target_partitions.transpose()?,
            replication_factor: replication_factor.transpose()?,
            preserve_offsets: self.preserve_offsets,
            validate: self.validate_checksum,
            rate_limit: rate(self.rate_limit_per_second)?.unwrap_or(default_rate),
        })
    }
}

/// `POST /api/kafka/backups/{id}/validate`; the body may be left out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// Whether only what lies where is verified, and not every byte.
    #[serde(default)]
    #[schema(default = false)]
    pub quick: bool,
}

impl ValidateRequest {
    /// Of this backup.
    pub fn order(
        &self,
        cluster: &str,
        repository: &str,
        backup_id: BackupId,
        topics: &[String],
    ) -> ValidateOrder {
        ValidateOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            backup_id,
            topics: topics.to_vec(),
            quick: self.quick,
        }
    }
}

/// A backup's id as it stands in a path or a body.
fn backup_id(field: &str, text: &str) -> Result<BackupId, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found(field, text, "there is no such backup"))
}

/// `POST /api/kafka/migrate`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {
    /// The source: a name in the configuration, or Kafka's own id.
    #[schema(example = "prod")]
    pub source_cluster: String,
    /// The topic there.
    #[schema(
        min_length = 1,
        max_length = 249,
        pattern = "^[a-zA-Z0-9._-]+$",
        example = "events"
    )]
    pub source_topic: String,
    /// The target.
    #[schema(example = "dr")]
    pub target_cluster: String,
    /// What the topic is to be called there; it must be empty, or not be there.
    #[schema(
        min_length = 1,
        max_length = 249,
        pattern = "^[a-zA-Z0-9._-]+$",
        example = "events-dr"
    )]
    pub target_topic: String,
    /// At most so many records; by default all that are there when it begins.
    #[schema(minimum = 1)]
    pub max_messages: Option<u64>,
    /// How records change on their way.
    pub transformation: Option<MessageTransformation>,
    /// Records a second; by default without a limit.
    #[schema(minimum = 1)]
    pub rate_limit_per_second: Option<u64>,
}

/// How records change on their way.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageTransformation {
    /// Only records that satisfy this CEL expression over key, value, headers, timestamp, partition, offset and topic.
    #[schema(max_length = 8192, example = "value.contains('important')")]
    pub filter_expression: Option<String>,
    /// Headers that every record gets: name and value.
    #[schema(max_items = 100)]
    pub header_additions: Option<Vec<(String, String)>>,
    /// A CEL expression that gives a record its new key, and so its partition.
    #[schema(max_length = 8192)]
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
                text.parse()
                    .map_err(|error: crate::engine::mirror::InvalidExpression| {
                        Problem::invalid(field, text, error.to_string())
                    })
            });
            parsed.transpose()
        };
        let filter = expression("transformation.filter_expression", &self.filter_expression)?;
        if let Some(key) = &self.key_transformation {
            let message = "key_transformation is not built yet";
            return Err(Problem::of_field(
                ProblemKind::NotImplemented,
                "transformation.key_transformation",
                key,
                message,
            ));
        }
        let transform = Transform {
            filter,
            headers,
            ..Transform::default()
        };
        Ok((transform != Transform::default()).then_some(transform))
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
            let max_messages = within("max_messages", max_messages, 1..=u64::MAX)?;
            let message = "max_messages of a migration is not built yet";
            return Err(Problem::of_field(
                ProblemKind::NotImplemented,
                "max_messages",
                max_messages,
                message,
            ));
        }
        let transformation = self.transformation.as_ref();
        Ok(MigrateOrder {
            source: source.to_owned(),
            target: target.to_owned(),
            source_topic,
            target_topic,
            max_messages: self.max_messages,
            transform: transformation
                .map(MessageTransformation::transform)
                .transpose()?
                .flatten(),
            rate_limit: rate(self.rate_limit_per_second)?,
        })
    }
}

/// `POST /api/kafka/clusters/{cluster-id}/drain`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The consumer group.
    #[schema(min_length = 1, max_length = 1024, example = "consumer-group-1")]
    pub group_id: String,
    /// The topics to watch.
    #[schema(min_items = 1, max_items = 1000)]
    pub topics: Vec<String>,
    /// How many records may be left, over all partitions; for lag_based.
    #[serde(default)]
    #[schema(default = 0)]
    pub max_lag: u64,
    /// When to stop waiting.
    #[serde(default = "five_minutes")]
    #[schema(default = 300, maximum = 86400)]
    pub timeout_seconds: u64,
    /// From the beginning of one check to that of the next.
    #[serde(default = "five_seconds")]
    #[schema(default = 5000, minimum = 100, maximum = 3600000)]
    pub check_interval_ms: u64,
    /// What is compared.
    #[serde(default)]
    #[schema(default = "lag_based")]
    pub strategy: DrainStrategy,
    /// Addition, for time_based: what was produced before this moment must be consumed; by default the moment of the call.
    pub produced_before: Option<DateTime<Utc>>,
    /// Addition, for time_based instead of produced_before: what is older must be consumed.
    #[schema(minimum = 1)]
    pub max_age_seconds: Option<u64>,
    /// Addition: whether records of open and aborted transactions count as left.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
}

/// What a drain compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainStrategy {
    /// How many records are left.
    #[default]
    LagBased,
    /// How old the oldest is.
    TimeBased,
}

/// How the group reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// All records.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions.
    ReadCommitted,
}

fn five_minutes() -> u64 {
    300
}

fn five_seconds() -> u64 {
    5000
}

/// Topics of one call.
const TOPICS_LIMIT: usize = 1000;

impl DrainRequest {
    /// In this cluster, called `now`.
    pub fn order(&self, cluster: &str, now: DateTime<Utc>) -> Result<DrainOrder, Problem> {
        let group_id = name("group_id", &self.group_id)?;
        if !(1..=TOPICS_LIMIT).contains(&self.topics.len()) {
            let message = format!("topics must name 1 to {TOPICS_LIMIT}");
            return Err(Problem::invalid(
                "topics",
                format!("{} of them", self.topics.len()),
                message,
            ));
        }
        let topics = self.topics.iter().map(|name| topic("topics", name));
        let topics: BTreeSet<String> = topics.collect::<Result<_, _>>()?;
        let patterns = topics.iter().map(|name| name.parse::<TopicPattern>());
        let patterns: Vec<TopicPattern> = patterns
            .collect::<Result<_, _>>()
            .map_err(|error| Problem::from(&error))?;
        let timeout = within("timeout_seconds", self.timeout_seconds, 0..=86_400)?;
        let interval = within("check_interval_ms", self.check_interval_ms, 100..=3_600_000)?;
        Ok(DrainOrder {
            cluster: cluster.to_owned(),
            options: DrainOptions {
                groups: TopicPatterns::literal(&group_id),
                topics: Some(TopicPatterns::new(patterns)),
                criteria: Criteria {
                    strategy: self.strategy(now)?,
                    isolation: match self.isolation_level {
                        IsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
                        IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
                    },
                    ..Criteria::default()
                },
            },
            patience: Patience {
                interval: Duration::from_millis(interval),
                until_drained: true,
                timeout: Some(Duration::from_secs(timeout)),
            },
            group_id,
            topics: topics.into_iter().collect(),
        })
    }

    fn strategy(&self, now: DateTime<Utc>) -> Result<Strategy, Problem> {
        match (self.strategy, self.produced_before, self.max_age_seconds) {
            (DrainStrategy::LagBased, None, None) => Ok(Strategy::Lag {
                max_lag: self.max_lag,
            }),
            (DrainStrategy::LagBased, Some(moment), _) => {
                let message = "produced_before goes with strategy time_based";
                Err(Problem::invalid("produced_before", moment, message))
            }
            (DrainStrategy::LagBased, None, Some(age)) => {
                let message = "max_age_seconds goes with strategy time_based";
                Err(Problem::invalid("max_age_seconds", age, message))
            }
            (DrainStrategy::TimeBased, Some(_), Some(age)) => {
                let message = "give produced_before or max_age_seconds, not both";
                Err(Problem::invalid("max_age_seconds", age, message))
            }
            (DrainStrategy::TimeBased, None, Some(age)) => {
                let age = within("max_age_seconds", age, 1..=315_360_000)?;
                Ok(Strategy::Time(TimeBound::YoungerThan(Duration::from_secs(
                    age,
                ))))
            }
            (DrainStrategy::TimeBased, moment, None) => {
                let moment = moment.unwrap_or(now).timestamp_millis();
                Ok(Strategy::Time(TimeBound::ProducedBefore(Timestamp(moment))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const RATE: RateLimit = RateLimit::Records(10_000);

    fn backup(body: &str) -> Result<BackupOrder, Problem> {
        read::<BackupRequest>(body.as_bytes())?.order("prod", "main", RATE)
    }

    fn drain(body: &str) -> Result<DrainOrder, Problem> {
        read::<DrainRequest>(body.as_bytes())?.order("prod", DateTime::UNIX_EPOCH)
    }

    fn field_of<T: std::fmt::Debug>(refused: Result<T, Problem>) -> String {
        refused.unwrap_err().details.field.unwrap()
    }

    #[test]
    fn the_documented_backup_is_read_and_what_is_left_out_has_its_documented_default() {
        let order = backup(r#"{"topic": "events"}"#).unwrap();
        assert_eq!(
            (order.compression, order.rate_limit),
            (Compression::Gzip, RATE)
        );
        assert_eq!(order.selection, None);
        let whole = r#"{"topic": "events", "start_offset": "earliest", "end_offset": "latest", "include_keys": true}"#;
        assert_eq!(backup(whole).unwrap().selection, None);
        let part = r#"{"topic": "events", "compression": "lz4", "max_messages": 1000000, "start_offset": 7,
            "end_offset": "9", "partitions": [2, 0, 1], "include_headers": false, "include_keys": false,
            "rate_limit_per_second": 1}"#;
        let order = backup(part).unwrap();
        assert_eq!(
            (order.compression, order.rate_limit),
            (Compression::Lz4, RateLimit::Records(1))
        );
        let expected = Selection {
            partitions: [0, 1, 2].map(PartitionId).to_vec(),
            start_offset: Some("7".to_owned()),
            end_offset: Some("9".to_owned()),
            max_messages: Some(1_000_000),
            no_keys: true,
            no_headers: true,
        };
        assert_eq!(order.selection, Some(expected));
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_their_field() {
        for (value, field) in [
            (r#""topic": "a/b""#, "topic"),
            (r#""topic": "..""#, "topic"),
            (r#""topic": "t", "compression": "brotli""#, "compression"),
            (r#""topic": "t", "max_messages": 0"#, "max_messages"),
            (
                r#""topic": "t", "start_offset": "yesterday""#,
                "start_offset",
            ),
            (r#""topic": "t", "start_offset": "-1""#, "start_offset"),
            (r#""topic": "t", "end_offset": "earliest""#, "end_offset"),
            (
                r#""topic": "t", "start_offset": 3, "end_offset": 2"#,
                "end_offset",
            ),
            (r#""topic": "t", "partitions": []"#, "partitions"),
            (r#""topic": "t", "partitions": [1, 1]"#, "partitions"),
            (r#""topic": "t", "partitions": [-1]"#, "partitions"),
            (
                r#""topic": "t", "rate_limit_per_second": 0"#,
                "rate_limit_per_second",
            ),
        ] {
            assert_eq!(field_of(backup(&format!("{{{value}}}"))), field, "{value}");
        }
    }

    #[test]
    fn a_drain_waits_for_its_lag_or_for_the_moment_of_the_call() {
        let order = drain(r#"{"group_id": "g", "topics": ["a", "b"]}"#).unwrap();
        assert_eq!(
            order.options.criteria.strategy,
            Strategy::Lag { max_lag: 0 }
        );
        assert_eq!(order.patience.timeout, Some(Duration::from_secs(300)));
        assert_eq!(order.patience.interval, Duration::from_secs(5));
        let order =
            drain(r#"{"group_id": "g", "topics": ["a"], "strategy": "time_based"}"#).unwrap();
        let moment = TimeBound::ProducedBefore(Timestamp(0));
        assert_eq!(order.options.criteria.strategy, Strategy::Time(moment));
        for (rest, field) in [
            (r#""topics": []"#, "topics"),
            (r#""topics": ["a b"]"#, "topics"),
            (
                r#""topics": ["a"], "timeout_seconds": 86401"#,
                "timeout_seconds",
            ),
            (
                r#""topics": ["a"], "check_interval_ms": 0"#,
                "check_interval_ms",
            ),
            (r#""topics": ["a"], "strategy": "x""#, "strategy"),
            (
                r#""topics": ["a"], "max_age_seconds": 1"#,
                "max_age_seconds",
            ),
        ] {
            assert_eq!(
                field_of(drain(&format!(r#"{{"group_id": "g", {rest}}}"#))),
                field,
                "{rest}"
            );
        }
        assert_eq!(
            field_of(drain(r#"{"group_id": "", "topics": ["a"]}"#)),
            "group_id"
        );
    }

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
            (order.topic.as_str(), order.validate, order.preserve_offsets),
            ("a", true, false)
        );
        assert_eq!(field_of(restore(one, &["a", "b"])), "topic");
        let named =
            r#"{"backup_id": "20261124T021500000Z-3f9a1c", "target_topic": "t", "topic": "b"}"#;
        assert_eq!(restore(named, &["a", "b"]).unwrap().topic, "b");
        assert_eq!(
            restore(named, &["a"]).unwrap_err().kind,
            ProblemKind::NotFound
        );
        let bad = r#"{"backup_id": "backup-1", "target_topic": "t"}"#;
        assert_eq!(
            restore(bad, &["a"]).unwrap_err().kind,
            ProblemKind::NotFound
        );
    }

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
            kept.transform.unwrap().headers,
            [("a".to_owned(), "b".to_owned())]
        );
        assert_eq!(migrate("{}").unwrap().transform, None);
        let field = "transformation.filter_expression";
        assert_eq!(
            field_of(migrate(r#"{"filter_expression": "value.("}"#)),
            field
        );
    }
}
