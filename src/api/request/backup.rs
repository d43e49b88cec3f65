use std::collections::BTreeSet;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::bounds::{rate, topic, within};
use crate::api::{BackupOrder, Problem, integers};
use crate::engine::backup::BackupOptions;
use crate::engine::rate::RateLimit;
use crate::engine::topics::TopicPatterns;
use crate::record::{Compression, PartitionId};
use crate::repository::{OffsetBound, Selection};

use super::schema::{PartitionNumber, TopicName};

/// `POST /api/kafka/clusters/{cluster-id}/backup`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The topic.
    #[schema(value_type = TopicName, example = "events")]
    pub topic: String,
    /// For batches that the producer did not compress.
    #[schema(default = "gzip")]
    pub compression: Option<Compression>,
    /// At most so many records, shared evenly among the partitions; by default all.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub max_messages: Option<u64>,
    /// Where to start; by default earliest.
    pub start_offset: Option<RequestedOffset>,
    /// Where to end, exclusive: latest or an offset; by default latest.
    pub end_offset: Option<RequestedOffset>,
    /// Only these partitions; by default all.
    #[serde(default, deserialize_with = "integers::list")]
    #[schema(value_type = Option<Vec<PartitionNumber>>, min_items = 1, max_items = 10000)]
    pub partitions: Option<Vec<i32>>,
    /// Whether headers are kept.
    #[schema(default = true)]
    pub include_headers: Option<bool>,
    /// Whether keys are kept.
    #[schema(default = true)]
    pub include_keys: Option<bool>,
    /// Records a second; by default what the configuration says, 10000 where it says nothing.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub rate_limit_per_second: Option<u64>,
    /// Addition: the repository's name in the configuration; may be left out where there is one, or a default is configured.
    pub repository: Option<String>,
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
        let topic = topic("topic", &self.topic)?;
        let rate_limit = rate(self.rate_limit_per_second)?.unwrap_or(default_rate);
        Ok(BackupOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            options: BackupOptions {
                compression: self.compression.unwrap_or(Compression::Gzip),
                selection: self.selection()?,
                rate_limit: Some(rate_limit),
                cluster_name: Some(cluster.to_owned()),
                ..BackupOptions::new(TopicPatterns::literal(&topic))
            },
            topic,
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
            start_offset: start,
            end_offset: end,
            max_messages: self.max_messages,
            no_keys: !self.include_keys.unwrap_or(true),
            no_headers: !self.include_headers.unwrap_or(true),
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

#[cfg(test)]
mod tests {
    use super::super::field_of;
    use super::*;
    use crate::api::read;
    use crate::record::Offset;

    const RATE: RateLimit = RateLimit::Records(10_000);

    fn backup(body: &str) -> Result<BackupOrder, Problem> {
        read::<BackupRequest>(body.as_bytes())?.order("prod", "main", RATE)
    }

    #[test]
    fn the_documented_backup_is_read_and_what_is_left_out_has_its_documented_default() {
        let order = backup(r#"{"topic": "events"}"#).unwrap();
        assert_eq!(
            (order.options.compression, order.options.rate_limit),
            (Compression::Gzip, Some(RATE))
        );
        assert_eq!(order.options.selection, None);
        let whole = r#"{"topic": "events", "start_offset": "earliest", "end_offset": "latest", "include_keys": true}"#;
        assert_eq!(backup(whole).unwrap().options.selection, None);
        let part = r#"{"topic": "events", "compression": "lz4", "max_messages": 1000000, "start_offset": 7,
            "end_offset": "9", "partitions": [2, 0, 1], "include_headers": false, "include_keys": false,
            "rate_limit_per_second": 1}"#;
        let order = backup(part).unwrap();
        assert_eq!(
            (order.options.compression, order.options.rate_limit),
            (Compression::Lz4, Some(RateLimit::Records(1)))
        );
        let expected = Selection {
            partitions: [0, 1, 2].map(PartitionId).to_vec(),
            start_offset: Some(OffsetBound::At(Offset(7))),
            end_offset: Some(OffsetBound::At(Offset(9))),
            max_messages: Some(1_000_000),
            no_keys: true,
            no_headers: true,
        };
        assert_eq!(order.options.selection, Some(expected));
    }

    #[test]
    fn null_is_taken_as_absent() {
        let fields = [
            "compression",
            "max_messages",
            "start_offset",
            "end_offset",
            "partitions",
            "include_headers",
            "include_keys",
            "rate_limit_per_second",
            "repository",
        ];
        for field in fields {
            let order = backup(&format!(r#"{{"topic": "t", "{field}": null}}"#)).unwrap();
            assert_eq!(order.options.selection, None, "{field}");
            assert_eq!(order.options.compression, Compression::Gzip);
            assert_eq!(order.options.rate_limit, Some(RATE));
        }
        assert_eq!(field_of(backup(r#"{"topic": null}"#)), "topic");
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
}
